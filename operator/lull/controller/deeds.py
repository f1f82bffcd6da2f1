"""Why models leave their places: moves, evictions and sleeps, counted and told as they are written."""

from lull.controller.events import EventPoster
from lull.controller.history import history_from
from lull.controller.metrics import EVICTIONS, MOVES, SLEEPS
from lull.controller.view import View
from lull.controller.wire import service_of
from lull.kube import MODELHOSTS, MODELSERVICES
from lull.policy import Change, DeleteHost, Host, Placement, Pod, Report, SetModels, State, Vacate
from lull.policy.fleet import CANDIDATE_MARK
from lull.policy.rollout import Phase

_MOVES = {
    "NewRevision": "a new revision takes over",
    "HostLost": "the host is gone",
    "HostVacated": "the host is emptied so that it can go",
    "NodeDrained": "the host's node is being drained",
    "HostDrained": "the host is being drained",
    "HostEnding": "the host's Pod is ending",
    "HostUnready": "the host has not been ready for a while",
    "LoadTimeout": "a load on the host hangs, so it is being emptied",
    "NewPool": "spec.pool has changed",
    "Isolation": "it may share a host no more",
}
_LOSSES = ("Room", "HostLetGo", "NotWanted", "Failed")
"""Why a sleeping model loses its place where it is not misplaced."""

# A rate misses the first of a series that was not there at zero.
for _reason in _MOVES:
    MOVES.labels(_reason)
for _reason in (*_LOSSES, *_MOVES):
    EVICTIONS.labels(_reason)


class Deeds:
    """Counts what was written, and finds the reason in what is known of host and service."""

    def __init__(self, view: View, events: EventPoster) -> None:
        self._view = view
        self._events = events

    def written(self, change: Change) -> None:
        """Count a change; call it as soon as it is written."""
        if isinstance(change, DeleteHost):
            for placement in change.before:
                self._let_go(change.host, placement, change.reason)
        elif isinstance(change, Vacate):
            self._events.vacated(change.host, change.reason)
        elif isinstance(change, SetModels):
            host = self._view.hosts.get(change.host)
            after = {placement.id: placement for placement in change.after}
            for placement in change.before:
                self._changed(change, host, placement, after.get(placement.id))

    def _changed(
        self, change: SetModels, host: Host | None, before: Placement, after: Placement | None
    ) -> None:
        state = after.state if after else None
        if before.state is State.LOADED and state is State.DRAINING:
            reason = self._misplaced(host, before)
            if reason and self._lives(before) and not (host and _idle(host, before)):
                self._moved(change.host, before, reason)
        elif before.state is State.RESIDENT and after is None:
            reason = self._lost_for(host, before)
            EVICTIONS.labels(reason or "Room").inc()
            if not reason:
                whose = service_of(change.room_for) or "a model there that outgrew its reservation"
                self._events.evicted(before.service, change.host, f"to make room for {whose}")
        elif (
            before.state is State.DRAINING and state in (State.RESIDENT, None) and self._sleeps(host, before)
        ):
            SLEEPS.inc()

    def _let_go(self, host: str, placement: Placement, why: str) -> None:
        if placement.state is State.RESIDENT:
            EVICTIONS.labels("HostLetGo").inc()
            self._events.evicted(placement.service, host, f"as the host was let go: {why}")
        elif placement.state is State.LOADED and self._lives(placement):
            self._moved(host, placement, "HostLost")

    def _moved(self, host: str, placement: Placement, reason: str) -> None:
        MOVES.labels(reason).inc()
        there = self._view.hosts.get(host)
        said = {
            "HostVacated": self._vacated(host),
            "NodeDrained": self._view.cordons.get(there.node, "") if there else "",
        }
        why = ": ".join(filter(None, (_MOVES[reason], said.get(reason))))
        self._events.moved(placement.service, host, why)

    def _vacated(self, host: str) -> str:
        """Return why we empty a host; empty where we do not."""
        return str(self._view.raw[MODELHOSTS].get(host, {}).get("spec", {}).get("vacate") or "")

    def _lost_for(self, host: Host | None, placement: Placement) -> str:
        """Return why a sleeping model is not kept in memory; empty where others need its room."""
        if not self._lives(placement):
            return "NotWanted"
        if host is not None and host.says(placement, Report.FAILED):
            return "Failed"
        return self._misplaced(host, placement)

    def _lives(self, placement: Placement) -> bool:
        """Tell whether its service is there, not suspended, and has not taken this revision back."""
        service = self._view.services.get(placement.service)
        return service is not None and not service.suspend and not self._taken_back(placement)

    def _taken_back(self, placement: Placement) -> bool:
        """Tell whether a placement is of a revision that was to take over, and did not."""
        item = self._view.raw[MODELSERVICES].get(service_of(placement.service), {})
        known = history_from(item.get("status")).known(placement.model.revision)
        return known is not None and known.state in (Phase.REJECTED, Phase.ABORTED)

    def _sleeps(self, host: Host | None, placement: Placement) -> bool:
        """Tell whether a service sleeps from now on: it lives, is not swapped, and is routed nowhere."""
        if CANDIDATE_MARK in placement.service:
            return False  # that is told of what it follows
        hosts = self._view.hosts.values()
        stays = self._lives(placement) and not self._misplaced(host, placement)
        return stays and not any(
            p.state is State.LOADED and p.service == placement.service
            for host in hosts
            for p in host.placements
        )

    def _misplaced(self, host: Host | None, placement: Placement) -> str:
        """Return why a placement may not stay where it is; empty where it might."""
        service = self._view.services.get(placement.service)
        if service is None or host is None:
            return ""
        others = any(p.service != service.key for p in host.placements)
        reasons = {
            "NewRevision": service.model.revision != placement.model.revision,
            "NewPool": host.pool != service.pool,
            "HostVacated": host.cordoned and bool(self._vacated(host.name)),
            "NodeDrained": host.cordoned and host.node in self._view.cordons,
            "HostDrained": host.cordoned,
            "HostEnding": host.pod is Pod.TERMINATING,
            "HostUnready": host.pod in (Pod.UNREADY, Pod.GONE),
            "LoadTimeout": host.tainted,
            "Isolation": service.dedicated and others,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")


def _idle(host: Host, placement: Placement) -> bool:
    report = host.reports.get(placement.id)
    return report is not None and report.state is Report.READY and report.idle
