"""The simulated gateway: serves from what is routed, holds requests for the rest, and lets go of drains."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from lull.policy import Gateway, Placement, Report, State
from lull.policy.fleet import Count
from lull.simulate.agent import Agent, Copy
from lull.simulate.meter import Meter
from lull.simulate.setting import DELAYED_SECONDS, HOLD_SECONDS
from lull.simulate.timeline import Timeline
from lull.simulate.trace import TracedModel

HOP_SECONDS = 0.03
"""Assumed: how long a write takes to reach who acts on it, by measurements of the local cluster."""
HEARTBEAT_SECONDS = 5.0
"""How often it says that it lives while it holds requests."""


class Pilot:
    """The one gateway. Requests to a model are batched without limit, so none waits for another's end."""

    def __init__(
        self,
        models: Iterable[TracedModel],
        timeline: Timeline,
        meter: Meter,
        *,
        on_change: Callable[[], None],
        on_count: Callable[[], None],
    ) -> None:
        """Route nothing.

        Args:
            models: those of the trace.
            timeline: virtual time.
            meter: told of every request.
            on_change: called when it holds or drains something else.
            on_count: called when requests were counted.
        """
        self._timeline, self._meter = timeline, meter
        self._on_change, self._on_count = on_change, on_count
        self._index = {model.key: index for index, model in enumerate(models)}
        self._keys = list(self._index)
        self._routes: dict[str, dict[str, tuple[Agent, Copy]]] = {key: {} for key in self._keys}
        self._held: dict[str, list[tuple[float, float]]] = {}
        self._seen = Gateway("gateway")
        self._drains: dict[Agent, dict[str, bool]] = {}  # by claim: whether it is made
        self.counts: dict[str, Count] = {}

    @property
    def holding(self) -> bool:
        """Whether requests are held."""
        return bool(self._held)

    def seen(self) -> Gateway:
        """Return what the controller sees of it."""
        beat = str(int(self._timeline.now // HEARTBEAT_SECONDS)) if self._held else ""
        drained = (claim for drains in self._drains.values() for claim, made in drains.items() if made)
        seen = Gateway(self._seen.name, beat, frozenset(self._held), frozenset(drained))
        if seen != self._seen:  # what stays the same is the same object, which spares the planner a look
            self._seen = seen
        return self._seen

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
            self._on_change()

    def look(self, placements: Sequence[Placement], agent: Agent) -> None:
        """Route to what is loaded and ready on a host, and begin to let go of what drains there."""
        states = {p.id: p.state for p in placements}
        for id_, copy in agent.copies.items():
            key = copy.placement.service
            if states.get(id_) is State.LOADED and copy.state is Report.READY:
                self._routes[key][id_] = (agent, copy)
                for arrived, duration in self._held.pop(key, ()):
                    self._serve(key, arrived, duration)
            else:
                self._routes[key].pop(id_, None)
        drains = self._drains.get(agent, {})
        leaving = {p.claim: p.id for p in placements if p.state is State.DRAINING}
        self._drains[agent] = {claim: drains.get(claim, False) for claim in leaving}
        for claim in leaving.keys() - drains.keys():
            known = agent.copies.get(leaving[claim])
            ends = max(self._timeline.now, known.busy_until if known else 0.0)
            self._timeline.at(ends + HOP_SECONDS, partial(self._claim, agent, claim))

    def forget(self, agent: Agent) -> None:
        """Route no more to a host that is gone."""
        self.look((), agent)
        del self._drains[agent]

    def _claim(self, agent: Agent, claim: str) -> None:
        """Claim a drain: its last request has ended."""
        if claim in self._drains.get(agent, {}):
            self._drains[agent][claim] = True
            self._on_change()

    def _serve(self, key: str, arrived: float, duration: float) -> None:
        now = self._timeline.now
        agent, copy = min(self._routes[key].values(), key=lambda route: route[1].busy_until)
        self._meter.served(self._index[key], arrived, now, now + duration)
        self._count(key, delayed=now - arrived > DELAYED_SECONDS)
        agent.use(copy, now + duration)

    def _drop(self, key: str) -> None:
        """Give up what was held for too long."""
        held = self._held.get(key, [])
        kept = [(at, duration) for at, duration in held if self._timeline.now < at + HOLD_SECONDS]
        if len(kept) == len(held):
            return
        for _ in range(len(held) - len(kept)):
            self._meter.dropped()
            self._count(key, delayed=True)
        if kept:
            self._held[key] = kept
            self._timeline.at(kept[0][0] + HOLD_SECONDS, partial(self._drop, key))
        else:
            del self._held[key]
            self._on_change()

    def _count(self, key: str, *, delayed: bool) -> None:
        count = self.counts.get(key, Count())
        self.counts[key] = Count(count.requests + 1, count.delayed + delayed)
        self._on_count()
