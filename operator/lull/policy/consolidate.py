"""Vacating: a host whose models fit elsewhere is emptied, so that it can go.

Only one host of a pool is emptied at a time, only if no new host is needed for it, and only if what is lost
by it is worth clearly less than the host costs. Its models move as from any cordoned host: the replacement is
ready before the original drains, and Residents go at once, to come back where there is room for them.
"""

from itertools import islice
from math import inf

from lull.policy.changes import Draft
from lull.policy.fleet import Host, Placement, Pod, Pool, Report, State
from lull.policy.hosts import cost
from lull.policy.notes import kept
from lull.policy.packing import name_is_free, open_to, room_bytes
from lull.policy.worth import cheapest, kept_worth, placement_worth, standing

SAVING = 0.5
"""What is lost by a move may be worth this share of the host's cost at most …"""
SETTLED_SECONDS = 1800.0
"""… and a host has to have been there for this long: so moves are few, and each host pays for its start."""
MOST_BUSY = 0.8
"""How busy a host may become by a move: beyond that its models would wait for each other."""
TRIED = 10
"""How many settled hosts are tried in one plan, those that serve the fewest first …"""
TARGETS = 8
"""… and on how many others that take it each of their models is."""


def consolidate(draft: Draft) -> None:
    """Have one host of each pool emptied where that pays."""
    for pool in draft.fleet.pools.values():
        hosts = draft.of_pool(pool.name)
        if len(hosts) <= max(1, pool.min_hosts) or not _calm(draft, pool, hosts):
            continue
        serving = sorted((host for host in hosts if host.serving), key=lambda h: (h.serving, h.name))
        for host in islice((host for host in serving if not host.kept and _settled(draft, host)), TRIED):
            most = SAVING * cost(draft, host)
            if _loss(draft, host, hosts, most) < most:
                draft.vacate(host, "its models fit on other hosts")
                break


def _calm(draft: Draft, pool: Pool, hosts: list[Host]) -> bool:
    """Tell whether nothing moves in a pool, and nobody waits in it."""
    services = draft.fleet.services
    if any(key in services and services[key].pool == pool.name for key in (*draft.blocked, *draft.held)):
        return False
    return all(host.pod is Pod.RUNNING and not host.cordoned and not host.tainted for host in hosts)


def _settled(draft: Draft, host: Host) -> bool:
    """Tell whether a host was there for long enough, and all that is not asleep on it serves."""
    if not draft.due(draft.notes.since.get(kept(host), draft.now) + SETTLED_SECONDS):
        return False
    awake = [p for p in host.placements if p.state is not State.RESIDENT]
    return all(p.state is State.LOADED and host.says(p, Report.READY) for p in awake)


def _loss(draft: Draft, host: Host, hosts: list[Host], most: float) -> float:
    """Return the worth that goes when a host is emptied; infinite where its models fit nowhere.

    Once it is `most` or more, what else would go is not looked at any more.
    """
    elsewhere = _Elsewhere(draft, [other for other in hosts if other.name != host.name])
    by_size = sorted(host.placements, key=lambda p: (-p.memory_bytes, p.id))
    lost = sum(elsewhere.take(p, host.reports[p.id].busy) for p in by_size if p.state is State.LOADED)
    riders = [p for p in host.placements if p.state is State.RESIDENT] if lost < most else []
    for placement in sorted(riders, key=lambda p: standing(draft, p), reverse=True):
        lost += elsewhere.lose(placement)
        if lost >= most:
            break
    return lost


class _Elsewhere:
    """The room on other hosts, as it is taken up by the models of one."""

    def __init__(self, draft: Draft, hosts: list[Host]) -> None:
        self._draft = draft
        self._hosts = hosts
        self._taken: dict[str, int] = {}
        self._busy: dict[str, float] = {}

    def take(self, placement: Placement, busy: float) -> float:
        """Take a model that is in use; return the worth of what makes room, infinite if nothing can."""
        options = [
            (self._lost(host, placement), host.name)
            for host in self._open(placement)
            if self._busy_of(host) + busy <= MOST_BUSY
        ]
        lost, name = min(options, default=(inf, ""))
        if lost < inf:
            self._taken[name] = self._taken.get(name, 0) + placement.memory_bytes
            self._busy[name] = self._busy.get(name, 0.0) + busy
        return lost

    def lose(self, placement: Placement) -> float:
        """Take a Resident where there is free room; return its worth where there is none."""
        for host in self._open(placement):
            if self._room(host) >= placement.memory_bytes:
                self._taken[host.name] = self._taken.get(host.name, 0) + placement.memory_bytes
                return 0.0
        return placement_worth(self._draft, placement)

    def _room(self, host: Host) -> int:
        """Return the room that is left; negative where Residents go for what was taken."""
        return room_bytes(self._draft, host) - self._taken.get(host.name, 0)

    def _busy_of(self, host: Host) -> float:
        return sum(r.busy for r in host.reports.values()) + self._busy.get(host.name, 0.0)

    def _open(self, placement: Placement) -> list[Host]:
        service = self._draft.fleet.services.get(placement.service)
        if service is None:
            return []
        fit = (h for h in self._hosts if open_to(self._draft, h, service) and name_is_free(h, service))
        return list(islice(fit, TARGETS))

    def _lost(self, host: Host, placement: Placement) -> float:
        missing = placement.memory_bytes - self._room(host)
        if missing <= 0:
            return 0.0
        chosen = cheapest(self._draft, host, missing)
        return inf if chosen is None else kept_worth(self._draft, chosen)
