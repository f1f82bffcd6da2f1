"""Liveness, readiness and figures of the gateway, over HTTP on the Pod's address."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry

from lull.exposition import Exposition


async def serve(
    address: str, port: int, registry: CollectorRegistry, ready: Callable[[], Awaitable[str]]
) -> web.AppRunner:
    """Serve /healthz, /readyz and /metrics; close with `cleanup`.

    Args:
        address: where to listen; the Pod's own.
        port: TCP port.
        registry: what /metrics shows.
        ready: returns why the gateway is not ready; empty when it is.
    """

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        why = await ready()
        return web.Response(status=503 if why else 200, text=f"{why or 'ok'}\n")

    metrics = Exposition(registry).handle
    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    return runner
