"""The wake: give every held service a placement. Called at once, so small; it never waits for a plan."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from math import inf

from lull.api.reasons import Reason
from lull.policy.changes import Change, Draft, same_model
from lull.policy.demand import ailing, backing_off, living, refusal, stuck
from lull.policy.fleet import Fleet, Host, Placement, Pod, Report, Service, State
from lull.policy.notes import Notes, placed, waits
from lull.policy.packing import (
    largest_bytes,
    most_bytes,
    name_is_free,
    need_bytes,
    open_to,
    reach_bytes,
    room_bytes,
    room_soon_bytes,
)
from lull.policy.queue import patience_seconds, wait_seconds
from lull.policy.scope import Scope
from lull.policy.worth import cheapest, kept_worth, standing

LOOKED_AT = 24
"""Among the Residents of how many hosts it is chosen who goes: there may be a thousand."""
MAKING_ROOM = "MakingRoom"
"""Why a service waits that will be placed without anybody's doing."""


def wake(fleet: Fleet, notes: Notes, now: float) -> list[Change]:
    """Return the changes that bring held services towards Loaded; none where nothing can be done yet."""
    draft = Draft(fleet, notes, now, Scope())
    wake_held(draft)
    return draft.changes()


def wake_held(draft: Draft) -> None:
    """Give every held service a placement, where that is possible.

    The highest priority chooses first, of one priority who waits longest.
    """
    for key in sorted(draft.held, key=lambda key: _turn(draft, key)):
        draft.look_at(key)
        service = draft.fleet.services.get(key)
        if (
            service
            and not service.suspend
            and not any(serves(draft, h, p, service) for h, p in draft.of(key))
        ):
            wake_one(draft, service)
    draft.look_at("")


def _turn(draft: Draft, key: str) -> tuple[int, float, str]:
    service = draft.fleet.services.get(key)
    return -(service.priority if service else 0), draft.notes.since.get(waits(key), draft.now), key


def serves(draft: Draft, host: Host, placement: Placement, service: Service) -> bool:
    """Tell whether a placement is, or will be, routed to: then there is nothing to wake."""
    fit = placement.model.revision not in service.unfit
    current = same_model(placement, service.model) or (fit and host.says(placement, Report.READY))
    return (
        placement.state is State.LOADED
        and current
        and sound(draft, host)
        and not host.says(placement, Report.FAILED)
    )


def sound(draft: Draft, host: Host) -> bool:
    """Tell whether a host may keep what it has."""
    return not host.tainted and not host.cordoned and lives(draft, host)


def lives(draft: Draft, host: Host) -> bool:
    """Tell whether a host serves, though it may be about to be emptied."""
    return host.pod is not Pod.TERMINATING and not ailing(draft, host)


def wake_one(draft: Draft, service: Service) -> None:
    """Turn a placement back to Loaded, or make one, where that is possible.

    Without room elsewhere, one that is late is better than none, or one on a host that should be emptied.
    """
    in_time = _turn_back(draft, service, sound, _wait_at_most(draft, service))
    if in_time or add_replica(draft, service) or _turn_back(draft, service, sound):
        return
    if draft.blocked.get(service.key, ("",))[0] == Reason.NO_CAPACITY:
        _turn_back(draft, service, lives)


def leaves(draft: Draft, service: Service) -> bool:
    """Tell whether a service would stay where it is, were its host not emptied by choice."""
    return any(
        host.vacated
        and host.pool == service.pool
        and serves(draft, replace(host, cordoned=False), placement, service)
        for host, placement in draft.of(service.key)
    )


def add_replica(draft: Draft, service: Service) -> bool:
    """Place one more replica: on a host with room, in the room of Residents, or on a new host.

    Returns:
        False where it is not placed now; why is noted in `draft.blocked`.
    """
    draft.ask_anew(service)
    if backing_off(draft, service):
        return False
    why = refusal(draft, service) or _place(draft, service, patience_seconds(draft, service))
    if why:
        draft.blocked[service.key] = why
    return why is None


def _wait_at_most(draft: Draft, service: Service) -> float:
    """Return how long what is put ahead for a service may still wait for its load, rather than a new host."""
    return max(patience_seconds(draft, service), draft.notes.learned.start_seconds(service.pool))


def _turn_back(
    draft: Draft, service: Service, fit: Callable[[Draft, Host], bool], within_seconds: float = inf
) -> bool:
    """Turn a placement on a fit host back to Loaded that is there soon enough; tell whether there was one."""
    for state in (State.DRAINING, State.RESIDENT):
        for host, placement in draft.of(service.key):
            if placement.state is state and fit(draft, host) and is_current(host, placement, service):
                ready = host.says(placement, Report.READY)
                if ready or wait_seconds(draft, host, placement) <= within_seconds:
                    draft.turn(host, placement, State.LOADED)
                    if not ready:
                        _queue_up(draft, host, placement)
                    return True
    return False


def _queue_up(draft: Draft, host: Host, placement: Placement) -> None:
    """Let what was to be loaded for nobody be loaded after those whose requests wait already."""
    placements = draft.hosts[host.name].placements
    draft.put(draft.hosts[host.name], sorted(placements, key=lambda p: p.id == placement.id))


def is_current(host: Host, placement: Placement, service: Service) -> bool:
    """Tell whether a placement is of what a service wants by now, and where."""
    return (
        same_model(placement, service.model)
        and host.pool == service.pool
        and not host.says(placement, Report.FAILED)
    )


def _place(draft: Draft, service: Service, within_seconds: float) -> tuple[str, str] | None:
    """Place a replica where its load waits no longer than this, and return None, or return why that waits.

    Where it would wait longer on all hosts, a new one is made for it, unless that would be even later.
    """
    need = need_bytes(draft.fleet, service)
    hosts = _within_reach(draft, service.pool, need)
    host = (
        _fullest_with_room(draft, hosts, service, need, within_seconds)
        or _first_with_room_soon(draft, hosts, service, need, within_seconds)
        or _evict(draft, hosts, need, service, within_seconds)
    )
    if host:
        return _settle_on(draft, host, service, need)
    refused = _no_new_host(draft, service)
    soonest = _soonest_seconds(draft, hosts, service, within_seconds)
    if soonest < inf and (refused or soonest <= draft.notes.learned.start_seconds(service.pool)):
        return _place(draft, service, soonest)
    if refused is None:
        draft.place(draft.create(service.pool), service, need)
    elif refused[0] == Reason.NO_CAPACITY:
        return _without_host(draft, service, need) or refused
    return refused


def _settle_on(draft: Draft, host: Host, service: Service, need: int) -> tuple[str, str] | None:
    """Place a replica on a host with room, or have the room kept that there will be; return why it waits."""
    if room_bytes(draft, host) >= need and name_is_free(host, service):
        draft.place(host, service, need)
        return None
    draft.await_room(host, service, need)
    return MAKING_ROOM, "another model is being unloaded to make room"


def _within_reach(draft: Draft, pool: str, need: int) -> list[Host]:
    """Return the hosts that have the room once their free riders are gone."""
    if largest_bytes(draft, pool) < need:  # found at once: many may wait for one more host
        return []
    return [host for host in draft.of_pool(pool) if reach_bytes(draft, host) >= need]


def _without_host(draft: Draft, service: Service, need: int) -> tuple[str, str] | None:
    """Return for what room a service waits that can have no host; None where none is in sight.

    Where a drain is what is in its way, the room beside that is kept for it too.
    """
    if largest_bytes(draft, service.pool) < need:
        return None
    if _evict_namesake(draft, service, need):
        return MAKING_ROOM, "a model of the same name is being unloaded to make room"
    large = (host for host in draft.of_pool(service.pool) if most_bytes(draft, host) >= need)
    open_hosts = [host for host in large if open_to(draft, host, service)]  # asked last: it takes longest
    if any(reach_bytes(draft, host) + draft.awaited_bytes(host) >= need for host in open_hosts):
        return MAKING_ROOM, "the room that there will be is for those whose turn is before"
    for host in open_hosts:
        drained = _drained_bytes(draft, host, service)
        if reach_bytes(draft, host) + drained >= need:
            draft.await_room(host, service, need - drained)
            break
    return None


def _drained_bytes(draft: Draft, host: Host, service: Service) -> int:
    """Return the memory of the drains of a host that may end while requests of a service are held."""
    began = ((p, draft.notes.since.get(placed(p), draft.now)) for p in host.draining)
    return sum(p.memory_bytes for p, at in began if not draft.due(at + service.hold_seconds))


def _is_near(draft: Draft, host: Host, within_seconds: float) -> bool:
    return within_seconds == inf or wait_seconds(draft, host) <= within_seconds


def _soonest_seconds(draft: Draft, hosts: list[Host], service: Service, beyond_seconds: float) -> float:
    """Return how long a load waits where it waits the least of all hosts that were too late for it."""
    if beyond_seconds == inf:
        return inf
    waits = (wait_seconds(draft, host) for host in hosts if open_to(draft, host, service))
    return min((seconds for seconds in waits if seconds > beyond_seconds), default=inf)


def _fullest_with_room(
    draft: Draft, hosts: list[Host], service: Service, need: int, within_seconds: float
) -> Host | None:
    """Return the host that fits best; who may share it, and when it can load, takes longest: asked last."""
    rooms = ((room_bytes(draft, host), host) for host in hosts)
    fit = [(host.pod is not Pod.RUNNING, room, host.name) for room, host in rooms if room >= need]
    ordered = (draft.hosts[name] for _, _, name in sorted(fit))
    free = (h for h in ordered if open_to(draft, h, service) and name_is_free(h, service))
    return next((host for host in free if _is_near(draft, host, within_seconds)), None)


def _first_with_room_soon(
    draft: Draft, hosts: list[Host], service: Service, need: int, within_seconds: float
) -> Host | None:
    """Return a host that has room once what unloads is gone."""
    soon = (h for h in hosts if room_soon_bytes(draft, h) >= need and open_to(draft, h, service))
    return next((host for host in soon if _is_near(draft, host, within_seconds)), None)


def _evict(
    draft: Draft, hosts: list[Host], need: int, service: Service, within_seconds: float
) -> Host | None:
    """Unload Residents where the least is lost, in priority, then in worth: nobody is routed to them.

    Returns:
        The host without them; None where no host has enough of them.
    """
    hosts = sorted(hosts, key=lambda host: (-host.riding_bytes, host.name))
    near = (h for h in hosts if open_to(draft, h, service) and _is_near(draft, h, within_seconds))
    options = [
        (
            max(host.says(p, Report.LOADING) for p in chosen),
            max(standing(draft, p)[0] for p in chosen),
            kept_worth(draft, chosen),
            host.name,
            [p.id for p in chosen],
        )
        for host in islice(near, LOOKED_AT)
        if (chosen := cheapest(draft, host, need - room_soon_bytes(draft, host)))
    ]
    if not options:
        return None
    *_, name, ids = min(options)
    draft.evict(draft.hosts[name], ids, service)
    return draft.hosts[name]


def _no_new_host(draft: Draft, service: Service) -> tuple[str, str] | None:
    """Return why no host is made for a service; None where there may be one more."""
    pool = draft.fleet.pools[service.pool]
    hosts = living(draft, pool.name)
    waiting = next((host for host in hosts if host.trouble), None)
    if waiting:  # one more would wait beside it
        reason = Reason.HOST_UNSCHEDULABLE if stuck(draft, waiting) else MAKING_ROOM
        return reason, f"host {waiting.name} does not start: {waiting.trouble}"
    if len(hosts) + draft.set_aside[pool.name] >= pool.max_hosts:
        return Reason.NO_CAPACITY, (
            f"all {pool.max_hosts} hosts of pool {pool.name} are in use; it waits until one has room "
            "(raise hosts.max of the pool to add more)"
        )
    if leaves(draft, service):
        return Reason.NO_CAPACITY, "its host is being emptied, and no other has room for it"
    return None


def _evict_namesake(draft: Draft, service: Service, need: int) -> bool:
    """Unload a Resident of the same wire name, where that alone is in the way: two never share a host."""
    for host in draft.of_pool(service.pool):
        if service.model.name not in host.names or service.key in host.holds:
            continue
        stay = [
            p for p in host.placements if p.state is not State.RESIDENT or p.model.name != service.model.name
        ]
        gone = {p.id for p in host.placements} - {p.id for p in stay}
        without = replace(host, placements=tuple(stay))
        if reach_bytes(draft, host) >= need and open_to(draft, without, service):
            draft.evict(host, gone, service)
            draft.await_room(host, service, need)
            return True
    return False
