"""`lull-agent`: watches its one ModelHost and makes Triton hold what it says."""

import asyncio
import gc
import logging
import signal
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from lull.api.host import ModelHost, ModelHostStatus
from lull.api.meta import Condition
from lull.api.names import TRITON_GRPC_PORT, TRITON_METRICS_PORT
from lull.exposition import Exposition
from lull.kube import MODELHOSTS, MODELPOOLS, Kube, Reflector
from lull_runtime.agent.figures import Made, with_figures
from lull_runtime.agent.host import FETCHES, LOADS, Host
from lull_runtime.agent.journal import Journal
from lull_runtime.agent.meter import Meter
from lull_runtime.agent.metrics import Exposed, MeterCollector
from lull_runtime.agent.probes import serve
from lull_runtime.agent.readings import Readings
from lull_runtime.agent.repository import Repository
from lull_runtime.agent.rules import NOTHING, rules_of
from lull_runtime.agent.settings import Settings, control_key
from lull_runtime.agent.shelf import lodge
from lull_runtime.agent.staging import Stager
from lull_runtime.agent.status import WRITES, StatusWriter
from lull_runtime.agent.store import Store
from lull_runtime.agent.triton import Triton
from lull_runtime.triton import ROUTED

log = logging.getLogger(__name__)


_Ready = tuple[Literal["True", "False"], str, str]
_SERVING: _Ready = ("True", "TritonServing", "")
_STARTING: _Ready = ("False", "Starting", "Triton is starting, or its image is being pulled")
_DOWN: _Ready = (
    "False",
    "TritonDown",
    "Triton does not answer; it is started again, and its models are loaded again",
)


def main() -> None:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings.read()
    # What is imported lives as long as the process; a collection that walks it (25 ms) may meet a wake.
    gc.freeze()
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    key = control_key(settings.control)
    async with await Kube.connect() as kube:
        agent = Agent(settings, key, kube)
        work = asyncio.create_task(agent.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        try:
            await work
        except asyncio.CancelledError:
            log.info("told to stop; what Triton holds stays until Triton ends")


class Agent:
    """The parts of the agent and how they are joined."""

    def __init__(self, settings: Settings, key: str, kube: Kube) -> None:
        self._settings = settings
        own, self._lodged = lodge(settings.hosts, settings.pod_name)
        self._condition: Condition | None = None
        self._made: Made = {}
        self._triton = Triton(f"{settings.pod_ip}:{TRITON_GRPC_PORT}", key)
        self.meter = Meter(own / "totals.json", settings.power, settings.limits.memory_bytes)
        self._readings = Readings(
            f"http://{settings.pod_ip}:{TRITON_METRICS_PORT}/metrics",
            self.meter,
            lambda: self._writer.notify(urgent=False),
        )
        self._writer = StatusWriter(
            kube,
            settings.pod_namespace,
            settings.pod_name,
            self.status,
            partial(self.meter.keep, flush=True),
            lambda: self.meter.active,
        )
        self._store = Store(
            settings.artifacts,
            own,
            settings.sources,
            NOTHING,
            most_bytes=settings.artifacts_bytes,
            in_use=lambda: self.host.digests(),
        )
        self._stager = Stager(self._store, lambda: self._writer.notify(urgent=False))
        self.host = Host(
            self._triton,
            self._store,
            Repository(own / "repository", settings.backends),
            Journal(own / "journal.json"),
            settings.limits,
            self.meter,
            self._writer,
        )
        self._collector = MeterCollector(self.exposed)
        self._pool_reflector = Reflector(
            kube,
            MODELPOOLS,
            on_change=lambda _, item: self.follow_rules(item),
            field_selector=f"metadata.name={settings.pool}",
        )
        self._reflector = Reflector(
            kube,
            MODELHOSTS,
            settings.pod_namespace,
            on_change=lambda _, item: self.take_in(item),
            field_selector=f"metadata.name={settings.pod_name}",
        )

    async def run(self) -> None:
        """Run until cancelled; when one part dies all do, and the Pod starts the agent again."""
        registry = CollectorRegistry()
        for metric in (LOADS, FETCHES, WRITES, self._collector):
            registry.register(metric)
        exposition = Exposition(registry, self._before_scrape)
        probes = await serve(self._settings.pod_ip, lambda: bool(self._reflector.objects), exposition)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._writer.run())
                group.create_task(self.host.run())
                group.create_task(self._readings.run())
                group.create_task(self._stager.run())
                group.create_task(self._pool_reflector.run())
                await self._pool_reflector.synced.wait()  # before that nothing may run
                group.create_task(self._reflector.run())
        finally:
            await self.host.metering.look_last()
            await self._writer.close()
            await probes.cleanup()
            await self._triton.close()

    def follow_rules(self, item: dict[str, Any] | None) -> None:
        """Have what the pool says now hold from the next load on; one that is deleted said it last."""
        if item is None:
            return
        try:
            self._store.rules = rules_of(item["spec"])
        except ValueError as error:
            log.error("nothing more is loaded, as this pool's rules are not understood: %s", error)
            self._store.rules = NOTHING

    def take_in(self, item: dict[str, Any] | None) -> None:
        """Follow a change of the ModelHost. Without one nothing is unloaded: the Pod goes with it anyway."""
        if item is None:
            self._mark_routed(False)
            log.info("the ModelHost is gone; keeping what is loaded until this Pod goes too")
            return
        try:
            host = ModelHost.model_validate(item)
        except ValidationError as error:
            log.error("this ModelHost is not understood, the one before it stays in force: %s", error)
            return
        # One that is being deleted routes nothing: it only waits for this Pod to end.
        going = "deletionTimestamp" in item["metadata"]
        self._mark_routed(not going and any(model.state != "Resident" for model in host.spec.models))
        self.meter.take_up(host.status)
        self.host.set_desired(host.spec.models, host.status.models if host.status else [])
        self._stager.set_list(host.spec.stage)
        self._writer.saw(item.get("status"))

    def _mark_routed(self, routed: bool) -> None:
        """Tell Triton's preStop hook whether requests may still come: a deleted Pod is drained first."""
        marker = self._settings.control / ROUTED
        if routed:
            marker.touch()
        else:
            marker.unlink(missing_ok=True)

    def status(self) -> dict[str, Any]:
        """What the ModelHost's status should say now."""
        state = ModelHostStatus(
            address=self._settings.pod_ip,
            models=self.host.status(),
            staged=self._stager.staged,
            conditions=[self._ready()],
        )
        return with_figures(state, self.host.names(), self.meter, self._readings.latencies, self._made).wire()

    async def _before_scrape(self) -> None:
        await self.meter.keep(flush=False)
        self._collector.take()

    def exposed(self) -> Exposed:
        """What the metrics say now."""
        return Exposed(
            self._settings.pod_name,
            self._settings.pool,
            self.host.status(),
            self.host.names(),
            self.meter,
            self._readings.latencies,
            self.host.triton_up,
        )

    def _ready(self) -> Condition:
        """Return whether Triton serves. One that this agent never saw is starting, not down."""
        before = self._condition
        if self.host.triton_up:
            status, reason, message = _SERVING
        else:
            status, reason, message = _STARTING if before is None or before.reason == "Starting" else _DOWN
        if before is None or before.reason != reason:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            since = before.last_transition_time if before and before.status == status else now
            self._condition = before = Condition(
                type="Ready", status=status, reason=reason, message=message, last_transition_time=since
            )
        return before


if __name__ == "__main__":
    main()
