"""`lull-agent`: watches its one ModelHost and makes Triton hold what it says."""

import asyncio
import gc
import logging
import signal
from datetime import UTC, datetime
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from lull.api.host import AcceleratorStatus, ModelHost, ModelHostStatus
from lull.api.meta import Condition
from lull.api.names import TRITON_GRPC_PORT, TRITON_METRICS_PORT
from lull.api.quantities import format_bytes
from lull.kube import MODELHOSTS, Kube, Reflector
from lull_runtime.agent.host import Host
from lull_runtime.agent.journal import Journal
from lull_runtime.agent.probes import PlacementCollector, serve
from lull_runtime.agent.repository import Repository
from lull_runtime.agent.settings import Settings, control_key
from lull_runtime.agent.status import StatusWriter
from lull_runtime.agent.store import Store
from lull_runtime.agent.triton import Triton
from lull_runtime.measure.accelerator import Accelerator, read_accelerator
from lull_runtime.triton import ROUTED

log = logging.getLogger(__name__)

_ACCELERATOR_SECONDS = 30.0


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
        self._accelerator: Accelerator | None = None
        self._condition: Condition | None = None
        self._triton = Triton(f"{settings.pod_ip}:{TRITON_GRPC_PORT}", key)
        self._writer = StatusWriter(kube, settings.pod_namespace, settings.pod_name, self.status)
        store = Store(
            settings.artifacts,
            settings.sources,
            allow_code=settings.allow_code,
            most_bytes=settings.artifacts_bytes,
            in_use=lambda: self.host.digests(),
        )
        self.host = Host(
            self._triton,
            store,
            Repository(settings.repository, settings.backends),
            Journal(settings.artifacts / "journal.json"),
            settings.limits,
            self._writer.notify,
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
        registry.register(PlacementCollector(self.host.status))
        probes = await serve(self._settings.pod_ip, lambda: bool(self._reflector.objects), registry)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reflector.run())
                group.create_task(self._writer.run())
                group.create_task(self.host.run())
                group.create_task(self._follow_accelerator())
        finally:
            await probes.cleanup()
            await self._triton.close()

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
        self._mark_routed(any(model.state != "Resident" for model in host.spec.models))
        self.host.set_desired(host.spec.models)
        if host.status is None or host.status.address is None:
            self._writer.forget()

    def _mark_routed(self, routed: bool) -> None:
        """Tell Triton's preStop hook whether requests may still come: a deleted Pod is drained first."""
        marker = self._settings.control / ROUTED
        if routed:
            marker.touch()
        else:
            marker.unlink(missing_ok=True)

    def status(self) -> dict[str, Any]:
        """What the ModelHost's status should say now."""
        found = self._accelerator
        accelerator = found and AcceleratorStatus(
            uuid=found.uuid,
            memory_total=format_bytes(found.memory_total_bytes),
            memory_used=format_bytes(found.memory_used_bytes),
            watts=found.watts,
            basis="Modelled" if found.watts is None else "Measured",
        )
        return ModelHostStatus(
            address=self._settings.pod_ip,
            models=self.host.status(),
            accelerator=accelerator,
            conditions=[self._ready()],
        ).wire()

    def _ready(self) -> Condition:
        up = self.host.triton_up
        status, reason = ("True", "TritonServing") if up else ("False", "TritonDown")
        if self._condition is None or self._condition.status != status:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._condition = Condition(
                type="Ready",
                status="True" if up else "False",
                reason=reason,
                message=""
                if up
                else "Triton does not answer; it is started again, and its models are loaded again",
                last_transition_time=now,
            )
        return self._condition

    async def _follow_accelerator(self) -> None:
        """Read the accelerator now and then; a host without one asks once a period for nothing."""
        url = f"http://{self._settings.pod_ip}:{TRITON_METRICS_PORT}/metrics"
        async with aiohttp.ClientSession() as session:
            while True:
                self._accelerator = await read_accelerator(session, url)
                if self._accelerator is not None:
                    self._writer.notify(False)
                await asyncio.sleep(_ACCELERATOR_SECONDS)


if __name__ == "__main__":
    main()
