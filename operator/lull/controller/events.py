"""Kubernetes Events: what happened to a service or a host, for `kubectl describe`."""

import asyncio
import logging
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from lull.api.quantities import format_duration
from lull.controller.metrics import EVENTS_DROPPED
from lull.controller.view import View
from lull.controller.wakes import Woken
from lull.controller.wire import Object, service_of
from lull.kube import EVENTS, MODELHOSTS, MODELSERVICES, ApiError, Kube, Resource
from lull.policy import Explanation, Plan, State
from lull.policy.fleet import CANDIDATE_MARK
from lull.policy.rollout import Phase, Rollout

log = logging.getLogger(__name__)

QUEUE_LENGTH = 256
"""Events beyond this are dropped: they are a courtesy, and never hold anything up."""
_SETTLED = ("Serving", "Asleep", "Suspended")
_ORIGINS = {
    "Loaded": "it was still in memory",
    "Host": "it was loaded on a host that was there",
    "NewHost": "it was loaded on a new host",
}


@dataclass(frozen=True, slots=True)
class Happening:
    """One event to post; `of` is the key of a service or its candidate, or a host's name if of that kind."""

    of: str
    type: str
    reason: str
    note: str
    kind: Resource = MODELSERVICES


@dataclass(frozen=True, slots=True)
class _Last:
    """What was told of a service last."""

    state: str
    stalled: str
    desired: int


class EventPoster:
    """Posts an Event when a service wakes, falls asleep, moves, scales, is evicted or fails."""

    def __init__(self, kube: Kube, view: View, instance: str) -> None:
        self._kube = kube
        self._view = view
        self._instance = instance
        self._queue: asyncio.Queue[Happening] = asyncio.Queue(QUEUE_LENGTH)
        self._last: dict[str, _Last] = {}

    def tell(self, plan: Plan) -> None:
        """Queue an Event for every service whose state is another than in the last plan."""
        for key in plan.looked_at:
            if CANDIDATE_MARK in key:
                continue  # its rollout is told of
            if key in plan.services:
                self._tell_one(key, plan.services[key])
            else:
                self._last.pop(key, None)

    def woken(self, service: str, woken: Woken) -> None:
        """Queue the Event of a wake."""
        took = format_duration(woken.seconds)
        note = f"awake after {took} on {self._where(service)}; {_ORIGINS[woken.source]}"
        self._put(Happening(service, "Normal", "Woke", note))

    def moved(self, service: str, host: str, why: str) -> None:
        """Queue the Event of a model that leaves a host for another one."""
        others = self._where(service, but=host)
        self._put(Happening(service, "Normal", "Moved", f"from {host} to {others}: {why}"))

    def evicted(self, service: str, host: str, why: str) -> None:
        """Queue the Event of a sleeping model that lost its place in memory."""
        note = f"unloaded from {host} while asleep, {why}; the next request loads it again"
        self._put(Happening(service, "Normal", "Evicted", note))

    def turned(self, service: str, before: Rollout | None, rollout: Rollout) -> None:
        """Queue the Event of a rollout that began, gives its revision more, or is over."""
        old, new = rollout.stable, rollout.candidate
        if rollout.running and (before is None or not before.running or before.candidate != new):
            note = f"revision {new} is rolled out, to take over from {old}"
            self._put(Happening(service, "Normal", "RolloutStarted", note))
        if rollout.phase is Phase.SHADOWING and (before is None or before.phase is not Phase.SHADOWING):
            note = f"revision {new} is asked in shadow what {rollout.shadow_percent}% of {old}'s requests ask"
            self._put(Happening(service, "Normal", "RolloutStep", note))
        elif rollout.phase is Phase.STEPPING and rollout.percent != (before.percent if before else 0):
            note = f"revision {new} gets {rollout.percent}% of the requests, {old} the rest"
            self._put(Happening(service, "Normal", "RolloutStep", note))
        elif rollout.phase is Phase.PROMOTED:
            note = f"revision {new} has taken over from {old}"
            self._put(Happening(service, "Normal", "Promoted", note))
        elif rollout.phase is Phase.REJECTED:
            note = f"revision {new} is taken back, {old} serves on: {rollout.reason}: {rollout.message}"
            self._put(Happening(service, "Warning", "Rejected", note))
        elif rollout.phase is Phase.ABORTED and (before is None or before.running):
            note = f"revision {new} is taken back, {old} serves on: {rollout.message}"
            self._put(Happening(service, "Normal", "RolloutAborted", note))

    def cut(self, service: str) -> None:
        """Queue the Event of a drain that ran into its deadline."""
        self._put(Happening(service, "Warning", "DrainCut", "requests were still in flight at drainDeadline"))

    def vacated(self, host: str, why: str) -> None:
        """Queue the Event of a host that is being emptied, or without a reason is used again."""
        if not why:
            note = "not emptied any more: somebody needs it, and finds no room elsewhere"
            self._put(Happening(host, "Normal", "UsedAgain", note, MODELHOSTS))
            return
        note = f"being emptied, to be let go: {why}; what is in use there is ready on another host first"
        self._put(Happening(host, "Normal", "Vacating", note, MODELHOSTS))

    def forbidden(self, host: str, why: str) -> None:
        """Queue the Event of a host that may not be let go."""
        note = f"kept, though it could be let go or emptied: {why}"
        self._put(Happening(host, "Normal", "DisruptionForbidden", note, MODELHOSTS))

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            happening = await self._queue.get()
            item = self._view.raw[happening.kind].get(service_of(happening.of))
            if item is None:
                continue
            try:
                await self._kube.create(EVENTS, self._event(item, happening))
            except ApiError as error:
                EVENTS_DROPPED.inc()
                log.info("an Event of %s was not posted: %s", happening.of, error)

    def _tell_one(self, key: str, told: Explanation) -> None:
        stalled = told.stalled[0] if told.stalled else ""
        settled = told.state if told.state in _SETTLED else ""
        before = self._last.get(key)
        state = settled or (before.state if before else "")
        self._last[key] = _Last(state, stalled, told.desired)
        if before is None:
            return
        if stalled and stalled != before.stalled and told.stalled:
            self._put(Happening(key, "Warning", stalled, told.stalled[1]))
        if before.desired and told.desired and before.desired != told.desired:
            note = f"from {before.desired} to {told.desired} replicas: {told.desired_why}"
            self._put(Happening(key, "Normal", "Scaled", note))
        if state == before.state:
            return
        if state == "Asleep":
            self._put(Happening(key, "Normal", "FellAsleep", f"asleep, {told.message}; a request wakes it"))
        elif state == "Suspended":
            self._put(Happening(key, "Normal", "Suspended", "let go, as spec.suspend is true"))

    def _where(self, service: str, *, but: str = "") -> str:
        """Name the hosts that should serve a service."""
        hosts = self._view.hosts.values()
        loaded = [
            host.name
            for host in hosts
            if host.name != but
            and any(p.service == service and p.state is State.LOADED for p in host.placements)
        ]
        return ", ".join(sorted(loaded)) or "another host"

    def _put(self, happening: Happening) -> None:
        try:
            self._queue.put_nowait(happening)
        except asyncio.QueueFull:
            EVENTS_DROPPED.inc()
            log.info("an Event of %s was dropped: %s", happening.of, happening.reason)

    def _event(self, item: Object, happening: Happening) -> Object:
        metadata = item["metadata"]
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {
                "name": f"{metadata['name'][:200]}.{secrets.token_hex(8)}",
                "namespace": metadata["namespace"],
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "lull.dev/controller",
            "reportingInstance": self._instance,
            "action": happening.reason,
            "reason": happening.reason,
            "type": happening.type,
            "note": happening.note[:1024],
            "regarding": {
                "apiVersion": happening.kind.api_version,
                "kind": happening.kind.kind,
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
        }
