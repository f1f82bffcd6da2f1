"""The fences that stand open: how long, and how each ends."""

from dataclasses import dataclass

from lull.controller.clock import Clock
from lull.controller.metrics import FENCE_OLDEST, FENCE_SECONDS, FENCES, FENCES_OPEN
from lull.controller.view import View
from lull.policy import Placement, SetModels, State


@dataclass(frozen=True, slots=True)
class _Fence:
    host: str
    placement: str
    since: float


class Fences:
    """Follows drains, by what the hosts should hold. Bounded by the placements that are draining.

    A fence from before a restart counts from the restart.
    """

    def __init__(self, view: View, clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._open: dict[str, _Fence] = {}  # by claim
        self._cut: set[str] = set()

    def written(self, change: SetModels) -> None:
        """Take note of drains that were ended by their deadline."""
        self._cut |= {placement.claim for placement in change.cut}

    def look(self) -> None:
        """Open and end fences; leave out hosts that are being written, as that may yet be refused."""
        now = self._clock()
        for claim, fence in list(self._open.items()):
            if not self._view.assumed(fence.host):
                self._judge(claim, fence, now)
        for host in self._view.hosts.values():
            if not self._view.assumed(host.name):
                for placement in host.draining:
                    self._open.setdefault(placement.claim, _Fence(host.name, placement.id, now))
        self._cut &= self._open.keys()
        FENCES_OPEN.set(len(self._open))
        FENCE_OLDEST.set(max((now - fence.since for fence in self._open.values()), default=0.0))

    def _judge(self, claim: str, fence: _Fence, now: float) -> None:
        host = self._view.hosts.get(fence.host)
        found = next((p for p in host.placements if p.id == fence.placement), None) if host else None
        if found and found.claim == claim and found.state is State.DRAINING:
            return
        del self._open[claim]
        FENCES.labels("cut" if host is None or claim in self._cut else _outcome(found)).inc()
        FENCE_SECONDS.observe(now - fence.since)


def _outcome(placement: Placement | None) -> str:
    routed = placement is not None and placement.state is not State.RESIDENT
    return "given_up" if routed else "passed"
