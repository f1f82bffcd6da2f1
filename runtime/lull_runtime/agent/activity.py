"""When a model was last used, from Triton's totals: pure, the caller brings the clock."""

from lull_runtime.agent.triton import Usage

_NONE = Usage(0, 0, 0.0)


class Activity:
    """The use of one loaded model. Times are seconds since the epoch."""

    def __init__(self, own: Usage = _NONE) -> None:
        self._own = own
        self._seen = own
        self._last_seconds = 0.0
        self.idle_since: float | None = None

    @property
    def own(self) -> Usage:
        """What was not use: the golden runs of the agent."""
        return self._own

    @property
    def requests(self) -> int:
        """Inferences answered, golden runs apart."""
        return max(0, self._seen.requests - self._own.requests)

    @property
    def failures(self) -> int:
        """Inferences failed, golden runs apart."""
        return max(0, self._seen.failures - self._own.failures)

    def restart(self, now: float) -> None:
        """The model became ready, or is routed again: idleness counts from now."""
        self._last_seconds = now
        self.idle_since = None

    def observe(self, usage: Usage, now: float, idle_after_seconds: float) -> bool:
        """Take in Triton's totals; return whether `idle_since` changed."""
        if (usage.requests, usage.failures) != (self._seen.requests, self._seen.failures):
            # A failure leaves no time behind: then it was, at the latest, now.
            last = usage.last_seconds if usage.failures == self._seen.failures else now
            self._last_seconds = max(self._last_seconds, min(last, now))
            self._seen = usage
        idle = now - self._last_seconds >= idle_after_seconds
        before, self.idle_since = self.idle_since, self._last_seconds if idle else None
        return self.idle_since != before
