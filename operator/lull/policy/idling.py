"""Letting go: who falls asleep, who was replaced, and what failed."""

from dataclasses import replace

from lull.api.reasons import Reason
from lull.policy.changes import Draft, idle_after_seconds, same_model
from lull.policy.demand import ailing, idle, lost, wanted
from lull.policy.fleet import Host, Placement, Pod, Report, Service, State
from lull.policy.packing import excess_bytes, excess_soon_bytes, need_bytes
from lull.policy.wake import MAKING_ROOM, sound
from lull.policy.worth import cheapest


def good(draft: Draft, host: Host, placement: Placement, service: Service) -> bool:
    """Tell whether a placement is what the service wants: its revision and pool, sound, alone if so asked."""
    return (
        placement.state is State.LOADED
        and same_model(placement, service.model)
        and host.pool == service.pool
        and sound(draft, host)
        and not host.says(placement, Report.FAILED)
        and not (service.dedicated and any(_disturbs(p, service) for p in host.placements))
    )


def _disturbs(placement: Placement, service: Service) -> bool:
    """Tell whether a placement keeps another service from being alone: a free rider goes at once."""
    return placement.service != service.key and placement.state is not State.RESIDENT


def retire(draft: Draft) -> None:
    """Start the drain of every loaded placement that is not wanted any more."""
    targets: dict[str, int] = {}
    for host in draft.each_host():
        if lost(draft, host):
            continue
        for placement in host.placements:
            if placement.state is not State.LOADED or host.says(placement, Report.FAILED):
                continue
            service = draft.fleet.services.get(placement.service)
            if service is None:
                draft.turn(host, placement, State.DRAINING)
                continue
            target = targets.setdefault(service.key, wanted(draft, service))
            if _dispensable(draft, host, placement, service, target):
                draft.turn(host, placement, State.DRAINING)


def give_up(draft: Draft) -> None:
    """Take out what failed, and what needs more than its host has: neither is routed, so no fence is needed.

    A load that ran into its deadline stays in the list, as its memory stays taken until its host is let go.
    """
    for host in draft.each_host():
        for placement in host.placements:
            failed = host.says(placement, Report.FAILED) and not _hangs(host, placement)
            if failed or _outgrew(draft, host, placement):
                draft.remove(host, placement)


def _hangs(host: Host, placement: Placement) -> bool:
    return host.reports[placement.id].reason == Reason.LOAD_TIMEOUT


def _outgrew(draft: Draft, host: Host, placement: Placement) -> bool:
    """Tell whether a model that waits for a larger reservation can have none here, all free riders gone."""
    if host.pool not in draft.fleet.pools or not _asks_for_more(host, placement):
        return False
    return cheapest(draft, host, excess_soon_bytes(draft, host)) is None


def _asks_for_more(host: Host, placement: Placement) -> bool:
    """Tell whether an agent does not load a model as it needs more than its reservation."""
    report = host.report(placement)
    return (
        report is not None
        and report.state is Report.FETCHING
        and report.memory_bytes > placement.memory_bytes
    )


def relieve(draft: Draft) -> None:
    """Unload Residents of a host on which a model grew past its reservation."""
    for host in draft.each_host():
        if host.pool in draft.fleet.pools and excess_bytes(draft, host) > 0:
            residents = [p for p in host.placements if p.state is State.RESIDENT]
            chosen = cheapest(draft, host, excess_soon_bytes(draft, host))
            ids = {p.id for p in (residents if chosen is None else chosen)}
            draft.put(host, (p for p in host.placements if p.id not in ids))


def refresh(draft: Draft) -> None:
    """Bring up to date what may change of a placement: its idle time and its reservation."""
    for host in draft.each_host():
        fresh = tuple(_refreshed(draft, host, p) for p in host.placements)
        if fresh != host.placements:
            draft.put(host, fresh)


def _refreshed(draft: Draft, host: Host, placement: Placement) -> Placement:
    service = draft.fleet.services.get(placement.service)
    if service is None or not same_model(placement, service.model):
        return placement
    reserved = placement.memory_bytes
    if service.measured_bytes and host.says(placement, Report.READY):
        reserved = min(reserved, need_bytes(draft.fleet, service))
    if host.pool in draft.fleet.pools and _asks_for_more(host, placement) and excess_bytes(draft, host) <= 0:
        reserved = host.reports[placement.id].memory_bytes
    idle_after = idle_after_seconds(service)
    if (reserved, idle_after) == (placement.memory_bytes, placement.idle_after_seconds):
        return placement
    return replace(placement, memory_bytes=reserved, idle_after_seconds=idle_after)


def _dispensable(draft: Draft, host: Host, placement: Placement, service: Service, target: int) -> bool:
    """Tell whether a loaded placement may go: never the last ready one of a service that is wanted.

    From a host that ails it goes at once: requests wait for its replacement rather than for that host. So
    does an unfit one, as no request reaches it.
    """
    if target == 0 or ailing(draft, host) or placement.model.revision in service.unfit:
        return True
    peers = [(h, p) for h, p in draft.of(service.key) if good(draft, h, p, service)]
    if good(draft, host, placement, service):
        ready = sum(h.says(p, Report.READY) for h, p in peers if p.id != placement.id)
        surplus = ready >= target
        return surplus and (not host.says(placement, Report.READY) or _first_to_go(draft, placement, peers))
    if sum(h.says(p, Report.READY) for h, p in peers) >= target:
        return True
    return _swap_held(draft, host, placement, service)


def _first_to_go(draft: Draft, placement: Placement, peers: list[tuple[Host, Placement]]) -> bool:
    """Tell whether a placement goes before its peers: idle ones first, then by name."""
    return placement.id == min((not idle(draft, h, p), p.id) for h, p in peers)[1]


def _swap_held(draft: Draft, host: Host, placement: Placement, service: Service) -> bool:
    """Tell whether a placement has to make room for the next one, as no other host can be had for that.

    It is of an old revision, or its host ends anyway. Requests are held meanwhile. Nobody swaps for a
    revision that has failed. Of several replicas one is swapped at a time, so that the others go on.
    """
    reason, _ = draft.blocked.get(service.key, ("", ""))
    if host.pod is Pod.TERMINATING:
        return reason not in ("", MAKING_ROOM)
    return (
        reason == Reason.NO_CAPACITY
        and draft.notes.failure(service) is None
        and not same_model(placement, service.model)
        and sound(draft, host)
        and not any(_moves(draft, h, p, service) for h, p in draft.of(service.key))
    )


def _moves(draft: Draft, host: Host, placement: Placement, service: Service) -> bool:
    """Tell whether a placement is on its way out, or on its way to be ready."""
    if placement.state is State.DRAINING:
        return True
    return good(draft, host, placement, service) and not host.says(placement, Report.READY)
