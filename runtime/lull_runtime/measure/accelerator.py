"""The accelerator's memory and power, from Triton's own metrics: only Triton's container sees the device."""

import re
from dataclasses import dataclass

import aiohttp

_TIMEOUT_SECONDS = 2.0
_LINE = re.compile(r'^(nv_gpu_\w+)\{gpu_uuid="([^"]+)"\} ([0-9.e+-]+)$', re.MULTILINE)


@dataclass(frozen=True)
class Accelerator:
    """One device.

    Attributes:
        uuid: of the device.
        memory_total_bytes: its memory.
        memory_used_bytes: by whomever.
        watts: its draw, where it can tell.
    """

    uuid: str
    memory_total_bytes: int
    memory_used_bytes: int
    watts: int | None


async def read_accelerator(session: aiohttp.ClientSession, metrics_url: str) -> Accelerator | None:
    """Return the host's accelerator; None where it has none or Triton does not answer."""
    try:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with session.get(metrics_url, timeout=timeout) as response:
            return parse(await response.text())
    except (aiohttp.ClientError, TimeoutError):
        return None


def parse(metrics: str) -> Accelerator | None:
    """Return the first accelerator in Triton's metrics."""
    found = [(name, uuid, float(value)) for name, uuid, value in _LINE.findall(metrics)]
    if not found:
        return None
    uuid = found[0][1]
    values = {name: value for name, of, value in found if of == uuid}
    watts = values.get("nv_gpu_power_usage")
    return Accelerator(
        uuid,
        int(values.get("nv_gpu_memory_total_bytes", 0)),
        int(values.get("nv_gpu_memory_used_bytes", 0)),
        None if watts is None else round(watts),
    )
