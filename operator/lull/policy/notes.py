"""What the policy remembers from one look to the next: since when something is so, and what failed.

All times are the observer's own, so no clock of another machine is believed. A restart forgets them; what
follows is only that something waits once more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from lull.api.reasons import Reason
from lull.policy.fleet import Fleet, Gateway, Host, Placement, Pod, Report, Reported, Service, State
from lull.policy.learning import Learned, learn, starting
from lull.policy.load import settled, spare

FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 300.0

Fact = tuple[str, str]
"""What is observed, and of whom."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failures of one generation of a service, in a row."""

    generation: int
    reason: str
    message: str
    at: float
    count: int = 1
    counted: frozenset[str] = frozenset()
    """Placements whose reports were counted: each counts once."""

    @property
    def retry_at(self) -> float:
        """When it may be tried again: after 5 s, doubling up to 5 min."""
        return self.at + min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(self.count - 1, 16))


@dataclass(frozen=True, slots=True)
class Notes:
    """What was noted up to now."""

    since: Mapping[Fact, float] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """By service."""
    replicas: Mapping[str, int] = field(default_factory=dict)
    """How many a service had when none of them moved, of services with more than one."""
    learned: Learned = Learned()  # noqa: RUF009  frozen

    def failure(self, service: str, generation: int) -> Failure | None:
        """Return what failed of this generation of a service."""
        failure = self.failures.get(service)
        return failure if failure and failure.generation == generation else None


NOTHING_NOTED = Notes()


def observe(notes: Notes, fleet: Fleet, now: float) -> Notes:
    """Return the notes after a look at the fleet: bounded by what is in it now."""
    crowds = _crowds(fleet)
    replicas = {
        key: count for key in crowds if (count := _replicas(notes, fleet.services[key], crowds[key])) > 1
    }
    spares = (
        too_many(key, n) for key in replicas for n in spare(fleet.services[key], crowds[key], replicas[key])
    )
    since = {fact: min(now, notes.since.get(fact, now)) for fact in (*_facts(fleet), *spares)}
    failures = {
        key: failure
        for key, failure in notes.failures.items()
        if key in fleet.services and fleet.services[key].generation == failure.generation
    }
    judged = list(_judged(fleet))
    there = frozenset(placement.id for placement, _ in judged)
    failures = {key: replace(failure, counted=failure.counted & there) for key, failure in failures.items()}
    for placement, report in judged:
        if report.state is Report.FAILED:
            service = fleet.services[placement.service]
            failures[service.key] = _failed_again(failures.get(service.key), service, placement, report, now)
    for placement, report in judged:
        if report.state is Report.READY and placement.state is State.LOADED:
            failures.pop(placement.service, None)
    learned = learn(notes.learned, fleet, notes.since, now, fleet.services)
    return replace(notes, since=since, failures=failures, replicas=replicas, learned=learned)


def renewed(gateway: Gateway) -> Fact:
    """The fact that a gateway's heartbeat stands where it stands."""
    return f"Renewed {gateway.renewed}", gateway.name


def empty(host: Host) -> Fact:
    """The fact that a host serves nobody."""
    return "Empty", host.name


def ending(host: Host) -> Fact:
    """The fact that a host's Pod is ending, and serves nobody."""
    return "Ending", host.name


def kept(host: Host) -> Fact:
    """The fact that there is a host."""
    return "Kept", host.name


def unready(host: Host) -> Fact:
    """The fact that a host's Pod is not ready."""
    return "Unready", host.name


def troubled(host: Host) -> Fact:
    """The fact that a host's Pod does not start."""
    return "Troubled", host.name


def placed(placement: Placement) -> Fact:
    """The fact that a placement is in its state, in its epoch."""
    return placement.state, placement.claim


def waits(service: str) -> Fact:
    """The fact that a gateway holds requests for a service."""
    return "Waits", service


def too_many(service: str, replicas: int) -> Fact:
    """The fact that a service has more replicas than this many, which would be enough."""
    return f"Enough {replicas}", service


def serves_nobody(host: Host) -> bool:
    """Tell whether nothing on a host is routed or may be on its way out of the gateways."""
    return all(p.state is State.RESIDENT or host.says(p, Report.FAILED) for p in host.placements)


def _facts(fleet: Fleet) -> Iterator[Fact]:
    for gateway in fleet.gateways.values():
        yield renewed(gateway)
        yield from (waits(service) for service in gateway.held)
    for host in fleet.hosts.values():
        yield kept(host)
        if host.pod in (Pod.MISSING, Pod.STARTING):
            yield starting(host)
        if serves_nobody(host):
            yield ending(host) if host.pod is Pod.TERMINATING else empty(host)
        if host.pod is Pod.UNREADY:
            yield unready(host)
        if host.trouble:
            yield troubled(host)
        yield from (placed(placement) for placement in host.placements)


def _crowds(fleet: Fleet) -> dict[str, list[tuple[Host, Placement]]]:
    """Return the placements of the services that may have several replicas, and have one at least."""
    crowds: dict[str, list[tuple[Host, Placement]]] = {}
    for host, placement in fleet.placements():
        service = fleet.services.get(placement.service)
        if service and service.max_replicas > 1:
            crowds.setdefault(service.key, []).append((host, placement))
    return crowds


def _replicas(notes: Notes, service: Service, placed: list[tuple[Host, Placement]]) -> int:
    count = settled(service, placed)
    return notes.replicas.get(service.key, 0) if count is None else count


def _judged(fleet: Fleet) -> Iterator[tuple[Placement, Reported]]:
    """Yield the reports that say something about a service as it is now."""
    for host, placement in fleet.placements():
        report = host.report(placement)
        service = fleet.services.get(placement.service)
        if report and service and service.model.revision == placement.model.revision:
            yield placement, report


def _failed_again(
    last: Failure | None, service: Service, placement: Placement, report: Reported, now: float
) -> Failure:
    if last and placement.id in last.counted:
        return last
    return Failure(
        generation=service.generation,
        reason=report.reason or Reason.LOAD_FAILED,
        message=report.message,
        at=now,
        count=last.count + 1 if last else 1,
        counted=(last.counted if last else frozenset()) | {placement.id},
    )
