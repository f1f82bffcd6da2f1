"""Vacating: a host whose models fit elsewhere is emptied, so that it can go.

Only one host of a pool is emptied at a time, only if no new host is needed for it, and only if what is lost
by it is worth clearly less than the host costs. Its models move as from any cordoned host: the replacement is
ready before the original drains, and Residents go at once, to come back where there is room for them. Where
that room is taken meanwhile, or somebody waits for the room on that host, it is used again.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from math import ceil, inf

from lull.api.reasons import Reason
from lull.policy.busy import host_busy
from lull.policy.changes import Draft
from lull.policy.fleet import Host, Placement, Pod, Pool, Report, Service, State
from lull.policy.hosts import cost
from lull.policy.notes import opened
from lull.policy.pack import TARGET_BUSY
from lull.policy.packing import name_is_free, need_bytes, open_to, reach_bytes, room_bytes
from lull.policy.wake import MAKING_ROOM, sound
from lull.policy.worth import cheapest, kept_worth, placement_worth, standing

SAVING = 0.5
"""What is lost by a move may be worth this share of the host's cost at most …"""
SETTLED_SECONDS = 1800.0
"""… and a host has to have been in use for this long: so moves are few, and each host pays for its start."""
TRIED = 10
"""How many settled hosts are tried at a time, those that serve the fewest first …"""
TURN_SECONDS = 60.0
"""… the next ones after this time, so that none hides behind those that nobody can take …"""
TARGETS = 8
"""… and on how many others that have room for it each of their models is."""


def consolidate(draft: Draft) -> None:
    """Have one host of each pool emptied where that pays."""
    for pool in draft.fleet.pools.values():
        hosts = draft.of_pool(pool.name)
        if len(hosts) <= max(1, pool.min_hosts) or not _calm(draft, pool, hosts):
            continue
        serving = sorted((host for host in hosts if host.serving), key=lambda h: (h.serving, h.name))
        reaches = {host.name: reach_bytes(draft, host) for host in hosts}
        for host in _turn(draft, [host for host in serving if not host.kept and _settled(draft, host)]):
            most = SAVING * cost(draft, host)
            elsewhere = _Elsewhere(draft, [other for other in hosts if other.name != host.name], reaches)
            if _loss(draft, host, elsewhere, most) < most:
                draft.vacate(host, "its models fit on other hosts")
                break


def use_again(draft: Draft) -> None:
    """Use vacated hosts again where that helps who finds no room.

    The next plan places them there, as the host takes nothing before that is written.
    """
    full = [key for key, (reason, _) in draft.blocked.items() if reason == Reason.NO_CAPACITY]
    vacated = [host for host in draft.hosts.values() if host.vacated] if full else []
    for service in (draft.fleet.services[key] for key in full):
        host = next((host for host in vacated if _would_help(draft, host, service)), None)
        if host:
            draft.vacate(host, "")
            draft.blocked[service.key] = MAKING_ROOM, f"host {host.name} is used again"


def _would_help(draft: Draft, host: Host, service: Service) -> bool:
    """Tell whether a service may stay on a vacated host, or come to it, once that is open."""
    host = replace(host, cordoned=False)
    if host.pool == service.pool and service.key in host.holds:
        return sound(draft, host)
    return open_to(draft, host, service) and reach_bytes(draft, host) >= need_bytes(draft.fleet, service)


def _turn(draft: Draft, hosts: list[Host]) -> list[Host]:
    """Return those of the hosts whose turn it is."""
    turns = max(1, ceil(len(hosts) / TRIED))
    first = int(draft.now / TURN_SECONDS) % turns * TRIED
    return hosts[first : first + TRIED]


def _calm(draft: Draft, pool: Pool, hosts: list[Host]) -> bool:
    """Tell whether nothing moves in a pool, and nobody waits in it."""
    services = draft.fleet.services
    held = any(key in services and services[key].pool == pool.name for key in draft.held)
    if held or draft.somebody_waits(pool.name):
        return False
    return all(host.pod is Pod.RUNNING and not host.cordoned and not host.tainted for host in hosts)


def _settled(draft: Draft, host: Host) -> bool:
    """Tell whether a host was in use for long enough, and all that is not asleep on it serves."""
    if not draft.due(draft.notes.since.get(opened(host), draft.now) + SETTLED_SECONDS):
        return False
    awake = [p for p in host.placements if p.state is not State.RESIDENT]
    return all(p.state is State.LOADED and host.says(p, Report.READY) for p in awake)


def _loss(draft: Draft, host: Host, elsewhere: "_Elsewhere", most: float) -> float:
    """Return the worth that goes when a host is emptied; infinite where its models fit nowhere.

    Once it is `most` or more, what else would go is not looked at any more.
    """
    by_size = sorted(host.placements, key=lambda p: (-p.memory_bytes, p.id))
    lost = 0.0
    for placement in by_size:
        if placement.state is State.LOADED and lost < most:
            lost += elsewhere.take(placement, host.reports[placement.id].busy)
    riders = [p for p in host.placements if p.state is State.RESIDENT] if lost < most else []
    for placement in sorted(riders, key=lambda p: standing(draft, p), reverse=True):
        lost += elsewhere.lose(placement)
        if lost >= most:
            break
    return lost


class _Elsewhere:
    """The room on other hosts, as it is taken up by the models of one."""

    def __init__(self, draft: Draft, hosts: list[Host], reaches: Mapping[str, int]) -> None:
        """Take the hosts, and by name what each could have free at the most."""
        self._draft = draft
        self._hosts = hosts
        self._reaches = reaches
        self._taken: dict[str, int] = {}
        self._busy: dict[str, float] = {}

    def take(self, placement: Placement, busy: float) -> float:
        """Take a model that is in use; return the worth of what makes room, infinite if nothing can."""
        need = self._need(placement)
        options = [(self._lost(host, need), host.name) for host in self._open(placement, busy)]
        lost, name = min(options, default=(inf, ""))
        if lost < inf:
            self._taken[name] = self._taken.get(name, 0) + need
            self._busy[name] = self._busy.get(name, 0.0) + busy
        return lost

    def lose(self, placement: Placement) -> float:
        """Take a Resident where there is free room; return its worth where there is none."""
        need = self._need(placement)
        for host in self._open(placement):
            if self._room(host) >= need:
                self._taken[host.name] = self._taken.get(host.name, 0) + need
                return 0.0
        return placement_worth(self._draft, placement)

    def _room(self, host: Host) -> int:
        """Return the room that is left; negative where Residents go for what was taken."""
        return room_bytes(self._draft, host) - self._taken.get(host.name, 0)

    def _busy_of(self, host: Host) -> float:
        return host_busy(self._draft, host) + self._busy.get(host.name, 0.0)

    def _need(self, placement: Placement) -> int:
        """Return what a placement takes elsewhere: its reservation here may be from before it was known."""
        service = self._draft.fleet.services.get(placement.service)
        return need_bytes(self._draft.fleet, service) if service else placement.memory_bytes

    def _open(self, placement: Placement, busy: float = -inf) -> list[Host]:
        """Return some hosts that may take a placement that is so busy, if not all that rides there stays."""
        service = self._draft.fleet.services.get(placement.service)
        if service is None:
            return []
        need = self._need(placement)
        roomy = (h for h in self._hosts if self._reaches[h.name] - self._taken.get(h.name, 0) >= need)
        calm = (h for h in roomy if self._busy_of(h) + busy <= TARGET_BUSY)
        fit = (h for h in calm if open_to(self._draft, h, service) and name_is_free(h, service))
        return list(islice(fit, TARGETS))

    def _lost(self, host: Host, need: int) -> float:
        missing = need - self._room(host)
        if missing <= 0:
            return 0.0
        chosen = cheapest(self._draft, host, missing)
        return inf if chosen is None else kept_worth(self._draft, chosen)
