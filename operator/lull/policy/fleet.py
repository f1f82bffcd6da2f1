"""The fleet as the policy sees it: plain frozen values, sizes in bytes and times in seconds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import compress
from operator import is_not

from lull.api.names import drained_claim
from lull.api.reasons import Reason
from lull.policy.power import PowerProfile

DEFAULT_MODEL_BYTES = 2**30
"""What a model is assumed to take that nobody declared and nothing has measured yet."""
CANDIDATE_MARK = "~"
"""Between the key of a service and the revision of its candidate; no name has it."""


class State(StrEnum):
    """What the controller wants of a placement."""

    LOADED = "Loaded"
    DRAINING = "Draining"
    RESIDENT = "Resident"


class Report(StrEnum):
    """What the agent says became of it."""

    FETCHING = "Fetching"
    LOADING = "Loading"
    READY = "Ready"
    UNLOADING = "Unloading"
    FAILED = "Failed"


class Pod(StrEnum):
    """How a host's Pod is."""

    MISSING = "Missing"
    """Not created yet."""
    STARTING = "Starting"
    """Created, and not ready yet."""
    RUNNING = "Running"
    UNREADY = "Unready"
    """Has been ready, and is not now."""
    TERMINATING = "Terminating"
    GONE = "Gone"
    """Existed and is no more, or has ended."""


@dataclass(frozen=True, slots=True)
class Model:
    """What a placement loads; `revision` stands for all the rest."""

    revision: str
    name: str
    uri: str
    digest: str = ""
    format: str = "Auto"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One entry of `ModelHost.spec.stage`: what is fetched before it is needed, and for which service."""

    uri: str
    digest: str
    service: str


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which replicas are kept: it opens when `cron` says, in `time_zone`."""

    cron: str
    time_zone: str
    duration_seconds: float
    min_replicas: int = 1


@dataclass(frozen=True, slots=True)
class Count:
    """Requests of a service up to now, and those of them that waited for a wake. Totals: only they differ."""

    requests: int = 0
    delayed: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A ModelService; `key` is `namespace/name`."""

    key: str
    model: Model
    pool: str
    generation: int = 1
    memory_bytes: int | None = None
    """What the user declares."""
    measured_bytes: int | None = None
    """What this revision took when it was last loaded."""
    code: bool | None = None
    """Whether the artifact runs code of its own; None until a host has said so."""
    dedicated: bool = False
    min_replicas: int = 0
    max_replicas: int = 1
    idle_after_seconds: float | None = None
    suspend: bool = False
    hold_seconds: float = 60.0
    """How long a gateway holds a request of it."""
    drain_deadline_seconds: float = 300.0
    priority: int = 0
    """Of its PriorityClass: the lower one is evicted first and waits longer."""
    schedule: tuple[Window, ...] = ()
    latency_seconds: float | None = None
    """What `percentile` of its requests should not take longer than, within Triton."""
    percentile: int = 99
    delayed_percent: int | None = None
    """Its own objective; None: it counts towards its pool's."""
    follows: str = ""
    """The key of the service whose candidate this is; empty for a service of its own."""
    share_percent: int = 100
    """Of the replicas of the service that it follows."""
    unfit: frozenset[str] = frozenset()
    """Revisions that no gateway routes to any more, as they were rejected or aborted."""

    @property
    def namespace(self) -> str:
        """The namespace of its user."""
        return namespace_of(self.key)


@dataclass(frozen=True, slots=True)
class Pool:
    """A ModelPool; `capacity_bytes` is what the models of one host share."""

    name: str
    capacity_bytes: int
    max_hosts: int
    min_hosts: int = 0
    empty_after_seconds: float | None = None
    namespaced: bool = False
    """Only services of one namespace share a host."""
    allow_code: bool = False
    profile: PowerProfile | None = None
    """What a host draws, where that is known."""
    staged_bytes: int | None = None
    """What the hosts of one node may keep of artifacts together; None: each keeps its own."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One entry of `ModelHost.spec.models`."""

    id: str
    service: str
    model: Model
    memory_bytes: int
    idle_after_seconds: float
    state: State = State.LOADED
    epoch: int = 1

    @property
    def claim(self) -> str:
        """What a gateway lists once no request of its can reach this placement."""
        return drained_claim(self.id, self.epoch)


@dataclass(frozen=True, slots=True)
class Reported:
    """One entry of `ModelHost.status.models`."""

    id: str
    service: str
    name: str
    """The wire name; empty where it is not known any more."""
    state: Report
    memory_bytes: int = 0
    idle: bool = False
    """No request for the placement's idle time."""
    code: bool | None = None
    reason: str = ""
    message: str = ""
    busy: float = 0.0
    """Share of the last window that it computed, in steps of 0.05, so that jitter is no news."""
    queue_seconds: float = 0.0
    """Mean wait in Triton's queue, to two digits."""
    latency_seconds: float | None = None
    """p99 within Triton, to two digits; None where nothing tells."""
    load_seconds: float | None = None


@dataclass(frozen=True)
class Host:
    """A ModelHost with its Pod. What follows from it is reckoned once: most hosts stay as they are."""

    name: str
    pool: str
    placements: tuple[Placement, ...] = ()
    reports: Mapping[str, Reported] = field(default_factory=dict)
    """By placement id."""
    pod: Pod = Pod.MISSING
    node: str = ""
    trouble: str = ""
    """Why its Pod does not start, in the scheduler's words."""
    capacity_bytes: int | None = None
    """What the accelerator itself says, where it does."""
    cordoned: bool = False
    """It is to be emptied: its models move to other hosts, and it takes no new ones."""
    vacated: bool = False
    """It is cordoned only as the policy itself asked for it, so that it may be used again."""
    kept: bool = False
    """It may not be let go by choice, as a PodDisruptionBudget forbids it."""
    stage: tuple[Artifact, ...] = ()
    """What it was told to keep ready."""

    def report(self, placement: Placement) -> Reported | None:
        """Return what the agent says of a placement; None where it said nothing, or is not believed."""
        return None if self.pod is Pod.GONE else self.reports.get(placement.id)

    def says(self, placement: Placement, state: Report) -> bool:
        """Tell whether the agent reports `placement` in `state`."""
        report = self.report(placement)
        return report is not None and report.state is state

    @cached_property
    def tainted(self) -> bool:
        """A load that passed its deadline goes on inside Triton: only the Pod's end gives its memory back.

        Nor is an unload that did ever over, of what should not be here any more.
        """
        reports = () if self.pod is Pod.GONE else self.reports.values()
        return any(r.state is Report.FAILED and r.reason == Reason.LOAD_TIMEOUT for r in reports)

    @cached_property
    def serves_nobody(self) -> bool:
        """Whether nothing on it is routed or may be on its way out of the gateways."""
        return all(p.state is State.RESIDENT or self.says(p, Report.FAILED) for p in self.placements)

    @cached_property
    def draining(self) -> tuple[Placement, ...]:
        """What the gateways are to let go of."""
        return tuple(p for p in self.placements if p.state is State.DRAINING)

    @cached_property
    def riding_bytes(self) -> int:
        """What is reserved for free riders."""
        return sum(p.memory_bytes for p in self.placements if p.state is State.RESIDENT)

    @cached_property
    def holds(self) -> frozenset[str]:
        """The services that it should hold, in whatever state."""
        return frozenset(p.service for p in self.placements)

    @cached_property
    def tenants(self) -> frozenset[str]:
        """The services whose models are on it, even if they unload."""
        return self.holds | {report.service for report in self.reports.values()}

    @cached_property
    def serving(self) -> int:
        """How many of its models are, or are to be, routed."""
        return sum(p.state is State.LOADED for p in self.placements)

    @cached_property
    def queue(self) -> tuple[Placement, ...]:
        """What is loaded before one more that somebody waits for: the load that has begun comes first.

        An agent loads one at a time, and says so too of those whose turn comes next: of riders at most one.
        """
        said = [(p, report.state if (report := self.report(p)) else None) for p in self.placements]
        loading = [p for p, state in said if state is Report.LOADING]
        riders = [p for p in loading if p.state is not State.LOADED][:1]
        waiting = (p for p, state in said if p.state is State.LOADED and state in (None, Report.FETCHING))
        return (*riders, *(p for p in loading if p.state is State.LOADED), *waiting)

    @cached_property
    def names(self) -> frozenset[str]:
        """The wire names of what it should hold."""
        return frozenset(p.model.name for p in self.placements)

    @cached_property
    def staying_bytes(self) -> int:
        """What is reserved, or used beyond that."""
        reported = {p.id: self.reports[p.id].memory_bytes for p in self.placements if p.id in self.reports}
        return sum(max(p.memory_bytes, reported.get(p.id, 0)) for p in self.placements)

    @cached_property
    def leaving(self) -> Mapping[str, int]:
        """What still unloads, with the bytes that it takes; 0 where nobody says."""
        ids = {p.id for p in self.placements}
        return {id_: report.memory_bytes for id_, report in self.reports.items() if id_ not in ids}

    @cached_property
    def leaving_bytes(self) -> int:
        """What still unloads takes."""
        return sum(size or DEFAULT_MODEL_BYTES for size in self.leaving.values())


@dataclass(frozen=True, slots=True)
class Gateway:
    """A ModelGateway: what it holds requests for, and the claims of what it let go of."""

    name: str
    renewed: str = ""
    held: frozenset[str] = frozenset()
    drained: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Index:
    """The names of hosts, by the services that they should hold something of, and by pool."""

    homes: Mapping[str, tuple[str, ...]]
    pools: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Fleet:
    """Everything there is, at one moment. `seed` makes the names that this decision invents unique."""

    services: Mapping[str, Service]
    pools: Mapping[str, Pool]
    hosts: Mapping[str, Host]
    gateways: Mapping[str, Gateway]
    seed: str = ""
    counts: Mapping[str, Count] = field(default_factory=dict)
    """By service."""
    indexed: Index | None = field(default=None, compare=False)
    """The index, where somebody keeps one."""
    followed: Mapping[str, str] | None = field(default=None, compare=False)
    """The candidates, where somebody keeps them."""

    @cached_property
    def index(self) -> Index:
        """Where to find hosts."""
        if self.indexed is not None:
            return self.indexed
        homes: dict[str, list[str]] = {}
        pools: dict[str, list[str]] = {}
        for host in self.hosts.values():
            pools.setdefault(host.pool, []).append(host.name)
            for service in host.holds:
                homes.setdefault(service, []).append(host.name)
        return Index(
            {key: tuple(names) for key, names in homes.items()},
            {key: tuple(names) for key, names in pools.items()},
        )

    @cached_property
    def told_bytes(self) -> Mapping[str, int]:
        """The memory of the largest accelerator that says its own, by pool."""
        told: dict[str, int] = {}
        for host in self.hosts.values():
            if host.capacity_bytes:
                told[host.pool] = max(told.get(host.pool, 0), host.capacity_bytes)
        return told

    @cached_property
    def candidates(self) -> Mapping[str, str]:
        """The keys of candidates, by the services that they follow."""
        return candidates_of(self.services) if self.followed is None else self.followed

    def pair(self, service: str) -> tuple[str, ...]:
        """Return the key of a service with that of its candidate, or of the one that it follows, if any.

        What is decided of either hangs on both.
        """
        known = self.services.get(service)
        other = known.follows if known and known.follows else self.candidates.get(service)
        return (service, other) if other else (service,)

    def of_pair(self, service: str) -> list[tuple[Host, Placement]]:
        """Return the placements of a service and of its candidate, which is asked in its stead."""
        return [entry for key in self.pair(service) for entry in self.of(key)]

    def of(self, service: str) -> list[tuple[Host, Placement]]:
        """Return the placements of a service with their hosts."""
        hosts = [self.hosts[name] for name in self.index.homes.get(service, ())]
        return [(host, p) for host in hosts for p in host.placements if p.service == service]

    def placements(self) -> Iterator[tuple[Host, Placement]]:
        """Yield every placement with its host."""
        for host in self.hosts.values():
            for placement in host.placements:
                yield host, placement


def candidates_of(services: Mapping[str, Service]) -> dict[str, str]:
    """Return the keys of the candidates among services, by the services that they follow."""
    return {services[key].follows: key for key in services if CANDIDATE_MARK in key}


def candidate_key(key: str, revision: str) -> str:
    """Return the key of the candidate of a service."""
    return f"{key}{CANDIDATE_MARK}{revision}"


def replicas_of_share(percent: int, replicas: int) -> int:
    """Return how many of so many replicas are a share of them, rounded up; at least one of any."""
    return max(1, -(-percent * replicas // 100)) if replicas else 0


def namespace_of(key: str) -> str:
    """Return the namespace of a `namespace/name`."""
    return key.partition("/")[0]


def changed(old: Mapping[str, object], new: Mapping[str, object]) -> set[str]:
    """Return the keys whose values are other objects now, or gone."""
    if old is new:
        return set()
    if list(old) == list(new):  # nearly always; then it is fast
        return set(compress(new, map(is_not, old.values(), new.values())))
    return {key for key, value in new.items() if old.get(key) is not value} | (old.keys() - new.keys())
