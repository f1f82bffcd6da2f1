"""The fence: a placement may only be unloaded once no request of any gateway can reach it."""

from collections.abc import Iterable

from lull.policy.changes import Draft, same_model
from lull.policy.fleet import Gateway, Host, Placement, Pod, Service, State
from lull.policy.notes import placed
from lull.policy.packing import may_share

GIVE_UP_DRAIN_SECONDS = 60.0
"""How long a drain to sleep may be blocked by something long before it is given up and tried later."""
ORPHAN_DRAIN_SECONDS = 300.0
"""Drain deadline of a service that is gone and cannot say its own."""


def fenced(placement: Placement, gateways: Iterable[Gateway]) -> bool:
    """Tell whether every gateway has let go of this placement, as of its current epoch.

    A gateway counts as long as it exists: one that is silent postpones, which costs energy and no request.
    """
    return placement.state is State.RESIDENT or all(placement.claim in g.drained for g in gateways)


def close_fences(draft: Draft) -> None:
    """Turn fenced drains into free riders or take them out, and end those that took too long."""
    for host in draft.each_host():
        for placement in host.placements:
            service = draft.fleet.services.get(placement.service)
            if placement.state is State.RESIDENT and not welcome(draft, host, placement, service):
                draft.remove(host, placement)
            elif placement.state is State.DRAINING:
                _advance(draft, host, placement, service)


def welcome(draft: Draft, host: Host, placement: Placement, service: Service | None) -> bool:
    """Tell whether a placement that serves nobody may ride along, with those that are there."""
    return (
        service is not None
        and not service.suspend
        and not host.cordoned
        and same_model(placement, service.model)
        and host.pool == service.pool
        and (
            host.pool not in draft.fleet.pools
            or may_share(draft.fleet, service, draft.hosts[host.name].holds)
        )
    )


def _advance(draft: Draft, host: Host, placement: Placement, service: Service | None) -> None:
    since = draft.notes.since.get(placed(placement), draft.now)
    if fenced(placement, draft.fleet.gateways.values()):
        draft.prove(placement)
        if welcome(draft, host, placement, service):
            draft.turn(host, placement, State.RESIDENT)
        else:
            draft.remove(host, placement)
    elif service is None or service.suspend or host.pod is Pod.TERMINATING:
        deadline = service.drain_deadline_seconds if service else ORPHAN_DRAIN_SECONDS
        if draft.due(since + deadline):
            draft.cut(host, placement)
    elif _went_to_sleep(draft, host, placement, service) and draft.due(since + GIVE_UP_DRAIN_SECONDS):
        draft.turn(host, placement, State.LOADED)


def _went_to_sleep(draft: Draft, host: Host, placement: Placement, service: Service) -> bool:
    """Tell whether a drain was nobody's wish but idleness: nothing took its place."""
    if service.follows:
        return False  # it comes back with the service that it follows
    others = (p for _, p in draft.of(service.key) if p.state is State.LOADED)
    return welcome(draft, host, placement, service) and not host.tainted and not any(others)
