"""What computing drew and is not charged yet: an inference shows only once it is done.

The sensor sees an inference's draw while it computes, and Triton counts its time at its end. To charge each
interval's draw to whoever ended meanwhile would let quick models pay for slow ones. So the draw waits here
for the busy time that it belongs to, and each busy second is charged what one cost lately: whoever had it.
"""

import math
from dataclasses import dataclass, field

WAIT_SECONDS = 120.0
"""The longest inference whose draw is waited for; what waited longer is nobody's."""
_OVERDUE_SECONDS = 60.0
"""What waited longer says that a busy second costs more than it did."""
_MEMORY_SECONDS = 600.0
"""Over how long a busy second's price is taken."""


@dataclass
class Pot:
    """Dynamic energy that waits, in microjoules.

    Attributes:
        waiting: when it was drawn and how much, the oldest first.
        charged: lately; older charges count ever less.
        charged_ns: the busy time that they were for.
    """

    waiting: list[tuple[float, int]] = field(default_factory=list)
    charged: float = 0.0
    charged_ns: float = 0.0

    def put(self, energy: int, now: float) -> None:
        """Have what was drawn until now wait."""
        if energy:
            self.waiting.append((now, energy))

    def charge(self, busy_ns: int, now: float, seconds: float) -> int:
        """Take out what some busy time costs.

        Args:
            busy_ns: that came to an end since the last time.
            now: at present.
            seconds: that passed since.
        """
        kept = math.exp(-seconds / _MEMORY_SECONDS)
        self.charged, self.charged_ns = self.charged * kept, self.charged_ns * kept
        if not busy_ns:
            return 0
        held = sum(energy for _, energy in self.waiting)
        cost = min(held, round(self._price(held, busy_ns, now) * busy_ns))
        self.charged += cost
        self.charged_ns += busy_ns
        self._take(cost)
        return cost

    def _price(self, held: int, busy_ns: int, now: float) -> float:
        """Of a busy nanosecond: what one cost lately, and more where that left something over."""
        if not self.charged_ns:
            return held / busy_ns
        overdue = sum(energy for at, energy in self.waiting if at < now - _OVERDUE_SECONDS)
        return (self.charged + overdue) / self.charged_ns

    def lapse(self, now: float) -> int:
        """Take out what waited in vain."""
        gone = sum(energy for at, energy in self.waiting if at < now - WAIT_SECONDS)
        self._take(gone)
        return gone

    def _take(self, energy: int) -> None:
        """Take from the oldest."""
        while energy:
            at, oldest = self.waiting.pop(0)
            if oldest > energy:
                self.waiting.insert(0, (at, oldest - energy))
                return
            energy -= oldest
