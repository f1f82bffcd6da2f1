"""When a host on which everything sleeps is let go, if nobody asks for what is on it: to tell its users."""

from lull.policy.changes import Draft
from lull.policy.fleet import Host
from lull.policy.hosts import cost, stay_seconds, staying
from lull.policy.notes import empty
from lull.policy.worth import less_than


def goes_at(draft: Draft, host: Host) -> float | None:
    """Return when a host goes if nothing else happens; None where time alone does not decide that."""
    if host.name not in draft.farewells:
        draft.farewells[host.name] = _goes_at(draft, host)
    return draft.farewells[host.name]


def _goes_at(draft: Draft, host: Host) -> float | None:
    pool = draft.fleet.pools.get(host.pool)
    since = draft.notes.since.get(empty(host))
    if pool is None or since is None or host.kept or not host.serves_nobody:
        return None
    if staying(draft, pool) <= pool.min_hosts:
        return None
    if pool.empty_after_seconds is not None:
        return since + pool.empty_after_seconds
    first = max(draft.now, since + stay_seconds(draft, host))
    return less_than(draft, host.placements, cost(draft, host), first)
