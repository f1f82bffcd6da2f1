"""Ahead of requests: what is likely to be asked for is loaded where there is room, or on a host of its own.

The room of a host that is kept anyway costs nothing, so it goes to those that are worth most and loaded
nowhere. A host of its own is made for them only where they are worth clearly more than it costs.
"""

from heapq import heapify, heappop
from itertools import islice
from math import inf

from lull.policy.changes import Draft
from lull.policy.demand import refusal, wanted
from lull.policy.fleet import Host, Pod, Pool, Service, State, namespace_of
from lull.policy.hosts import cost_alone
from lull.policy.packing import capacity_bytes, name_is_free, need_bytes, open_to, room_bytes
from lull.policy.prices import load_cost_seconds
from lull.policy.worth import worth

PAYS_WITHIN_SECONDS = 600.0
"""A load ahead has to be worth its energy within this time, by when its host may be gone."""
NEW_HOST_COSTS = 1.5
"""How many times its cost a host that is made ahead has to be worth, as it is kept for a while then."""

CONSIDERED = 100
"""How many services at most are thought of in one plan: those worth most for their bytes."""

Ranked = list[tuple[float, Service]]


def load_ahead(draft: Draft) -> None:
    """Fill the room of hosts with what is worth most, and make a host for what is worth one.

    Not while somebody waits for room, as it may come bit by bit.
    """
    for pool in draft.fleet.pools.values():
        if not draft.somebody_waits(pool.name):
            _load_ahead(draft, pool)


def _load_ahead(draft: Draft, pool: Pool) -> None:
    hosts = draft.of_pool(pool.name)
    absent = _absent(draft, pool, hosts)
    least = min((need_bytes(draft.fleet, service) for _, service in absent), default=inf)
    awaited = _awaited(draft, hosts)
    roomy = [
        host
        for host in hosts
        if room_bytes(draft, host) >= least and not host.trouble and host.name not in awaited
    ]
    growing = sum(value for value, _ in absent) >= NEW_HOST_COSTS and _may_grow(pool, hosts)
    if not roomy and not growing:
        return
    groups = _sharing(pool, _ranked(draft, absent))
    for host in roomy:
        for group in _sharers(pool, host, groups):
            _fill(draft, host, group)
    worthy = (group for group in groups.values() if _worth_of_host(draft, pool, group) >= NEW_HOST_COSTS)
    first = next(worthy, None) if growing else None
    if first is not None:
        _fill(draft, draft.create(pool.name), first)


def _awaited(draft: Draft, hosts: list[Host]) -> set[str]:
    """Return the hosts whose room those need that failed and will be tried again.

    Else each try would throw out who came there meanwhile.
    """
    awaited: set[str] = set()
    for key in draft.notes.failures:
        service = draft.fleet.services.get(key)
        if service is not None and not draft.of(key) and wanted(draft, service):
            need = need_bytes(draft.fleet, service)
            rooms = ((room_bytes(draft, host), host) for host in hosts if open_to(draft, host, service))
            awaited.update(
                name for _, name in sorted((room, host.name) for room, host in rooms if room >= need)[:1]
            )
    return awaited


def _may_grow(pool: Pool, hosts: list[Host]) -> bool:
    """Tell whether a host may be made ahead: not an empty one where people say how long those stay."""
    growing = pool.empty_after_seconds is None and len(hosts) < pool.max_hosts
    return growing and all(host.pod is Pod.RUNNING for host in hosts)


def _absent(draft: Draft, pool: Pool, hosts: list[Host]) -> Ranked:
    """Return the services that are on no host and worth a load, with their worth."""
    load = draft.notes.learned.pool_load_seconds(pool.name)
    least = load_cost_seconds(pool.profile, load) / PAYS_WITHIN_SECONDS
    placed = set[str]().union(*(host.holds for host in hosts))
    there = (s for key, s in draft.fleet.services.items() if key not in placed and s.pool == pool.name)
    return [(value, service) for service in there if (value := worth(draft, service)) > least]


def _ranked(draft: Draft, absent: Ranked) -> Ranked:
    """Return those who may come, those worth most for their bytes: of thousands only these are asked for."""
    heap = [
        (-value / need_bytes(draft.fleet, service), service.key, value, service) for value, service in absent
    ]
    heapify(heap)
    in_order = (heappop(heap)[2:] for _ in absent)
    return list(islice((entry for entry in in_order if _may_come(draft, entry[1])), CONSIDERED))


def _may_come(draft: Draft, service: Service) -> bool:
    """Tell whether a service may be loaded unasked; what has failed is only tried again for who asks."""
    failed = draft.notes.failure(service)
    return not (service.dedicated or refusal(draft, service) or failed)


def _fill(draft: Draft, host: Host, ranked: Ranked) -> None:
    """Place the most worthy that fit as Residents: an agent loads them behind what somebody waits for."""
    for entry in ranked[:]:
        service = entry[1]
        host = draft.hosts[host.name]
        need = need_bytes(draft.fleet, service)
        if room_bytes(draft, host) >= need and open_to(draft, host, service) and name_is_free(host, service):
            draft.place(host, service, need, State.RESIDENT)
            ranked.remove(entry)


def _sharing(pool: Pool, ranked: Ranked) -> dict[str, Ranked]:
    """Return those that may share a host; code keeps to its namespace, and nobody knows yet who is code."""
    if not pool.namespaced and not pool.allow_code:
        return {"": ranked}
    groups: dict[str, Ranked] = {}
    for entry in ranked:
        groups.setdefault(entry[1].namespace, []).append(entry)
    return groups


def _sharers(pool: Pool, host: Host, groups: dict[str, Ranked]) -> list[Ranked]:
    """Return the groups that may come to a host, as far as that can be told of all of them at once."""
    if pool.namespaced and host.tenants:
        own = groups.get(namespace_of(min(host.tenants)))
        return [own] if own else []
    return list(groups.values())


def _worth_of_host(draft: Draft, pool: Pool, ranked: Ranked) -> float:
    """Return how many times its cost a host full of the most worthy would be worth, alone on its node."""
    room, total, names = capacity_bytes(draft.fleet, pool), 0.0, set[str]()
    for value, service in ranked:
        need = need_bytes(draft.fleet, service)
        if need <= room and service.model.name not in names:
            room -= need
            total += value
            names.add(service.model.name)
    return total / cost_alone(pool)
