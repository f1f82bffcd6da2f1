"""The last look at Triton's own metrics: taken when somebody wants figures, and at most every few seconds."""

import asyncio
import time
from collections.abc import Callable, Mapping

import aiohttp

from lull_runtime.agent.meter import Meter
from lull_runtime.measure.accelerator import read_metrics

_FRESH_SECONDS = 5.0
_SENSOR_SECONDS = 10.0
"""How often an accelerator is looked at unasked: its energy is split by who computed meanwhile."""


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
        self._session: aiohttp.ClientSession | None = None
        self._read_seconds: float | None = None
        self._reading = asyncio.Lock()
        self.latencies: Mapping[str, Mapping[float, float]] = {}
        """Seconds by quantile, by the model's name on the wire."""

    async def run(self) -> None:
        """Follow the accelerator until cancelled; return once it is clear that there is none."""
        looked = False
        while not looked or self._meter.accelerator is not None:
            looked = await self.refresh() or looked
            await asyncio.sleep(_SENSOR_SECONDS)

    async def refresh(self) -> bool:
        """Look again, unless the last look is a moment ago; return whether Triton answered."""
        async with self._reading:
            now = time.monotonic()
            if self._read_seconds is not None and now - self._read_seconds < _FRESH_SECONDS:
                return True
            self._session = self._session or aiohttp.ClientSession()
            reading = await read_metrics(self._session, self._url)
            if reading is None:
                self.latencies = {}
                return False
            self._read_seconds = now
            self.latencies = reading.latencies
            if reading.accelerator is not None:
                before = self._meter.accelerator
                self._meter.read(reading.accelerator, time.monotonic())
                # Triton's first answers may come before it looked at its devices: then their memory is 0.
                if before is None or before.memory_total_bytes != reading.accelerator.memory_total_bytes:
                    self._on_found()
            return True

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
