"""The agent's own HTTP: `/healthz`, `/readyz` and `/metrics`, on the Pod's address alone."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.hdrs import ACCEPT, CONTENT_TYPE
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from lull.api.names import AGENT_PORT


@dataclass(frozen=True)
class Exposition:
    """What `/metrics` shows, and what brings it up to date before."""

    registry: CollectorRegistry
    refresh: Callable[[], Awaitable[object]]


class _Collected(Collector):
    """Metrics that were collected before."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        return self._metrics


async def serve(address: str, ready: Callable[[], bool], exposition: Exposition) -> web.AppRunner:
    """Listen; the caller cleans the runner up.

    `/healthz` answers as soon as the control key is there, which is when Triton may start; `/readyz` once the
    agent has seen its ModelHost.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(status=503, text="no ModelHost yet\n")

    async def metrics(request: web.Request) -> web.Response:
        await exposition.refresh()
        encode, content_type = choose_encoder(request.headers.get(ACCEPT, ""))
        moment = CollectorRegistry()
        moment.register(_Collected(list(exposition.registry.collect())))
        # In a thread: it takes longer than a wake should wait, and what it reads is this moment's.
        body = await asyncio.to_thread(encode, moment)
        return web.Response(body=body, headers={CONTENT_TYPE: content_type})

    application = web.Application()
    application.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, AGENT_PORT).start()
    return runner
