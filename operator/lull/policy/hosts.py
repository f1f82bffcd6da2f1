"""Hosts: kept at the pool's minimum, let go when what they hold is worth less than they cost.

The currency is host-seconds: to keep a host costs 1 a second, and what its Residents spare in delays is
worth `kept_worth` a second. As hazards fall with age, the best time to go is when that falls below the cost.
"""

from collections import Counter
from math import inf

from lull.api.reasons import Reason
from lull.policy.changes import CreatePod, Draft
from lull.policy.demand import lost
from lull.policy.fleet import Host, Pod, Pool
from lull.policy.learning import BEGUN
from lull.policy.notes import empty, ending, kept
from lull.policy.scope import Surroundings
from lull.policy.worth import kept_worth, less_than, standing

BARE_SECONDS = 60.0
"""How long a host that holds nothing is kept: who failed on it may be tried again there."""
AHEAD_SECONDS = 1800.0
"""How long a host that was made ahead of all requests is kept for them, so that none comes and goes."""
UNKNOWN_SECONDS = 60.0
"""How long an idle host is kept that was there before anybody looked, so that there is time to look."""
ENDING_SECONDS = 60.0
"""How long the Pod of a host that serves nobody may take to end; on a dead node it never does."""


def let_go(draft: Draft, before: Surroundings) -> Surroundings:
    """Delete hosts whose Pod is gone, that cannot be used again, or that are not worth what they cost.

    `before` is what there was around them when the others were looked at last; return what there is now.
    """
    for host in draft.each_host():  # first, so that none of them counts for the minimum
        if lost(draft, host):
            draft.delete(host, "its Pod is gone, or has not been ready for too long")
    _make_way(draft)
    now = look_around(draft, before)
    for host in draft.each_host():
        if host.serves_nobody:
            (_let_go_of_ending if host.pod is Pod.TERMINATING else _let_go_of_idle)(draft, host)
            if host.name not in draft.hosts:
                _look_beside(draft, host)
    return now


def look_around(draft: Draft, before: Surroundings) -> Surroundings:
    """Bring in the hosts that serve nobody and what sleeps there, where what is around them has changed."""
    now = _surroundings(draft)
    for host in _concerned(draft, before, now):
        draft.scope.hosts.names.add(host.name)
        draft.scope.services.names.update(host.holds)
    return now


def look_back(draft: Draft, before: Surroundings) -> Surroundings:
    """Do the same, and have those looked at again that were decided on by what was around them before."""
    now = look_around(draft, before)
    draft.restless.update(host.name for host in _concerned(draft, before, now))
    return now


def _surroundings(draft: Draft) -> Surroundings:
    few = {pool.name for pool in draft.fleet.pools.values() if staying(draft, pool) <= pool.min_hosts}
    on_node = Counter(host.node for host in draft.hosts.values() if host.node)
    return Surroundings(frozenset(few), frozenset(node for node, hosts in on_node.items() if hosts == 1))


def _concerned(draft: Draft, before: Surroundings, now: Surroundings) -> list[Host]:
    """Return the hosts that serve nobody around which something has changed."""
    pools, nodes = before.few ^ now.few, before.lone_nodes ^ now.lone_nodes
    if not (pools or nodes):
        return []
    around = (
        h for h in draft.hosts.values() if h.pool in pools or (h.node in nodes and _may_free_node(draft, h))
    )
    return [host for host in around if host.serves_nobody]


def keep_minimum(draft: Draft) -> None:
    """Create hosts up to each pool's minimum."""
    for pool in draft.fleet.pools.values():
        free = pool.max_hosts - len(draft.of_pool(pool.name))
        for _ in range(min(free, pool.min_hosts - staying(draft, pool))):
            draft.create(pool.name)


def missing_pods(draft: Draft) -> list[CreatePod]:
    """Return the Pods that are due: those of hosts whose creation was interrupted."""
    fleet = draft.fleet
    hosts = (host for host in draft.hosts.values() if host.name in fleet.hosts and host.pool in fleet.pools)
    return [CreatePod(host.name) for host in hosts if host.pod is Pod.MISSING]


def cost(draft: Draft, host: Host) -> float:
    """Return what a host costs, in host-seconds per second: more where its node could be off without it."""
    pool = draft.fleet.pools.get(host.pool)
    if pool is None or not _may_free_node(draft, host):
        return 1.0
    if any(other.node == host.node and other.name != host.name for other in draft.hosts.values()):
        return 1.0
    return cost_alone(pool)


def cost_alone(pool: Pool) -> float:
    """Return what a host costs that has a node of its own, in host-seconds per second."""
    if pool.profile is None or not pool.profile.node_watts:
        return 1.0
    return 1.0 + pool.profile.node_watts / pool.profile.kept_watts


def _may_free_node(draft: Draft, host: Host) -> bool:
    """Tell whether more than a host may be spared where it is the last one on its node."""
    pool = draft.fleet.pools.get(host.pool)
    return bool(host.node and pool and pool.profile and pool.profile.node_watts)


def _make_way(draft: Draft) -> None:
    """Let the least worthy idle host go for each service that waits for one in a full pool."""
    idle: dict[str, list[Host]] = {}
    for key, (reason, _) in draft.blocked.items():
        pool = draft.fleet.services[key].pool
        if reason == Reason.NO_CAPACITY and pool not in idle:
            idle[pool] = _ready_to_go(draft, pool)
        if reason == Reason.NO_CAPACITY and idle[pool]:
            least = min(idle[pool], key=lambda host: _standing(draft, host))
            idle[pool].remove(least)
            draft.delete(least, f"{key} waits for a host, and this one serves nobody")


def _ready_to_go(draft: Draft, pool: str) -> list[Host]:
    """Return the hosts of a pool that serve nobody."""
    ready = (h for h in draft.of_pool(pool) if not h.kept and h.pod is not Pod.TERMINATING)
    return [h for h in ready if h.serves_nobody]


def _standing(draft: Draft, host: Host) -> tuple[float, float, str]:
    """Return by what an idle host is kept before others: the highest priority there, then all worth."""
    highest = max((standing(draft, p)[0] for p in host.placements), default=-inf)
    return highest, kept_worth(draft, host.placements), host.name


def _let_go_of_idle(draft: Draft, host: Host) -> None:
    if host.tainted:
        draft.delete(host, "a load passed its deadline, and its memory is only had back with the Pod")
        return
    if host.cordoned and not host.kept:
        draft.delete(host, "it was to be emptied, and serves nobody any more")
        return
    pool = draft.fleet.pools.get(host.pool)
    if pool and (host.kept or staying(draft, pool) <= pool.min_hosts):
        return
    if draft.somebody_waits(host.pool):
        draft.restless.add(host.name)
        return  # somebody waits for this very room
    if pool and pool.empty_after_seconds is not None:
        if _empty_for(draft, host, pool.empty_after_seconds):
            draft.delete(host, "it served nobody for its pool's emptyAfter")
    elif _may_go(draft, host) and _is_worth_less(draft, host):
        draft.delete(host, "what it holds is not likely enough to be asked for soon")


def _is_worth_less(draft: Draft, host: Host) -> bool:
    """Tell whether what a host holds is worth less than it costs by now."""
    at = less_than(draft, host.placements, cost(draft, host), draft.now)
    return at is not None and draft.due(at)


def _look_beside(draft: Draft, gone: Host) -> None:
    """Look at who is left on a node, as it costs more alone."""
    if _may_free_node(draft, gone):
        beside = (h.name for h in draft.hosts.values() if h.node == gone.node and h.serves_nobody)
        draft.scope.hosts.names.update(beside)


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


def _let_go_of_ending(draft: Draft, host: Host) -> None:
    if draft.due(draft.notes.since.get(ending(host), draft.now) + ENDING_SECONDS):
        draft.delete(host, "its Pod does not end, though it serves nobody")


def staying(draft: Draft, pool: Pool) -> int:
    """Return how many hosts of a pool are not to be emptied."""
    return sum(not host.cordoned for host in draft.of_pool(pool.name))
