"""Providing: every service gets the replicas that it wants, the new ones before any old one goes.

Those that need a place at once are packed together, by memory and busy share, as one by one they would need
more hosts. A host is made for them only where nobody can make room; who finds none that way takes a turn by
itself, the largest first, and waits if need be.
"""

from collections.abc import Mapping, Sequence

from lull.policy.changes import Draft
from lull.policy.demand import backing_off, lost, refusal, wanted
from lull.policy.fleet import Host, Placement, Pod, Pool, Report, Service, State
from lull.policy.idling import good
from lull.policy.load import telling
from lull.policy.pack import TARGET_BUSY, Item, Load, Room, pack
from lull.policy.packing import admits, capacity_bytes, circle, need_bytes, reach_bytes, room_bytes
from lull.policy.wake import leaves, wake_one


def provide(draft: Draft) -> None:
    """Give every service the replicas it wants: the highest priority chooses first."""
    for services in _short(draft):
        for service in _place_together(draft, services):
            draft.look_at(service.key)
            wake_one(draft, service)
    draft.look_at("")


def _short(draft: Draft) -> list[list[Service]]:
    """Return who lacks a replica, once for each: together those of one priority that may share hosts."""
    classes: dict[tuple[int, str, str], list[Service]] = {}
    for service in draft.services():
        target = wanted(draft, service)
        have = sum(good(draft, host, p, service) for host, p in draft.of(service.key)) if target else 0
        if target > have:
            kind = (-service.priority, service.pool, circle(draft.fleet, service))
            classes.setdefault(kind, []).extend([service] * (target - have))
    return [classes[kind] for kind in sorted(classes)]


def _place_together(draft: Draft, services: Sequence[Service]) -> list[Service]:
    """Place services of one class into free room and on new hosts; return who is left, the largest first."""
    needs = {service.key: need_bytes(draft.fleet, service) for service in services}
    asking = {
        f"{number} {service.key}": service
        for number, service in enumerate(sorted(services, key=lambda s: (-needs[s.key], s.key)))
    }
    items = [
        Item(id_, needs[service.key], _share(draft, service.key), service.model.name)
        for id_, service in asking.items()
        if _nowhere(draft, service)
    ]
    if items:
        pool = draft.fleet.pools[services[0].pool]
        hosts = _open_hosts(draft, services)
        least = min(item.memory_bytes for item in items)
        loads = pack(
            items,
            capacity_bytes(draft.fleet, pool),
            [_room(draft, host) for host in hosts if room_bytes(draft, host) >= least],
        )
        draft.look_at(services[0].key)
        for load in _to_place(draft, pool, hosts, loads, asking):
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


def _open_hosts(draft: Draft, services: Sequence[Service]) -> list[Host]:
    """Return the hosts that take all services of a class, those first that run and have the least room."""
    tenants = {service.namespace: service for service in services}.values()
    hosts = draft.of_pool(services[0].pool)
    fit = [host for host in hosts if all(admits(draft, host, service) for service in tenants)]
    return sorted(fit, key=lambda h: (h.pod is not Pod.RUNNING, room_bytes(draft, h), h.name))


def _room(draft: Draft, host: Host) -> Room:
    busy = sum(_busy(draft, host, p) for p in host.placements if p.state is State.LOADED)
    names = host.names | {report.name for report in host.reports.values()}
    return Room(host.name, room_bytes(draft, host), max(0.0, TARGET_BUSY - busy), names)


def _busy(draft: Draft, host: Host, placement: Placement) -> float:
    if host.says(placement, Report.READY):
        return host.reports[placement.id].busy
    return _share(draft, placement.service)


def _share(draft: Draft, service: str) -> float:
    """Return how busy one more replica is taken to become: as those that work are in the mean."""
    busy = [report.busy for report in telling(draft.of(service))]
    return sum(busy) / max(1, len(busy))


def _to_place(
    draft: Draft, pool: Pool, hosts: Sequence[Host], loads: Sequence[Load], asking: Mapping[str, Service]
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
    reaches = ((reach_bytes(draft, host), host) for host in hosts)
    reach = max((reach for reach, host in reaches if reach > room_bytes(draft, host)), default=0)
    alive = [host for host in draft.of_pool(pool.name) if not lost(draft, host)]
    spare = 0 if any(host.trouble for host in alive) else max(0, pool.max_hosts - len(alive))
    return there + [load for load in new if max(i.memory_bytes for i in load.items) > reach][:spare]
