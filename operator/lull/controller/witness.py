"""Sees what the controller decides and writes, and tells each who keeps count of it."""

from lull.controller.clock import Clock
from lull.controller.deeds import Deeds
from lull.controller.events import EventPoster
from lull.controller.fences import Fences
from lull.controller.ledger import Ledger
from lull.controller.metrics import PlanMetrics, observe_turn, observe_wake
from lull.controller.status import StatusWriter
from lull.controller.view import View
from lull.controller.wakes import Wakes, Woken
from lull.policy import Change, Plan, SetModels
from lull.policy.rollout import Rollout


class Witness:
    """One for the whole controller.

    Attributes:
        wakes: the wakes under way, which the planner feeds.
    """

    def __init__(
        self, view: View, clock: Clock, ledger: Ledger, statuses: StatusWriter, events: EventPoster
    ) -> None:
        self.wakes = Wakes(clock, self.woken)
        self._view = view
        self._ledger = ledger
        self._statuses = statuses
        self._events = events
        self._metrics = PlanMetrics()
        self._fences = Fences(view, clock)
        self._deeds = Deeds(view, events)

    def planned(self, plan: Plan) -> None:
        """Take note of a plan, before anything of it is written."""
        self._ledger.follow(plan.seen.fleet, plan)
        self._metrics.observe(plan)
        self.wakes.settle(plan)
        self._fences.look()

    def written(self, change: Change) -> None:
        """Take note that the API server has taken a change."""
        self.wakes.written(change)
        self._deeds.written(change)
        if isinstance(change, SetModels):
            self._fences.written(change)
            for placement in change.cut:
                self._events.cut(placement.service)

    def woken(self, service: str, wake: Woken) -> None:
        """Take note of a wake that is over."""
        observe_wake(wake.seconds, wake.source, wake.parts)
        self._statuses.woken(service, wake)
        self._ledger.woken(service, wake.seconds)
        self._events.woken(service, wake)

    def turned(self, service: str, before: Rollout | None, rollout: Rollout) -> None:
        """Take note of a rollout's next state, as it is written."""
        observe_turn(before, rollout)
        self._events.turned(service, before, rollout)
