"""Carries rollouts on: decides the next state of each by what the fleet, the plan and the gateways say.

What is decided is written to the status, and the view shows what stands there: nothing is acted on that the
gateways could not know. Services without a rollout cost nothing here.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from lull.api.quantities import format_duration
from lull.api.reasons import SERVED_ALL_THE_SAME
from lull.controller.clock import Clock
from lull.controller.history import History, history_from, next_revisions, revision_to, rollout_to, settled
from lull.controller.traffic import Traffic
from lull.controller.view import View
from lull.controller.wire import Object, accuracy_percent, key_of, service_of, two_digits, wish_from
from lull.kube import MODELGATEWAYS, MODELSERVICES, Resource
from lull.policy import Explanation, Fleet, Model, Plan, Report, State
from lull.policy.fleet import candidate_key
from lull.policy.rollout import LOST, Phase, Rollout, Signs, Wish, advance, begin

AT_ONCE = 100
"""How many rollouts are looked at with one plan at most: then the loop gets its turn, and wakes theirs."""
TELLING_SECONDS = 5.0
"""How often what a rollout was asked, and what it waits for, is told at most; its steps are told at once."""
DEFAULT_HISTORY = 5

OnTurn = Callable[[str, Rollout | None, Rollout], None]


@dataclass(frozen=True, slots=True)
class _Decided:
    """What is being written to a service's status, and what stood there before."""

    uid: str
    before: Rollout | None
    now: Rollout


class Rollouts:
    """One for the whole controller; `on_turn` hears of a service's rollout as each state of it is written."""

    def __init__(self, view: View, clock: Clock, on_turn: OnTurn) -> None:
        self._view = view
        self._clock = clock
        self._on_turn = on_turn
        self._traffic = Traffic()
        self._started = False
        self._stirred: set[str] = set()
        self._unsaid: set[str] = set()  # what the last plan said of them was from before
        self._due: dict[str, float] = {}
        self._decided: dict[str, _Decided] = {}
        self._no_room: dict[str, float] = {}  # since when
        self._told: dict[str, tuple[float, Sequence[Object]]] = {}  # of traffic: when, and what

    # What others tell it.

    def hear(self, kind: Resource, key: str) -> bool:
        """Take note of an object's news. Returns whether a rollout may go on by that."""
        concerned = set[str]()
        if kind is MODELGATEWAYS:
            concerned = self._see_gateway(key)
        elif kind is MODELSERVICES:
            self._see_service(key)
            concerned = {key} & self._view.rolling.keys()
        self._stirred |= concerned
        return bool(concerned)

    def follow(self, fleet: Fleet, plan: Plan) -> set[str]:
        """Decide on the rollouts of what was looked at, what has news, and what is due.

        Returns:
            The services whose status says something else by now.
        """
        self._started = True
        now, rolling = self._clock(), self._view.rolling
        self._due = {key: at for key, at in self._due.items() if key in rolling}
        keys = {service_of(key) for key in plan.looked_at} | self._stirred | self._unsaid
        keys |= {key for key, at in self._due.items() if at <= now}
        keys &= rolling.keys() & plan.services.keys()
        self._unsaid = _unsaid(keys, plan)
        ordered = sorted(keys - self._unsaid)
        self._stirred = set(ordered[AT_ONCE:])
        return {key for key in ordered[:AT_ONCE] if self._look(key, fleet, plan, now)}

    # What it tells others.

    def next_at(self) -> float | None:
        """Return when a rollout goes on by itself."""
        return self._clock() if self._stirred else min(self._due.values(), default=None)

    def rollout(self, key: str, history: History, serving: Model) -> Rollout | None:
        """Return a service's rollout as it is, or will be as soon as it is written."""
        decided = self._decided.get(key)
        return decided.now if decided and key in self._view.rolling else history.rollout_of(serving)

    def swaps(self, key: str, rollout: Rollout | None) -> bool:
        """Tell whether what fails of a service now is not its end, as what serves is just being swapped."""
        decided = self._decided.get(key)
        before = decided.before if decided else None
        phases = {known.phase for known in (rollout, before) if known}
        return Phase.SWAPPING in phases

    def state(
        self, item: Object, history: History, rollout: Rollout | None, serving: Model, ready: Collection[str]
    ) -> Object:
        """Return `revisions` and `rollout` of a service's status, by its `history` up to now."""
        key = key_of(item)
        revisions = next_revisions(
            history,
            rollout,
            self._view.rolling.get(key, serving),
            serving,
            self._clock(),
            former=(item["spec"].get("rollout") or {}).get("history", DEFAULT_HISTORY),
            ready=serving.revision in ready,
        )
        shares = _shares(rollout, serving)
        entries = []
        for revision in revisions:
            measured = self._view.measured(key, revision.name)
            known = replace(
                revision,
                memory=f"{measured.memory_bytes // 2**20}Mi" if measured.memory_bytes else revision.memory,
                training_watt_hours=measured.training_watt_hours or revision.training_watt_hours,
            )
            entries.append(revision_to(known, shares.get(revision.name, 0), ready=revision.name in ready))
        if rollout is None:
            return {"revisions": entries}
        _, traffic = self._told.get(key, (0.0, history.traffic))
        return {"revisions": entries, "rollout": rollout_to(rollout, traffic)}

    # Within.

    def _see_gateway(self, key: str) -> set[str]:
        gateways = self._view.raw[MODELGATEWAYS]
        if key not in gateways:
            self._traffic.forget_gateways({item["metadata"]["uid"] for item in gateways.values()})
        elif self._started:
            return self._traffic.see(gateways[key], self._view.rolling)
        else:
            self._traffic.meet(gateways[key])
        return set()

    def _see_service(self, key: str) -> None:
        """Note that what was decided is written, or that it is not to be any more."""
        item, decided = self._view.raw[MODELSERVICES].get(key), self._decided.get(key)
        if item is None or (decided and decided.uid != item["metadata"]["uid"]):
            self._forget(key)
        elif decided and history_from(item.get("status")).rollout == decided.now:
            del self._decided[key]
            if _step(decided.before) != _step(decided.now):
                self._on_turn(key, decided.before, decided.now)
        elif key not in self._view.rolling:
            self._forget(key)

    def _forget(self, key: str) -> None:
        for kept in (self._decided, self._due, self._no_room, self._told):
            kept.pop(key, None)
        self._traffic.restart(key)

    def _look(self, key: str, fleet: Fleet, plan: Plan, now: float) -> bool:
        """Decide what becomes of one rollout. Returns whether its status says something else by now."""
        self._due.pop(key, None)
        if key in self._decided:
            return True  # it goes on as soon as that is written
        item, spec = self._view.raw[MODELSERVICES][key], self._view.rolling[key]
        history = history_from(item.get("status"))
        serving = history.serving(spec)
        rollout = history.rollout_of(serving)
        wish = wish_from(item, spec.revision)
        signs = self._signs(key, rollout, wish, fleet, plan, now)
        begun = rollout or begin(serving.revision, wish, signs, now)
        fresh, at = advance(begun, wish, signs, now)
        if at is not None:
            self._due[key] = at
        fresh = settled(fresh)
        if rollout and replace(fresh, message=rollout.message) == rollout:
            return self._tell(key, history, rollout, fresh, now)
        self._decide(key, item, rollout, fresh, now)
        return True

    def _decide(self, key: str, item: Object, rollout: Rollout | None, fresh: Rollout, now: float) -> None:
        self._decided[key] = _Decided(item["metadata"]["uid"], rollout, fresh)
        self._no_room.pop(key, None)
        if fresh.running and (rollout is None or _watched(rollout) != _watched(fresh)):
            self._traffic.restart(key)
        self._told[key] = now, self._figures(key, fresh)

    def _tell(self, key: str, history: History, rollout: Rollout, fresh: Rollout, now: float) -> bool:
        """Tell what a running rollout was asked and waits for, but not too often."""
        figures = self._figures(key, rollout) if rollout.running else history.traffic
        if fresh == rollout and figures == history.traffic:
            return False
        at = self._told.get(key, (-math.inf, ()))[0] + TELLING_SECONDS
        if now < at:
            self._due[key] = min(at, self._due.get(key, math.inf))
            return False
        self._told[key] = now, figures
        if fresh != rollout:
            uid = self._view.raw[MODELSERVICES][key]["metadata"]["uid"]
            self._decided[key] = _Decided(uid, rollout, fresh)
        return True

    def _signs(
        self, key: str, rollout: Rollout | None, wish: Wish, fleet: Fleet, plan: Plan, now: float
    ) -> Signs:
        wanted = plan.services[key].desired
        if rollout is None:
            return Signs(wanted=wanted)
        beside = candidate_key(key, rollout.candidate)
        told = plan.services.get(beside) if rollout.beside else plan.services[key]
        item = self._view.raw[MODELSERVICES][key]
        return Signs(
            wanted=wanted,
            have=ready_replicas(fleet, key, rollout.candidate),
            failure=_failure(told),
            no_room_seconds=self._no_room_seconds(key, beside in plan.seen.blocked, now),
            stable_lost=_lost(plan.services[key]) and not ready_replicas(fleet, key, rollout.stable),
            old=self._traffic.sample(key, rollout.stable),
            new=self._traffic.sample(key, rollout.candidate),
            accuracy_percent=accuracy_percent(item, rollout.candidate),
        )

    def _no_room_seconds(self, key: str, blocked: bool, now: float) -> float | None:
        if not blocked:
            self._no_room.pop(key, None)
            return None
        return now - self._no_room.setdefault(key, now)

    def _figures(self, key: str, rollout: Rollout) -> tuple[Object, ...]:
        """Return `status.rollout.traffic`."""
        return self._figure(key, rollout.stable), self._figure(key, rollout.candidate)

    def _figure(self, key: str, revision: str) -> Object:
        sample = self._traffic.sample(key, revision)
        figure: Object = {
            "revision": revision,
            "requests": sample.requests,
            "failures": sample.failures,
            "compared": sample.compared,
            "differed": sample.differed,
        }
        p95 = sample.p95_seconds
        return figure if p95 is None else figure | {"p95": format_duration(two_digits(p95))}


def _unsaid(keys: set[str], plan: Plan) -> set[str]:
    """Return those that the plan had no time for: what failed of the old revision would be the new one's."""
    waiting = (*plan.seen.left, *plan.seen.kept_back) if keys else ()
    return keys.intersection(map(service_of, waiting))


def ready_replicas(fleet: Fleet, key: str, revision: str) -> int:
    """Return how many replicas of a revision answer, whether it serves or is rolled out beside."""
    places = (place for of in (key, candidate_key(key, revision)) for place in fleet.of(of))
    return sum(
        p.model.revision == revision and p.state is State.LOADED and host.says(p, Report.READY)
        for host, p in places
    )


def _failure(told: Explanation | None) -> tuple[str, str] | None:
    stalled = told.stalled if told else None
    return None if stalled is None or stalled[0] in SERVED_ALL_THE_SAME else stalled


def _lost(told: Explanation) -> bool:
    return told.stalled is not None and told.stalled[0] in LOST


def _watched(rollout: Rollout) -> object:
    """Return what samples are of: two steps may begin in one second, as the status tells time."""
    return rollout.candidate, rollout.phase, rollout.step, rollout.since


def _step(rollout: Rollout | None) -> object:
    """Return what is told of."""
    return rollout and (rollout.candidate, rollout.phase, rollout.step, rollout.percent)


def _shares(rollout: Rollout | None, serving: Model) -> dict[str, int]:
    """Return how many percent of the requests revisions get."""
    if rollout is None:
        return {serving.revision: 100}
    if not rollout.beside:
        return {rollout.serving: 100}
    return {rollout.stable: 100 - rollout.percent, rollout.candidate: rollout.percent}
