"""Looks at Triton's own metrics now and then: whoever wants figures takes those of the last look."""

import asyncio
import time
from collections.abc import Callable, Mapping

import aiohttp

from lull_runtime.agent.meter import Meter
from lull_runtime.measure.accelerator import read_metrics

_LOOK_SECONDS = 10.0
"""How often: an accelerator's energy is split by who computed meanwhile."""
_LOST_SECONDS = 25.0
"""How old the last answer may be before what its sensor said is no longer believed."""


class Readings:
    """Triton's metrics, read for the meter.

    Args:
        url: of the metrics.
        meter: is told what the accelerator says.
        on_found: called once it is known how much memory there is: it counts when models are placed.
    """

    def __init__(self, url: str, meter: Meter, on_found: Callable[[], None]) -> None:
        self._url = url
        self._meter = meter
        self._on_found = on_found
        self._answered_seconds = time.monotonic()
        self.latencies: Mapping[str, Mapping[float, float]] = {}
        """Seconds by quantile, by the model's name on the wire."""

    async def run(self) -> None:
        """Look until cancelled."""
        async with aiohttp.ClientSession() as session:
            while True:
                await self.look(session)
                await asyncio.sleep(_LOOK_SECONDS)

    async def look(self, session: aiohttp.ClientSession) -> None:
        """Look once."""
        reading = await read_metrics(session, self._url)
        now = time.monotonic()
        if reading is None:
            self.latencies = {}
            if now - self._answered_seconds > _LOST_SECONDS:
                self._meter.lose(now)
            return
        self._answered_seconds = now
        self.latencies = reading.latencies
        if reading.accelerator is not None:
            before = self._meter.capacity_bytes
            self._meter.read(reading.accelerator, now)
            if self._meter.capacity_bytes != before:
                self._on_found()
        else:
            self._meter.lose(now)
