"""What came of a policy on a trace."""

from collections.abc import Sequence
from dataclasses import dataclass, field

Steps = Sequence[tuple[float, int]]
"""A curve: (seconds, how many from then on)."""


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds that delayed requests waited; zeros where none was."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of one run, and the curves behind them.

    Attributes:
        delayed: requests that waited longer than DELAYED_SECONDS for a load or a host.
        delay_seconds: what the delayed ones waited; None where that is not known.
        dropped: requests that waited longer than `hold.timeout` (60 s) would let them; they are delayed too.
        host_hours: GPUs kept, from the wish for a host to its end.
        node_hours: nodes on.
        idle_wh: bare idle of the GPUs of nodes that are on, and these nodes' own draw.
        context_wh: of GPUs that are kept.
        dynamic_wh: of the time in which a model computes: its requests at one time are taken for one batch.
        load_wh: of loads, at LOAD_BUSY.
        lower_bound_host_hours: what perfect foresight could not go below at this delayed share.
        kept: hosts kept.
        busy: models that compute.
    """

    policy: str
    requests: int
    delayed: int
    delay_seconds: Delays | None
    dropped: int
    host_hours: float
    node_hours: float
    idle_wh: float
    context_wh: float
    dynamic_wh: float
    load_wh: float
    moves: int
    loads: int
    lower_bound_host_hours: float = 0.0
    kept: Steps = field(default=(), repr=False)
    busy: Steps = field(default=(), repr=False)

    @property
    def delayed_fraction(self) -> float:
        """Share of the requests that were delayed."""
        return self.delayed / self.requests if self.requests else 0.0

    @property
    def energy_wh(self) -> float:
        """All of them."""
        return self.idle_wh + self.context_wh + self.dynamic_wh + self.load_wh
