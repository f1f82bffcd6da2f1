"""How busy hosts are, and what comes to them: shares of the time that accelerators compute."""

from lull.policy.changes import Draft
from lull.policy.fleet import Host, Placement, Report, State
from lull.policy.load import telling


def host_busy(draft: Draft, host: Host) -> float:
    """Return how busy a host is, once all that is wanted there works."""
    return sum(placement_busy(draft, host, p) for p in host.placements if p.state is State.LOADED)


def placement_busy(draft: Draft, host: Host, placement: Placement) -> float:
    """Return how busy a placement makes its host; one that still loads is taken for a new replica."""
    if host.says(placement, Report.READY):
        return host.reports[placement.id].busy
    return replica_busy(draft, placement.service)


def replica_busy(draft: Draft, service: str) -> float:
    """Return how busy one more replica is taken to become: as those that work are in the mean."""
    busy = [report.busy for report in telling(draft.of(service))]
    return sum(busy) / max(1, len(busy))
