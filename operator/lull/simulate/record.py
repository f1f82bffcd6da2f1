"""The simulated ModelGateway: what the controller is told of the gateway, when, and how coarsely."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf

from lull.api.names import GATEWAY_HEARTBEAT_SECONDS
from lull.policy import Gateway
from lull.simulate.timeline import Timeline

HOP_SECONDS = 0.03
"""Assumed: how long a write takes to reach who acts on it, by measurements of the local cluster."""
COALESCE_SECONDS = 0.2
"""How long what nobody waits for is gathered into one write, as by the real gateway."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is written at one moment: the gateway's status, and how many requests of whom were held so far."""

    gateway: Gateway = field(default_factory=lambda: Gateway("gateway"))
    delayed: Mapping[str, int] = field(default_factory=dict)


class Record:
    """Writes of one ModelGateway. What is written is told a hop later.

    Attributes:
        told: what the controller knows.
    """

    def __init__(
        self,
        timeline: Timeline,
        *,
        now: Callable[[], Told],
        on_demands: Callable[[], None],
        on_figures: Callable[[], None],
    ) -> None:
        """Tell nothing yet.

        Args:
            timeline: virtual time.
            now: returns what is to be told at this moment; the time of a write is added where it matters.
            on_demands: called when the controller knows of other requests that wait, or other drains.
            on_figures: called when it knows of other counts alone, or that the gateway lives.
        """
        self._timeline, self._now = timeline, now
        self._on_demands, self._on_figures = on_demands, on_figures
        self._write_at = inf
        self.told = Told()

    def urgent(self) -> None:
        """Write at once."""
        self._write_within(0.0)

    def changed(self) -> None:
        """Write soon, together with what else changes until then."""
        self._write_within(COALESCE_SECONDS)

    def _write_within(self, seconds: float) -> None:
        at = self._timeline.now + seconds
        if at < self._write_at:
            self._write_at = at
            self._timeline.at(at, self._write)

    def _write(self) -> None:
        if self._timeline.now < self._write_at:
            return  # it was written sooner meanwhile
        self._write_at = inf
        told = self._now()
        self._timeline.at(self._timeline.now + HOP_SECONDS, partial(self._tell, told))
        if told.gateway.held:  # else nobody looks at a heartbeat
            self._write_within(GATEWAY_HEARTBEAT_SECONDS)

    def _tell(self, told: Told) -> None:
        if told == self.told:  # what stays the same is the same object, which spares the planner a look
            return
        before, after = self.told.gateway, told.gateway
        self.told = told
        moved = (before.held, before.drained) != (after.held, after.drained)
        (self._on_demands if moved else self._on_figures)()
