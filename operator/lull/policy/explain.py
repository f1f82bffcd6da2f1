"""What a user reads of a decision: the state of a service in words, and what happens next."""

from dataclasses import dataclass, field

from lull.api.quantities import format_duration
from lull.api.reasons import SERVED_ALL_THE_SAME, Reason
from lull.policy.changes import Draft, idle_after_seconds, same_model
from lull.policy.demand import ailing, opening_hours, refusal, stuck, wanted, why_so_many
from lull.policy.expect import Expected, expected_wake
from lull.policy.farewell import goes_at
from lull.policy.fleet import Host, Placement, Pod, Pool, Report, Service, State
from lull.policy.packing import capacity_bytes, charged_bytes
from lull.policy.schedule import trouble


@dataclass(frozen=True, slots=True)
class Explanation:
    """A service's state.

    Attributes:
        state: Asleep, Waking, Serving, Draining or Suspended.
        stalled: reason and message of what keeps it from serving until somebody or time helps.
        next_action: what happens next if nothing changes; `next_at` is when, if time alone decides.
        desired_why: why there are to be so many replicas, with the figures of this moment.
        wake: how a wake from here would go; None where there would be none. It is an estimate of its moment,
            and no part of what is decided.
    """

    state: str
    desired: int
    ready: int
    message: str
    next_action: str
    next_reason: str
    next_at: float | None = None
    stalled: tuple[str, str] | None = None
    desired_why: str = field(default="", compare=False)
    wake: Expected | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PoolExplanation:
    """A pool's sums."""

    hosts: int
    ready_hosts: int
    supply_bytes: int
    used_bytes: int


def explain(draft: Draft, service: Service) -> Explanation:
    """Say where a service is and why, as the draft leaves it."""
    placements = draft.of(service.key)
    ready = sum(_routed(draft, host, p) for host, p in placements)
    state = _state(draft, service, placements, ready)
    action, reason, at = _next(draft, service, state)
    stalled = _stalled(draft, service, placements)
    if stalled and stalled[0] not in SERVED_ALL_THE_SAME:
        action, reason, at = _next_of_stalled(draft, service, stalled[1])
    desired = wanted(draft, service)
    message = _message(draft, service, state, placements)
    return Explanation(
        state,
        desired,
        ready,
        message,
        action,
        reason,
        at,
        stalled,
        desired_why=why_so_many(draft, service, desired),
        wake=expected_wake(draft, service),
    )


def explain_pool(draft: Draft, pool: Pool) -> PoolExplanation:
    """Sum up the hosts of a pool."""
    hosts = draft.of_pool(pool.name)
    return PoolExplanation(
        hosts=len(hosts),
        ready_hosts=sum(host.pod is Pod.RUNNING for host in hosts),
        supply_bytes=len(hosts) * capacity_bytes(draft.fleet, pool),
        used_bytes=sum(charged_bytes(draft, host) for host in hosts),
    )


def _routed(draft: Draft, host: Host, placement: Placement) -> bool:
    return placement.state is State.LOADED and host.says(placement, Report.READY) and not ailing(draft, host)


def _state(draft: Draft, service: Service, placements: list[tuple[Host, Placement]], ready: int) -> str:
    states = {p.state for h, p in placements if not h.says(p, Report.FAILED)}
    if service.suspend:
        return "Draining" if State.DRAINING in states else "Suspended"
    if ready:
        return "Serving"
    if State.LOADED in states or service.key in draft.blocked or service.key in draft.held:
        return "Waking"
    return "Draining" if State.DRAINING in states else "Asleep"


def _stalled(
    draft: Draft, service: Service, placements: list[tuple[Host, Placement]]
) -> tuple[str, str] | None:
    if why := refusal(draft, service):
        return why
    failure = draft.notes.failure(service)
    if failure:
        return failure.reason, failure.message
    blocked = draft.blocked.get(service.key)
    if blocked and blocked[0] == Reason.HOST_UNSCHEDULABLE:
        return blocked
    for host, placement in placements:
        if placement.state is State.LOADED and same_model(placement, service.model) and stuck(draft, host):
            return Reason.HOST_UNSCHEDULABLE, f"host {host.name} does not start: {host.trouble}"
    unkept = trouble(service)
    return (Reason.INVALID_SCHEDULE, unkept) if unkept else None


def _next(draft: Draft, service: Service, state: str) -> tuple[str, str, float | None]:
    if state == "Suspended":
        return "Stay", "spec.suspend is true; requests get 503 until it is false", None
    if state == "Waking":
        return "Serve", draft.blocked.get(service.key, ("", "it is loading"))[1], None
    if state == "Draining":
        return "Sleep", "as soon as every gateway has let go of it; a request before that keeps it", None
    return _next_asleep(draft, service) if state == "Asleep" else _next_serving(draft, service)


def _next_asleep(draft: Draft, service: Service) -> tuple[str, str, float | None]:
    opens_at = opening_hours(draft, service).opens_at
    if opens_at is not None:
        return "Wake", "its window in spec.schedule opens; a request before that wakes it", opens_at
    riding = [host for host, p in draft.of(service.key) if p.state is State.RESIDENT]
    ends_at = [at for host in riding if (at := goes_at(draft, host)) is not None]
    if ends_at and len(ends_at) == len(riding):
        return "Unload", f"{_EMPTY_HOST}; a request before that wakes it", max(ends_at)
    return "Wake", "the next request wakes it", None


def _next_serving(draft: Draft, service: Service) -> tuple[str, str, float | None]:
    moving = [host for host, p in draft.of(service.key) if p.state is State.LOADED and host.cordoned]
    if moving:
        return "Move", f"from {_names(moving)} to another host, as {_names(moving)} is being emptied", None
    if service.min_replicas:
        return "Stay", f"replicas.min is {service.min_replicas}", None
    hours = opening_hours(draft, service)
    after = f"after {format_duration(idle_after_seconds(service))} without a request"
    if hours.replicas:
        return (
            "Stay",
            f"its window in spec.schedule is open; when it has closed it sleeps {after}",
            hours.closes_at,
        )
    return "Sleep", after, None


def _next_of_stalled(draft: Draft, service: Service, message: str) -> tuple[str, str, float | None]:
    failure = draft.notes.failure(service)
    if failure is None or refusal(draft, service):
        return "Wait", message, None
    return "Retry", "it failed; the next request after this time tries again", failure.retry_at


def _message(draft: Draft, service: Service, state: str, placements: list[tuple[Host, Placement]]) -> str:
    hosts = ", ".join(sorted(_called(draft, h) for h, p in placements if p.state is not State.RESIDENT))
    if state == "Serving":
        return f"on {hosts}"
    if state == "Waking":
        where = f"loading on {hosts}" if hosts else "not loaded anywhere"
        return draft.blocked.get(service.key, ("", where))[1]
    if state == "Draining":
        return f"the gateways are letting go of it on {hosts}"
    if state == "Suspended":
        return "spec.suspend is true"
    riding = [host for host, p in placements if p.state is State.RESIDENT]
    return _why_kept(riding) if riding else "not loaded anywhere"


def _why_kept(hosts: list[Host]) -> str:
    """Say what keeps a model in memory that nobody asks for. No numbers: each change is written."""
    where = f"still in memory on {_names(hosts)}"
    if any(host.kept for host in hosts):
        return f"{where}, which may not be evicted; unloaded when its memory is needed"
    if all(host.serves_nobody for host in hosts):
        return f"{where}, which is kept for those that sleep on it"
    return f"{where}, which others keep awake; unloaded when its memory is needed"


_EMPTY_HOST = "its host serves nobody, and is let go unless somebody asks for what is on it"


def _names(hosts: list[Host]) -> str:
    return ", ".join(sorted(host.name for host in hosts))


def _called(draft: Draft, host: Host) -> str:
    """Name a host; one that is not made yet has no name to rely on: refused, it gets another."""
    return host.name if host.name in draft.fleet.hosts else "a new host"
