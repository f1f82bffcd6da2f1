"""Probes and metrics, on the Pod's own address only."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from lull.controller.planner import Planner
from lull.exposition import Exposition

PORT = 8080
TICK_SECONDS = 5.0
STUCK_SECONDS = 60.0


class Health:
    """Whether the controller is alive (its loop turns) and ready (it holds the Lease and has planned)."""

    def __init__(self) -> None:
        self._tick = time.monotonic()
        self.ready = False

    @property
    def alive(self) -> bool:
        """Whether the event loop has turned lately; a controller that waits for its Lease is alive."""
        return not self.ready or time.monotonic() - self._tick < STUCK_SECONDS

    async def follow(self, planner: Planner) -> None:
        """Keep the answers up to date until cancelled."""
        while True:
            self._tick = time.monotonic()
            self.ready = planner.started
            await asyncio.sleep(TICK_SECONDS if self.ready else 0.2)


@asynccontextmanager
async def serve_health(address: str, health: Health, metrics: Exposition) -> AsyncIterator[None]:
    """Serve /healthz, /readyz and /metrics while the context is open."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(status=200 if health.alive else 503)

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(status=200 if health.ready else 503)

    app = web.Application()
    app.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics.handle)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, PORT).start()
        yield
    finally:
        await runner.cleanup()
