"""What the policy remembers from one look to the next: since when something is so, and what failed.

All times are the observer's own, so no clock of another machine is believed. A restart forgets them; what
follows is only that something waits once more.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from lull.api.reasons import Reason
from lull.policy.fleet import (
    Fleet,
    Gateway,
    Host,
    Placement,
    Pod,
    Report,
    Reported,
    Service,
    State,
    changed,
)
from lull.policy.learning import BEGUN, Learned, learn, making_room, starting, starts
from lull.policy.load import settled, spare

FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 300.0

Fact = tuple[str, str]
"""What is observed, and of whom."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failures of one generation and revision of a service, in a row."""

    generation: int
    revision: str
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
    seen: Fleet | None = field(default=None, compare=False, repr=False)
    """The fleet at the last look: the next one goes on from there."""
    seen_at: float = field(default=0.0, compare=False)
    unseen: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """The services of it that are left to be looked at."""

    def failure(self, service: Service) -> Failure | None:
        """Return what failed of a service as it is now.

        It may go back to a former revision within one generation, as a rollout does.
        """
        failure = self.failures.get(service.key)
        now = (service.generation, service.model.revision)
        return failure if failure and (failure.generation, failure.revision) == now else None


NOTHING_NOTED = Notes()


def observe(notes: Notes, fleet: Fleet, now: float, most: int | None = None) -> Notes:
    """Return the notes after a look at the fleet, at what has changed in it: bounded by what is there now.

    It looks at about `most` services at most; the next looks go on, until `seen` is the fleet itself.
    """
    seen = notes.seen if now >= notes.seen_at else None  # after a jump of the clock, all times are doubtful
    hosts, services = _news(seen, fleet, notes.unseen)
    looked_at, unseen = fleet, frozenset[str]()
    if most is not None and len(services) > most:
        hosts, first = _first_of(seen, fleet, hosts, services, most)
        looked_at, unseen, services = _with_hosts(seen, fleet, hosts), frozenset(services - first), first
    replicas, spares = _crowds(notes, fleet, services, anew=seen is None)
    facts = [BEGUN, *_gateway_facts(fleet), *spares]
    facts += [fact for name in hosts if name in fleet.hosts for fact in _host_facts(fleet.hosts[name])]
    since = _kept(notes, seen, hosts, services)
    since |= {fact: min(now, notes.since.get(fact, now)) for fact in facts}
    failures = _failures(notes, fleet, services, now)
    learned = learn(notes.learned, fleet, notes.since, now, services, hosts)
    return Notes(since, failures, replicas, learned, looked_at, now, unseen)


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


def opened(host: Host) -> Fact:
    """The fact that a host is not to be emptied."""
    return "Opened", host.name


def unready(host: Host) -> Fact:
    """The fact that a host's Pod is not ready."""
    return "Unready", host.name


def troubled(host: Host) -> Fact:
    """The fact that a host's Pod does not start."""
    return "Troubled", host.name


def placed(placement: Placement) -> Fact:
    """The fact that a placement is in its state, in its epoch."""
    return placement.state, placement.claim


def loading(placement: Placement) -> Fact:
    """The fact that a placement is being loaded."""
    return "Loading", placement.id


def waits(service: str) -> Fact:
    """The fact that a gateway holds requests for a service."""
    return "Waits", service


def too_many(service: str, replicas: int) -> Fact:
    """The fact that a service has more replicas than this many, which would be enough."""
    return f"Enough {replicas}", service


def _news(seen: Fleet | None, fleet: Fleet, unseen: frozenset[str]) -> tuple[set[str], set[str]]:
    """Return the hosts that have changed, and the services of which anything has, or that are left."""
    if seen is None:
        return set(fleet.hosts), set(fleet.services)
    hosts = changed(seen.hosts, fleet.hosts)
    services = changed(seen.services, fleet.services) | changed(seen.counts, fleet.counts)
    for of in (seen, fleet):
        services.update(*(of.hosts[name].holds for name in hosts if name in of.hosts))
        # By the candidates, which are few: hosts that are seen anew may bring all services.
        services.update(*(both for both in of.candidates.items() if not services.isdisjoint(both)))
    return hosts, services | (_held(seen) ^ _held(fleet)) | unseen


def _first_of(
    seen: Fleet | None, fleet: Fleet, hosts: set[str], services: set[str], most: int
) -> tuple[set[str], set[str]]:
    """Return some of the hosts and services that have changed: hosts go with all that is on them."""
    first, brought = set[str](), _held(fleet) ^ (_held(seen) if seen else set())
    for name in sorted(hosts):
        if len(brought) >= most and first:
            return first, brought & services
        first.add(name)
        brought |= {key for of in (seen, fleet) if of and name in of.hosts for key in of.hosts[name].holds}
    return first, (brought & services) | set(sorted(services - brought)[: max(1, most - len(brought))])


def _with_hosts(seen: Fleet | None, fleet: Fleet, fresh: set[str]) -> Fleet:
    """Return the fleet with the hosts as they were seen before, but for some."""
    hosts = {name: host for name, host in seen.hosts.items() if name not in fresh} if seen else {}
    hosts |= {name: fleet.hosts[name] for name in fresh if name in fleet.hosts}
    candidates = fleet.candidates
    return Fleet(fleet.services, fleet.pools, hosts, fleet.gateways, counts=fleet.counts, followed=candidates)


def _held(fleet: Fleet) -> set[str]:
    return set().union(*(gateway.held for gateway in fleet.gateways.values()))


def _kept(notes: Notes, seen: Fleet | None, hosts: set[str], services: set[str]) -> dict[Fact, float]:
    """Return the facts that were not looked at anew."""
    if seen is None:
        return {}
    kept = dict(notes.since)
    old = [*_gateway_facts(seen)]
    old += [fact for name in hosts if name in seen.hosts for fact in _host_facts(seen.hosts[name])]
    old += [too_many(key, n) for key in services for n in range(notes.replicas.get(key, 0))]
    for fact in old:
        kept.pop(fact, None)
    return kept


def _gateway_facts(fleet: Fleet) -> Iterator[Fact]:
    for gateway in fleet.gateways.values():
        yield renewed(gateway)
        yield from (waits(service) for service in gateway.held)


def _host_facts(host: Host) -> Iterator[Fact]:
    yield kept(host)
    if not host.cordoned:
        yield opened(host)
    if starts(host) and not host.trouble:
        yield starting(host)
    if host.leaving:
        yield making_room(host)
    if host.serves_nobody:
        yield ending(host) if host.pod is Pod.TERMINATING else empty(host)
    if host.pod is Pod.UNREADY:
        yield unready(host)
    if host.trouble:
        yield troubled(host)
    yield from (placed(placement) for placement in host.placements)
    yield from (loading(placement) for placement in host.placements if host.says(placement, Report.LOADING))


def _crowds(
    notes: Notes, fleet: Fleet, services: Iterable[str], *, anew: bool
) -> tuple[dict[str, int], list[Fact]]:
    """Return the replicas of the services that have several, and the facts of those that would be enough.

    A service that is gone is forgotten when it is looked at, together with its facts; anew, there are none.
    """
    replicas = {key: count for key, count in notes.replicas.items() if key in fleet.services or not anew}
    facts: list[Fact] = []
    for key in services:
        service, placed = fleet.services.get(key), fleet.of(key)
        known = replicas.pop(key, 0)
        if service is None or service.max_replicas == 1 or service.follows:
            continue
        count = settled(service, placed)
        count = known if count is None else count
        if count > 1:
            replicas[key] = count
            facts += [too_many(key, fewer) for fewer in spare(service, fleet.of_pair(key), count)]
    return replicas, facts


def _failures(notes: Notes, fleet: Fleet, services: Iterable[str], now: float) -> dict[str, Failure]:
    failures = dict(notes.failures)
    for key in {*services, *failures}:
        service = fleet.services.get(key)
        failure = _failure(notes, fleet, service, now) if service else None
        if failure:
            failures[key] = failure
        else:
            failures.pop(key, None)
    return failures


def _failure(notes: Notes, fleet: Fleet, service: Service, now: float) -> Failure | None:
    """Return what failed of a service as it is now, and was not loaded since."""
    judged = list(_judged(fleet, service))
    failure = notes.failure(service)
    if failure:
        counted = failure.counted & {placement.id for placement, _ in judged}
        failure = failure if counted == failure.counted else replace(failure, counted=counted)
    for placement, report in judged:
        if report.state is Report.FAILED:
            failure = _failed_again(failure, service, placement, report, now)
    served = any(r.state is Report.READY and p.state is State.LOADED for p, r in judged)
    return None if served else failure


def _judged(fleet: Fleet, service: Service) -> Iterator[tuple[Placement, Reported]]:
    """Yield the reports that say something about a service as it is now."""
    for host, placement in fleet.of(service.key):
        report = host.report(placement)
        if report and service.model.revision == placement.model.revision:
            yield placement, report


def _failed_again(
    last: Failure | None, service: Service, placement: Placement, report: Reported, now: float
) -> Failure:
    if last and placement.id in last.counted:
        return last
    return Failure(
        generation=service.generation,
        revision=service.model.revision,
        reason=report.reason or Reason.LOAD_FAILED,
        message=report.message,
        at=now,
        count=last.count + 1 if last else 1,
        counted=(last.counted if last else frozenset()) | {placement.id},
    )
