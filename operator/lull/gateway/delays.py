"""Requests that had to wait for a wake, counted per service: the controller holds them against objectives.

Only what waits longer than `DELAYED_SECONDS` counts: the price of a delay is found by these counts, and it
pays for loads and hosts that are spared, not for the milliseconds in which a free rider is routed again.
"""

import time
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import TypeVar

Total = TypeVar("Total")

REMEMBERED_SECONDS = 600.0
"""How long after its last delayed request a service's count is kept; its next one starts anew."""
LONGEST = 1000
"""Most services at once: with the longest names 0.3 MB, of the 1.5 MB that an object may have.

Who was delayed longest ago is forgotten first."""


class Delays:
    """Totals by `namespace/name`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[str, tuple[int, float]] = {}  # total and last time, the latest last

    def restore(self, totals: Mapping[str, int]) -> None:
        """Go on from what an earlier pilot of this gateway counted."""
        for service, total in totals.items():
            self._counts.setdefault(service, (total, self._clock()))

    def clear(self) -> None:
        """Count from zero again."""
        self._counts.clear()

    def count(self, service: str) -> None:
        """Count a request that waits no more, whatever became of it."""
        total, _ = self._counts.pop(service, (0, 0.0))
        self._counts[service] = total + 1, self._clock()
        if len(self._counts) > LONGEST:
            del self._counts[next(iter(self._counts))]

    def totals(self) -> dict[str, int]:
        """Return the counts, and forget those that are too old."""
        horizon = self._clock() - REMEMBERED_SECONDS
        for service in list(takewhile(lambda service: self._counts[service][1] <= horizon, self._counts)):
            del self._counts[service]
        return {service: total for service, (total, _) in self._counts.items()}


def news(written: Mapping[str, Total], totals: Mapping[str, Total]) -> dict[str, Total | None]:
    """Return the merge patch (RFC 7386) from what is written to the totals: None removes."""
    changed: dict[str, Total | None] = {
        service: total for service, total in totals.items() if written.get(service) != total
    }
    return changed | dict.fromkeys(written.keys() - totals.keys())
