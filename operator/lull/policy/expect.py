"""How long a wake would take from here: it is tried on a copy, and timed by what was learned of its parts."""

from dataclasses import dataclass, replace
from heapq import nsmallest
from math import inf

from lull.policy.changes import Draft
from lull.policy.demand import refusal
from lull.policy.fleet import Fleet, Gateway, Host, Placement, Pod, Report, Service, State, namespace_of
from lull.policy.packing import reach_bytes
from lull.policy.queue import load_seconds, wait_seconds
from lull.policy.scope import Scope
from lull.policy.wake import is_current, lives, serves, sound, wake_one

HOP_SECONDS = 0.025
"""From the gateway's word to the routed model, where it is in memory; measured on one machine."""
WORD_SECONDS = 0.08
"""What an agent's word adds where a model is loaded: it hears of it, and tells of it; measured so too."""
LOOKED_AT = 4
"""How many hosts of a pool are considered: the roomiest. It is an estimate, and there may be a thousand."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A wake as it would go.

    Attributes:
        seconds: how long it would take; 0 where requests are answered at once.
        source: what it would start from: Loaded, Host or NewHost; empty where it is awake.
    """

    seconds: float
    source: str = ""


AWAKE = Expected(0.0)
RESIDENT = Expected(HOP_SECONDS, "Loaded")


def expected_wake(draft: Draft, service: Service) -> Expected | None:
    """Return how a wake would go; None where there would be none: suspended, refused, or no room."""
    if service.suspend or refusal(draft, service):
        return None
    ready = [(h, p) for h, p in draft.of(service.key) if h.says(p, Report.READY)]
    current = [(h, p) for h, p in ready if is_current(h, p, service) and lives(draft, h)]
    if any(p.state is State.LOADED for _, p in current):
        return AWAKE
    if any(sound(draft, host) for host, _ in current):
        return RESIDENT
    if any(serves(draft, host, p, service) for host, p in draft.of(service.key)):
        return min(_ways(draft, service), key=_seconds, default=None)
    trial = _trial(draft, service)
    wake_one(trial, service)
    ways = _ways(trial, service)
    room_on = trial.waits_for_room(service)
    if room_on:
        ways.append(_once_there_is_room(trial, trial.hosts[room_on], service))
    return min(ways, key=_seconds, default=None)


def _trial(draft: Draft, service: Service) -> Draft:
    """Return the draft of a fleet in which somebody asks for a service now, of as many hosts as matter."""
    pool = draft.fleet.pools[service.pool]
    near, count = _nearby(draft, service)
    hosts = {host.name: host for host in (*near, *(host for host, _ in draft.of(service.key)))}
    beside = count - sum(host.pool == pool.name for host in hosts.values())
    fleet = Fleet(
        draft.fleet.services,
        {pool.name: replace(pool, max_hosts=pool.max_hosts - beside)},
        hosts,
        {"": Gateway("", held=frozenset([service.key]))},
    )
    failure = draft.notes.failure(service)
    failures = {service.key: replace(failure, at=-inf)} if failure else {}  # as if it were tried again
    return Draft(fleet, replace(draft.notes, failures=failures), draft.now, Scope())


def _nearby(draft: Draft, service: Service) -> tuple[list[Host], int]:
    """Return some hosts of a service's pool, those that may have most room, and how many there are in all.

    Where namespaces share no host, only those of its own and empty ones. One that does not start is among
    them, as no other is made beside it.
    """
    pool = draft.fleet.pools[service.pool]
    owner = service.namespace if pool.namespaced else ""
    found = draft.nearby.get((pool.name, owner))
    if found is None:
        hosts = draft.of_pool(pool.name)
        own = (h for h in hosts if not owner or all(namespace_of(tenant) == owner for tenant in h.tenants))
        near = nsmallest(LOOKED_AT, own, key=lambda h: (not h.trouble, -reach_bytes(draft, h), h.name))
        found = draft.nearby[pool.name, owner] = near, len(hosts)
    return found


def _ways(draft: Draft, service: Service) -> list[Expected]:
    """Return how it goes on with what is to be routed."""
    loaded = ((h, p) for h, p in draft.of(service.key) if p.state is State.LOADED)
    return [_on(draft, h, p) for h, p in loaded if is_current(h, p, service) and lives(draft, h)]


def _on(draft: Draft, host: Host, placement: Placement) -> Expected:
    if host.says(placement, Report.READY):
        return RESIDENT
    return _loaded(host, wait_seconds(draft, host, placement) + load_seconds(draft, host, placement))


def _once_there_is_room(draft: Draft, host: Host, service: Service) -> Expected:
    learned = draft.notes.learned
    room_seconds = max(wait_seconds(draft, host), learned.unload_seconds(host.pool))
    return _loaded(host, room_seconds + learned.load_seconds(service.key, service.pool))


def _seconds(way: Expected) -> float:
    return way.seconds


def _loaded(host: Host, seconds: float) -> Expected:
    if host.pod is Pod.RUNNING:
        return Expected(HOP_SECONDS + WORD_SECONDS + seconds, "Host")
    return Expected(HOP_SECONDS + seconds, "NewHost")
