"""The accelerators and the latencies, from Triton's own metrics: only its container sees the devices.

One read gives both. Its latencies are Triton's summaries of the last minute (five buckets of 12 s), in which
the agent's own golden runs count until they have left it.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_SECONDS = 2.0
_SUMMARY = "nv_inference_request_summary_us"
_WANTED = ("nv_gpu_", "nv_energy_consumption", _SUMMARY + "{")
"""Beginnings of the lines that are read; parsing the others would take most of the time."""


@dataclass(frozen=True)
class Accelerator:
    """The host's devices, as one.

    Attributes:
        uuid: of the first.
        count: how many there are.
        memory_total_bytes: their memory.
        memory_used_bytes: by whomever.
        utilization: time that they computed, of the last moment, in 0..1; None where no sensor says.
        watts: their draw; None where no sensor says.
        joules: what they drew since Triton started; None where no sensor counts.
    """

    uuid: str
    count: int
    memory_total_bytes: int
    memory_used_bytes: int
    utilization: float | None
    watts: float | None
    joules: float | None


@dataclass(frozen=True)
class Reading:
    """One look at Triton's metrics.

    Attributes:
        accelerator: None where the host has none.
        latencies: seconds by quantile (0.5, 0.95, 0.99), by model; a model that nobody asked has none.
    """

    accelerator: Accelerator | None
    latencies: Mapping[str, Mapping[float, float]]


async def read_metrics(session: aiohttp.ClientSession, metrics_url: str) -> Reading | None:
    """Return what Triton's metrics say; None where Triton does not answer."""
    try:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with session.get(metrics_url, timeout=timeout) as response:
            return parse(await response.text())
    except (aiohttp.ClientError, TimeoutError):
        return None


def parse(metrics: str) -> Reading:
    """Return what is of use in Triton's metrics."""
    wanted = [line for line in metrics.splitlines() if line.startswith(_WANTED)]
    devices: dict[str, dict[str, float]] = defaultdict(dict)
    latencies: dict[str, dict[float, float]] = defaultdict(dict)
    for family in text_string_to_metric_families("\n".join([*wanted, ""])):
        for sample in family.samples:
            if math.isnan(sample.value):
                continue
            if sample.name == _SUMMARY:
                of_model = latencies[sample.labels["model"]]
                quantile = float(sample.labels["quantile"])
                of_model[quantile] = max(of_model.get(quantile, 0.0), sample.value / 1e6)  # over its versions
            else:
                devices[sample.labels.get("gpu_uuid", "")][sample.name] = sample.value
    devices.pop("", None)
    return Reading(_together(devices) if devices else None, dict(latencies))


def _together(devices: Mapping[str, Mapping[str, float]]) -> Accelerator:
    def total(name: str) -> float | None:
        """The sum; None unless each device says it, as half a sum would be a wrong one."""
        values = [device[name] for device in devices.values() if name in device]
        return sum(values) if len(values) == len(devices) else None

    busy = total("nv_gpu_utilization")
    return Accelerator(
        next(iter(devices)),
        len(devices),
        int(total("nv_gpu_memory_total_bytes") or 0),
        int(total("nv_gpu_memory_used_bytes") or 0),
        None if busy is None else busy / len(devices),
        total("nv_gpu_power_usage") or None,  # Triton says 0 of a device that cannot tell
        total("nv_energy_consumption") or None,
    )
