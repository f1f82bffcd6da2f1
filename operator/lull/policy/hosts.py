"""Hosts: kept at the pool's minimum, let go when what they hold is worth less than they cost.

The currency is host-seconds: to keep a host costs 1 a second, and what its Residents spare in delays is
worth `kept_worth` a second. As hazards fall with age, the best time to go is when that falls below the cost.
"""

from math import inf

from lull.api.reasons import Reason
from lull.policy.changes import CreatePod, Draft
from lull.policy.demand import lost
from lull.policy.fleet import Host, Pod, Pool
from lull.policy.learning import BEGUN
from lull.policy.notes import empty, ending, kept, serves_nobody
from lull.policy.worth import kept_worth, less_from, standing

BARE_SECONDS = 60.0
"""How long a host that holds nothing is kept: who failed on it may be tried again there."""
AHEAD_SECONDS = 1800.0
"""How long a host that was made ahead of all requests is kept for them, so that none comes and goes."""
UNKNOWN_SECONDS = 60.0
"""How long an idle host is kept that was there before anybody looked, so that there is time to look."""
ENDING_SECONDS = 60.0
"""How long the Pod of a host that serves nobody may take to end; on a dead node it never does."""


def let_go(draft: Draft) -> None:
    """Delete hosts whose Pod is gone, that cannot be used again, or that are not worth what they cost."""
    for host in draft.each_host():  # first, so that none of them counts for the minimum
        if lost(draft, host):
            draft.delete(host, "its Pod is gone, or has not been ready for too long")
    _make_way(draft)
    for host in draft.each_host():
        if serves_nobody(host):
            (_let_go_of_ending if host.pod is Pod.TERMINATING else _let_go_of_idle)(draft, host)


def keep_minimum(draft: Draft) -> None:
    """Create hosts up to each pool's minimum."""
    for pool in draft.fleet.pools.values():
        for _ in range(max(0, min(pool.min_hosts, pool.max_hosts) - _count(draft, pool))):
            draft.create(pool.name)


def missing_pods(draft: Draft) -> list[CreatePod]:
    """Return the Pods that are due: those of hosts whose creation was interrupted."""
    fleet = draft.fleet
    hosts = (host for host in draft.hosts.values() if host.name in fleet.hosts and host.pool in fleet.pools)
    return [CreatePod(host.name) for host in hosts if host.pod is Pod.MISSING]


def cost(draft: Draft, host: Host) -> float:
    """Return what a host costs, in host-seconds per second: more where its node could be off without it."""
    pool = draft.fleet.pools.get(host.pool)
    if pool is None or pool.profile is None or not pool.profile.node_watts or not host.node:
        return 1.0
    if any(other.node == host.node and other.name != host.name for other in draft.hosts.values()):
        return 1.0
    return cost_alone(pool)


def cost_alone(pool: Pool) -> float:
    """Return what a host costs that has a node of its own, in host-seconds per second."""
    if pool.profile is None or not pool.profile.node_watts:
        return 1.0
    return 1.0 + pool.profile.node_watts / pool.profile.kept_watts


def _make_way(draft: Draft) -> None:
    """Let the least worthy idle host go for each service that waits for one in a full pool."""
    for key, (reason, _) in draft.blocked.items():
        pool = draft.fleet.services[key].pool
        ready_to_go = (h for h in draft.of_pool(pool) if not h.kept and h.pod is not Pod.TERMINATING)
        idle = [h for h in ready_to_go if serves_nobody(h)]
        if reason == Reason.NO_CAPACITY and idle:
            draft.delete(
                min(idle, key=lambda host: _standing(draft, host)),
                f"{key} waits for a host, and this one serves nobody",
            )


def _standing(draft: Draft, host: Host) -> tuple[float, float, str]:
    """Return by what an idle host is kept before others: the highest priority there, then all worth."""
    highest = max((standing(draft, p)[0] for p in host.placements), default=-inf)
    return highest, kept_worth(draft, host.placements), host.name


def _let_go_of_idle(draft: Draft, host: Host) -> None:
    if host.tainted:
        draft.delete(host, "a load passed its deadline, and its memory is only had back with the Pod")
        return
    pool = draft.fleet.pools.get(host.pool)
    if pool and (host.kept or _count(draft, pool) <= pool.min_hosts):
        return
    if any(draft.fleet.services[key].pool == host.pool for key in draft.blocked):
        return  # somebody waits for this very room
    if pool and pool.empty_after_seconds is not None:
        if _empty_for(draft, host, pool.empty_after_seconds):
            draft.delete(host, "it served nobody for its pool's emptyAfter")
    elif _may_go(draft, host) and not _pays(draft, host):
        draft.delete(host, "what it holds is not likely enough to be asked for soon")
    else:
        _look_again(draft, host)


def _pays(draft: Draft, host: Host) -> bool:
    """Tell whether what a host holds is worth its cost; its node is only looked at if that counts."""
    value = kept_worth(draft, host.placements)
    return value >= 1.0 and value >= cost(draft, host)


def _may_go(draft: Draft, host: Host) -> bool:
    """Tell whether an idle host was there long enough."""
    return _empty_for(draft, host, stay_seconds(draft, host) if host.placements else BARE_SECONDS)


def stay_seconds(draft: Draft, host: Host) -> float:
    """Return how long a host that serves nobody stays at least: one made ahead waits for requests."""
    since = draft.notes.since
    born = since.get(kept(host), draft.now)
    if since.get(empty(host), draft.now) > born:
        return 0.0  # it has served
    return AHEAD_SECONDS if born > since.get(BEGUN, draft.now) else UNKNOWN_SECONDS


def _empty_for(draft: Draft, host: Host, seconds: float) -> bool:
    return draft.due(draft.notes.since.get(empty(host), draft.now) + seconds)


def _look_again(draft: Draft, host: Host) -> None:
    for placement in host.placements:
        at = less_from(draft, placement.service)
        if at is not None:
            draft.due(at)


def _let_go_of_ending(draft: Draft, host: Host) -> None:
    if draft.due(draft.notes.since.get(ending(host), draft.now) + ENDING_SECONDS):
        draft.delete(host, "its Pod does not end, though it serves nobody")


def _count(draft: Draft, pool: Pool) -> int:
    return len(draft.of_pool(pool.name))
