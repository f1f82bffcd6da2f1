"""What a model did, as sums that only grow: whatever happens to the counters that they come from."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import add, attrgetter, sub


@dataclass(frozen=True)
class Totals:
    """Sums over one model's inferences. Times are in nanoseconds, as Triton counts them.

    Attributes:
        requests: answered.
        failures: not answered.
        answer_ns: from a request's arrival to its answer, over all answered ones.
        queue_ns: the part of it that they waited for an instance.
        executions: runs of the network.
        inferences: what those runs worked on: a batch of 8 is 8 in one execution.
        busy_ns: how long an instance computed; a batch counts once.
    """

    requests: int = 0
    failures: int = 0
    answer_ns: int = 0
    queue_ns: int = 0
    executions: int = 0
    inferences: int = 0
    busy_ns: int = 0

    @property
    def values(self) -> tuple[int, ...]:
        """All of them, in their order."""
        return _VALUES(self)

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*map(add, self.values, other.values))

    def __sub__(self, other: "Totals") -> "Totals":
        return Totals(*map(sub, self.values, other.values))

    def since(self, before: "Totals") -> "Totals":
        """What these counters grew by; all that they say where one of them fell: they began anew."""
        grown = self - before
        return self if min(grown.values) < 0 else grown


_VALUES: Callable[[Totals], tuple[int, ...]] = attrgetter(*(field.name for field in fields(Totals)))
"""Many times quicker than `astuple`, which copies."""
