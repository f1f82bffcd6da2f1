"""Which services and hosts a plan looks at: all at first, then those whose answer may be another by now.

A subject is a service, by its `namespace/name`, or a host, by its name, which has no slash. What is decided
of a service follows from itself, its pool, and the hosts that it is on, and for a service with a candidate
from both; of a host, from its services and all hosts that they are on. Who hangs on more than that is looked
at in every plan.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lull.policy.fleet import Fleet, changed
from lull.policy.notes import Notes

Subject = str


class Subjects:
    """Names that are gone through in their order, together with those that come in ahead meanwhile."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = set(names)

    def __iter__(self) -> Iterator[str]:
        last, known, ahead = "", 0, list[str]()
        while True:
            if len(self.names) != known:
                known = len(self.names)
                ahead = sorted((name for name in self.names if name > last), reverse=True)
            if not ahead:
                return
            last = ahead.pop()
            yield last


@dataclass(frozen=True, slots=True)
class Scope:
    """The subjects of one plan; what it decides may bring in more."""

    services: Subjects = field(default_factory=Subjects)
    hosts: Subjects = field(default_factory=Subjects)

    def names(self) -> frozenset[Subject]:
        """Return those that are in it by now."""
        return frozenset(self.services.names | self.hosts.names)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What decides on the hosts that serve nobody, beside themselves and prices.

    Attributes:
        few: the pools that have no more hosts than they should have at least.
        lone_nodes: the nodes with one host: they could be off without it.
    """

    few: frozenset[str] = frozenset()
    lone_nodes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a plan leaves for the next one.

    Attributes:
        held: the services that requests were held for.
        due: when time alone may change the answer for a subject.
        again: subjects whose answer hangs on more than themselves: they wait for others, or were to change.
        left: those that the plan had no time for, the most urgent first.
        blocked: the services that could not be placed.
        kept_back: the services that wait to be packed together with those that are left, and since when.
    """

    fleet: Fleet
    notes: Notes
    held: frozenset[str]
    due: Mapping[Subject, float]
    again: frozenset[Subject]
    left: tuple[Subject, ...]
    blocked: frozenset[Subject] = frozenset()
    around: Surroundings = Surroundings()
    kept_back: Mapping[Subject, float] = field(default_factory=dict)


NOTHING_SEEN = Seen(Fleet({}, {}, {}, {}), Notes(), frozenset(), {}, frozenset(), ())


def whole(fleet: Fleet) -> Scope:
    """Return all that there is."""
    return Scope(Subjects(fleet.services), Subjects(fleet.hosts))


def everything(fleet: Fleet, held: frozenset[str]) -> list[Subject]:
    """Return the subjects of a fleet that was never planned: who waits first, hosts before who is on none."""
    nowhere = sorted(fleet.services.keys() - fleet.index.homes.keys())
    return list(dict.fromkeys((*sorted(held), *sorted(fleet.hosts), *nowhere)))


def stirred(seen: Seen, fleet: Fleet, notes: Notes, held: frozenset[str], now: float) -> list[Subject]:
    """Return the subjects that have to be looked at since the last plan, the most urgent first.

    Then come the hosts that serve nobody in pools whose prices have moved.
    """
    pools = changed(seen.fleet.pools, fleet.pools) | _told_anew(seen.fleet, fleet)
    news = [
        *sorted(held ^ seen.held),
        *sorted(changed(seen.fleet.hosts, fleet.hosts)),
        *sorted(changed(seen.fleet.services, fleet.services)),
        *sorted(changed(seen.notes.failures, notes.failures)),
        *sorted(_heard(seen.notes, notes)),
        *sorted(subject for subject, at in seen.due.items() if at <= now),
        *(_residents(seen.fleet, fleet, pools) if pools else ()),
        *_asleep(fleet, _repriced(seen.notes, notes)),
    ]
    calm = not news and not changed(seen.fleet.gateways, fleet.gateways)
    again = () if calm and seen.left else sorted(seen.again)
    return list(dict.fromkeys((*news, *seen.left, *again)))


def first_of(subjects: list[Subject], fleet: Fleet, most: int) -> list[Subject]:
    """Return as many of the first subjects as bring `most` services into a scope, and one at least."""
    brought = 0
    for count, subject in enumerate(subjects):
        host = fleet.hosts.get(subject)
        brought += max(1, len(host.holds)) if host else 1
        if brought > most and count:
            return subjects[:count]
    return subjects


def scope_of(subjects: Iterable[Subject], *fleets: Fleet) -> Scope:
    """Return the scope of these subjects: hosts bring their services, services their candidates and hosts."""
    subjects = set(subjects)
    services = {subject for subject in subjects if "/" in subject}
    hosts = subjects - services
    for fleet in fleets:
        services.update(*(fleet.hosts[name].holds for name in hosts if name in fleet.hosts))
    for fleet in fleets:
        services.update(*(fleet.pair(key) for key in tuple(services)))
    for fleet in fleets:
        hosts.update(*(fleet.index.homes.get(key, ()) for key in services))
    return Scope(Subjects(services), Subjects(hosts))


def outside(begun: frozenset[Subject], subjects: Iterable[Subject], *fleets: Fleet) -> tuple[Subject, ...]:
    """Return the subjects that a scope did not begin with, or not with all that is on them."""
    there = ((name, fleet.hosts[name].holds) for fleet in fleets for name in begun if name in fleet.hosts)
    whole = begun - {name for name, holds in there if not holds <= begun}
    return tuple(subject for subject in subjects if subject not in whole)


def _heard(before: Notes, now: Notes) -> Iterator[Subject]:
    """Yield the services whose silence has begun or ended since."""
    old, new = before.learned.habits, now.learned.habits
    for key in changed(old, new):
        was, habit = old.get(key), new.get(key)
        if not (was and habit) or (was.silent_since, was.hazards) != (habit.silent_since, habit.hazards):
            yield key


def _repriced(before: Notes, now: Notes) -> set[str]:
    """Return the pools in which a delayed request is worth something else since."""
    old, new = ({m: p.worth_seconds for m, p in notes.learned.prices.items()} for notes in (before, now))
    return {pool for (pool, _), _ in old.items() ^ new.items()}


def _asleep(fleet: Fleet, pools: set[str]) -> Iterator[Subject]:
    """Yield the hosts of some pools that serve nobody."""
    for pool in sorted(pools):
        yield from (name for name in fleet.index.pools.get(pool, ()) if fleet.hosts[name].serves_nobody)


def _told_anew(old: Fleet, new: Fleet) -> set[str]:
    """Return the pools whose accelerators say another size."""
    return {pool for pool, _ in old.told_bytes.items() ^ new.told_bytes.items()}


def _residents(old: Fleet, new: Fleet, pools: set[str]) -> Iterator[Subject]:
    """Yield all that is in some pools, or was."""
    for fleet in (new, old):
        for pool in sorted(pools):
            yield from sorted(fleet.index.pools.get(pool, ()))
        yield from sorted(key for key, service in fleet.services.items() if service.pool in pools)
