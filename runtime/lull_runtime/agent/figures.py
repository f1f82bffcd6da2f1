"""The meter's figures in the words of the API: rounded, as status is for people and for sums."""

from collections.abc import Mapping

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


def with_figures(
    status: ModelHostStatus, names: Mapping[str, str], meter: Meter, latencies: Mapping[str, Latencies]
) -> ModelHostStatus:
    """Add what the meter says to how a host stands.

    Args:
        status: without figures.
        names: on the wire, by placement.
        meter: of the host.
        latencies: by the name on the wire.
    """
    power = meter.power()
    models = [
        _with_figures(model, meter, power, latencies.get(names.get(model.id, ""), {}))
        for model in status.models
    ]
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


def _with_figures(
    status: HostModelStatus, meter: Meter, power: Power | None, latencies: Latencies
) -> HostModelStatus:
    account = meter.accounts.get(status.id)
    if account is None:
        return status
    rates = meter.rates(status.id)
    return status.model_copy(
        update={
            "counters": Counters(requests=account.totals.requests, failures=account.totals.failures),
            "utilization": rates and _utilization(rates, latencies),
            "energy": power and _energy(account, status.id, power),
        }
    )


def _utilization(rates: Rates, latencies: Latencies) -> HostModelUtilization:
    asked = latencies if rates.active else {}
    return HostModelUtilization(
        window=f"{max(1, round(rates.seconds))}s",
        requests_per_minute=round(rates.requests_per_second * 60),
        failures_per_minute=round(rates.failures_per_second * 60),
        busy_percent=round(rates.busy_ratio * 100),
        queue_milliseconds=round(rates.queue_seconds * 1000),
        batch_size=None if rates.batch_size is None else f"{rates.batch_size:.1f}",
        latency_p50=_latency(asked.get(0.5)),
        latency_p95=_latency(asked.get(0.95)),
        latency_p99=_latency(asked.get(0.99)),
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


def _energy(account: Account, placement: str, power: Power) -> HostModelEnergy:
    part = power.split.parts.get(placement)
    return HostModelEnergy(
        idle_milliwatts=part.idle // 1000 if part else 0,
        dynamic_milliwatts=part.dynamic // 1000 if part else 0,
        idle_joules=_begun_joules(account.idle),
        dynamic_joules=_begun_joules(account.dynamic),
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
