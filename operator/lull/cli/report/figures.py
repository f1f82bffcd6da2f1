"""What a report says: asked of Prometheus, added up, in base units. Its fields are the keys of `-o json`."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lull.cli.report.prometheus import Curve, Labels, Period, Prometheus, PrometheusError
from lull.cli.report.queries import Queries

CONCURRENT_QUERIES = 4
ALL_COVERED = 0.98
T = TypeVar("T")
Values = list[tuple[Labels, float]]


@dataclass(frozen=True)
class ServiceTotal:
    """What one service drew and answered."""

    namespace: str
    name: str
    idle_joules: float = 0.0
    dynamic_joules: float = 0.0


@dataclass(frozen=True)
class WakeBucket:
    """Wakes from one source that took at most `upper_seconds` (null: any longer time).

    Those of shorter buckets are not in it.
    """

    source: str
    upper_seconds: float | None
    wakes: float


@dataclass(frozen=True)
class Summary:
    """The figures of the whole period; null is unknown.

    Attributes:
        power_mean_watts: over the time from the first figure to the last.
        measured_ratio: share of the hosts' energy that a sensor told; the rest is modelled.
        memory_used_ratio: memory used of memory kept, over the whole period; `busy_used_ratio` is time.
        wakes: of the fleet; unknown of one pool, as their times are.
        covered_ratio: share of the period of which Prometheus has figures.
    """

    energy_joules: float | None = None
    baseline_joules: float | None = None
    carbon_grams: float | None = None
    power_mean_watts: float | None = None
    measured_ratio: float | None = None
    hosts_mean: float | None = None
    hosts_max: float | None = None
    memory_used_ratio: float | None = None
    busy_used_ratio: float | None = None
    requests: float | None = None
    delayed_requests: float | None = None
    wakes: float | None = None
    wake_p50_seconds: float | None = None
    wake_p99_seconds: float | None = None
    covered_ratio: float = 0.0

    @property
    def saved_joules(self) -> float | None:
        """The baseline's less what was drawn; below zero where more was drawn."""
        if self.energy_joules is None or self.baseline_joules is None:
            return None
        return self.baseline_joules - self.energy_joules

    @property
    def delayed_ratio(self) -> float | None:
        """Share of the requests that waited for a wake."""
        if not self.requests or self.delayed_requests is None:
            return None
        return min(1.0, self.delayed_requests / self.requests)


@dataclass(frozen=True)
class Curves:
    """Everything over time, on the period's grid."""

    hosts: list[Curve] = field(default_factory=list)
    awake: list[Curve] = field(default_factory=list)
    power_watts: list[Curve] = field(default_factory=list)
    baseline_watts: list[Curve] = field(default_factory=list)
    requests_per_minute: list[Curve] = field(default_factory=list)
    delayed_per_minute: list[Curve] = field(default_factory=list)
    memory_supply_bytes: list[Curve] = field(default_factory=list)
    memory_used_bytes: list[Curve] = field(default_factory=list)
    busy_hosts: list[Curve] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """All of it."""

    period: Period
    pool: str | None
    summary: Summary
    services: list[ServiceTotal]
    wakes: list[WakeBucket]
    curves: Curves
    warnings: tuple[str, ...] = ()


async def gather(
    prometheus: Prometheus, period: Period, pool: str | None, answered: Callable[[int, int], None]
) -> Report:
    """Ask for everything, four queries at a time; `answered` is told how many of how many are in.

    Raises:
        PrometheusError: a query has no answer, or nothing is known of this pool.
    """
    queries = Queries(period, pool)
    values, curves = _asked(queries)
    bound, done, total = asyncio.Semaphore(CONCURRENT_QUERIES), 0, len(values) + len(curves)

    async def one(ask: Callable[[str, Period], Coroutine[None, None, T]], query: str) -> T:
        nonlocal done
        async with bound:
            got = await ask(query, period)
        done += 1
        answered(done, total)
        return got

    try:
        async with asyncio.TaskGroup() as group:
            told = {name: group.create_task(one(prometheus.values, q)) for name, q in values.items()}
            drawn = {name: group.create_task(one(prometheus.curves, q)) for name, q in curves.items()}
    except* PrometheusError as errors:
        raise errors.exceptions[0] from None  # one is enough to say
    found = {name: task.result() for name, task in told.items()}
    over_time = Curves(**{name: task.result() for name, task in drawn.items()})
    if pool and not (over_time.hosts or over_time.power_watts or found["energy"] or found["services"]):
        raise PrometheusError(
            f"there are no figures of a ModelPool {pool} in this period: kubectl get modelpools lists them."
        )
    return Report(
        period,
        pool,
        _summary(found, over_time, period.step_seconds),
        _services(found["services"]),
        _wakes(found.get("wakes", [])),
        over_time,
        tuple(prometheus.warnings),
    )


def _asked(queries: Queries) -> tuple[dict[str, str], dict[str, str]]:
    requests, delayed = "lull_service_requests_total", "lull_service_delayed_requests_total"
    values = {
        "energy": queries.pool_total("lull_pool_energy_joules_total"),
        "baseline": queries.pool_total("lull_pool_baseline_energy_joules_total"),
        "carbon": queries.pool_total("lull_pool_carbon_grams_total"),
        "basis": queries.energy_by_basis(),
        "requests": f"sum({queries.service_totals(requests)})",
        "delayed": f"sum({queries.service_totals(delayed)})",
        "services": queries.service_totals("lull_service_energy_joules_total", "part"),
    }
    if not queries.pool:  # wakes are not told by pool
        values |= {
            "wakes": queries.wake_buckets(),
            "p50": queries.wake_quantile(0.5),
            "p99": queries.wake_quantile(0.99),
        }
    curves = {
        "hosts": queries.hosts(),
        "awake": queries.awake(),
        "power_watts": queries.power(),
        "baseline_watts": queries.baseline(),
        "requests_per_minute": queries.per_minute(requests),
        "delayed_per_minute": queries.per_minute(delayed),
        "memory_supply_bytes": queries.memory("supply"),
        "memory_used_bytes": queries.memory("used"),
        "busy_hosts": queries.busy_hosts(),
    }
    return values, curves


def _summary(found: dict[str, Values], curves: Curves, step_seconds: int) -> Summary:
    basis = {labels.get("basis"): joules for labels, joules in found["basis"]}
    hosts = [value for value in total(curves.hosts) if not math.isnan(value)]
    wakes = [value for labels, value in found.get("wakes", []) if labels["le"] == "+Inf"]
    points = len(total(curves.hosts)) or 1
    energy, spanned = _only(found["energy"]), _spanned_seconds(total(curves.hosts), step_seconds)
    return Summary(
        energy_joules=energy,
        baseline_joules=_only(found["baseline"]),
        carbon_grams=_only(found["carbon"]),
        power_mean_watts=energy / spanned if energy is not None and spanned else None,
        measured_ratio=basis.get("Measured", 0.0) / sum(basis.values()) if sum(basis.values()) else None,
        hosts_mean=sum(hosts) / len(hosts) if hosts else None,
        hosts_max=max(hosts, default=None),
        memory_used_ratio=share(total(curves.memory_used_bytes), total(curves.memory_supply_bytes)),
        busy_used_ratio=share(total(curves.busy_hosts), total(curves.hosts)),
        requests=_only(found["requests"]),
        delayed_requests=_only(found["delayed"]),
        wakes=sum(wakes) if wakes else None,
        wake_p50_seconds=_only(found.get("p50", [])),
        wake_p99_seconds=_only(found.get("p99", [])),
        covered_ratio=len(hosts) / points,
    )


def _spanned_seconds(curve: Sequence[float], step_seconds: int) -> int:
    known = [at for at, value in enumerate(curve) if not math.isnan(value)]
    return (known[-1] - known[0]) * step_seconds if known else 0


def _services(values: Values) -> list[ServiceTotal]:
    """Return every service's energy, the greatest first."""
    parts: dict[tuple[str, str], dict[str, float]] = {}
    for labels, joules in values:
        key = labels["modelservice_namespace"], labels["modelservice"]
        parts.setdefault(key, {})[labels["part"]] = joules
    totals = [
        ServiceTotal(*key, part.get("idle", 0.0), part.get("dynamic", 0.0)) for key, part in parts.items()
    ]
    return sorted(totals, key=lambda one: -(one.idle_joules + one.dynamic_joules))


def _wakes(values: Values) -> list[WakeBucket]:
    """Turn the cumulative buckets of each source into wakes per bucket."""
    sources: dict[str, list[tuple[float, float]]] = {}
    for labels, wakes in values:
        sources.setdefault(labels["source"], []).append((float(labels["le"]), wakes))
    buckets = []
    for source, cumulative in sorted(sources.items()):
        below = 0.0
        for upper, wakes in sorted(cumulative):
            bound = None if math.isinf(upper) else upper
            buckets.append(WakeBucket(source, bound, max(0.0, wakes - below)))
            below = wakes
    return buckets


def total(curves: Sequence[Curve]) -> list[float]:
    """Add curves up, point by point: a gap in one is zero, a gap in all is a gap."""
    points = zip(*(curve.values for curve in curves), strict=True)
    known = ([value for value in point if not math.isnan(value)] for point in points)
    return [sum(point) if point else math.nan for point in known]


def ratio(used: Sequence[float], kept: Sequence[float]) -> list[float]:
    """Divide two curves point by point; a gap where nothing is kept."""
    return [part / whole if whole else math.nan for part, whole in zip(used, kept, strict=False)]


def share(used: Sequence[float], kept: Sequence[float]) -> float | None:
    """Divide what two curves add up to, over the points that both know."""
    both = [
        (part, whole)
        for part, whole in zip(used, kept, strict=False)
        if not math.isnan(part) and not math.isnan(whole)
    ]
    supply = sum(whole for _, whole in both)
    return sum(part for part, _ in both) / supply if supply else None


def _only(values: Values) -> float | None:
    return values[0][1] if values else None
