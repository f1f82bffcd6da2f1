"""How long a wake would take from here: the way that `wake` would go, with what was learned of its parts."""

from dataclasses import dataclass
from heapq import nsmallest

from lull.policy.changes import Draft, Prospect, same_model
from lull.policy.demand import refusal
from lull.policy.fleet import Host, Pod, Report, Service, State, namespace_of
from lull.policy.packing import need_bytes, open_to, reach_bytes, room_bytes
from lull.policy.queue import load_seconds, wait_seconds
from lull.policy.wake import lives

HOP_SECONDS = 0.02
"""From the gateway's word to the routed model, where it is in memory; measured on one machine."""
UNLOAD_SECONDS = 1.0
"""Until the memory of models that make room is free; assumed."""
LOOKED_AT = 8
"""How many hosts are considered: the roomiest. It is an estimate, and there may be a thousand."""


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
    current = [
        (host, p) for host, p in draft.of(service.key) if same_model(p, service.model) and lives(draft, host)
    ]
    in_memory = [p.state for host, p in current if host.says(p, Report.READY)]
    if in_memory:
        return AWAKE if State.LOADED in in_memory else RESIDENT
    under_way = [
        _on(host, wait_seconds(draft, host, p) + load_seconds(draft, host, p))
        for host, p in current
        if not host.says(p, Report.FAILED)
    ]
    return min(under_way or _elsewhere(draft, service), key=lambda way: way.seconds, default=None)


def _elsewhere(draft: Draft, service: Service) -> list[Expected]:
    """Return the ways that there are: of hosts that are there if any will do, else by a new one."""
    need, load = need_bytes(draft.fleet, service), _load_seconds(draft, service)
    ways: list[Expected] = []
    for found in _prospects(draft, service):
        if found.reach_bytes < need:
            break
        if open_to(draft, found.host, service):
            unload = UNLOAD_SECONDS if found.room_bytes < need else 0.0
            ways.append(_on(found.host, found.wait_seconds + unload + load))
            if not found.wait_seconds + unload:
                break  # there is none better
    pool = draft.fleet.pools[service.pool]
    if ways or len(draft.of_pool(pool.name)) >= pool.max_hosts:
        return ways
    return [Expected(HOP_SECONDS + draft.notes.learned.start_seconds(pool.name) + load, "NewHost")]


def _on(host: Host, seconds: float) -> Expected:
    return Expected(HOP_SECONDS + seconds, "Host" if host.pod is Pod.RUNNING else "NewHost")


def _prospects(draft: Draft, service: Service) -> list[Prospect]:
    """Return some hosts of a service's pool, those that could have the most room first.

    Where namespaces share no host, only those of its own and empty ones.
    """
    pool = draft.fleet.pools[service.pool]
    owner = service.namespace if pool.namespaced else ""
    found = draft.prospects.get((pool.name, owner))
    if found is None:
        hosts = draft.of_pool(pool.name)
        if owner:
            hosts = [h for h in hosts if all(namespace_of(tenant) == owner for tenant in h.tenants)]
        most = nsmallest(LOOKED_AT, hosts, key=lambda host: (-reach_bytes(draft, host), host.name))
        found = [
            Prospect(
                host,
                reach_bytes(draft, host),
                room_bytes(draft, host),
                wait_seconds(draft, host),
            )
            for host in most
        ]
        draft.prospects[pool.name, owner] = found
    return found


def _load_seconds(draft: Draft, service: Service) -> float:
    return draft.notes.learned.load_seconds(service.key)
