"""The fence: when a placement's clusters may go, and when it may be said that no request can reach it. Pure.

    routes away → acknowledged → a second since the last OK → clusters away → acknowledged → statistics gone

Envoy keeps a cluster's statistics while one request of it lives, slow uploads included: that is the last
proof. `Fence.step` is level-triggered: it is given what is wanted and what Envoy may be using, says what may
be dropped and what must be asked, and can be called at any time and any number of times. After a restart it
knows nothing of earlier OKs, so it takes its own start for the last one.
"""

from collections.abc import Set
from dataclasses import dataclass

from lull.gateway.view import Lease

QUIET_SECONDS = 1.0
"""From the pilot's OK until Envoy has certainly taken the cluster's statistics up."""
SETTLE_SECONDS = 0.25
"""From the route table's acknowledgement: longer than a retry's back-off, which looks clusters up again."""


@dataclass(frozen=True)
class Reach:
    """What Envoy may be using.

    Attributes:
        routed: leases that a route table names which Envoy may be using; None where that is not known,
            because Envoy is not connected or still uses a table of an earlier pilot.
        clustered: leases of which Envoy may hold a cluster (more than it does is sound, less is not).
    """

    routed: Set[Lease] | None
    clustered: Set[Lease]


@dataclass(frozen=True)
class Step:
    """What follows.

    Attributes:
        drop: leases whose clusters may go now.
        ask: leases whose claim waits for Envoy's statistics alone.
        next_at: when time alone changes the answer; None: never.
    """

    drop: frozenset[Lease]
    ask: frozenset[Lease]
    next_at: float | None


class Fence:
    """Leases on their way out. Times are seconds of one monotonic clock."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._last_ok: dict[Lease, float] = {}
        self._away_since: dict[Lease, float] = {}
        self._asked: frozenset[Lease] = frozenset()
        self._drained: set[Lease] = set()

    @property
    def drained(self) -> frozenset[Lease]:
        """What no request of this gateway can reach."""
        return frozenset(self._drained)

    def sent(self, lease: Lease, now: float) -> None:
        """Note an OK: a request is on its way to the lease's cluster."""
        self._last_ok[lease] = now

    def step(self, now: float, wanted: Set[Lease], leaving: Set[Lease], reach: Reach) -> Step:
        """Return what may be dropped and asked, given what should be routed and what has to go."""
        ready_at = {lease: self._free_at(lease, now, reach) for lease in reach.clustered - wanted}
        for lease in self._away_since.keys() - ready_at.keys():
            del self._away_since[lease]
        for lease in self._last_ok.keys() - reach.clustered:
            del self._last_ok[lease]
        times = [at for at in ready_at.values() if at is not None and at > now]
        self._drained &= leaving
        candidates = leaving - self._drained
        # A placement that comes back is given another epoch, so an answer never outlives its question.
        if candidates and now < self._started + QUIET_SECONDS:
            times.append(self._started + QUIET_SECONDS)
            candidates = frozenset()
        self._asked = frozenset()
        if candidates and reach.routed is not None:
            reachable = _earliest(reach.routed | reach.clustered)
            self._asked = frozenset(lease for lease in candidates if not _leads_to(reachable, lease))
        return Step(
            drop=frozenset(lease for lease, at in ready_at.items() if at is not None and at <= now),
            ask=self._asked,
            next_at=min(times, default=None),
        )

    def confirm(self, asked: Set[Lease], alive: Set[Lease]) -> int:
        """Take Envoy's statistics; what is asked for no more, since something came back, is passed over.

        Args:
            asked: `Step.ask` of a step before Envoy was asked.
            alive: leases of which Envoy still has statistics.

        Returns:
            How many placements `drained` gained.
        """
        earliest = _earliest(alive)
        confirmed = {lease for lease in asked & self._asked if not _leads_to(earliest, lease)}
        gained = len(confirmed - self._drained)
        self._drained |= confirmed
        return gained

    def _free_at(self, lease: Lease, now: float, reach: Reach) -> float | None:
        """Return when the clusters may go; None while Envoy may still route to them."""
        if reach.routed is None or lease in reach.routed:
            self._away_since.pop(lease, None)
            return None
        away_since = self._away_since.setdefault(lease, now)
        return max(away_since + SETTLE_SECONDS, self._last_ok.get(lease, self._started) + QUIET_SECONDS)


def _earliest(leases: Set[Lease]) -> dict[str, int]:
    """Return the earliest epoch of each placement among the leases."""
    earliest: dict[str, int] = {}
    for id_, epoch in leases:
        earliest[id_] = min(epoch, earliest.get(id_, epoch))
    return earliest


def _leads_to(earliest: dict[str, int], lease: Lease) -> bool:
    """Tell whether this or an earlier epoch of the placement is among them: all lead to the same model."""
    return earliest.get(lease.id, lease.epoch + 1) <= lease.epoch
