"""What users read: the status of services and pools, written only when it says something new."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from lull.api.names import CONTROLLER_FIELD_MANAGER
from lull.api.quantities import format_bytes, format_duration
from lull.controller.clock import Clock, rfc3339
from lull.controller.view import View
from lull.controller.wakes import Woken
from lull.controller.wire import Object
from lull.kube import MODELPOOLS, MODELSERVICES, ApiError, Kube, Resource
from lull.policy import Explanation, Fleet, Host, Placement, Plan, PoolExplanation, Report, Service

log = logging.getLogger(__name__)

CONCURRENT_WRITES = 8
"""So that statuses leave the API server room for wakes."""
RETRY_SECONDS = 5.0
LONGEST_TEXT = 1024
"""As many characters as the API takes in a message."""

Conditions = list[dict[str, Any]]


class StatusWriter:
    """Writes statuses in the background, the newest of each object, and each only once."""

    def __init__(self, kube: Kube, view: View, clock: Clock, url: Callable[[str], str | None]) -> None:
        self._kube = kube
        self._view = view
        self._clock = clock
        self._url = url
        self._woken: dict[str, Woken] = {}
        self._written: dict[tuple[str, str], Object] = {}
        self._wanted: dict[tuple[Resource, str], Object] = {}
        self._poke = asyncio.Event()
        self._writing = 0

    @property
    def pending(self) -> int:
        """Statuses that are still to be written."""
        return len(self._wanted) + self._writing

    def woken(self, service: str, woken: Woken) -> None:
        """Remember a service's last wake."""
        self._woken[service] = woken

    def publish(self, fleet: Fleet, plan: Plan) -> None:
        """Write what a plan says, where it is not written yet."""
        places = _places(fleet)
        for key, explanation in plan.services.items():
            item = self._view.raw[MODELSERVICES].get(key)
            if item:
                service = fleet.services[key]
                told = self._service_status(item, service, explanation, places.get(key, []))
                self._want(MODELSERVICES, key, item, told)
        for name, explained in plan.pools.items():
            item = self._view.raw[MODELPOOLS].get(name)
            if item:
                self._want(MODELPOOLS, name, item, self._pool_status(item, explained))
        for kind in (MODELSERVICES, MODELPOOLS):
            for key, why in self._view.invalid[kind].items():
                item = self._view.raw[kind][key]
                self._want(kind, key, item, self._invalid_status(item, why))
        self._woken = {
            key: woken for key, woken in self._woken.items() if key in self._view.raw[MODELSERVICES]
        }
        alive = {
            item["metadata"]["uid"]
            for kind in (MODELSERVICES, MODELPOOLS)
            for item in self._view.raw[kind].values()
        }
        self._written = {key: told for key, told in self._written.items() if key[1] in alive}

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENT_WRITES):
                group.create_task(self._write_all())

    async def _write_all(self) -> None:
        while True:
            await self._poke.wait()
            if not self._wanted:
                self._poke.clear()
                continue
            (kind, key), status = self._wanted.popitem()
            self._writing += 1
            try:
                await self._write(kind, key, status)
            finally:
                self._writing -= 1

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
        self._view.update(kind, answer)

    def _again(self, kind: Resource, key: str, status: Object) -> None:
        """Try a refused write once more, unless the object went or a newer status took its place."""
        item = self._view.raw[kind].get(key)
        if item and self._written.get((kind.plural, item["metadata"]["uid"])) is status:
            self._wanted[kind, key] = status
            self._poke.set()

    def _want(self, kind: Resource, key: str, item: Object, status: Object) -> None:
        mark = (kind.plural, item["metadata"]["uid"])
        if self._written.get(mark) == status or (item.get("status") or {}) == status:
            self._written[mark] = status
            return
        self._written[mark] = status
        self._wanted[kind, key] = status
        self._poke.set()

    def _service_status(
        self, item: Object, service: Service, told: Explanation, places: list[tuple[Host, Placement]]
    ) -> Object:
        status: Object = {
            "observedGeneration": service.generation,
            "conditions": self._conditions(item, service_conditions(told)),
            "revisions": [
                {
                    "name": service.model.revision,
                    "digest": service.model.digest,
                    "percent": 100,
                    "ready": told.ready > 0,
                }
            ],
            "replicas": {"desired": told.desired, "ready": told.ready},
            "readyReplicas": f"{told.ready}/{told.desired}",
            "placements": [_placement_status(host, p) for host, p in places],
            "next": _without_none(
                {
                    "action": told.next_action,
                    "reason": told.next_reason[:LONGEST_TEXT],
                    "time": rfc3339(told.next_at) if told.next_at is not None else None,
                }
            ),
        }
        if url := self._url(service.key):
            status["url"] = url
        woken = self._woken.get(service.key)
        if woken:
            status["wake"] = {"last": format_duration(woken.seconds), "from": woken.source}
        elif (item.get("status") or {}).get("wake"):
            status["wake"] = item["status"]["wake"]
        if service.measured_bytes:
            status["utilization"] = {"memory": f"{service.measured_bytes // 2**20}Mi"}
        return status

    def _pool_status(self, item: Object, told: PoolExplanation) -> Object:
        used = 100 * told.used_bytes // told.supply_bytes if told.supply_bytes else 0
        return {
            "observedGeneration": item["metadata"].get("generation", 1),
            "conditions": self._conditions(item, {"Ready": ("True", "Accepted", "")}),
            "hosts": {"total": told.hosts, "ready": told.ready_hosts},
            "memory": {"supply": format_bytes(told.supply_bytes), "used": format_bytes(told.used_bytes)},
            "utilizationPercent": min(100, used),
        }

    def _invalid_status(self, item: Object, why: str) -> Object:
        stalled = {"Ready": ("False", "Invalid", why), "Stalled": ("True", "Invalid", why)}
        return {
            "observedGeneration": item["metadata"].get("generation", 1),
            "conditions": self._conditions(item, stalled),
        }

    def _conditions(self, item: Object, wanted: Mapping[str, tuple[str, str, str]]) -> Conditions:
        """Return conditions whose transition times move only when their status does."""
        known = self._written.get(_mark(item)) or item.get("status") or {}
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
    ready = told.ready >= max(1, told.desired) or (
        (told.desired == 0 or told.state == "Waking") and not told.stalled
    )
    reason, message = told.stalled if told.stalled and not ready else (told.state, told.message)
    if told.state == "Suspended":
        ready, reason, message = False, "Suspended", "spec.suspend is true; set it to false to serve again"
    moving = told.state in ("Waking", "Draining") or told.ready < told.desired
    stalled = told.stalled or ("Fine", "")
    return {
        "Ready": (_word(ready), reason, message),
        "Active": (_word(told.state == "Serving"), told.state, told.message),
        "Reconciling": (_word(moving and not told.stalled), told.state, told.message),
        "Stalled": (_word(told.stalled is not None), *stalled),
        "ObjectiveMet": ("Unknown", "NotMeasured", ""),
    }


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


def _places(fleet: Fleet) -> dict[str, list[tuple[Host, Placement]]]:
    places: dict[str, list[tuple[Host, Placement]]] = {}
    for host, placement in fleet.placements():
        places.setdefault(placement.service, []).append((host, placement))
    return {key: sorted(found, key=lambda hp: hp[1].id) for key, found in places.items()}


def _mark(item: Object) -> tuple[str, str]:
    plural = MODELSERVICES.plural if item["metadata"].get("namespace") else MODELPOOLS.plural
    return plural, item["metadata"]["uid"]


def _word(truth: bool) -> str:
    return "True" if truth else "False"


def _without_none(values: Object) -> Object:
    return {name: value for name, value in values.items() if value is not None}
