"""Where a placement fits: memory is hard, tenants and wire names keep apart."""

from lull.policy.changes import Draft
from lull.policy.fleet import DEFAULT_MODEL_BYTES, Fleet, Host, Pod, Pool, Service

HOST_OVERHEAD_BYTES = 512 * 2**20
"""What Triton and its device context take of a host before any model."""


def capacity_bytes(fleet: Fleet, pool: Pool) -> int:
    """Return what the models of one host of `pool` may share; what accelerators say is believed."""
    told = fleet.told_bytes.get(pool.name, pool.capacity_bytes)
    return max(0, min(pool.capacity_bytes, told) - HOST_OVERHEAD_BYTES)


def need_bytes(fleet: Fleet, service: Service) -> int:
    """Return what to reserve for one replica: the larger of declared and measured, else an assumption."""
    known = max(service.memory_bytes or 0, service.measured_bytes or 0)
    pool = fleet.pools.get(service.pool)
    return known or min([DEFAULT_MODEL_BYTES, *([capacity_bytes(fleet, pool)] if pool else [])])


def charged_bytes(draft: Draft, host: Host) -> int:
    """Return what is reserved or used on a host, of what still unloads too."""
    old = draft.fleet.hosts.get(host.name, host)
    if old.placements is host.placements or not host.leaving:
        return host.staying_bytes + host.leaving_bytes
    reserved = {p.id: p.memory_bytes for p in old.placements}  # of what this draft takes out
    leaving = (max(size, reserved.get(id_, 0)) or DEFAULT_MODEL_BYTES for id_, size in host.leaving.items())
    return host.staying_bytes + sum(leaving)


def excess_bytes(draft: Draft, host: Host) -> int:
    """Return what there is on a host beyond what it has; negative where it has more."""
    return charged_bytes(draft, host) - _own_bytes(draft, host)


def excess_soon_bytes(draft: Draft, host: Host) -> int:
    """Return the excess once everything that unloads now is gone."""
    return host.staying_bytes - _own_bytes(draft, host)


def room_bytes(draft: Draft, host: Host) -> int:
    """Return what a new placement may take of a host now, and leave those their room who wait for it."""
    room = _own_bytes(draft, host) - charged_bytes(draft, host)
    return min(room, room_soon_bytes(draft, host)) if draft.awaited_bytes(host) else room


def room_soon_bytes(draft: Draft, host: Host) -> int:
    """Return the room once everything that unloads now is gone, and those are there who wait for it."""
    return _own_bytes(draft, host) - host.staying_bytes - draft.awaited_bytes(host)


def reach_bytes(draft: Draft, host: Host) -> int:
    """Return the room of a host once what unloads is gone, and every free rider with it."""
    return room_soon_bytes(draft, host) + host.riding_bytes


def most_bytes(draft: Draft, host: Host) -> int:
    """Return the most that a new placement may ever have of a host: no drain ends later, and nobody waits."""
    drained = sum(p.memory_bytes for p in host.draining)
    return host.riding_bytes + drained - excess_soon_bytes(draft, host)


def largest_bytes(draft: Draft, pool: str) -> int:
    """Return the most that a new placement may ever have of a host of a pool; 0 without any."""
    if pool not in draft.largest:
        draft.largest[pool] = max((most_bytes(draft, host) for host in draft.of_pool(pool)), default=0)
    return draft.largest[pool]


def _own_bytes(draft: Draft, host: Host) -> int:
    most, own = draft.fleet.pools[host.pool].capacity_bytes, host.capacity_bytes
    return (own if own and own < most else most) - HOST_OVERHEAD_BYTES


def open_to(draft: Draft, host: Host, service: Service) -> bool:
    """Tell whether a host takes placements of a service at all, memory apart."""
    return service.model.name not in host.names and admits(draft, host, service)


def admits(draft: Draft, host: Host, service: Service) -> bool:
    """Tell whether a host takes anything, and a service may share it, whatever its wire name."""
    return (
        host.pool == service.pool
        and host.pod in (Pod.MISSING, Pod.STARTING, Pod.RUNNING)
        and not host.tainted
        and not host.cordoned
        and may_share(draft.fleet, service, host.tenants)
    )


def name_is_free(host: Host, service: Service) -> bool:
    """Tell whether no model of this wire name is still being unloaded."""
    return all(report.name != service.model.name for report in host.reports.values())


def circle(fleet: Fleet, service: Service) -> str:
    """Return with whom a service may share a host for sure: those of one pool and circle agree.

    That is its namespace where code or the pool keeps to itself, and itself where it is dedicated.
    """
    pool = fleet.pools.get(service.pool)
    if service.dedicated:
        return service.key
    apart = pool is not None and (pool.namespaced or _is_code(fleet, pool, service.key))
    return service.namespace if apart else ""


def may_share(fleet: Fleet, service: Service, tenants: frozenset[str]) -> bool:
    """Tell whether a service may be on a host of its pool with these others."""
    pool = fleet.pools[service.pool]
    others = tenants - {service.key}
    if others and service.dedicated:
        return False
    if any(_dedicated(fleet, key) for key in others):
        return False
    own = f"{service.namespace}/"
    foreign = [key for key in others if not key.startswith(own)]
    if not foreign:
        return True
    return not pool.namespaced and not any(_is_code(fleet, pool, key) for key in (service.key, *foreign))


def _dedicated(fleet: Fleet, key: str) -> bool:
    return key in fleet.services and fleet.services[key].dedicated


def _is_code(fleet: Fleet, pool: Pool, key: str) -> bool:
    """Tell whether a service may run code of its own: unknown, it may where its pool allows code."""
    service = fleet.services.get(key)
    known = service.code if service else None
    return pool.allow_code if known is None else known
