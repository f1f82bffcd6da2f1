"""What a service's placements and a pool's hosts do now: sums of what agents say of the last window."""

from collections.abc import Iterable
from dataclasses import dataclass

from lull.api.quantities import parse_duration_seconds
from lull.controller.delays import percent_up
from lull.controller.wire import Object

WINDOW = "60s"
"""What agents sum up."""
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Draw:
    """Present draw in milliwatts."""

    idle: int = 0
    dynamic: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.idle + self.dynamic


@dataclass(frozen=True, slots=True)
class PoolUse:
    """What the hosts of a pool do: busy in percent of one host, draw in milliwatts; None: nobody says."""

    requests_per_minute: int
    busy_percent: int
    busy_hosts: int
    milliwatts: int | None
    dynamic_milliwatts: int


def draw(entries: Iterable[Object]) -> Draw:
    """Sum what placements draw."""
    energies = [entry.get("energy") or {} for entry in entries]
    return Draw(
        sum(energy.get("idleMilliwatts", 0) for energy in energies),
        sum(energy.get("dynamicMilliwatts", 0) for energy in energies),
    )


def asleep(delayed_ratio: float | None) -> Object:
    """Return the utilization of a service that sleeps."""
    figures = {"window": WINDOW, "requestsPerMinute": 0, "busyPercent": 0, "busy": "0%", "memory": "0"}
    return figures | _delayed(delayed_ratio)


def utilization(entries: Iterable[Object], memory_bytes: int | None, delayed_ratio: float | None) -> Object:
    """Return the utilization of a service from what is said of its placements."""
    parts = [entry["utilization"] for entry in entries if entry.get("utilization")]
    requests = sum(part.get("requestsPerMinute", 0) for part in parts)
    failures = sum(part.get("failuresPerMinute", 0) for part in parts)
    busy = sum(part.get("busyPercent", 0) for part in parts)
    figures: Object = {
        "window": max((part["window"] for part in parts), key=parse_duration_seconds, default=WINDOW),
        "requestsPerMinute": requests,
        "busyPercent": busy,
        "busy": f"{busy}%",
    }
    figures |= _of_requests(parts, requests) | _delayed(delayed_ratio)
    if requests + failures:
        figures["failedPercent"] = percent_up(failures / (requests + failures))
    if memory_bytes:
        figures["memory"] = f"{memory_bytes // 2**20}Mi"
    return figures


def pool_use(hosts: Iterable[Object]) -> PoolUse:
    """Sum what the hosts of a pool do."""
    statuses = [host.get("status") or {} for host in hosts]
    energies = [status["energy"] for status in statuses if status.get("energy")]
    entries = [entry for status in statuses for entry in status.get("models") or ()]
    busy = [status["busyPercent"] for status in statuses if "busyPercent" in status]
    return PoolUse(
        requests_per_minute=sum((e.get("utilization") or {}).get("requestsPerMinute", 0) for e in entries),
        busy_percent=sum(busy),
        busy_hosts=len(busy),
        milliwatts=sum(energy.get("milliwatts", 0) for energy in energies) if energies else None,
        dynamic_milliwatts=draw(entries).dynamic,
    )


def objective_met(spec: Object, figures: Object) -> tuple[str, str, str]:
    """Return status, reason and message of ObjectiveMet; a percentile between two counts as the next one."""
    objective = spec.get("objective")
    if not objective:
        return "Unknown", "NotMeasured", "spec.objective is not set"
    said = [
        found
        for found in (_latency_met(objective, figures), _delay_met(objective, figures))
        if found is not None
    ]
    if not said:
        return "Unknown", "NotMeasured", "no request was answered lately"
    missed = [message for met, message in said if not met]
    if missed:
        return "False", "Missed", "; ".join(missed)
    return "True", "Met", "; ".join(message for _, message in said)


def _latency_met(objective: Object, figures: Object) -> tuple[bool, str] | None:
    if "latency" not in objective:
        return None
    percentile = min(p for p in PERCENTILES if p >= objective.get("percentile", 99))
    latency = figures.get(f"latencyP{percentile}")
    if latency is None:
        return None
    met = parse_duration_seconds(latency) <= parse_duration_seconds(objective["latency"])
    word = "within" if met else "above"
    return met, f"latency is {latency} at p{percentile}, {word} {objective['latency']}"


def _delay_met(objective: Object, figures: Object) -> tuple[bool, str] | None:
    delayed = figures.get("delayedPercent")
    if delayed is None:
        return None
    most = objective.get("delayedPercent", 5)
    return delayed <= most, f"{delayed}% of the last hour's requests waited for a wake, of {most}% allowed"


def _of_requests(parts: list[Object], requests: int) -> Object:
    """Return the figures that only requests have: means weighted by them, the slowest latencies."""
    asked = [part for part in parts if part.get("requestsPerMinute", 0)]
    if not requests:
        return {}
    waited = sum(part.get("queueMilliseconds", 0) * part["requestsPerMinute"] for part in asked)
    figures: Object = {"queueMilliseconds": round(waited / requests)}
    batched = [part for part in asked if part.get("batchSize")]
    if batched:
        # Requests by their batch size give executions; of these the mean is taken.
        executions = sum(part["requestsPerMinute"] / float(part["batchSize"]) for part in batched)
        figures["batchSize"] = f"{sum(part['requestsPerMinute'] for part in batched) / executions:.1f}"
    for percentile in PERCENTILES:
        name = f"latencyP{percentile}"
        if said := [part[name] for part in asked if part.get(name)]:
            figures[name] = max(said, key=parse_duration_seconds)
    return figures


def _delayed(ratio: float | None) -> Object:
    return {} if ratio is None else {"delayedPercent": percent_up(ratio)}
