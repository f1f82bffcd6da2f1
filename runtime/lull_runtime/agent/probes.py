"""The agent's own HTTP: `/healthz`, `/readyz` and `/metrics`, on the Pod's address alone."""

from collections.abc import Callable

from aiohttp import web

from lull.api.names import AGENT_PORT
from lull.exposition import Exposition


async def serve(address: str, ready: Callable[[], bool], exposition: Exposition) -> web.AppRunner:
    """Listen; the caller cleans the runner up.

    `/healthz` answers as soon as the control key is there, which is when Triton may start; `/readyz` once the
    agent has seen its ModelHost.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(status=503, text="no ModelHost yet\n")

    application = web.Application()
    application.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", exposition.handle)]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, AGENT_PORT).start()
    return runner
