"""The accelerators and the latencies, from Triton's own metrics: only its container sees the devices.

One read gives both. Its latencies are Triton's summaries of the last minute (five buckets of 12 s), in which
the agent's own golden runs count until they have left it.
"""

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

_TIMEOUT_SECONDS = 2.0
_MOST_BYTES = 16 << 20
"""256 models take about 1 MiB; those that are code may add metrics of their own."""
_SUMMARY = "nv_inference_request_summary_us"
_FAMILIES = (
    "nv_gpu_utilization",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_power_usage",
    "nv_energy_consumption",
    _SUMMARY,
)
_SAMPLE = re.compile(rf"^({'|'.join(_FAMILIES)})\{{([^}}]*)\}} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"\\]*)"')


@dataclass(frozen=True)
class Accelerator:
    """The host's devices, as one.

    Attributes:
        uuid: of the first, by name.
        count: how many there are.
        memory_total_bytes: their memory.
        memory_used_bytes: by whomever; None where nobody says.
        utilization: time that they computed, of the last moment, in 0..1; None where no sensor says.
        watts: their draw; None where no sensor says.
        joules: what they drew since Triton started; None where no sensor counts.
    """

    uuid: str
    count: int
    memory_total_bytes: int
    memory_used_bytes: int | None
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
    """Return what Triton's metrics say; None where Triton does not answer, or not with metrics."""
    try:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with session.get(metrics_url, timeout=timeout) as response:
            if response.status != 200:
                return None
            body = await _bounded(response.content)
    except (aiohttp.ClientError, TimeoutError):
        return None
    return None if body is None else await asyncio.to_thread(parse, body.decode(errors="replace"))


async def _bounded(content: aiohttp.StreamReader) -> bytes | None:
    """All that is sent; None where it is too much."""
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > _MOST_BYTES:
            return None
    return bytes(body)


def parse(metrics: str) -> Reading:
    """Return what is of use in Triton's metrics; what is not understood is left out."""
    devices: dict[str, dict[str, float]] = defaultdict(dict)
    latencies: dict[str, dict[float, float]] = defaultdict(dict)
    for name, text, number in _SAMPLE.findall(metrics):
        labels, value = dict(_LABEL.findall(text)), _number(number)
        if value is None:
            continue
        if name == _SUMMARY:
            quantile = _number(labels.get("quantile", ""))
            if quantile is not None and "model" in labels:
                of_model = latencies[labels["model"]]
                of_model[quantile] = max(of_model.get(quantile, 0.0), value / 1e6)  # over its versions
        elif "gpu_uuid" in labels:
            devices[labels["gpu_uuid"]][name] = value
    return Reading(_together(devices) if devices else None, dict(latencies))


def _number(text: str) -> float | None:
    """A finite number that is not negative; None where it is none (yet)."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _together(devices: Mapping[str, Mapping[str, float]]) -> Accelerator:
    def total(name: str) -> float | None:
        """The sum; None unless each device says it, as half a sum would be a wrong one."""
        values = [device[name] for device in devices.values() if name in device]
        return sum(values) if len(values) == len(devices) else None

    busy, used = total("nv_gpu_utilization"), total("nv_gpu_memory_used_bytes")
    return Accelerator(
        min(devices),
        len(devices),
        int(total("nv_gpu_memory_total_bytes") or 0),
        None if used is None else int(used),
        None if busy is None else busy / len(devices),
        total("nv_gpu_power_usage") or None,  # Triton says 0 of a device that cannot tell
        total("nv_energy_consumption") or None,
    )
