"""What users read: the status of services and pools, written only when it says something new.

A state is written at once, with figures as they are then. Figures alone are written seldom, and of what
sleeps only once more: when the last that its hosts said of it is known.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from lull.api.names import CONTROLLER_FIELD_MANAGER
from lull.api.quantities import format_bytes, format_duration
from lull.api.reasons import SERVED_ALL_THE_SAME
from lull.controller.bill import pool_figures, service_figures
from lull.controller.clock import Clock, rfc3339, seconds_of
from lull.controller.history import history_from
from lull.controller.ledger import Ledger
from lull.controller.memory import LEARNED, pool_memory, service_memory
from lull.controller.news import News
from lull.controller.pace import Pace
from lull.controller.rollouts import Rollouts
from lull.controller.use import objective_met
from lull.controller.view import View
from lull.controller.wakes import Woken
from lull.controller.wire import Object, service_of, two_digits
from lull.kube import MODELPOOLS, MODELSERVICES, ApiError, Kube, Resource
from lull.policy import Explanation, Fleet, Host, Placement, Plan, PoolExplanation, Report, Service, State
from lull.policy.fleet import candidate_key
from lull.policy.learning import Learned
from lull.policy.rollout import Rollout

log = logging.getLogger(__name__)

CONCURRENT_WRITES = 4
"""So that statuses leave the API server room for wakes."""
WAY_SECONDS = 0.1
"""How long statuses wait after a wake began; one that is over by then is written as one change, not two …"""
LONGEST_WAY_SECONDS = 0.5
"""… how long at most, where wake follows wake …"""
GLANCE_SECONDS = 0.02
"""… how often it is looked meanwhile whether one has come that gateways go by, which does not wait …"""
WAITING_AT_MOST = 64
"""… and how many may wait: beyond that they would only grow older."""
RETRY_SECONDS = 5.0
REFRESH_SECONDS = 0.25
"""How often it is looked whose figures may be written …"""
LOOKED_AT_ONCE = 1000
"""… among how many at once …"""
REFRESHED_AT_ONCE = 20
"""… and for how many of these at most: it takes a sixth of a millisecond each, in which nobody is woken."""
FIGURES = ("utilization", "busy", "busyPercent", "energy", "ledger", *LEARNED)
STEADY = 0.25
"""By how much of it a time to come may change unwritten: it is an estimate, and all teaches a little more."""
_NEXT = "name another model in spec.model, or take it back with `kubectl lull rollout undo`"
LONGEST_TEXT = 1024
"""As many characters as the API takes in a message."""

Conditions = list[dict[str, Any]]


class StatusWriter:
    """Writes statuses in the background, the newest of each object, and each only once."""

    def __init__(
        self,
        kube: Kube,
        view: View,
        ledger: Ledger,
        rollouts: Rollouts,
        clock: Clock,
        url: Callable[[str], str | None],
    ) -> None:
        self._kube = kube
        self._view = view
        self._ledger = ledger
        self._rollouts = rollouts
        self._clock = clock
        self._news = News(view, ledger)
        self._pace = Pace()
        self._url = url
        self.learned = Learned()
        """What the planner has learned, to be kept in what is written anyway."""
        self._woken: dict[str, Woken] = {}
        self._written: dict[tuple[str, str], Object] = {}
        self._wanted: dict[tuple[Resource, str], Object] = {}
        self._urgent: dict[tuple[Resource, str], None] = {}  # of those, what gateways go by
        self._poke = asyncio.Event()
        self._calm_at = 0.0  # of the loop's clock
        self._being_written: set[tuple[Resource, str]] = set()

    @property
    def pending(self) -> int:
        """Statuses that are still to be written."""
        return len(self._wanted) + len(self._being_written)

    def woken(self, service: str, woken: Woken) -> None:
        """Remember a service's last wake."""
        self._woken[service] = woken

    def give_way(self) -> None:
        """Leave the API server to a wake for a moment."""
        self._calm_at = asyncio.get_running_loop().time() + WAY_SECONDS

    def publish(self, fleet: Fleet, plan: Plan, turned: Collection[str] = ()) -> None:
        """Write the states that a plan says, and of services whose rollout has `turned`, where they are new.

        Pools first: what services owe is by their pool's meters, and may not be ahead of them after a crash.
        """
        for name, explained in plan.pools.items():
            item = self._view.raw[MODELPOOLS].get(name)
            if item:
                self._want_state(MODELPOOLS, name, item, self._pool_state(item, explained))
        for key in {service_of(key) for key in plan.looked_at}.union(turned) & plan.services.keys():
            item = self._view.raw[MODELSERVICES].get(key)
            if item:
                self._want_state(MODELSERVICES, key, item, self._service_state(item, fleet, plan, key))
        for kind in (MODELSERVICES, MODELPOOLS):
            for key, why in self._view.invalid[kind].items():
                item = self._view.raw[kind][key]
                self._want_state(kind, key, item, self._invalid_state(item, why))
        self._forget_gone()

    async def refresh(self) -> None:
        """Write the figures that have changed, of the objects whose turn it is."""
        for kind, keys in self._ledger.changed.items():
            there = iter(tuple(keys))
            while some := tuple(islice(there, LOOKED_AT_ONCE)):
                due = (key for key in some if self._due(kind, key))
                for key in islice(due, REFRESHED_AT_ONCE):
                    keys.discard(key)
                    item = self._view.raw[kind].get(key)
                    if item and self._told(item):
                        self._refresh_one(kind, key, item)
                await asyncio.sleep(0)

    def _due(self, kind: Resource, key: str) -> bool:
        item = self._view.raw[kind].get(key)
        return item is None or self._pace.due(item["metadata"]["uid"], self._clock())

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._refresh_all())
            for _ in range(CONCURRENT_WRITES):
                group.create_task(self._write_all())

    async def _refresh_all(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self.refresh()

    def _refresh_one(self, kind: Resource, key: str, item: Object) -> None:
        told = self._told(item) or {}
        if not self._news.figures(kind, key, told):
            return
        fresh = _stateful(told) | self._figures(kind, key, told)
        if key in self._view.services:
            fresh["conditions"] = self._with_objective(item, told, fresh.get("utilization", {}))
        if _rounded(fresh) != _rounded(told) or self._news.outdated(kind, key, told):
            self._want(kind, key, item, fresh)

    def _forget_gone(self) -> None:
        raw = self._view.raw
        if len(self._written) <= len(raw[MODELSERVICES]) + len(raw[MODELPOOLS]):
            return  # nearly always; each that goes leaves one too many
        self._woken = {key: woken for key, woken in self._woken.items() if key in raw[MODELSERVICES]}
        kinds = (MODELSERVICES, MODELPOOLS)
        alive = {item["metadata"]["uid"] for kind in kinds for item in raw[kind].values()}
        self._written = {key: told for key, told in self._written.items() if key[1] in alive}
        self._pace.keep(alive)

    async def _write_all(self) -> None:
        while True:
            await self._poke.wait()
            await self._calm()
            # The one that waits longest: while writes are slow, others would overtake it for ever.
            # Of each object one at a time: of two under way the older may land last.
            waiting = chain(self._urgent, self._wanted)
            due = next((target for target in waiting if target not in self._being_written), None)
            if due is None:
                self._poke.clear()
                continue
            self._urgent.pop(due, None)
            status = self._wanted.pop(due)
            self._being_written.add(due)
            try:
                await self._write(*due, status)
            finally:
                self._being_written.discard(due)
                self._poke.set()

    async def _calm(self) -> None:
        """Wait while wakes have the way; what gateways go by does not."""
        loop = asyncio.get_running_loop()
        longest = loop.time() + LONGEST_WAY_SECONDS
        while len(self._wanted) <= WAITING_AT_MOST and not self._urgent.keys() - self._being_written:
            wait_seconds = min(self._calm_at, longest) - loop.time()
            if wait_seconds <= 0:
                return
            await asyncio.sleep(min(wait_seconds, GLANCE_SECONDS))

    async def _write(self, kind: Resource, key: str, status: Object) -> None:
        item = self._view.raw[kind].get(key)
        if item is None:
            return
        metadata = {
            name: item["metadata"][name] for name in ("name", "namespace", "uid") if name in item["metadata"]
        }
        body = {"metadata": metadata, "status": status}
        try:
            answer = await self._kube.apply(
                kind, body, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status"
            )
        except ApiError as error:
            if error.status in (404, 409):  # it is gone, or another of the same name: its event is on its way
                self._written.pop((kind.plural, metadata["uid"]), None)
                return
            log.warning("the status of %s %s was not written: %s", kind.kind, key, error)
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._again, kind, key, status)
            return
        # It may have waited: the next one keeps its distance from now.
        self._pace.wrote(metadata["uid"], self._clock())
        self._view.update(kind, answer)

    def _again(self, kind: Resource, key: str, status: Object) -> None:
        """Try a refused write once more, unless the object went or a newer status took its place."""
        item = self._view.raw[kind].get(key)
        if item and self._written.get((kind.plural, item["metadata"]["uid"])) is status:
            self._wanted[kind, key] = status
            self._poke.set()

    def _told(self, item: Object) -> Object | None:
        """Return what an object's status says, or will say as soon as it is written."""
        return self._written.get(_mark(item)) or item.get("status")

    def _want_state(self, kind: Resource, key: str, item: Object, state: Object) -> None:
        """Write a state with fresh figures, unless it is what the status says already."""
        told = self._told(item) or {}
        if _state_of(told) == _state_of(state) and not self._news.rates(kind, key, told):
            self._written[_mark(item)] = told
            return
        self._want(kind, key, item, state | self._figures(kind, key, told))

    def _want(self, kind: Resource, key: str, item: Object, status: Object) -> None:
        mark = _mark(item)
        said, self._written[mark] = self._told(item), status
        if said == status:
            return
        self._pace.wrote(item["metadata"]["uid"], self._clock())
        self._wanted[kind, key] = status
        if _routing(said) != _routing(status):
            self._urgent[kind, key] = None
        self._poke.set()

    def _figures(self, kind: Resource, key: str, told: Object) -> Object:
        """Return an object's figures; of what cannot be read only its totals, which are true all the same."""
        if kind is MODELSERVICES and self._ledger.service(key):
            service = self._view.services.get(key)
            figures = service_figures(
                self._ledger, key, service.measured_bytes if service else None, self._clock
            )
        elif kind is MODELPOOLS and self._ledger.pool(key):
            figures = pool_figures(self._ledger, key)
        else:
            figures = told
        names = ("energy", "ledger") if key in self._view.invalid[kind] else FIGURES
        memory = service_memory if kind is MODELSERVICES else pool_memory
        kept = {name: told[name] for name in LEARNED if name in told} | memory(self.learned, key)
        return {name: figures[name] for name in names if name in figures} | kept

    def _service_state(self, item: Object, fleet: Fleet, plan: Plan, key: str) -> Object:
        service, told = fleet.services[key], plan.services[key]
        history = history_from(self._told(item))
        rollout = self._rollouts.rollout(key, history, service.model)
        if self._rollouts.swaps(key, rollout):
            told = replace(told, stalled=None)  # else gateways would turn away what the old one will answer
        beside = candidate_key(key, rollout.candidate) if rollout else ""
        places = sorted((*fleet.of(key), *fleet.of(beside)), key=lambda place: place[1].id)
        replicas = [found for found in (told, plan.services.get(beside)) if found]
        desired, ready = sum(r.desired for r in replicas), sum(r.ready for r in replicas)
        answering = {p.model.revision for host, p in places if ready and _answers(host, p)}
        asked = self._view.rolling.get(key, service.model).revision
        conditions = self._ranked(service_conditions(told), service)
        conditions |= rollout_conditions(conditions, rollout, asked, awake=told.desired > 0)
        conditions["ObjectiveMet"] = self._objective(item)
        status: Object = {
            "observedGeneration": service.generation,
            "conditions": self._conditions(item, conditions),
            **self._rollouts.state(item, history, rollout, service.model, answering),
            "replicas": {"desired": desired, "ready": ready},
            "readyReplicas": f"{ready}/{desired}",
            "placements": [_placement_status(host, p) for host, p in places],
            "next": self._next(item, told),
        }
        if url := self._url(service.key):
            status["url"] = url
        if wake := self._wake(item, service.key, told):
            status["wake"] = wake
        return status

    def _next(self, item: Object, told: Explanation) -> Object:
        """Return what happens next; its time stays as it was told while it is nearly the same."""
        step: Object = {"action": told.next_action, "reason": told.next_reason[:LONGEST_TEXT]}
        if told.next_at is None:
            return step
        before = (self._told(item) or {}).get("next") or {}
        near_seconds = STEADY * (told.next_at - self._clock())
        same = before.get("action") == told.next_action and "time" in before
        if same and abs(seconds_of(before["time"]) - told.next_at) <= near_seconds:
            return step | {"time": before["time"]}
        return step | {"time": rfc3339(told.next_at)}

    def _wake(self, item: Object, key: str, told: Explanation) -> Object:
        """Return how the last wake went, and how the next one would as things are now."""
        before = (self._told(item) or {}).get("wake") or {}
        wake = {name: before[name] for name in ("last", "from") if name in before}
        if woken := self._woken.get(key):
            wake = {"last": format_duration(woken.seconds), "from": woken.source}
        if told.wake is not None:
            wake["expected"] = format_duration(two_digits(told.wake.seconds))
        return wake

    def _ranked(
        self, conditions: dict[str, tuple[str, str, str]], service: Service
    ) -> dict[str, tuple[str, str, str]]:
        """Let Ready say too where a service names a PriorityClass that nobody has made."""
        missing = self._view.unranked(service.key)
        if not missing:
            return conditions
        status, reason, message = conditions["Ready"]
        words = f"there is no PriorityClass {missing}, so its priority is 0"
        return conditions | {"Ready": (status, reason, f"{message}; {words}" if message else words)}

    def _pool_state(self, item: Object, told: PoolExplanation) -> Object:
        used = 100 * told.used_bytes // told.supply_bytes if told.supply_bytes else 0
        return {
            "observedGeneration": item["metadata"].get("generation", 1),
            "conditions": self._conditions(item, self._pool_conditions(item)),
            "hosts": {"total": told.hosts, "ready": told.ready_hosts},
            "memory": {"supply": format_bytes(told.supply_bytes), "used": format_bytes(told.used_bytes)},
            "utilizationPercent": min(100, used),
        }

    def _pool_conditions(self, item: Object) -> dict[str, tuple[str, str, str]]:
        troubles = {
            "EnergyKnown": self._ledger.energy_trouble(item["metadata"]["name"]),
            "CarbonKnown": self._ledger.carbon_trouble(item),
        }
        known = {type_: ("False", *trouble) for type_, trouble in troubles.items() if trouble}
        return {"Ready": ("True", "Accepted", "")} | known

    def _invalid_state(self, item: Object, why: str) -> Object:
        stalled = {"Ready": ("False", "Invalid", why), "Stalled": ("True", "Invalid", why)}
        told = self._told(item) or {}
        # What was measured, and how far a rollout is, is still true when the spec can be read again.
        return {name: told[name] for name in ("revisions", "rollout") if name in told} | {
            "observedGeneration": item["metadata"].get("generation", 1),
            "conditions": self._conditions(item, stalled),
        }

    def _objective(self, item: Object) -> tuple[str, str, str]:
        """Return ObjectiveMet as it stands: only new figures change it."""
        conditions = (self._told(item) or {}).get("conditions") or ()
        for condition in conditions:
            judged = condition["type"] == "ObjectiveMet" and condition["status"] != "Unknown"
            if judged and item["spec"].get("objective"):
                return condition["status"], condition["reason"], condition.get("message", "")
        return objective_met(item["spec"], {})

    def _with_objective(self, item: Object, told: Object, utilization: Object) -> Conditions:
        """Return the conditions that a status has, with ObjectiveMet by these figures, if anybody asked."""
        asked = utilization.get("requestsPerMinute", 0) > 0
        judged = objective_met(item["spec"], utilization) if asked else self._objective(item)
        (fresh,) = self._conditions(item, {"ObjectiveMet": judged})
        # The others stay as they are: no plan has seen a newer generation yet.
        return [fresh if c["type"] == "ObjectiveMet" else c for c in told.get("conditions") or ()]

    def _conditions(self, item: Object, wanted: Mapping[str, tuple[str, str, str]]) -> Conditions:
        """Return conditions whose transition times move only when their status does."""
        known = self._told(item) or {}
        before = {c["type"]: c for c in known.get("conditions") or ()}
        now = rfc3339(self._clock())
        conditions = []
        for type_, (status, reason, message) in wanted.items():
            old = before.get(type_, {})
            conditions.append(
                {
                    "type": type_,
                    "status": status,
                    "reason": reason,
                    "message": message[:LONGEST_TEXT],
                    "observedGeneration": item["metadata"].get("generation", 1),
                    "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == status else now,
                }
            )
        return conditions


def service_conditions(told: Explanation) -> dict[str, tuple[str, str, str]]:
    """Return status, reason and message by condition type. A service that sleeps is Ready."""
    kept_from = None if told.stalled and told.stalled[0] in SERVED_ALL_THE_SAME else told.stalled
    ready = told.ready >= max(1, told.desired) or (
        (told.desired == 0 or told.state == "Waking") and not kept_from
    )
    reason, message = kept_from if kept_from and not ready else (told.state, told.message)
    if told.state == "Suspended":
        ready, reason, message = False, "Suspended", "spec.suspend is true; set it to false to serve again"
    moving = told.state in ("Waking", "Draining") or told.ready < told.desired
    stalled = told.stalled or ("Fine", "")
    return {
        "Ready": (_word(ready), reason, message),
        "Active": (_word(told.state == "Serving"), told.state, told.message),
        "Reconciling": (_word(moving and not kept_from), told.state, told.message),
        "Stalled": (_word(told.stalled is not None), *stalled),
    }


def rollout_conditions(
    others: Mapping[str, tuple[str, str, str]], rollout: Rollout | None, asked: str, *, awake: bool
) -> dict[str, tuple[str, str, str]]:
    """Return what a rollout adds to the `others`; `asked` is the revision of the spec.

    One that runs is awaited while its service is awake: asleep it waits for a request, and that may take
    days. One that came to nothing stalls the service for its user, as other words than the spec's are true;
    its gateways go on serving.
    """
    if rollout is None or (not rollout.running and rollout.serving == asked):
        failed = others["Ready"][0] == "False" and others["Stalled"][0] == "True"
        return {"RolledOut": ("False", *others["Stalled"][1:]) if failed else ("True", "Serving", "")}
    reason, message = rollout.phase.value, rollout.message
    fresh = {"RolledOut": ("False", reason, message)}
    if rollout.running and awake and others["Stalled"][0] == "False":
        fresh["Reconciling"] = ("True", reason, message)
    elif not rollout.running and others["Stalled"][0] == "False":
        why = f"{rollout.reason}: {message}" if rollout.reason else message
        what = f"revision {rollout.candidate} does not serve, {rollout.stable} does: {why}; {_NEXT}"
        fresh |= {"RolledOut": ("False", reason, what), "Stalled": ("True", reason, what)}
    return fresh


def _answers(host: Host, placement: Placement) -> bool:
    return placement.state is State.LOADED and host.says(placement, Report.READY)


def _routing(status: Object | None) -> object:
    """Return what of a status gateways go by."""
    rollout = (status or {}).get("rollout") or {}
    return [rollout.get(name) for name in ("candidate", "phase", "percent", "shadowPercent")]


def _placement_status(host: Host, placement: Placement) -> Object:
    report = host.report(placement)
    state = placement.state.value
    if placement.state == "Loaded":
        state = report.state.value if report else "Waiting"
    failed = report is not None and report.state is Report.FAILED
    return {
        "id": placement.id,
        "host": host.name,
        "node": host.node,
        "revision": placement.model.revision,
        "state": state,
        "reason": report.reason if report and failed else "",
    }


def _stateful(status: Object) -> Object:
    """Return a status without its figures."""
    return {name: value for name, value in status.items() if name not in FIGURES}


def _state_of(status: Object) -> Object:
    """Return what of a status is written as soon as it is another.

    Not the wake that is to be expected: as a host comes or goes, it is another one for all that sleeps.
    """
    wake = {name: value for name, value in (status.get("wake") or {}).items() if name != "expected"}
    return _stateful(status) | {"wake": wake}


def _rounded(status: Object) -> Object:
    """Return a status without what changes all the time, and is kept for a restart only."""
    return {name: value for name, value in status.items() if name not in ("ledger", *LEARNED)}


def _mark(item: Object) -> tuple[str, str]:
    plural = MODELSERVICES.plural if item["metadata"].get("namespace") else MODELPOOLS.plural
    return plural, item["metadata"]["uid"]


def _word(truth: bool) -> str:
    return "True" if truth else "False"
