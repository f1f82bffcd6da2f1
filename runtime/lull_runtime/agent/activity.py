"""When a model was last used, from Triton's totals: pure, the caller brings the clock."""

from lull_runtime.agent.triton import Usage
from lull_runtime.measure.totals import Totals


class Activity:
    """The use of one loaded model. Times are seconds since the epoch."""

    def __init__(self, own: Totals = Totals()) -> None:  # noqa: B008  it cannot change
        """`own` is what was not use: the golden runs of the agent."""
        self._seen = own
        self._last_seconds = 0.0
        self.idle_since: float | None = None

    def restart(self, now: float) -> None:
        """The model became ready, or is routed again: idleness counts from now."""
        self._last_seconds = now
        self.idle_since = None

    def observe(self, usage: Usage, now: float, idle_after_seconds: float) -> bool:
        """Take in Triton's totals; return whether `idle_since` changed."""
        totals = usage.totals
        if (totals.requests, totals.failures) != (self._seen.requests, self._seen.failures):
            # A failure leaves no time behind: then it was, at the latest, now.
            last = usage.last_seconds if totals.failures == self._seen.failures else now
            self._last_seconds = max(self._last_seconds, min(last, now))
            self._seen = totals
        idle = now - self._last_seconds >= idle_after_seconds
        before, self.idle_since = self.idle_since, self._last_seconds if idle else None
        return self.idle_since != before
