"""Lull on a trace, in virtual time: the very `plan` and `wake` of the controller decide."""

from lull.policy import NOTHING_NOTED, Plan, observe, plan, wake
from lull.simulate.meter import Meter
from lull.simulate.outcome import Outcome
from lull.simulate.setting import Setting
from lull.simulate.timeline import Timeline
from lull.simulate.trace import Trace
from lull.simulate.world import World

IDLE_WINDOW_SECONDS = 0.02
"""A plan waits until nothing has changed for this long …"""
LONGEST_WINDOW_SECONDS = 0.2
"""… but no longer than this …"""
LONGEST_SILENCE_SECONDS = 30.0
"""… and figures alone wait for so long: as the controller's does."""


def simulate_lull(trace: Trace, setting: Setting) -> Outcome:
    """Return what Lull would have kept, drawn and delayed on a trace."""
    run = _Run(trace, setting)
    for at, model, duration in zip(trace.at_seconds, trace.model, trace.duration_seconds, strict=True):
        run.go_to(at)
        run.world.pilot.arrive(model, duration)
    run.finish(trace.length_seconds)
    return run.meter.outcome("lull", trace.length_seconds)


class _Run:
    """The controller's planner, in the simulated world."""

    def __init__(self, trace: Trace, setting: Setting) -> None:
        self.meter = Meter(trace, setting)
        self._timeline = Timeline()
        self.world = World(
            trace,
            setting,
            self._timeline,
            self.meter,
            on_change=self._change,
            on_figures=self._figures,
        )
        self._notes = NOTHING_NOTED
        self._last: Plan | None = None
        self._settles_at = self._settled_by = 0.0
        self._changed = False
        self._next_at: float | None = None
        self._change()

    def go_to(self, at: float) -> None:
        """Let everything happen that happens up to a moment."""
        timeline = self._timeline
        while timeline.next_at <= at:
            timeline.run_next()
        timeline.now = at

    def finish(self, end: float) -> None:
        """Go to the end, and on until nobody waits any more."""
        self.go_to(end)
        while self.world.pilot.holding:
            self._timeline.run_next()

    def _change(self) -> None:
        """Something has changed: wake what is held now, and plan soon."""
        now = self._timeline.now
        if self.world.demanded:
            self.world.write(wake(self.world.fleet(), self._notes, now))
        if not self._changed:
            self._changed = True
            self._settled_by = now + LONGEST_WINDOW_SECONDS
            self._timeline.at(now + IDLE_WINDOW_SECONDS, self._settle)
        self._settles_at = min(now + IDLE_WINDOW_SECONDS, self._settled_by)

    def _figures(self) -> None:
        """There are figures alone: plan some time."""
        at = self._timeline.now + LONGEST_SILENCE_SECONDS
        if self._next_at is None or at < self._next_at:
            self._next_at = at
            self._timeline.at(at, self._time_passed)

    def _settle(self) -> None:
        if self._timeline.now < self._settles_at:
            self._timeline.at(self._settles_at, self._settle)
        else:
            self._plan()

    def _plan(self) -> None:
        self._changed = False
        now = self._timeline.now
        fleet = self.world.fleet()
        self._notes = observe(self._notes, fleet, now)
        decided = self._last = plan(fleet, self._notes, now, self._last, explained=False)
        self.world.write(decided.changes)
        if decided.next_at is not None and decided.next_at != self._next_at:
            self._timeline.at(decided.next_at, self._time_passed)
        self._next_at = decided.next_at

    def _time_passed(self) -> None:
        """Plan when time alone changes the plan, unless a later plan has another moment for that."""
        if self._next_at is not None and self._timeline.now >= self._next_at and not self._changed:
            self._next_at = None
            self._plan()
