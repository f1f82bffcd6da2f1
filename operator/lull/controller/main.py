"""`lull-controller`: one process that decides for the whole fleet, and exits when any part of it dies."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import REGISTRY

from lull.api.names import HOSTS_NAMESPACE, LABEL_HOST, SYSTEM_NAMESPACE
from lull.controller.carbon import Carbon
from lull.controller.clock import steady_clock
from lull.controller.collector import FleetCollector
from lull.controller.events import EventPoster
from lull.controller.execute import Executor
from lull.controller.health import Health, serve_health
from lull.controller.lease import Lease, LeaseLostError
from lull.controller.ledger import Ledger
from lull.controller.metrics import WRITES_PENDING, observe_call
from lull.controller.nodes import Nodes, trimmed
from lull.controller.planner import Planner
from lull.controller.rollouts import Rollouts
from lull.controller.shell import StoppedError, UserKinds
from lull.controller.status import StatusWriter
from lull.controller.view import View
from lull.controller.wire import Object
from lull.controller.witness import Witness
from lull.exposition import Exposition
from lull.kube import MODELGATEWAYS, MODELHOSTS, NODES, PODS, PRIORITYCLASSES, Kube, Reflector, Resource

log = logging.getLogger(__name__)

Task = Callable[[], Coroutine[Any, Any, None]]

GATEWAY_SELECTOR = "app.kubernetes.io/name=lull-gateway"
"""The label that every gateway's Deployment gives its Pods."""


@dataclass(frozen=True)
class Settings:
    """What the environment says.

    Attributes:
        address: POD_IP, where probes and metrics are served.
        identity: POD_NAME, the holder of the Lease.
        url: LULL_URL, a service's URL, with {name}, {namespace}, {domain} and {gateway}, a gateway's address.
        domain: LULL_DOMAIN, beneath which services have their host names.
        image: LULL_RUNTIME_IMAGE, the image of host pods.
    """

    address: str
    identity: str
    url: str = "http://{name}.{namespace}.{domain}"
    domain: str = "lull.localhost"
    image: str = "lull/runtime"

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the settings.

        Raises:
            SystemExit: POD_IP or POD_NAME is missing.
        """
        for name in ("POD_IP", "POD_NAME"):
            if not os.environ.get(name):
                raise SystemExit(f"{name} is not set; the Deployment gives it by the downward API")
        return cls(
            address=os.environ["POD_IP"],
            identity=os.environ["POD_NAME"],
            url=os.environ.get("LULL_URL", cls.url),
            domain=os.environ.get("LULL_DOMAIN", cls.domain),
            image=os.environ.get("LULL_RUNTIME_IMAGE", cls.image),
        )

    def url_of(self, service: str, gateways: Sequence[str]) -> str | None:
        """Return the URL of `namespace/name`; None while it hangs on a gateway and none is up."""
        namespace, _, name = service.partition("/")
        if "{gateway}" in self.url and not gateways:
            return None
        gateway = min(gateways, default="")
        return self.url.format(name=name, namespace=namespace, domain=self.domain, gateway=gateway)


@dataclass(frozen=True)
class Parts:
    """The controller's parts, wired together; `kube` is all they know of the outside."""

    view: View
    ledger: Ledger
    planner: Planner
    tasks: list[Task]


def build(kube: Kube, settings: Settings, clock: Callable[[], float]) -> Parts:
    """Wire the parts that watch the fast kinds, decide and write."""
    view = View()
    carbon = Carbon(kube, view, clock)
    ledger = Ledger(view, clock, carbon)
    events = EventPoster(kube, view, settings.identity)
    rollouts = Rollouts(view, clock, lambda *turn: witness.turned(*turn))

    def url(service: str) -> str | None:
        return settings.url_of(service, view.gateway_addresses())

    statuses = StatusWriter(kube, view, ledger, rollouts, clock, url)
    witness = Witness(view, clock, ledger, statuses, events)
    executor = Executor(
        kube,
        view,
        image=settings.image,
        clock=clock,
        on_done=lambda: planner.done(),
        on_written=witness.written,
        on_forbidden=events.forbidden,
    )
    wakes, planned = witness.wakes, witness.planned
    planner = Planner(view, executor, statuses, events, wakes, rollouts, clock, on_planned=planned)

    def heard(kind: Resource, key: str, matters: bool) -> None:
        ledger.see(kind, key)
        planner.hear(kind, key, matters)

    view.on_news = heard
    WRITES_PENDING.set_function(lambda: executor.pending + statuses.pending)
    nodes = Nodes(kube, view, clock, planner.done)
    writing: list[Task] = [statuses.run, carbon.run, events.run, partial(_until_cancelled, executor.close)]
    return Parts(view, ledger, planner, [*_following(kube, planner, carbon, nodes), *writing])


def _following(kube: Kube, planner: Planner, carbon: Carbon, nodes: Nodes) -> list[Task]:
    """What follows the API server, and what decides once all that it needs is read."""
    reflectors = [
        _reflector(kube, MODELHOSTS, HOSTS_NAMESPACE, planner),
        _reflector(kube, MODELGATEWAYS, SYSTEM_NAMESPACE, planner),
        _reflector(kube, PODS, HOSTS_NAMESPACE, planner, label_selector=LABEL_HOST),
        _reflector(kube, PODS, SYSTEM_NAMESPACE, planner, label_selector=GATEWAY_SELECTOR),
        _reflector(kube, PRIORITYCLASSES, None, planner),
    ]
    machines = Reflector(kube, NODES, on_change=lambda key, node: nodes.see(key[1], node), keep=trimmed)

    async def synced() -> None:
        for reflector in reflectors:
            await reflector.synced.wait()

    async def decide() -> None:
        await synced()
        await carbon.read()
        await planner.run()

    async def mark() -> None:
        await synced()
        await machines.synced.wait()
        await nodes.run()

    return [*(reflector.run for reflector in (*reflectors, machines)), decide, mark]


async def _until_cancelled(close: Task) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await close()


def _reflector(
    kube: Kube, kind: Resource, namespace: str | None, planner: Planner, *, label_selector: str | None = None
) -> Reflector:
    def changed(key: tuple[str, str], item: Object | None) -> None:
        both = kind is PODS and namespace == SYSTEM_NAMESPACE
        planner.see(kind, "/".join(key) if both else key[1], item)

    return Reflector(kube, kind, namespace, on_change=changed, label_selector=label_selector)


async def run(settings: Settings) -> None:
    """Wait for the Lease, then control the fleet until cancelled or until a part dies."""
    health = Health()
    collector = FleetCollector()
    REGISTRY.register(collector)
    async with (
        await Kube.connect(observe=observe_call) as kube,
        serve_health(settings.address, health, Exposition(REGISTRY, collector.take)),
    ):
        lease = Lease(kube, settings.identity)
        await lease.acquire()
        try:
            parts = build(kube, settings, steady_clock())
            collector.follow(parts.ledger, parts.view)
            kinds = UserKinds(kube, parts.planner)
            async with asyncio.TaskGroup() as group:
                group.create_task(lease.keep())
                group.create_task(kinds.run())
                await kinds.synced.wait()
                for part in parts.tasks:
                    group.create_task(part())
                group.create_task(health.follow(parts.planner))
        finally:
            await asyncio.shield(lease.release())


def main() -> None:
    """Run the controller; exit 0 when told to stop, 1 when a part died."""
    logging.basicConfig(
        level=os.environ.get("LULL_LOG_LEVEL", "INFO"), format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)  # it logs every event that it delivers
    # What is imported lives as long as the process; a collection that walks it (25 ms) may meet a wake.
    gc.freeze()
    # A scrape makes a hundred thousand short-lived objects, no cycle among them: not worth a look each 700.
    gc.set_threshold(50_000, 20, 20)
    # Scrapes are rendered in a thread; while one is, the loop gets its turns after this and not after 5 ms.
    sys.setswitchinterval(0.0005)
    try:
        asyncio.run(_until_signal(run(Settings.from_environment())))
    except* StoppedError:
        log.info("stopped")
    except* LeaseLostError as lost:
        log.error("stopped: %s", lost.exceptions[0])
        sys.exit(1)


async def _until_signal(running: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(running)
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")
