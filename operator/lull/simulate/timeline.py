"""Virtual time: what is to happen, in its order."""

import heapq
from collections.abc import Callable


class Timeline:
    """Runs actions at their times; those of one time in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._asked = 0

    @property
    def next_at(self) -> float:
        """When the next action is due; infinite where there is none."""
        return self._heap[0][0] if self._heap else float("inf")

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Run an action at a time that has not passed."""
        self._asked += 1
        heapq.heappush(self._heap, (max(when, self.now), self._asked, action))

    def run_next(self) -> None:
        """Go to the next action's time, and run it."""
        self.now, _, action = heapq.heappop(self._heap)
        action()
