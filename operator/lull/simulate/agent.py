"""The agent of one simulated host: loads what it should hold, one model at a time, and reports."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from math import ceil

from lull.policy import Placement, Report, Reported, State
from lull.simulate.timeline import Timeline

UNLOAD_SECONDS = 0.1
"""Assumed: how long Triton takes to unload a model."""
LOOK_SECONDS = 1.0
"""So often it looks who was asked: oftener, to a quarter of the idle time, where that is short …"""
SHORTEST_LOOK_SECONDS = 0.1
"""… but no oftener than this: as the real agent does."""
BUSY_STEPS = 20
"""Busy shares are told in steps of one over this, as the real agent's are read."""


@dataclass(slots=True)
class Copy:
    """A model on a host.

    Attributes:
        used: when it was last asked, or became ready or routed again: idleness counts from then.
        busy_until: when its last request ends.
        busy_seconds: that it computed or will have by then.
        marks: how many of them had passed at the last two measurements.
        busy: share of the last window.
        ends: when those of its requests end that are not told of yet.
        asked: it was asked since it was idle, and is looked at next.
    """

    placement: Placement
    state: Report = Report.FETCHING
    used: float = 0.0
    busy_until: float = 0.0
    busy_seconds: float = 0.0
    marks: tuple[float, float] = (0.0, 0.0)
    busy: float = 0.0
    idle: bool = False
    asked: bool = False
    ends: list[float] = field(default_factory=list)
    load_seconds: float | None = None

    @property
    def idle_at(self) -> float:
        """When it was not asked for its idle time."""
        return max(self.used, self.busy_until) + self.placement.idle_after_seconds

    def use(self, now: float, until: float) -> None:
        """Compute one more request, beside those that are computed."""
        self.busy_seconds += max(0.0, until - max(now, self.busy_until))
        self.busy_until = max(self.busy_until, until)
        self.used = now
        self.ends.append(until)

    def take_answered(self, now: float) -> int:
        """Return how many requests have ended since this was asked last."""
        known = len(self.ends)
        self.ends = [end for end in self.ends if end > now]
        return known - len(self.ends)

    def next_look(self, at: float) -> float:
        """Return when it is looked at next, `at` or after it."""
        every = max(SHORTEST_LOOK_SECONDS, min(LOOK_SECONDS, self.placement.idle_after_seconds / 4))
        return max(at, ceil(at / every) * every)

    def measure(self, now: float, window_seconds: float) -> None:
        """Tell the busy share anew, twice in each window."""
        done = self.busy_seconds - max(0.0, self.busy_until - now)
        self.busy = round((done - self.marks[0]) / window_seconds * BUSY_STEPS) / BUSY_STEPS
        self.marks = self.marks[1], done

    def reported(self) -> Reported:
        """Return what is said of it."""
        held = self.state is not Report.FETCHING
        return Reported(
            self.placement.id,
            self.placement.service,
            self.placement.model.name,
            self.state,
            self.placement.memory_bytes if held else 0,
            idle=self.idle,
            code=False,
            busy=self.busy,
            load_seconds=self.load_seconds,
        )


class Agent:
    """What one host holds."""

    def __init__(
        self,
        timeline: Timeline,
        *,
        load: Callable[[Placement], float],
        on_change: Callable[[], None],
    ) -> None:
        """Hold nothing.

        Args:
            timeline: virtual time.
            load: told of every load that begins; returns its seconds.
            on_change: called after every change of `copies`.
        """
        self._timeline = timeline
        self._load = load
        self._on_change = on_change
        self._loading = False
        self._wanted: dict[str, Placement] = {}
        self.copies: dict[str, Copy] = {}

    def want(self, placements: Iterable[Placement]) -> None:
        """Take in what the host should hold."""
        self._wanted = {p.id: p for p in placements}
        for copy in list(self.copies.values()):
            if copy.placement.id in self._wanted:
                self._update(copy, self._wanted[copy.placement.id])
            elif copy.state in (Report.FETCHING, Report.READY):
                self._let_go(copy)
        for placement in self._wanted.values():
            if placement.id not in self.copies:
                self.copies[placement.id] = Copy(placement)
        self._load_next()
        self._on_change()

    def use(self, copy: Copy, until: float) -> None:
        """Ask a model: it computes `until` then."""
        copy.use(self._timeline.now, until)
        if copy.idle and not copy.asked:
            copy.asked = True
            self._timeline.at(copy.next_look(self._timeline.now), partial(self._notice, copy))

    def measure(self, window_seconds: float) -> bool:
        """Measure the busy shares of the last window, twice in each; tell whether anything computed in it."""
        for copy in self.copies.values():
            copy.measure(self._timeline.now, window_seconds)
        self._on_change()
        return any(copy.busy for copy in self.copies.values())

    def take_answered(self) -> Counter[str]:
        """Return how many requests of whom have ended since this was asked last."""
        answered: Counter[str] = Counter()
        for copy in self.copies.values():
            if copy.ends:
                answered[copy.placement.service] += copy.take_answered(self._timeline.now)
        return +answered

    def reports(self) -> dict[str, Reported]:
        """Return what is said of every model here."""
        return {id_: copy.reported() for id_, copy in self.copies.items()}

    def _update(self, copy: Copy, placement: Placement) -> None:
        routed_again = placement.epoch > copy.placement.epoch
        sooner = placement.idle_after_seconds < copy.placement.idle_after_seconds
        copy.placement = placement
        if copy.state is Report.READY and routed_again:
            copy.used = self._timeline.now
            if copy.idle:
                self._rouse(copy)
        if copy.state is Report.READY and sooner:
            self._watch(copy)

    def _rouse(self, copy: Copy) -> None:
        copy.idle = False
        self._watch(copy)

    def _notice(self, copy: Copy) -> None:
        """Notice that what was idle is asked again."""
        copy.asked = False
        if copy.idle:
            self._rouse(copy)
            self._on_change()

    def _watch(self, copy: Copy) -> None:
        self._timeline.at(copy.next_look(copy.idle_at), partial(self._check_idle, copy))

    def _check_idle(self, copy: Copy) -> None:
        if copy.idle or self.copies.get(copy.placement.id) is not copy or copy.state is not Report.READY:
            return
        if self._timeline.now < copy.idle_at:
            self._watch(copy)
            return
        copy.idle = True
        self._on_change()

    def _load_next(self) -> None:
        """Begin the next load: what is asked for before what only rides along."""
        wanted = (self.copies[id_] for id_ in self._wanted if id_ in self.copies)
        waiting = [copy for copy in wanted if copy.state is Report.FETCHING]
        if self._loading or not waiting:
            return
        self._loading = True
        copy = min(waiting, key=lambda copy: copy.placement.state is State.RESIDENT)
        copy.state = Report.LOADING
        seconds = self._load(copy.placement)
        self._timeline.at(self._timeline.now + seconds, partial(self._loaded, copy, seconds))

    def _loaded(self, copy: Copy, seconds: float) -> None:
        if copy.placement.id not in self._wanted:  # it is out before the next load begins
            self._timeline.at(self._timeline.now + UNLOAD_SECONDS, partial(self._broken_off, copy))
            return
        self._loading = False
        copy.state, copy.used, copy.load_seconds = Report.READY, self._timeline.now, seconds
        self._watch(copy)
        self._load_next()
        self._on_change()

    def _broken_off(self, copy: Copy) -> None:
        self._loading = False
        del self.copies[copy.placement.id]
        self._load_next()
        self._on_change()

    def _let_go(self, copy: Copy) -> None:
        if copy.state is Report.FETCHING:
            del self.copies[copy.placement.id]
            return
        copy.state = Report.UNLOADING
        self._timeline.at(self._timeline.now + UNLOAD_SECONDS, partial(self._unloaded, copy))

    def _unloaded(self, copy: Copy) -> None:
        del self.copies[copy.placement.id]
        self._on_change()
