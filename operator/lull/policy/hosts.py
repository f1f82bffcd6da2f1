"""Hosts: kept at the pool's minimum, let go when they serve nobody."""

from lull.policy.changes import CreatePod, Draft
from lull.policy.demand import lost
from lull.policy.fleet import Host, Pod, Pool
from lull.policy.notes import empty, ending, serves_nobody

DEFAULT_EMPTY_AFTER_SECONDS = 60.0
"""How long a host that serves nobody is kept in a pool without `emptyAfter`."""
ENDING_SECONDS = 60.0
"""How long the Pod of a host that serves nobody may take to end; on a dead node it never does."""


def let_go(draft: Draft) -> None:
    """Delete hosts whose Pod is gone, that cannot be used again, or that served nobody for long enough."""
    for host in draft.each_host():  # first, so that none of them counts for the minimum
        if lost(draft, host):
            draft.delete(host, "its Pod is gone, or has not been ready for too long")
    for host in draft.each_host():
        if serves_nobody(host):
            (_let_go_of_ending if host.pod is Pod.TERMINATING else _let_go_of_empty)(draft, host)


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


def empty_after_seconds(pool: Pool | None) -> float:
    """Return how long a host of this pool may serve nobody."""
    if pool is None or pool.empty_after_seconds is None:
        return DEFAULT_EMPTY_AFTER_SECONDS
    return pool.empty_after_seconds


def _let_go_of_empty(draft: Draft, host: Host) -> None:
    if host.tainted:
        draft.delete(host, "a load passed its deadline, and its memory is only had back with the Pod")
        return
    pool = draft.fleet.pools.get(host.pool)
    if pool and _count(draft, pool) <= pool.min_hosts:
        return
    if any(draft.fleet.services[key].pool == host.pool for key in draft.blocked):
        return  # somebody waits for this very room
    after = empty_after_seconds(pool)
    if draft.due(draft.notes.since.get(empty(host), draft.now) + after):
        draft.delete(host, "it served nobody for its pool's emptyAfter")


def _let_go_of_ending(draft: Draft, host: Host) -> None:
    if draft.due(draft.notes.since.get(ending(host), draft.now) + ENDING_SECONDS):
        draft.delete(host, "its Pod does not end, though it serves nobody")


def _count(draft: Draft, pool: Pool) -> int:
    return len(draft.of_pool(pool.name))
