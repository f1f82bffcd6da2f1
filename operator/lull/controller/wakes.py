"""How long wakes take: from the first word of a held request to the placement that serves it."""

from collections.abc import Callable
from dataclasses import dataclass

from lull.policy import Host, Placement, Report, State
from lull.policy.changes import Change, CreateHost, SetModels

Placements = tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class Woken:
    """One wake that is over; `source` is what it started from: Loaded, Host or NewHost."""

    seconds: float
    source: str


class Wakes:
    """Follows wakes. Bounded by the services that are being woken."""

    def __init__(self, clock: Callable[[], float], on_woken: Callable[[str, Woken], None]) -> None:
        self._clock = clock
        self._on_woken = on_woken
        self._started: dict[str, tuple[float, str]] = {}

    def began(self, changes: list[Change]) -> None:
        """Take note of what a wake decided."""
        for change in changes:
            if isinstance(change, CreateHost):
                self._note((), change.placements, "NewHost")
            elif isinstance(change, SetModels):
                self._note(change.before, change.after, "Host")

    def look(self, host: Host) -> None:
        """End the wakes of what this host serves."""
        if not self._started:
            return
        for placement in host.placements:
            if placement.state is State.LOADED and host.says(placement, Report.READY):
                started = self._started.pop(placement.service, None)
                if started:
                    self._on_woken(placement.service, Woken(self._clock() - started[0], started[1]))

    def _note(self, before: Placements, after: Placements, source: str) -> None:
        states = {p.id: p.state for p in before}
        for placement in after:
            if placement.state is State.LOADED and states.get(placement.id) is not State.LOADED:
                start = "Loaded" if placement.id in states else source
                self._started.setdefault(placement.service, (self._clock(), start))

    def forget(self, service: str) -> None:
        """Stop following a service that is gone."""
        self._started.pop(service, None)
