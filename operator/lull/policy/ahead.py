"""Ahead of requests: what is likely to be asked for is loaded where there is room, or on a host of its own.

The room of a host that is kept anyway costs nothing, so it goes to those that are worth most and loaded
nowhere. A host of its own is made for them only where they are worth clearly more than it costs.
"""

from collections.abc import Iterator
from heapq import nsmallest
from itertools import groupby
from math import inf

from lull.policy.changes import Draft
from lull.policy.demand import refusal
from lull.policy.fleet import Host, Pod, Pool, Service, State
from lull.policy.hosts import cost_alone
from lull.policy.learning import USUAL_LOAD_SECONDS
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
    waiting = {draft.fleet.services[key].pool for key in draft.blocked}
    for pool in draft.fleet.pools.values():
        if pool.name in waiting:
            continue
        hosts = draft.of_pool(pool.name)
        # Where people say how long an empty host stays, none is made that would be empty.
        growing = (
            pool.empty_after_seconds is None
            and len(hosts) < pool.max_hosts
            and all(host.pod is Pod.RUNNING for host in hosts)
        )
        ranked = _absent(draft, pool, hosts)
        least = min((need_bytes(draft.fleet, service) for _, service in ranked), default=inf)
        for host in hosts:
            if room_bytes(draft, host) >= least and _takes_more(host):
                _fill(draft, host, ranked)
        if growing:
            for group in _sharing(pool, ranked):
                if _worth_of_host(draft, pool, group) >= NEW_HOST_COSTS:
                    _fill(draft, draft.create(pool.name), group)
                    break


def _takes_more(host: Host) -> bool:
    usable = host.pod in (Pod.MISSING, Pod.STARTING, Pod.RUNNING) and not host.cordoned and not host.tainted
    return usable and not host.trouble


def _absent(draft: Draft, pool: Pool, hosts: list[Host]) -> Ranked:
    """Return the services that are on no host and worth a load, those worth most for their bytes."""
    least = load_cost_seconds(pool.profile, USUAL_LOAD_SECONDS) / PAYS_WITHIN_SECONDS
    placed = set[str]().union(*(host.holds for host in hosts))
    there = (s for s in draft.fleet.services.values() if s.pool == pool.name and s.key not in placed)
    ranked = [(value, s) for s in there if (value := worth(draft, s)) > least and _may_come(draft, s)]
    return nsmallest(
        CONSIDERED, ranked, key=lambda entry: (-entry[0] / need_bytes(draft.fleet, entry[1]), entry[1].key)
    )


def _may_come(draft: Draft, service: Service) -> bool:
    """Tell whether a service may be loaded unasked; what has failed is only tried again for who asks."""
    failed = draft.notes.failure(service.key, service.generation)
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


def _sharing(pool: Pool, ranked: Ranked) -> Iterator[Ranked]:
    """Yield those that may share a host; code keeps to its namespace, and nobody knows yet who is code."""
    if not pool.namespaced and not pool.allow_code:
        yield ranked
        return
    for _, group in groupby(sorted(ranked, key=lambda e: e[1].namespace), key=lambda e: e[1].namespace):
        yield list(group)


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
