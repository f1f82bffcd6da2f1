"""How long a wake would take from here: the way that `wake` would go, with what was learned of its parts."""

from dataclasses import dataclass

from lull.policy.changes import Draft, same_model
from lull.policy.demand import lost, refusal
from lull.policy.fleet import Host, Placement, Pod, Report, Service, State
from lull.policy.packing import need_bytes, open_to, room_bytes, room_soon_bytes
from lull.policy.wake import lives

HOP_SECONDS = 0.03
"""From the gateway's word to the routed model, where it is in memory; measured on one machine."""
UNLOAD_SECONDS = 1.0
"""Until the memory of models that make room is free; assumed."""
LOOKED_AT = 16
"""Of how many hosts the best is taken: the roomiest. It is an estimate, and there may be a thousand."""


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
        _on_host(draft, host, service, host.placements.index(p))
        for host, p in current
        if not host.says(p, Report.FAILED)
    ]
    return min(under_way or _elsewhere(draft, service), key=lambda way: way.seconds, default=None)


def _elsewhere(draft: Draft, service: Service) -> list[Expected]:
    """Return the ways that there are: of hosts that are there if any will do, else by a new one."""
    need = need_bytes(draft.fleet, service)
    ways: list[Expected] = []
    for host in _roomiest(draft, service.pool):
        if len(ways) == LOOKED_AT or _reach_bytes(draft, host) < need:
            break
        if open_to(draft, host, service):
            ways.append(_on_host(draft, host, service, len(host.placements), need))
    pool = draft.fleet.pools[service.pool]
    if ways or sum(not lost(draft, host) for host in draft.of_pool(pool.name)) >= pool.max_hosts:
        return ways
    start = draft.notes.learned.start_seconds(pool.name)
    return [Expected(HOP_SECONDS + start + draft.notes.learned.load_seconds(service.key), "NewHost")]


def _on_host(draft: Draft, host: Host, service: Service, place: int, need_bytes: int = 0) -> Expected:
    """Return how a wake on a host would go, behind `place` of its placements: one loads at a time."""
    starts = host.pod is not Pod.RUNNING
    before = [p for p in host.placements[:place] if _waits(host, p)]
    seconds = (
        HOP_SECONDS
        + draft.notes.learned.load_seconds(service.key)
        + sum(draft.notes.learned.load_seconds(p.service) for p in before)
    )
    if starts:
        seconds += draft.notes.learned.start_seconds(host.pool)
    if room_bytes(draft, host) < need_bytes:
        seconds += UNLOAD_SECONDS
    return Expected(seconds, "NewHost" if starts else "Host")


def _waits(host: Host, placement: Placement) -> bool:
    """Tell whether a placement is still to be loaded for somebody who asks."""
    done = host.says(placement, Report.READY) or host.says(placement, Report.FAILED)
    return placement.state is State.LOADED and not done


def _roomiest(draft: Draft, pool: str) -> list[Host]:
    """Return the hosts of a pool, those that could have the most room first."""
    hosts = draft.roomiest.get(pool)
    if hosts is None:
        hosts = sorted(draft.of_pool(pool), key=lambda host: (-_reach_bytes(draft, host), host.name))
        draft.roomiest[pool] = hosts
    return hosts


def _reach_bytes(draft: Draft, host: Host) -> int:
    """Return the room of a host, once what unloads is gone and every free rider with it."""
    riders = sum(p.memory_bytes for p in host.placements if p.state is State.RESIDENT)
    return room_soon_bytes(draft, host) + riders
