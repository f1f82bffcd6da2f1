"""Providing: every service gets the replicas that it wants, the new ones before any old one goes.

Those that need a place at once are packed together, by memory and busy share, as one by one they would need
more hosts. A host is made for them only where nobody can make room; who finds none that way takes a turn by
itself, the largest first, and waits if need be.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, groupby

from lull.policy.busy import host_busy, replica_busy
from lull.policy.changes import Draft
from lull.policy.demand import backing_off, living, refusal, wanted
from lull.policy.fleet import Host, Pod, Pool, Service, State
from lull.policy.idling import good
from lull.policy.pack import TARGET_BUSY, Item, Load, Room, pack
from lull.policy.packing import admits, capacity_bytes, circle, need_bytes, reach_bytes, room_bytes
from lull.policy.wake import leaves, wake_one

GATHERED = 60
"""How many services are kept back at most while others are left to be looked at: those of the emptiest new
hosts, so that a plan in slices needs hardly more hosts than one that packs all at once …"""
GATHER_SECONDS = 0.5
"""… and for how long: a host takes far longer to start."""


def provide(draft: Draft) -> None:
    """Give every service the replicas it wants: the highest priority chooses first, candidates last."""
    classes = _short(draft)
    openings = _Openings(draft, chain(*classes))
    for number, services in enumerate(classes, 1):
        kept_back = GATHERED * number // len(classes) if draft.gathers else 0
        for service in _place_together(draft, services, openings, kept_back):
            draft.look_at(service.key)
            wake_one(draft, service)
    draft.look_at("")


class _Openings:
    """The hosts with room for who needs a place: looked for once, as there may be many tenants."""

    def __init__(self, draft: Draft, services: Iterable[Service]) -> None:
        self._draft = draft
        self._found: dict[str, list[str]] = {}
        for pool, some in groupby(sorted(services, key=_pool), key=_pool):
            least = min(need_bytes(draft.fleet, service) for service in some)
            hosts = (host for host in draft.of_pool(pool) if not host.cordoned)
            self._found[pool] = [host.name for host in hosts if room_bytes(draft, host) >= least]

    def rooms(self, pool: Pool, tenants: Sequence[Service], least_bytes: int) -> list[Room]:
        """Return what is free on hosts that take all tenants: first those that run, and have the least."""
        draft = self._draft
        names = dict.fromkeys((*self._found[pool.name], *draft.made_in(pool.name)))
        free = ((room_bytes(draft, draft.hosts[name]), draft.hosts[name]) for name in names)
        fit = ((room, h) for room, h in free if room >= least_bytes and _admits_all(draft, h, tenants))
        ordered = sorted((host.pod is not Pod.RUNNING, room, host.name) for room, host in fit)
        return [_room(draft, draft.hosts[name], room) for _, room, name in ordered]


def _short(draft: Draft) -> list[list[Service]]:
    """Return who lacks a replica, once for each: together those of one priority that may share hosts."""
    classes: dict[tuple[bool, int, str, str], list[Service]] = {}
    for service in draft.services():
        target = wanted(draft, service)
        have = sum(good(draft, host, p, service) for host, p in draft.of(service.key)) if target else 0
        if target > have:
            kind = (bool(service.follows), -service.priority, service.pool, circle(draft.fleet, service))
            classes.setdefault(kind, []).extend([service] * (target - have))
    return [classes[kind] for kind in sorted(classes)]


def _place_together(
    draft: Draft, services: Sequence[Service], openings: _Openings, kept_back: int
) -> list[Service]:
    """Place services of one class into free room and on new hosts; return who is left, the largest first.

    Some are neither placed nor left, but kept back, until all classes so far have kept back so many.
    """
    needs = {service.key: need_bytes(draft.fleet, service) for service in services}
    asking = {
        f"{number} {service.key}": service
        for number, service in enumerate(sorted(services, key=lambda s: (-needs[s.key], s.key)))
    }
    items = [
        Item(id_, needs[service.key], replica_busy(draft, service.key), service.model.name)
        for id_, service in asking.items()
        if _nowhere(draft, service)
    ]
    if items:
        pool = draft.fleet.pools[services[0].pool]
        tenants = list({service.namespace: service for service in services}.values())
        rooms = openings.rooms(pool, tenants, min(item.memory_bytes for item in items))
        loads = pack(items, capacity_bytes(draft.fleet, pool), rooms)
        draft.look_at(services[0].key)
        to_place = _to_place(draft, pool, tenants, loads, asking)
        _keep_back(draft, pool, [load for load in to_place if not load.room], asking, kept_back)
        for load in to_place:
            if load.items[0].id in asking:
                host = draft.hosts[load.room] if load.room else draft.create(pool.name)
                for item in load.items:
                    draft.place(host, asking.pop(item.id), item.memory_bytes)
    return list(asking.values())


def _nowhere(draft: Draft, service: Service) -> bool:
    """Tell whether only a new place helps a service, and it may have one: others are simply turned back."""
    draft.look_at(service.key)
    sleeps = any(p.state is not State.LOADED for _, p in draft.of(service.key))
    waits = sleeps or draft.waits_for_room(service) or backing_off(draft, service)
    return not waits and refusal(draft, service) is None


def _admits_all(draft: Draft, host: Host, tenants: Sequence[Service]) -> bool:
    return all(admits(draft, host, service) for service in tenants)


def _room(draft: Draft, host: Host, memory_bytes: int) -> Room:
    names = host.names | {report.name for report in host.reports.values()}
    return Room(host.name, memory_bytes, max(0.0, TARGET_BUSY - host_busy(draft, host)), names)


def _to_place(
    draft: Draft, pool: Pool, tenants: Sequence[Service], loads: Sequence[Load], asking: Mapping[str, Service]
) -> list[Load]:
    """Return the loads that are placed: on new hosts only those that no Resident can make room for.

    Nor is a host made for who only leaves one that is emptied to have fewer hosts.
    """
    new = [
        load
        for load in loads
        if not load.room and not any(leaves(draft, asking[item.id]) for item in load.items)
    ]
    there = [load for load in loads if load.room]
    if not new:
        return there
    hosts = draft.of_pool(pool.name)
    alive = living(draft, pool.name)
    full = any(host.trouble for host in alive)
    spare = 0 if full else max(0, pool.max_hosts - len(alive) - draft.set_aside[pool.name])
    if not spare:
        return there
    soon = (host for host in hosts if host.riding_bytes or host.leaving)
    reach = max((reach_bytes(draft, host) for host in soon if _admits_all(draft, host, tenants)), default=0)
    return there + [load for load in new if max(i.memory_bytes for i in load.items) > reach][:spare]


def _keep_back(
    draft: Draft, pool: Pool, new: Sequence[Load], asking: dict[str, Service], at_most: int
) -> None:
    """Take those out of `asking` who are to be packed anew, with others that are not looked at yet."""
    for load in sorted(new, key=lambda load: _fullness(load, pool)):
        keys = [asking[item.id].key for item in load.items]
        if len(draft.kept_back) + len(keys) > at_most:
            break
        since = {key: draft.was_kept_back.get(key, draft.now) for key in keys}
        if draft.now - min(since.values()) < GATHER_SECONDS:
            draft.kept_back |= since
            draft.set_aside[pool.name] += 1
            for item in load.items:
                del asking[item.id]


def _pool(service: Service) -> str:
    return service.pool


def _fullness(load: Load, pool: Pool) -> float:
    memory = sum(item.memory_bytes for item in load.items) / pool.capacity_bytes
    return memory + sum(item.busy for item in load.items) / TARGET_BUSY
