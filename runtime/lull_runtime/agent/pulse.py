"""Whether a model only fails: then its process may be gone, which Triton does not notice. Pure."""

from lull_runtime.measure.totals import Totals

_FAILING_SECONDS = 2.0


class Pulse:
    """The failures of one loaded model since it last answered. Times are seconds that never go back."""

    def __init__(self) -> None:
        self._seen: Totals | None = None
        self._since: float | None = None

    def is_gone(self, totals: Totals, now: float) -> bool:
        """Take in Triton's totals; tell whether requests have failed for 2 s and none was answered.

        Who was told so looks closer, and is told again after another 2 s of that at the earliest.
        """
        seen, self._seen = self._seen, totals
        if seen is None or totals.requests != seen.requests:
            self._since = None
        elif totals.failures > seen.failures:
            if self._since is None:
                self._since = now
            elif now - self._since >= _FAILING_SECONDS:
                self._seen = self._since = None
                return True
        return False
