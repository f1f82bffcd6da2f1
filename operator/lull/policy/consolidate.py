"""Vacating: a host whose models fit elsewhere is emptied, so that it can go.

Only one host of a pool is emptied at a time, only if no new host is needed for it, and only if what is lost
by it is worth clearly less than the host costs. Its models move as from any cordoned host: the replacement is
ready before the original drains, and Residents go at once, to come back where there is room for them.
"""

from heapq import nsmallest
from itertools import islice
from math import inf

from lull.policy.changes import Draft
from lull.policy.fleet import Host, Placement, Pod, Pool, Report, State
from lull.policy.hosts import cost
from lull.policy.notes import kept, serves_nobody
from lull.policy.packing import name_is_free, open_to, room_bytes
from lull.policy.worth import cheapest, kept_worth, placement_worth, standing

SAVING = 0.5
"""What is lost by a move may be worth this share of the host's cost at most …"""
SETTLED_SECONDS = 1800.0
"""… and a host has to have been there for this long: so moves are few, and each host pays for its start."""
MOST_BUSY = 0.8
"""How busy a host may become by a move: beyond that its models would wait for each other."""
TRIED = 3
"""How many hosts are tried in one plan, those that serve the fewest first …"""
TARGETS = 8
"""… and how many others each of their models is tried on, the fullest first."""


def consolidate(draft: Draft) -> None:
    """Have one host of each pool emptied where that pays."""
    for pool in draft.fleet.pools.values():
        hosts = draft.of_pool(pool.name)
        if len(hosts) <= max(1, pool.min_hosts) or not _calm(draft, pool, hosts):
            continue
        movable = [host for host in hosts if not serves_nobody(host) and _settled(draft, host)]
        for host in nsmallest(TRIED, movable, key=lambda host: (_serving(host), host.name)):
            if _loss(draft, host, hosts) < SAVING * cost(draft, host):
                draft.vacate(host, "its models fit on other hosts")
                break


def _calm(draft: Draft, pool: Pool, hosts: list[Host]) -> bool:
    """Tell whether nothing moves in a pool, and nobody waits in it."""
    waiting = (*draft.blocked, *draft.held)
    return all(
        host.pod is Pod.RUNNING and not host.cordoned and not host.tainted for host in hosts
    ) and not any(
        key in draft.fleet.services and draft.fleet.services[key].pool == pool.name for key in waiting
    )


def _settled(draft: Draft, host: Host) -> bool:
    ready = all(host.says(p, Report.READY) for p in host.placements if p.state is not State.RESIDENT)
    draining = any(p.state is State.DRAINING for p in host.placements)
    since = draft.notes.since.get(kept(host), draft.now)
    return ready and not draining and draft.due(since + SETTLED_SECONDS)


def _serving(host: Host) -> int:
    return sum(p.state is State.LOADED for p in host.placements)


def _loss(draft: Draft, host: Host, hosts: list[Host]) -> float:
    """Return the worth that goes when a host is emptied; infinite where its models fit nowhere."""
    elsewhere = _Elsewhere(draft, [other for other in hosts if other.name != host.name])
    by_size = sorted(host.placements, key=lambda p: (-p.memory_bytes, p.id))
    lost = sum(elsewhere.take(p, host.reports[p.id].busy) for p in by_size if p.state is State.LOADED)
    if lost == inf:
        return lost
    riders = sorted(
        (p for p in host.placements if p.state is State.RESIDENT), key=lambda p: standing(draft, p)
    )
    return lost + sum(elsewhere.lose(p) for p in reversed(riders))


class _Elsewhere:
    """The room on other hosts, as it is taken up by the models of one."""

    def __init__(self, draft: Draft, hosts: list[Host]) -> None:
        self._draft = draft
        self._hosts = hosts
        self._rooms = {host.name: room_bytes(draft, host) for host in hosts}
        self._busy = {host.name: sum(r.busy for r in host.reports.values()) for host in hosts}

    def take(self, placement: Placement, busy: float) -> float:
        """Take a model that is in use; return the worth of what makes room, infinite if nothing can."""
        options = [
            (self._lost(host, placement), host.name)
            for host in self._open(placement)
            if self._busy[host.name] + busy <= MOST_BUSY
        ]
        lost, name = min(options, default=(inf, ""))
        if lost < inf:
            # Who makes room does so once: then nothing but free room is left of that host.
            self._rooms[name] = max(0, self._rooms[name] - placement.memory_bytes)
            self._busy[name] += busy
        return lost

    def lose(self, placement: Placement) -> float:
        """Take a Resident where there is free room; return its worth where there is none."""
        for host in self._open(placement):
            if self._rooms[host.name] >= placement.memory_bytes:
                self._rooms[host.name] -= placement.memory_bytes
                return 0.0
        return placement_worth(self._draft, placement)

    def _open(self, placement: Placement) -> list[Host]:
        service = self._draft.fleet.services.get(placement.service)
        if service is None:
            return []
        fit = (h for h in self._hosts if open_to(self._draft, h, service) and name_is_free(h, service))
        return list(islice(fit, TARGETS))

    def _lost(self, host: Host, placement: Placement) -> float:
        missing = placement.memory_bytes - self._rooms[host.name]
        if missing <= 0:
            return 0.0
        chosen = cheapest(self._draft, host, missing)
        return inf if chosen is None else kept_worth(self._draft, chosen)
