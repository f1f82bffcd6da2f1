"""The meter's figures in the words of the API: rounded, as status is for people and for sums."""

from collections.abc import Mapping
from dataclasses import dataclass

from lull.api.host import (
    AcceleratorStatus,
    Counters,
    HostEnergy,
    HostModelEnergy,
    HostModelStatus,
    HostModelUtilization,
    ModelHostStatus,
)
from lull.api.quantities import format_bytes, format_duration
from lull_runtime.agent.kept import Account
from lull_runtime.agent.meter import Meter, Power
from lull_runtime.measure.accelerator import Accelerator
from lull_runtime.measure.window import Rates

Latencies = Mapping[float, float]
"""Seconds by quantile."""


Made = dict[str, tuple[object, HostModelStatus]]
"""Each placement's status as it was last made, and of what: most models sleep most of the time."""


def with_figures(
    status: ModelHostStatus,
    names: Mapping[str, str],
    meter: Meter,
    latencies: Mapping[str, Latencies],
    made: Made,
) -> ModelHostStatus:
    """Add what the meter says to how a host stands.

    Args:
        status: without figures.
        names: on the wire, by placement.
        meter: of the host.
        latencies: by the name on the wire.
        made: what was made the last time, and after the call what was made this time.
    """
    power = meter.power()
    before = dict(made)
    made.clear()
    for model in status.models:
        seen = _seen(model, meter, power, latencies.get(names.get(model.id, ""), {}))
        known = before.get(model.id)
        # What is the same again is not made again: that takes longer than a wake should wait.
        made[model.id] = (
            known if known is not None and known[0] == seen else (seen, _with_figures(model, seen))
        )
    models = [made[model.id][1] for model in status.models]
    accelerator = meter.accelerator
    return status.model_copy(
        update={
            "models": models,
            "accelerator": accelerator and _accelerator(accelerator),
            "busy_percent": round(meter.busy_ratio * 100),
            "watts": power and f"{power.draw.total / 1e6:.0f}",
            "energy": power and _host_energy(meter, power),
        }
    )


@dataclass(frozen=True)
class _Seen:
    """All that one placement's status is made of; of its latencies those that are told."""

    base: dict[str, object]
    counters: tuple[int, int] | None
    rates: Rates | None
    latencies: Latencies
    energy: tuple[int, int, int, int] | None


def _seen(status: HostModelStatus, meter: Meter, power: Power | None, latencies: Latencies) -> _Seen:
    account, rates = meter.accounts.get(status.id), meter.rates(status.id)
    return _Seen(
        vars(status),
        None if account is None else (account.totals.requests, account.totals.failures),
        rates,
        latencies if rates is not None and rates.active else {},
        None if account is None or power is None else _energy(account, status.id, power),
    )


def _with_figures(status: HostModelStatus, seen: _Seen) -> HostModelStatus:
    return status.model_copy(
        update={
            "counters": seen.counters and Counters(requests=seen.counters[0], failures=seen.counters[1]),
            "utilization": seen.rates and _utilization(seen.rates, seen.latencies),
            "energy": seen.energy and _model_energy(*seen.energy),
        }
    )


def _utilization(rates: Rates, latencies: Latencies) -> HostModelUtilization:
    return HostModelUtilization(
        window=f"{max(1, round(rates.seconds))}s",
        requests_per_minute=round(rates.requests_per_second * 60),
        failures_per_minute=round(rates.failures_per_second * 60),
        busy_percent=round(rates.busy_ratio * 100),
        queue_milliseconds=round(rates.queue_seconds * 1000),
        batch_size=None if rates.batch_size is None else f"{rates.batch_size:.1f}",
        latency_p50=_latency(latencies.get(0.5)),
        latency_p95=_latency(latencies.get(0.95)),
        latency_p99=_latency(latencies.get(0.99)),
    )


def _latency(seconds: float | None) -> str | None:
    """Three digits at most: below a second in milliseconds, and parts of them where they tell something."""
    if seconds is None:
        return None
    if seconds >= 1:
        return format_duration(seconds)
    digits = 2 if seconds < 0.01 else 1 if seconds < 0.1 else 0
    text = f"{seconds * 1000:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if digits else text) + "ms"


def _energy(account: Account, placement: str, power: Power) -> tuple[int, int, int, int]:
    """Milliwatts, idle and dynamic, and so joules."""
    part = power.split.parts.get(placement)
    return (
        part.idle // 1000 if part else 0,
        part.dynamic // 1000 if part else 0,
        _begun_joules(account.idle),
        _begun_joules(account.dynamic),
    )


def _model_energy(idle: int, dynamic: int, idle_joules: int, dynamic_joules: int) -> HostModelEnergy:
    return HostModelEnergy(
        idle_milliwatts=idle,
        dynamic_milliwatts=dynamic,
        idle_joules=idle_joules,
        dynamic_joules=dynamic_joules,
    )


def _host_energy(meter: Meter, power: Power) -> HostEnergy:
    milliwatts = power.draw.total // 1000
    told = sum(part.idle // 1000 + part.dynamic // 1000 for part in power.split.parts.values())
    return HostEnergy(
        basis=power.basis,
        milliwatts=milliwatts,
        joules=meter.sums.drawn // 10**6,
        dynamic_joules=meter.sums.dynamic // 10**6,
        unallocated_milliwatts=milliwatts - told,
        unallocated_joules=_begun_joules(meter.sums.unallocated),
    )


def _begun_joules(microjoules: int) -> int:
    """A begun joule of a part counts whole: parts are never less than the host's, and savings careful."""
    return -(-microjoules // 10**6)


def _accelerator(found: Accelerator) -> AcceleratorStatus:
    return AcceleratorStatus(
        uuid=found.uuid,
        memory_total=format_bytes(found.memory_total_bytes),
        memory_used=None if found.memory_used_bytes is None else format_bytes(found.memory_used_bytes),
        utilization_percent=None if found.utilization is None else min(100, round(found.utilization * 100)),
    )
