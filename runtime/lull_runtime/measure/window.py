"""What a model does at present: its totals over the last minute."""

import math
from collections import deque
from dataclasses import dataclass

from lull_runtime.measure.totals import Totals

WINDOW_SECONDS = 60.0
_SHORTEST_SECONDS = 5.0
"""A younger window counts as this long, lest one request of a moment be thousands a minute."""
_STEP_SECONDS = 1.0


@dataclass(frozen=True)
class Rates:
    """One model's figures of a window.

    Attributes:
        seconds: how long the window is: less than a minute for a model that is younger, never less than 5.
        requests_per_second: answered.
        failures_per_second: not answered.
        busy_ratio: time that its instances computed, of the window; above 1 where several compute at once.
        queue_seconds: mean wait for an instance; 0 without requests.
        batch_size: mean; None without requests.
    """

    seconds: float
    requests_per_second: float = 0.0
    failures_per_second: float = 0.0
    busy_ratio: float = 0.0
    queue_seconds: float = 0.0
    batch_size: float | None = None

    @property
    def active(self) -> bool:
        """Whether anybody asked."""
        return self.requests_per_second + self.failures_per_second > 0


class Window:
    """A ring of samples about a second apart. Times are those of one clock that never goes back."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Totals]] = deque()

    def add(self, at_seconds: float, totals: Totals) -> None:
        """Take in the totals of a moment."""
        samples = self._samples
        if len(samples) > 1 and samples[-1][0] - samples[-2][0] < _STEP_SECONDS:
            samples.pop()  # the last one is always the latest, however often it is asked
        samples.append((at_seconds, totals))
        while len(samples) > 1 and samples[1][0] <= at_seconds - WINDOW_SECONDS:
            samples.popleft()

    @property
    def ended_seconds(self) -> float:
        """When the latest sample was taken."""
        return self._samples[-1][0] if self._samples else -math.inf

    def rates(self) -> Rates | None:
        """Return the figures of the window that ends with the latest sample; None before there are two."""
        if len(self._samples) < 2:
            return None
        (began, before), (ended, now) = self._samples[0], self._samples[-1]
        if ended <= began:
            return None
        seconds, grown = max(ended - began, _SHORTEST_SECONDS), now - before
        return Rates(
            seconds,
            grown.requests / seconds,
            grown.failures / seconds,
            grown.busy_ns / 1e9 / seconds,
            grown.queue_ns / 1e9 / grown.requests if grown.requests else 0.0,
            grown.inferences / grown.executions if grown.executions else None,
        )
