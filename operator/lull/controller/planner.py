"""One task that plans, and the wake that does not wait for it."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from lull.api.reasons import LOAD_FAILURES
from lull.controller.clock import Clock
from lull.controller.events import EventPoster
from lull.controller.execute import Executor
from lull.controller.memory import completed, recalled
from lull.controller.metrics import PLAN_SECONDS
from lull.controller.rollouts import Rollouts
from lull.controller.status import StatusWriter
from lull.controller.view import View
from lull.controller.wakes import Wakes
from lull.controller.wire import Object
from lull.kube import MODELHOSTS, MODELPOOLS, MODELSERVICES, PODS, Resource
from lull.policy import NOTHING_NOTED, Failure, Fleet, Plan, Service, Stage, observe, over_again, plan, wake
from lull.policy.staging import stages

log = logging.getLogger(__name__)

IDLE_WINDOW_SECONDS = 0.02
"""A plan waits until nothing has changed for this long …"""
LONGEST_WINDOW_SECONDS = 0.2
"""… but no longer than this."""
SERVICES_AT_ONCE = 40
"""How many services a plan begins with at most: then the loop gets its turn, and wakes theirs."""
LOOK_OVER_SECONDS = 300.0
"""So often everything is looked at again, bit by bit: nothing that a narrow look missed stays for long."""
STAGE_SECONDS = 60.0
"""So often it is looked whether hosts should stage something else: no host is written more often for it."""
STAGE_AT_ONCE = 10
"""How many hosts are told in one plan; what is written brings the next one, and wakes come in between."""
LONGEST_SILENCE_SECONDS = 30.0
"""A plan is made at least this often, so that one can tell `nothing to do` from `not planning`."""


class Planner:
    """Decides, on every change and whenever time alone changes the answer."""

    def __init__(
        self,
        view: View,
        executor: Executor,
        statuses: StatusWriter,
        events: EventPoster,
        wakes: Wakes,
        rollouts: Rollouts,
        clock: Clock,
        *,
        on_planned: Callable[[Plan], None] = lambda _plan: None,
        seed: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._view = view
        self._executor = executor
        self._statuses = statuses
        self._events = events
        self._wakes = wakes
        self._rollouts = rollouts
        self._clock = clock
        self._on_planned = on_planned
        self._seed = seed
        self._notes = NOTHING_NOTED
        self._changed = asyncio.Event()
        self._started = False
        self._next_at: float | None = None
        self._last: Plan | None = None
        self._known: Mapping[str, Service] = {}
        self._addresses: list[str] = []
        self._looked_over_at = float("-inf")
        self._staged_at = float("-inf")
        self._staging: Iterator[Stage | None] = iter(())

    def see(self, kind: Resource, key: str, item: Object | None) -> None:
        """Take in one object's event of a watch."""
        if item is None:
            self._view.forget(kind, key)
        else:
            self._view.offer(kind, item)

    def hear(self, kind: Resource, key: str, matters: bool) -> None:
        """Take note of an object's news, whoever brought it; where it matters, wake at once, and decide."""
        if kind is MODELPOOLS and matters:
            self._executor.end_rests()
        if kind is MODELSERVICES and key not in self._view.raw[kind]:
            self._wakes.forget(key)
        if kind in (MODELHOSTS, PODS) and key in self._view.hosts:
            self._wakes.look(self._view.hosts[key], self._view.raw[MODELHOSTS].get(key, {}))
        if self._rollouts.hear(kind, key):
            self._changed.set()
        if matters:
            self.done()

    def wake(self) -> None:
        """Wake what is held, now."""
        if not self._started or not any(gateway.held for gateway in self._view.gateways.values()):
            return
        changes = wake(self._view.fleet(self._seed()), self._notes, self._clock())
        if changes:
            self._statuses.give_way()
        self._wakes.began(changes)
        for change in changes:
            self._executor.submit(change)

    def done(self) -> None:
        """Decide again: what was held back by a write may be written now, or something is another."""
        self.wake()
        self._changed.set()

    async def run(self) -> None:
        """Plan until cancelled. Start it only when every kind is synced."""
        failures = _failures(self._view, self._clock())
        self._notes = replace(NOTHING_NOTED, failures=failures, learned=recalled(self._view))
        self._started = True
        while True:
            self.plan_once()
            await self._wait()

    def plan_once(self) -> None:
        """Plan what has changed, as much of it as the loop has time for, and start to write what follows."""
        self._changed.clear()
        now = self._clock()
        self._look_over(now)
        self._executor.ask_again()
        fleet = self._view.fleet(self._seed())
        if fleet.services is not self._known:
            self._known = fleet.services
            self._notes = replace(self._notes, learned=completed(self._notes.learned, self._view))
        self._notes = observe(self._notes, fleet, now, SERVICES_AT_ONCE)
        with PLAN_SECONDS.time():
            decided = self._last = plan(fleet, self._notes, now, self._last, SERVICES_AT_ONCE)
        self._on_planned(decided)
        self._statuses.learned = self._notes.learned
        self._statuses.publish(fleet, decided, self._rollouts.follow(fleet, decided))
        self._events.tell(decided)
        if decided.changes:
            served = {key for key, told in decided.services.items() if told.ready}
            self._wakes.began(decided.changes, served)
        for change in decided.changes:
            self._executor.submit(change)
        unseen_at = None if self._notes.seen is fleet else now
        times = (
            decided.next_at,
            self._executor.rest_until(),
            unseen_at,
            self._rollouts.next_at(),
            self._stage(fleet, now),
        )
        self._next_at = min((at for at in times if at is not None), default=None)

    def _look_over(self, now: float) -> None:
        """Have everything looked at again where all statuses may say something else."""
        addresses = sorted(self._view.gateway_addresses())
        if addresses != self._addresses or now >= self._looked_over_at + LOOK_OVER_SECONDS:
            self._addresses, self._looked_over_at = addresses, now
            self._last = over_again(self._last) if self._last else None

    def _stage(self, fleet: Fleet, now: float) -> float | None:
        """Tell hosts now and then what to keep ready, after all that somebody may wait for.

        Returns:
            When to go on; None where what is written brings the next plan.
        """
        if now >= self._staged_at + STAGE_SECONDS:
            self._staged_at = now
            self._staging = stages(fleet, self._notes, now)
        for change in islice(self._staging, STAGE_AT_ONCE):
            if change is None:
                return now
            self._executor.submit(change)
        return None

    @property
    def started(self) -> bool:
        """Whether every kind is synced and planning has begun."""
        return self._started

    @property
    def resting(self) -> bool:
        """Whether nothing is under way and nothing waits to be decided."""
        left = self._last is None or self._last.seen.left
        return not (left or self._changed.is_set() or self._executor.pending or self._statuses.pending)

    async def _wait(self) -> None:
        """Return when something has changed and settled, or when it is time."""
        left = LONGEST_SILENCE_SECONDS if self._next_at is None else self._next_at - self._clock()
        timeout = min(LONGEST_SILENCE_SECONDS, max(0.0, left))
        try:
            # Not `wait_for`: Python 3.11's takes no notice of a cancel that comes with a change.
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return
        deadline = self._clock() + LONGEST_WINDOW_SECONDS
        while self._changed.is_set() and self._clock() < deadline:
            self._changed.clear()
            await asyncio.sleep(IDLE_WINDOW_SECONDS)


def _failures(view: View, now: float) -> dict[str, Failure]:
    """Return the failed loads that the services' own statuses remember from before a restart."""
    failures = {}
    for key, service in view.services.items():
        status = view.raw[MODELSERVICES].get(key, {}).get("status") or {}
        for condition in status.get("conditions") or ():
            current = condition.get("observedGeneration") == service.generation
            failed = condition["status"] == "True" and condition["reason"] in LOAD_FAILURES
            if condition["type"] == "Stalled" and failed and current:
                reason, message = condition["reason"], condition.get("message", "")
                failures[key] = Failure(service.generation, service.model.revision, reason, message, now)
    return failures
