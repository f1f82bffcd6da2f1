"""How many replicas the work of a service needs, by what its ready replicas measured of the last window.

Busy shares add up to the same whatever the number of replicas, so they tell how many are needed, unless all
are saturated: then the work that waits is unknown, and the number doubles until they are not. Queue and
latency do depend on the number. So with one of them over its limit the number rises towards the share below
which waiting is short, and is not lowered before less work is there: one and the same work never makes it
move both ways.
"""

from collections.abc import Collection, Iterator, Sequence

from lull.api.quantities import format_duration
from lull.policy.fleet import Host, Placement, Pod, Report, Reported, Service, State
from lull.policy.pack import TARGET_BUSY

TARGET_BUSY_PERCENT = round(100 * TARGET_BUSY)
"""A replica that is busier than this is one too few …"""
SPARE_BUSY_PERCENT = 70
"""… and one is too many only where those that stay are less busy than this …"""
CALM_BUSY_PERCENT = 40
"""… or than this, where there is a latency to keep: a queue of random arrivals (M/M/1) then waits for two
thirds of a service time in the mean, and replicas beyond would shorten little."""
STEP_PERCENT = 5
"""Busy shares come in steps of this: rounded up once and down the next time, they must not take one back."""
SATURATED_BUSY_PERCENT = 90
"""From here on the figures do not tell how much work waits."""
LONGEST_QUEUE_SECONDS = 0.5
"""How long requests of a service without `objective.latency` may wait for Triton in the mean; assumed."""


def more(service: Service, reports: Sequence[Reported]) -> int:
    """Return the replicas that the work needs at once: at most twice those whose figures tell of it."""
    ready = len(reports)
    busy = _busy_percent(reports)
    needed = _split(busy, TARGET_BUSY_PERCENT)
    if reports and all(_pressed(service, report) for report in reports):
        saturated = busy >= SATURATED_BUSY_PERCENT * ready
        needed = max(needed, 2 * ready if saturated else _split(busy, _calm_percent(service)))
    return min(needed, 2 * ready)


def enough(service: Service, reports: Sequence[Reported]) -> int:
    """Return the replicas that would do, were it for good: never less than `more`."""
    at_most = _busy_percent(reports) + STEP_PERCENT * len(reports)
    return max(1, more(service, reports), _split(at_most, _calm_percent(service)))


def in_words(service: Service, reports: Sequence[Reported]) -> str:
    """Say how much work there is."""
    busy = f"busy {_busy_percent(reports)}% of one replica"
    if not reports or not all(_pressed(service, report) for report in reports):
        return f"{busy}, of which each takes {TARGET_BUSY_PERCENT}%"
    if service.latency_seconds is None:
        return f"{busy}, and requests wait for more than {LONGEST_QUEUE_SECONDS:g}s in the mean"
    return f"{busy}, and latency is above {format_duration(service.latency_seconds)}"


def telling(placed: Collection[tuple[Host, Placement]]) -> list[Reported]:
    """Return the reports of the replicas that do the work."""
    return [
        host.reports[placement.id]
        for host, placement in placed
        if placement.state is State.LOADED and host.says(placement, Report.READY)
    ]


def settled(service: Service, placed: Collection[tuple[Host, Placement]]) -> int | None:
    """Return how many replicas a service has; None while one of them moves, as then some count twice."""
    loaded = [(host, p) for host, p in placed if p.state is State.LOADED and not host.says(p, Report.FAILED)]
    return len(loaded) if all(_stays(service, host, p) for host, p in loaded) else None


def spare(service: Service, placed: Collection[tuple[Host, Placement]], replicas: int) -> Iterator[int]:
    """Yield the numbers below `replicas` that would be enough for the present work."""
    yield from range(enough(service, telling(placed)), replicas)


def _stays(service: Service, host: Host, placement: Placement) -> bool:
    here = host.pod in (Pod.MISSING, Pod.STARTING, Pod.RUNNING) and not host.cordoned and not host.tainted
    return here and host.pool == service.pool and placement.model.revision == service.model.revision


def _pressed(service: Service, report: Reported) -> bool:
    """Tell whether requests of a replica take too long; p99 stands for every percentile, to be careful."""
    if service.latency_seconds is None:
        return report.queue_seconds > LONGEST_QUEUE_SECONDS
    return report.latency_seconds is not None and report.latency_seconds > service.latency_seconds


def _calm_percent(service: Service) -> int:
    return SPARE_BUSY_PERCENT if service.latency_seconds is None else CALM_BUSY_PERCENT


def _busy_percent(reports: Sequence[Reported]) -> int:
    return sum(round(100 * report.busy) for report in reports)


def _split(busy_percent: int, share_percent: int) -> int:
    """Return how many replicas carry a load if each takes this share of it."""
    return -(-busy_percent // share_percent)
