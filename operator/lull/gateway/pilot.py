"""Steers one Envoy: feeds it what is awake, wakes what is asked for, and fences what leaves."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Protocol

from lull.api.names import DELAYED_SECONDS
from lull.gateway import routes
from lull.gateway.admin import Admin, AdminError
from lull.gateway.check import Checker
from lull.gateway.delays import Delays
from lull.gateway.drain import Fence, Reach, Step
from lull.gateway.hold import Bell, Ledger
from lull.gateway.metrics import Metrics
from lull.gateway.record import LINGER_SECONDS
from lull.gateway.settings import HOLD_LIMIT_TOTAL
from lull.gateway.shadow import Shadow
from lull.gateway.traffic import Rollout, Traffic
from lull.gateway.view import PROTOCOLS, Lease, Object, Placement, Service, Targets, View, targets
from lull.gateway.xds import ABSENT, CLUSTER_TYPE, ROUTE_TYPE, Ads

log = logging.getLogger(__name__)

_ROUTES_SECONDS = 0.02
"""Least time between two route tables: a burst of wakes is one table."""
_FENCE_SECONDS = 0.01
"""Least time between two looks at the fence."""
_TRAFFIC_SECONDS = 1.0
"""Longest pause between two looks at what the revisions of rollouts were asked; each step begins with one."""
_ASK_SECONDS = (0.02, 1.0)
"""First and longest pause between two questions for Envoy's statistics."""


class Journal(Protocol):
    """Where the pilot's demands and claims are written (`lull.gateway.record`)."""

    def urgent(self) -> None:
        """Write now."""

    def changed(self) -> None:
        """Write soon."""


class Pilot:
    """Everything that one gateway decides. Events come in synchronously; `run` does what takes time.

    Attributes:
        journal: told when `held` or `drained` changed; set before anything comes in.
        delays: counts the requests that waited.
        traffic: counts what the revisions of rollouts were asked.
    """

    journal: Journal

    def __init__(self, node_id: str, domain: str, admin: Admin) -> None:
        self.metrics = Metrics()
        self.delays = Delays()
        self.traffic = Traffic()
        self.ads = Ads(node_id, self._envoy_changed, self.metrics.rejections.inc)
        self._admin = admin
        self._domain = domain
        self._view = View()
        self._ledger = Ledger(HOLD_LIMIT_TOTAL)
        self._bell = Bell()
        self._fence = Fence(time.monotonic())
        self._lingering: dict[str, float] = {}  # service -> until when
        self._published: dict[Lease, str] = {}  # what Envoy may have clusters of -> their address
        self._awaited: dict[Lease, str] = {}  # clusters that Envoy has yet to acknowledge -> their service
        self._stream = 0
        self._table = _Table(domain)
        self._stale: set[str] = set()  # services whose virtual hosts are to be looked at
        self._routes_due = asyncio.Event()
        self._fence_due = asyncio.Event()
        self._traffic_due = asyncio.Event()
        self.shadow = Shadow(
            self._view,
            self.metrics,
            domain,
            compared=self.traffic.compared,
            released=self._fence_due.set,
        )
        self.checker = Checker(self, self._view, self._ledger, self._bell, self.metrics, domain)

    # What comes in.

    def on_service(self, key: tuple[str, str], item: Object | None) -> None:
        """Take a ModelService's newest state; None: deleted."""
        service = "/".join(key)
        try:
            changed = self._view.set_service(service, item)
        except (KeyError, TypeError, ValueError):
            log.exception("ModelService %s is not understood, and left as it was", service)
            return
        if not changed:
            return
        self._service_changed(service)
        known = self._view.services.get(service)
        if known and known.rollout and known.rollout.running:
            self._traffic_due.set()

    def on_host(self, key: tuple[str, str], item: Object | None) -> None:
        """Take a ModelHost's newest state; None: deleted."""
        try:
            changed = self._view.set_host(key[1], item)
        except (KeyError, TypeError, ValueError):
            log.exception("ModelHost %s is not understood, and left as it was", key[1])
            return
        for service in changed:
            self._service_changed(service)

    def _service_changed(self, service: str) -> None:
        for placement in self._view.routed(service):
            if self._published.get(placement.lease) != placement.address:
                self._publish(placement)
        self._stale.add(service)
        self._bell.ring(service)
        self._routes_due.set()
        self._fence_due.set()

    def _publish(self, placement: Placement) -> None:
        lease = placement.lease
        self._published[lease] = placement.address
        self._awaited[lease] = placement.service
        for protocol in PROTOCOLS:
            self.ads.put(CLUSTER_TYPE, lease.cluster(protocol), routes.cluster(placement, protocol))

    def _envoy_changed(self) -> None:
        if self._stream != self.ads.stream:
            self._stream = self.ads.stream
            self._awaited = {placement.lease: placement.service for placement in self._wanted()}
        for name in list(self.ads.kept):
            lease = Lease.of_cluster(name)
            if lease is None:
                self.ads.drop(CLUSTER_TYPE, name)
            elif lease not in self._published:
                self._published[lease] = ""  # an earlier pilot's
        for lease in [lease for lease in self._awaited if self._acknowledged(lease)]:
            service = self._awaited.pop(lease)
            self._stale.add(service)
            self._bell.ring(service)
        self._routes_due.set()
        self._fence_due.set()

    # The checker's desk.

    def targets(self, service: str) -> Targets:
        """Share the service's requests among its placements whose clusters this Envoy has acknowledged."""
        known = self._view.services.get(service)
        return targets(known.rollout if known else None, self._open(service))

    def open_leases(self, service: str, revision: str | None = None) -> Sequence[Lease]:
        """Return where a request of the service may be sent now; if it names a revision, to one of that."""
        shares = self.targets(service)
        if revision is None:
            return shares.own
        reached = shares.own + shares.candidate
        return [p.lease for p in self._open(service) if p.revision == revision and p.lease in reached]

    def _open(self, service: str) -> Sequence[Placement]:
        return [p for p in self._view.routed(service) if self._acknowledged(p.lease)]

    def sent(self, lease: Lease) -> None:
        """Take note that an OK for the lease is about to leave."""
        self._fence.sent(lease, time.monotonic())

    def demanded(self, service: str) -> None:
        """Take note that a request waits for the service: the first one has it woken."""
        if self._ledger.taken(service) == 1:
            self.journal.urgent()

    def demanded_in_vain(self, service: str) -> None:
        """Take note that a stalled service was asked for: the controller tries again after its back-off."""
        now = time.monotonic()
        if self._lingering.get(service, 0.0) <= now:
            self.journal.urgent()
        self._lingering[service] = now + LINGER_SECONDS

    def rested(self, service: str, seconds: float) -> None:
        """Take note that a request that waited so long waits no more."""
        if seconds > DELAYED_SECONDS:
            self.delays.count(service)
            self.metrics.delayed.inc()
        if not self._ledger.taken(service):
            self.journal.changed()

    # What the journal writes.

    def held(self) -> Iterable[str]:
        """Return the services that requests wait for, and those just refused because they are stalled."""
        now = time.monotonic()
        self._lingering = {service: until for service, until in self._lingering.items() if until > now}
        return self._ledger.services | self._lingering.keys()

    def drained(self) -> Iterable[str]:
        """Return the claims: placements that no request of this gateway can reach."""
        return (lease.name for lease in self._fence.drained)

    @property
    def holding(self) -> int:
        """Requests held now."""
        return self._ledger.total

    @property
    def serving(self) -> bool:
        """Whether Envoy is connected and has a route table of ours, so that no request goes wrong here."""
        return self.ads.connected and self.ads.has(ROUTE_TYPE, routes.ROUTE_TABLE)

    # What takes time.

    async def run(self) -> None:
        """Keep the route table and the fence up to date until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_routes())
            tasks.create_task(self._run_fence())
            tasks.create_task(self._run_traffic())

    async def _run_routes(self) -> None:
        while True:
            await self._routes_due.wait()
            self._routes_due.clear()
            # Unconnected, nothing is known to be acknowledged: the table stays as it is.
            if self.ads.connected:
                self._update_routes()
                await asyncio.sleep(_ROUTES_SECONDS)

    def _update_routes(self) -> None:
        stale, self._stale = self._stale, set()
        for service in stale:
            self._table.set(service, self._view.services.get(service), self.targets(service))
        if stale or not self._table.built:
            body, leases = self._table.build()
            version = self.ads.put(ROUTE_TYPE, routes.ROUTE_TABLE, body)
            self._table.remember(version, leases, self.ads.possible(ROUTE_TYPE, routes.ROUTE_TABLE))

    async def _run_fence(self) -> None:
        first, longest = _ASK_SECONDS
        pause = first
        asked: frozenset[Lease] = frozenset()
        while True:
            self._fence_due.clear()
            step = self._step()
            pause = min(longest, 2 * pause) if step.ask == asked else first
            asked = step.ask
            if asked:
                await self._ask(asked)
            await self._rest(step, pause)

    def _step(self) -> Step:
        for lease in [lease for lease in self._published if self._gone(lease)]:
            del self._published[lease]
        wanted = {placement.lease for placement in self._wanted()}
        leaving = {placement.lease for placement in self._view.placements() if placement.leaving}
        before = self._fence.drained
        reach = Reach(routed=self._routed(), clustered=self._published.keys())
        step = self._fence.step(time.monotonic(), wanted, leaving, reach)
        if self._fence.drained != before:
            self.journal.changed()
        for lease in step.drop:
            self._published[lease] = ""  # until Envoy has acknowledged that they are gone
            self._awaited.pop(lease, None)
            for protocol in PROTOCOLS:
                self.ads.drop(CLUSTER_TYPE, lease.cluster(protocol))
        return step

    async def _ask(self, asked: frozenset[Lease]) -> None:
        try:
            alive = await self._admin.alive(asked)
        except AdminError as error:
            log.warning("the fence waits: %s", error)
            return
        grown = self._fence.confirm(asked, alive | self.shadow.in_use)
        if grown:
            self.metrics.drains.inc(grown)
            self.journal.urgent()

    async def _rest(self, step: Step, pause: float) -> None:
        """Wait for a change, or for the time that the step named."""
        waits = [pause] if step.ask - self._fence.drained else []
        if step.next_at is not None:
            waits.append(max(0.0, step.next_at - time.monotonic()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(waits, default=None)):
                await self._fence_due.wait()
        await asyncio.sleep(_FENCE_SECONDS)

    async def _run_traffic(self) -> None:
        written: object = {}
        while True:
            rollouts = self.traffic.follow(self._rollouts())
            if rollouts and self.ads.connected:
                try:
                    self.traffic.take(rollouts, await self._admin.traffic(rollouts))
                except AdminError as error:
                    log.warning("rollouts are not counted now: %s", error)
            totals = self.traffic.totals()
            if totals != written:
                written = totals
                self.journal.changed()
            self._traffic_due.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TRAFFIC_SECONDS):
                    await self._traffic_due.wait()

    def _rollouts(self) -> dict[str, Rollout]:
        return {
            key: Rollout(service.rollout, self.targets(key).own)
            for key, service in self._view.services.items()
            if service.rollout and service.rollout.running
        }

    def _wanted(self) -> Iterator[Placement]:
        return (placement for service in self._view.services for placement in self._view.routed(service))

    def _routed(self) -> frozenset[Lease] | None:
        """Return what a route table names that Envoy may be using; None where that cannot be known."""
        versions = self.ads.possible(ROUTE_TYPE, routes.ROUTE_TABLE) if self.ads.connected else None
        return None if versions is None else self._table.leases(versions)

    def _acknowledged(self, lease: Lease) -> bool:
        return all(self.ads.has(CLUSTER_TYPE, lease.cluster(protocol)) for protocol in PROTOCOLS)

    def _gone(self, lease: Lease) -> bool:
        return all(self.ads.gone(CLUSTER_TYPE, lease.cluster(protocol)) for protocol in PROTOCOLS)


class _Table:
    """The route table in parts, and what each version of it routes to."""

    def __init__(self, domain: str) -> None:
        self.built = False
        self._domain = domain
        self._parts: dict[str, tuple[Service, Targets, bytes]] = {}
        self._leases: dict[str, frozenset[Lease]] = {ABSENT: frozenset()}

    def set(self, key: str, service: Service | None, shares: Targets) -> None:
        """Route a service to these placements; without any it falls to the catch-all."""
        if service is None or not shares.own:
            self._parts.pop(key, None)
            return
        part = self._parts.get(key)
        if part is None or part[:2] != (service, shares):
            self._parts[key] = service, shares, routes.virtual_host(service, shares, self._domain)

    def build(self) -> tuple[bytes, frozenset[Lease]]:
        """Return the table and what it routes to."""
        self.built = True
        parts = [self._parts[key] for key in sorted(self._parts)]
        leases = frozenset(lease for _, shares, _ in parts for lease in shares.leases)
        return routes.route_table(body for _, _, body in parts), leases

    def remember(self, version: str, leases: frozenset[Lease], possible: frozenset[str] | None) -> None:
        """Note what a version routes to, and forget versions that Envoy can no longer be using."""
        kept = {ABSENT, *(possible or ())}
        self._leases = {old: routed for old, routed in self._leases.items() if old in kept}
        self._leases[version] = leases

    def leases(self, versions: Set[str]) -> frozenset[Lease] | None:
        """Return what any of these versions routes to; None where one of them is not known."""
        if versions - self._leases.keys():
            return None
        return frozenset().union(*(self._leases[version] for version in versions))
