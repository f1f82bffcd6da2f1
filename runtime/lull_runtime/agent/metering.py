"""Asks Triton what its models were used, for the meter."""

import asyncio
import logging
import time
from collections.abc import Mapping

from lull_runtime.agent.meter import Held, Meter
from lull_runtime.agent.placement import Placement
from lull_runtime.agent.reconcile import Phase
from lull_runtime.agent.triton import Triton, TritonDownError, TritonError, TritonTimeoutError, Usage
from lull_runtime.measure.totals import Totals

log = logging.getLogger(__name__)

_LAST_SECONDS = 1.0


class Metering:
    """Joins Triton's counters with the placements that they are of.

    One question at a time: an older answer that is taken in after a newer one looks like counters that began
    anew, which would count everything twice.
    """

    def __init__(self, triton: Triton, meter: Meter, placements: Mapping[str, Placement]) -> None:
        self._triton = triton
        self._meter = meter
        self._placements = placements
        self._asking = asyncio.Lock()
        self._closed: set[str] = set()
        self._synced = False
        self._up = False

    async def look(self) -> dict[str, Usage]:
        """Ask, take in what Triton says, and return it.

        Raises:
            TritonDownError, TritonError, TritonTimeoutError: it does not say.
        """
        async with self._asking:
            try:
                usage = await self._triton.usage()
            except (TritonError, TritonTimeoutError):
                self._take_in({})
                raise
            self._up = True
            self._take_in(usage)
            return usage

    async def look_last(self) -> None:
        """Look once more before something leaves: Triton forgets its counters with it."""
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self.look()
        except (TimeoutError, TritonDownError, TritonError, TritonTimeoutError) as error:
            log.warning("the last totals are those of the last look: %s", error)
        self._meter.settle(time.monotonic())

    async def close(self, placement: str) -> None:
        """Take a placement's last totals; what it draws until it is out is nobody's."""
        await self.look_last()
        self._closed.add(placement)
        self._take_in({})

    def came(self) -> None:
        """Triton is up, and so holds the device."""
        self._up = True
        self._take_in({})

    def went(self) -> None:
        """Triton went down, and with it all that it held."""
        self._up = False
        self._take_in({})

    def loaded(self, placement: str, own: Totals) -> None:
        """A placement's model was loaded anew; `own` is what Triton counted of the agent's own runs."""
        self._meter.loaded(placement, own, time.monotonic())

    async def keep(self) -> None:
        """Keep the totals."""
        await self._meter.keep(flush=True)

    def keep_only(self, placements: set[str]) -> None:
        """Forget what is of no placement any more."""
        self._synced = True
        self._closed &= self._placements.keys()
        self._meter.keep_only(placements | self._placements.keys(), time.monotonic())

    def _take_in(self, usage: Mapping[str, Usage]) -> None:
        if self._meter.holds_models and not (self._synced or self._placements):
            return  # what the agent before this one metered is still there
        held = {}
        for key, placement in self._placements.items():
            counted = placement.phase in (Phase.READY, Phase.UNLOADING) and placement.want.name in usage
            counters = usage[placement.want.name].totals if counted else None
            if placement.held and key not in self._closed:
                held[key] = Held(placement.memory_bytes or 0, counters)
        self._meter.observe(held, time.monotonic(), triton_up=self._up)
