"""Requests that had to wait for a wake, counted per service: the controller holds them against objectives."""

import time
from collections.abc import Callable, Mapping
from itertools import takewhile

SHOWN_SECONDS = 600.0
"""How long after its last delayed request a service's count is shown; it goes on with its next one."""
LONGEST = 10_000
"""Most services counted, as many as a ModelGateway takes; who was delayed longest ago is forgotten first."""


class Delays:
    """Totals by `namespace/name`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[str, tuple[int, float]] = {}  # total and last time, the latest last

    def restore(self, totals: Mapping[str, int]) -> None:
        """Go on from what an earlier pilot of this gateway counted."""
        for service, total in totals.items():
            self._counts.setdefault(service, (total, self._clock()))

    def count(self, service: str) -> None:
        """Count a request that waits no more, whatever became of it."""
        total, _ = self._counts.pop(service, (0, 0.0))
        self._counts[service] = total + 1, self._clock()
        if len(self._counts) > LONGEST:
            del self._counts[next(iter(self._counts))]

    def totals(self) -> dict[str, int]:
        """Return the counts of the services that requests waited for lately."""
        horizon = self._clock() - SHOWN_SECONDS
        latest_first = reversed(self._counts.items())
        return {
            service: total
            for service, (total, _) in takewhile(lambda entry: entry[1][1] > horizon, latest_first)
        }


def news(written: Mapping[str, int], totals: Mapping[str, int]) -> dict[str, int | None]:
    """Return the merge patch (RFC 7386) from what is written to the totals: None removes."""
    changed: dict[str, int | None] = {
        service: total for service, total in totals.items() if written.get(service) != total
    }
    return changed | dict.fromkeys(written.keys() - totals.keys())
