"""The agent's own HTTP: `/healthz`, `/readyz` and `/metrics`, on the Pod's address alone."""

from collections.abc import Callable, Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from lull.api.host import HostModelStatus
from lull.api.names import AGENT_PORT
from lull.api.quantities import parse_bytes


async def serve(address: str, ready: Callable[[], bool], registry: CollectorRegistry) -> web.AppRunner:
    """Listen; the caller cleans the runner up.

    `/healthz` answers as soon as the control key is there, which is when Triton may start; `/readyz` once the
    agent has seen its ModelHost.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(status=503, text="no ModelHost yet\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), content_type="text/plain")

    application = web.Application()
    application.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, AGENT_PORT).start()
    return runner


class PlacementCollector:
    """Each placement's state and memory, read when Prometheus asks."""

    def __init__(self, statuses: Callable[[], list[HostModelStatus]]) -> None:
        self._statuses = statuses

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of this moment."""
        labels = ["service", "placement", "state"]
        state = GaugeMetricFamily("lull_placement_state", "1 for the placement's state.", labels=labels)
        memory = GaugeMetricFamily(
            "lull_placement_memory_bytes", "Memory that the placement takes.", labels=labels[:2]
        )
        for status in self._statuses():
            state.add_metric([status.service, status.id, status.state], 1)
            if status.memory:
                memory.add_metric([status.service, status.id], parse_bytes(status.memory))
        return [state, memory]
