"""How many replicas a service wants, and what stands in the way of giving it one."""

from collections.abc import Iterator

from lull.api.quantities import format_bytes, format_duration
from lull.api.reasons import Reason
from lull.policy.changes import Draft, same_model
from lull.policy.fleet import Host, Placement, Pod, Report, Service, State, replicas_of_share
from lull.policy.load import in_words, more, telling
from lull.policy.notes import placed, too_many, troubled, unready
from lull.policy.packing import capacity_bytes
from lull.policy.schedule import Hours, hours

AILING_AFTER_SECONDS = 10.0
"""How long a Pod that has served may be not ready before its models are wanted elsewhere."""
LOST_AFTER_SECONDS = 60.0
"""How long before it is given up: until then it may just be slow, and is fenced like any other."""
SPARE_SECONDS = 300.0
"""How long fewer replicas must have been enough before one goes: load that comes back finds it there."""
EARLY = 1.25
"""By how many wake times from no host at all a window opens early: learned times scatter, and this is free of
what sleeps where."""
AWAKE_LEAD_SECONDS = 120.0
"""How long before its window opens a service is not put to sleep any more."""
UNSCHEDULABLE_AFTER_SECONDS = 30.0
"""How long a Pod may wait for the scheduler before that is called a failure."""


def wanted(draft: Draft, service: Service) -> int:
    """Return the replicas that a service should have now; one answer for a whole draft."""
    known = draft.wanted.get(service.key)
    if known is None:
        known = draft.wanted[service.key] = _wanted(draft, service)
    return known


def opening_hours(draft: Draft, service: Service) -> Hours:
    """Return what a service's windows say now.

    They open early, so that a wake is over in time, and earlier where it is awake, which would only sleep
    and wake again: what the wake itself taught of the time that it takes must not undo it.
    """
    if not service.schedule:
        return Hours()
    learned = draft.notes.learned
    load_seconds = learned.load_seconds(service.key, service.pool)
    coldest_wake_seconds = learned.start_seconds(service.pool) + load_seconds
    lead_seconds = EARLY * coldest_wake_seconds
    if any(p.state is State.LOADED for _, p in draft.of(service.key)):
        lead_seconds = max(AWAKE_LEAD_SECONDS, 2 * lead_seconds)
    return hours(service, draft.now, lead_seconds)


def _wanted(draft: Draft, service: Service) -> int:
    if service.follows:
        return _wanted_beside(draft, service)
    if service.suspend:
        return 0
    open_now = opening_hours(draft, service)
    if open_now.changes_at is not None:
        draft.due(open_now.changes_at)
    busy = max(1, *_by_load(draft, service)) if _asked(draft, service) else 0
    return min(service.max_replicas, max(service.min_replicas, open_now.replicas, busy))


def _wanted_beside(draft: Draft, candidate: Service) -> int:
    """Return the replicas that a candidate should have: its share of those of the service that it follows."""
    stable = draft.fleet.services.get(candidate.follows)
    if stable is None:
        return 0
    share = replicas_of_share(candidate.share_percent, wanted(draft, stable))
    return min(candidate.max_replicas, share)


def _asked(draft: Draft, service: Service) -> bool:
    """Tell whether a service is used, or is on its way to be; its candidate only answers in its stead."""
    if service.key in draft.held or any(active(draft, h, p) for h, p in draft.of(service.key)):
        return True
    answers = ((h, p) for h, p in draft.of_pair(service.key) if h.says(p, Report.READY))
    return any(active(draft, h, p) for h, p in answers)


def why_so_many(draft: Draft, service: Service, replicas: int) -> str:
    """Say why a service is to have so many replicas, with the figures of this moment."""
    reports = telling(draft.of_pair(service.key))
    if replicas < draft.notes.replicas.get(service.key, 0):
        lasted = format_duration(SPARE_SECONDS)
        return f"{in_words(service, reports)}; fewer replicas have been enough for {lasted}"
    if replicas <= 1:
        return ""
    if replicas == service.min_replicas:
        return f"replicas.min is {replicas}"
    if replicas == opening_hours(draft, service).replicas:
        return "a window of spec.schedule is open"
    work = in_words(service, reports)
    if replicas <= more(service, reports):
        most = f", and replicas.max is {replicas}" if replicas == service.max_replicas else ""
        return f"{work}{most}"
    return f"{work}; fewer replicas have not been enough for {format_duration(SPARE_SECONDS)} yet"


def _by_load(draft: Draft, service: Service) -> tuple[int, int]:
    """Return the replicas that its work needs now, and those that it still has from when it needed them."""
    if service.max_replicas == 1:
        return 0, 0
    have = draft.notes.replicas.get(service.key, 0)
    return more(service, telling(draft.of_pair(service.key))), next(_had_enough(draft, service, have), have)


def _had_enough(draft: Draft, service: Service, have: int) -> Iterator[int]:
    """Yield the numbers of replicas that have been enough for long."""
    for fewer in range(have):
        since = draft.notes.since.get(too_many(service.key, fewer))
        if since is not None and draft.due(since + SPARE_SECONDS):
            yield fewer


def active(draft: Draft, host: Host, placement: Placement) -> bool:
    """Tell whether a placement is used, or is on its way to be: what failed is neither."""
    if placement.state is not State.LOADED or host.says(placement, Report.FAILED):
        return False
    if stuck(draft, host):
        return False
    return not idle(draft, host, placement)


def idle(draft: Draft, host: Host, placement: Placement) -> bool:
    """Tell whether a placement was not asked for its idle time, all of it in this epoch.

    The agent's word may be older than the epoch: it counts only once the placement had time to be asked.
    """
    report = host.report(placement)
    if report is None or not report.idle:
        return False
    turned = draft.notes.since.get(placed(placement), draft.now)
    return draft.due(turned + placement.idle_after_seconds)


def ailing(draft: Draft, host: Host) -> bool:
    """Tell whether a host has not been ready for so long that its models are wanted elsewhere."""
    return _away(draft, host, AILING_AFTER_SECONDS)


def lost(draft: Draft, host: Host) -> bool:
    """Tell whether a host is given up: its placements need no fence, its status is not believed."""
    return _away(draft, host, LOST_AFTER_SECONDS)


def living(draft: Draft, pool: str) -> list[Host]:
    """Return the hosts of a pool that are not given up: each that waits for one more host asks for all."""
    running = Pod.RUNNING
    return [host for host in draft.of_pool(pool) if host.pod is running or not lost(draft, host)]


def _away(draft: Draft, host: Host, seconds: float) -> bool:
    if host.pod is not Pod.UNREADY:
        return host.pod is Pod.GONE
    return draft.due(draft.notes.since.get(unready(host), draft.now) + seconds)


def stuck(draft: Draft, host: Host) -> bool:
    """Tell whether a host's Pod has not started for too long."""
    if not host.trouble:
        return False
    return draft.due(draft.notes.since.get(troubled(host), draft.now) + UNSCHEDULABLE_AFTER_SECONDS)


def refusal(draft: Draft, service: Service) -> tuple[str, str] | None:
    """Return reason and message why a service cannot be placed anywhere, whatever else is on the hosts."""
    pool = draft.fleet.pools.get(service.pool)
    if pool is None:
        return Reason.NO_SUCH_POOL, f"there is no ModelPool {service.pool}; create it or change spec.pool"
    known = max(service.memory_bytes or 0, service.measured_bytes or 0)
    if known > capacity_bytes(draft.fleet, pool):
        most = format_bytes(capacity_bytes(draft.fleet, pool))
        return Reason.TOO_LARGE, (
            f"it needs {format_bytes(known)} and a host of pool {pool.name} has {most} for models; "
            "name a pool with larger hosts in spec.pool"
        )
    return None


def backing_off(draft: Draft, service: Service) -> bool:
    """Tell whether a service failed so lately that it is not tried again yet."""
    failure = draft.notes.failure(service)
    counted = failure.counted if failure else frozenset()
    failed = (p.id for h, p in draft.of(service.key) if _failed(h, p, service))
    if any(id_ not in counted for id_ in failed):
        return True  # a wake may see a failure before the notes do
    return failure is not None and not draft.due(failure.retry_at)


def _failed(host: Host, placement: Placement, service: Service) -> bool:
    return same_model(placement, service.model) and host.says(placement, Report.FAILED)
