"""What a decision asks for, and the working copy of the fleet on which it is made.

Every step changes the draft, so that the next one sees what the one before decided; the executor applies the
difference between the fleet and the draft.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lull.api.names import GATEWAY_STALE_SECONDS
from lull.policy.fleet import (
    CANDIDATE_MARK,
    Artifact,
    Fleet,
    Gateway,
    Host,
    Model,
    Placement,
    Service,
    State,
)
from lull.policy.notes import Notes, renewed
from lull.policy.scope import Scope, Subject, whole

DEFAULT_IDLE_AFTER_SECONDS = 60.0
"""How long a service without `idleAfter` stays routed after its last request: then it rides along, and its
host may go. In simulation less saves no host, and 300 s keeps some longer than an objective of 20 % needs."""


@dataclass(frozen=True, slots=True)
class SetModels:
    """Change what a host should hold from exactly `before` to `after`."""

    host: str
    before: tuple[Placement, ...]
    after: tuple[Placement, ...]
    proofs: tuple[Placement, ...] = ()
    """Drains whose fence has to be proven on a fresh list of the gateways before this is written."""
    cut: tuple[Placement, ...] = ()
    """Drains that ran into their deadline: requests of theirs may be cut off."""
    room_for: str = ""
    """The service that room is made for by unloading others'; empty where it is not for one."""


@dataclass(frozen=True, slots=True)
class CreateHost:
    """Make a host that should hold `placements`; its Pod follows."""

    host: str
    pool: str
    placements: tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Make the Pod of a host that has none yet."""

    host: str


@dataclass(frozen=True, slots=True)
class DeleteHost:
    """Let a host go that still holds exactly `before`; its Pod goes with it."""

    host: str
    before: tuple[Placement, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Vacate:
    """Empty a host: it takes nothing new, its models get places elsewhere first, then it goes.

    Without a reason it is taken back, and the host is used as before.
    """

    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stage:
    """Have a host keep these artifacts ready, the most wanted first; no others."""

    host: str
    artifacts: tuple[Artifact, ...]


Change = SetModels | CreateHost | CreatePod | DeleteHost | Vacate | Stage


class Draft:
    """A fleet that is being decided on. Never outlives the call that made it."""

    def __init__(self, fleet: Fleet, notes: Notes, now: float, scope: Scope | None = None) -> None:
        self.fleet = fleet
        self.notes = notes
        self.now = now
        self.scope = whole(fleet) if scope is None else scope
        self.hosts: dict[str, Host] = dict(fleet.hosts)
        self.due_at: dict[Subject, float] = {}
        """When time alone may change the answer, by the subject that was looked at."""
        self.restless: set[Subject] = set()
        """Who is looked at again in the next plan, whatever happens."""
        self._subject: Subject = ""
        self.blocked: dict[str, tuple[str, str]] = {}
        """Reason and message by service, for those that were wanted and could not be placed."""
        self.still_blocked: frozenset[str] = frozenset()
        """Services that could not be placed when they were looked at last, and are not looked at now."""
        self._awaited: dict[str, dict[str, int]] = {}  # bytes, by host and service
        self.gathers = False
        """Whether services may be kept back, to be packed together with subjects that are left."""
        self.was_kept_back: Mapping[Subject, float] = {}
        """The services that the plan before this one kept back, and since when."""
        self.kept_back: dict[Subject, float] = {}
        """Those that this one keeps back."""
        self.set_aside: Counter[str] = Counter()
        """How many hosts are left for them to be made, by pool."""
        self.wanted: dict[str, int] = {}
        """Replicas by service, as far as they were asked for."""
        self.nearby: dict[tuple[str, str], tuple[list[Host], int]] = {}
        """Hosts that a wake may go to, and how many there are in all, by pool and tenant, in the end."""
        self.largest: dict[str, int] = {}
        """The most bytes that may ever be had of a host, by pool, as far as asked for in the end."""
        self.farewells: dict[str, float | None] = {}
        """When hosts go if nobody asks, by name, as far as they were asked for in the end."""
        self._deleted: dict[str, str] = {}
        self._vacated: dict[str, str] = {}
        self._proofs: set[str] = set()
        self._cut: set[str] = set()
        self._room_for: dict[str, str] = {}
        self._homes: dict[str, dict[str, None]] = {}  # those that the fleet's index does not have
        self._made: dict[str, list[str]] = {}  # by pool
        self._held: frozenset[str] | None = None
        self._named = 0

    @property
    def held(self) -> frozenset[str]:
        """The services that live gateways hold requests for."""
        if self._held is None:
            self._subject, subject = "", self._subject  # nobody's: it is asked for in every plan
            asking = [g for g in self.fleet.gateways.values() if g.held]
            self._held = frozenset().union(*(g.held for g in asking if not self._stale(g)))
            self._subject = subject
        return self._held

    def services(self) -> Iterator[Service]:
        """Yield the services to look at: who goes through all of them instead makes every plan a long one."""
        for key in self.scope.services:
            if key in self.fleet.services:
                self.look_at(key)
                yield self.fleet.services[key]
        self.look_at("")

    def each_host(self) -> Iterator[Host]:
        """Yield the hosts to look at, each as it is by then."""
        for name in self.scope.hosts:
            if name in self.hosts:
                self.look_at(name)
                yield self.hosts[name]
        self.look_at("")

    def somebody_waits(self, pool: str) -> bool:
        """Tell whether a service could not be placed in a pool."""
        waiting = (self.fleet.services.get(key) for key in (*self.blocked, *self.still_blocked))
        return any(service is not None and service.pool == pool for service in waiting)

    def look_at(self, subject: Subject) -> None:
        """Take it that what is asked from here on is asked for this subject; empty: for all of them."""
        self._subject = subject

    def of_pool(self, pool: str) -> list[Host]:
        """Return all hosts of a pool."""
        names = (*self.fleet.index.pools.get(pool, ()), *self._made.get(pool, ()))
        return [self.hosts[name] for name in names if name in self.hosts]

    def made_in(self, pool: str) -> Sequence[str]:
        """Return the names of the hosts that this draft adds to a pool."""
        return self._made.get(pool, ())

    def due(self, at: float) -> bool:
        """Tell whether `at` has come; where it has not, the plan is due again then."""
        if self.now >= at:
            return True
        self.due_at[self._subject] = min(at, self.due_at.get(self._subject, at))
        return False

    def of(self, service: str) -> list[tuple[Host, Placement]]:
        """Return the placements of a service."""
        names = (*self.fleet.index.homes.get(service, ()), *self._homes.get(service, ()))
        hosts = [self.hosts[name] for name in names if name in self.hosts]
        return [(host, p) for host in hosts for p in host.placements if p.service == service]

    def of_pair(self, service: str) -> list[tuple[Host, Placement]]:
        """Return the placements of a service and of its candidate, which is asked in its stead."""
        return [entry for key in self.fleet.pair(service) for entry in self.of(key)]

    def put(self, host: Host, placements: Iterable[Placement]) -> None:
        """Change what a host should hold."""
        changed = replace(host, placements=tuple(placements))
        self._stir(self.hosts[host.name].holds | changed.holds, host.name)
        self.largest.pop(host.pool, None)
        self.hosts[host.name] = changed
        known = self.fleet.hosts.get(host.name)
        for service in changed.holds - (known.holds if known else frozenset()):
            self._homes.setdefault(service, {})[host.name] = None

    def turn(self, host: Host, placement: Placement, state: State) -> None:
        """Turn one placement.

        Back to Loaded it gets a new epoch, as claims for an old drain must not count for its next one.
        """
        host = self.hosts[host.name]
        epoch = placement.epoch + (state is State.LOADED)
        turned = replace(placement, state=state, epoch=epoch)
        self.put(host, (turned if p.id == placement.id else p for p in host.placements))

    def remove(self, host: Host, placement: Placement) -> None:
        """Take a placement out, to be unloaded."""
        host = self.hosts[host.name]
        self.put(host, (p for p in host.placements if p.id != placement.id))

    def prove(self, placement: Placement) -> None:
        """Ask that the fence of this drain be proven before the change is written."""
        self._proofs.add(placement.id)

    def cut(self, host: Host, placement: Placement) -> None:
        """Take a placement out whose drain ran into its deadline."""
        self._cut.add(placement.id)
        self.remove(host, placement)

    def evict(self, host: Host, ids: Collection[str], service: Service) -> None:
        """Take placements out to make room for a service."""
        self._room_for[host.name] = service.key
        self.put(host, (p for p in host.placements if p.id not in ids))

    def place(self, host: Host, service: Service, memory_bytes: int, state: State = State.LOADED) -> None:
        """Add a placement of a service to a host."""
        host = self.hosts[host.name]
        placement = Placement(
            id=self._fresh(service.key.partition("/")[2].partition(CANDIDATE_MARK)[0]),
            service=service.key,
            model=service.model,
            memory_bytes=memory_bytes,
            idle_after_seconds=idle_after_seconds(service),
            state=state,
        )
        self.put(host, (*host.placements, placement))

    def await_room(self, host: Host, service: Service, memory_bytes: int) -> None:
        """Have this room of a host kept for a service that waits until there is as much."""
        self._awaited.setdefault(host.name, {})[service.key] = memory_bytes

    def ask_anew(self, service: Service) -> None:
        """Give up the room that is kept for a service, as it looks for a place again."""
        for waiting in self._awaited.values():
            waiting.pop(service.key, None)

    def waits_for_room(self, service: Service) -> str:
        """Return the host on which room is kept for a service; empty where on none."""
        return next((host for host, waiting in self._awaited.items() if service.key in waiting), "")

    def awaited_bytes(self, host: Host) -> int:
        """Return the room of a host that is kept for those who wait until there is as much."""
        waiting = self._awaited.get(host.name)
        return sum(waiting.values()) if waiting else 0

    def create(self, pool: str) -> Host:
        """Add a host to a pool."""
        host = Host(self._fresh(pool), pool)
        self.hosts[host.name] = host
        self.largest.pop(pool, None)
        self._made.setdefault(pool, []).append(host.name)
        self.scope.hosts.names.add(host.name)
        return host

    def vacate(self, host: Host, reason: str) -> None:
        """Have a host emptied; from here on it counts as cordoned. Without a reason it is open again."""
        self._stir(host.holds, host.name)
        self.hosts[host.name] = replace(self.hosts[host.name], cordoned=bool(reason), vacated=bool(reason))
        self._vacated[host.name] = reason

    def delete(self, host: Host, reason: str) -> None:
        """Let a host go that this draft did not make itself."""
        self._stir(host.holds, host.name)
        del self.hosts[host.name]
        self.largest.pop(host.pool, None)
        self._deleted[host.name] = reason

    def changes(self) -> list[Change]:
        """Return what has to be written so that the fleet becomes the draft: what helps somebody first."""
        changes: list[Change] = []
        for name, host in self.hosts.items():
            old = self.fleet.hosts.get(name)
            if old is host:
                continue  # nearly always
            if old is None:
                changes.append(CreateHost(name, host.pool, host.placements))
            elif old.placements != host.placements:
                proofs = tuple(p for p in old.placements if p.id in self._proofs)
                cut = tuple(p for p in old.placements if p.id in self._cut)
                room_for = self._room_for.get(name, "")
                changes.append(SetModels(name, old.placements, host.placements, proofs, cut, room_for))
        changes.extend(Vacate(name, reason) for name, reason in self._vacated.items() if name in self.hosts)
        for name, reason in self._deleted.items():
            changes.append(DeleteHost(name, self.fleet.hosts[name].placements, reason))
        return changes

    def _stale(self, gateway: Gateway) -> bool:
        return self.due(self.notes.since.get(renewed(gateway), self.now) + GATEWAY_STALE_SECONDS)

    def _stir(self, services: Iterable[str], host: str) -> None:
        """Bring in who hangs on a host that changes, and in the next plan too: the write may be refused."""
        self.restless.update(services, [host])
        self.scope.services.names.update(services)
        self.scope.hosts.names.add(host)
        for key in services:
            self.scope.hosts.names.update(self.fleet.index.homes.get(key, ()), self._homes.get(key, ()))

    def _fresh(self, prefix: str) -> str:
        """Return a name, valid as a DNS label, that no other decision makes."""
        self._named += 1
        digest = hashlib.sha256(f"{self.fleet.seed}/{self._named}/{prefix}".encode()).hexdigest()
        return f"{prefix[:54].strip('-')}-{digest[:8]}"


def idle_after_seconds(service: Service) -> float:
    """Return how long a service stays loaded after its last request."""
    return DEFAULT_IDLE_AFTER_SECONDS if service.idle_after_seconds is None else service.idle_after_seconds


def same_model(placement: Placement, model: Model) -> bool:
    """Tell whether a placement is of this very revision."""
    return placement.model.revision == model.revision
