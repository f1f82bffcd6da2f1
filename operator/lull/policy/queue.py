"""How long a load waits on a host: until the host has started, and until all before it are loaded.

An agent loads one model at a time: what somebody waits for before what only rides along, and of each kind in
the order of `spec.models`. A load that has begun is not stopped.
"""

from math import inf

from lull.policy.changes import Draft
from lull.policy.fleet import Host, Placement, Service
from lull.policy.learning import starting, starts
from lull.policy.notes import loading

SURE = 0.9
"""The share of its hold within which a wake is to end: learned times scatter, and writes take time too."""


def patience_seconds(draft: Draft, service: Service) -> float:
    """Return how long a load of a service may wait, so that its requests do not run out of their hold."""
    if service.key not in draft.held:
        return inf
    return SURE * service.hold_seconds - draft.notes.learned.load_seconds(service.key, service.pool)


def wait_seconds(draft: Draft, host: Host, placement: Placement | None = None) -> float:
    """Return how long a load waits on a host: that of one of its placements, or of one more."""
    queue = host.queue
    if placement in queue:
        queue = queue[: queue.index(placement)]
    return _start_seconds(draft, host) + sum(load_seconds(draft, host, p) for p in queue)


def load_seconds(draft: Draft, host: Host, placement: Placement) -> float:
    """Return how long the load of a placement takes once it begins; what is left of it, if it has begun.

    That has only the first one of the queue, on a host that has started, whatever the agent calls the others.
    """
    expected = draft.notes.learned.load_seconds(placement.service, host.pool)
    begun = host.queue[:1] == (placement,) and not starts(host)
    return _left_seconds(expected, draft, draft.notes.since.get(loading(placement)) if begun else None)


def _start_seconds(draft: Draft, host: Host) -> float:
    if not starts(host):
        return 0.0
    expected = draft.notes.learned.start_seconds(host.pool)
    return _left_seconds(expected, draft, draft.notes.since.get(starting(host)))


def _left_seconds(expected: float, draft: Draft, since: float | None) -> float:
    """Return what is left of a time; what is overdue is taken to last as long again as it is over."""
    return expected if since is None else abs(expected - (draft.now - since))
