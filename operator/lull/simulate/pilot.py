"""The simulated gateway: serves from what is routed, holds requests for the rest, and lets go of drains."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from lull.api.names import DELAYED_SECONDS
from lull.policy import Gateway, Placement, Report, State
from lull.simulate.agent import Agent, Copy
from lull.simulate.meter import Meter
from lull.simulate.record import Record, Told
from lull.simulate.setting import HOLD_SECONDS
from lull.simulate.timeline import Timeline
from lull.simulate.trace import TracedModel

SETTLE_SECONDS, QUIET_SECONDS = 0.25, 1.0
"""A drain is claimed so long after its routes went, and after its last request, as by the real gateway."""


class Pilot:
    """The one gateway. Requests to a model are batched without limit, so none waits for another's end."""

    def __init__(
        self,
        models: Iterable[TracedModel],
        timeline: Timeline,
        meter: Meter,
        *,
        on_demands: Callable[[], None],
        on_figures: Callable[[], None],
        on_use: Callable[[], None],
    ) -> None:
        """Route nothing.

        Args:
            models: those of the trace.
            timeline: virtual time.
            meter: told of every request.
            on_demands: called when the controller knows of other requests that wait, or other drains.
            on_figures: called when it knows of other counts alone.
            on_use: called when a model is asked.
        """
        self._timeline, self._meter, self._on_use = timeline, meter, on_use
        self._index = {model.key: index for index, model in enumerate(models)}
        self._keys = list(self._index)
        self._routes: dict[str, dict[str, tuple[Agent, Copy]]] = {key: {} for key in self._keys}
        self._held: dict[str, list[tuple[float, float]]] = {}
        self._drains: dict[Agent, dict[str, bool]] = {}  # by claim: whether it is made
        self._delayed: Counter[str] = Counter()
        self.record = Record(timeline, now=self._now, on_demands=on_demands, on_figures=on_figures)

    @property
    def holding(self) -> bool:
        """Whether requests are held."""
        return bool(self._held)

    def _now(self) -> Told:
        """Return what is to be written: who waits, who let go, and who has waited."""
        beat = str(self._timeline.now) if self._held else ""
        drained = (claim for drains in self._drains.values() for claim, made in drains.items() if made)
        return Told(Gateway("gateway", beat, frozenset(self._held), frozenset(drained)), dict(self._delayed))

    def arrive(self, model: int, duration: float) -> None:
        """Take in a request: one to a model that is routed is served at once."""
        key, now = self._keys[model], self._timeline.now
        if self._routes[key]:
            self._serve(key, now, duration)
        elif key in self._held:
            self._held[key].append((now, duration))
        else:
            self._held[key] = [(now, duration)]
            self._timeline.at(now + HOLD_SECONDS, partial(self._drop, key))
            self.record.urgent()

    def look(self, placements: Sequence[Placement], agent: Agent) -> None:
        """Route to what is loaded and ready on a host, and begin to let go of what drains there."""
        states = {p.id: p.state for p in placements}
        for id_, copy in agent.copies.items():
            key = copy.placement.service
            if states.get(id_) is State.LOADED and copy.state is Report.READY:
                self._routes[key][id_] = (agent, copy)
                self._release(key)
            else:
                self._routes[key].pop(id_, None)
        drains = self._drains.get(agent, {})
        leaving = {p.claim: p.id for p in placements if p.state is State.DRAINING}
        self._drains[agent] = {claim: drains.get(claim, False) for claim in leaving}
        for claim in leaving.keys() - drains.keys():
            known = agent.copies.get(leaving[claim])
            ends = max(known.busy_until, known.used + QUIET_SECONDS) if known else 0.0
            settled = self._timeline.now + SETTLE_SECONDS
            self._timeline.at(max(settled, ends), partial(self._claim, agent, claim))

    def forget(self, agent: Agent) -> None:
        """Route no more to a host that is gone."""
        self.look((), agent)
        del self._drains[agent]

    def _claim(self, agent: Agent, claim: str) -> None:
        """Claim a drain: its last request has ended."""
        if claim in self._drains.get(agent, {}):
            self._drains[agent][claim] = True
            self.record.urgent()

    def _release(self, key: str) -> None:
        """Serve what was held."""
        held = self._held.pop(key, ())
        for arrived, duration in held:
            self._serve(key, arrived, duration)
            self._delayed[key] += self._timeline.now - arrived > DELAYED_SECONDS
        if held:
            self.record.changed()

    def _serve(self, key: str, arrived: float, duration: float) -> None:
        now = self._timeline.now
        agent, copy = min(self._routes[key].values(), key=lambda route: route[1].busy_until)
        self._meter.served(self._index[key], arrived, now, now + duration)
        agent.use(copy, now + duration)
        self._on_use()

    def _drop(self, key: str) -> None:
        """Give up what was held for too long."""
        held = self._held.get(key, [])
        kept = [(at, duration) for at, duration in held if self._timeline.now < at + HOLD_SECONDS]
        if len(kept) == len(held):
            return
        for _ in range(len(held) - len(kept)):
            self._meter.dropped()
        self._delayed[key] += len(held) - len(kept)
        if kept:
            self._held[key] = kept
            self._timeline.at(kept[0][0] + HOLD_SECONDS, partial(self._drop, key))
        else:
            del self._held[key]
            self.record.changed()
