"""How long wakes take, and what with: from the first word of a held request to what serves it."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from lull.api.reasons import Reason
from lull.controller.metrics import WAKE_FAILURES
from lull.controller.wire import Object
from lull.policy import Change, CreateHost, Explanation, Host, Placement, Plan, Pod, Report, SetModels, State
from lull.policy.fleet import CANDIDATE_MARK

Placements = tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class Woken:
    """One wake that is over.

    Attributes:
        seconds: how long it took.
        source: what it started from: Loaded, Host or NewHost.
        parts: seconds by part, which add up to `seconds`: `write` until the host's spec was written, `host`
            until a new host's Pod was ready, `fetch` of the artifact, `load` by Triton as the agent timed it,
            and `report` for all the rest, the agent's word of it being most.
    """

    seconds: float
    source: str
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Wake:
    """A wake under way; times of the clock, None while something has not come."""

    started: float
    source: str
    written: float | None = None
    ready: float | None = None
    fetching: float | None = None
    fetched: float | None = None

    def parts(self, now: float, load_seconds: float) -> dict[str, float]:
        """Return the parts of a wake that ends now; none is negative, and what overlaps counts once."""
        at = now if self.written is None else self.written
        parts = {"write": at - self.started}
        if self.source != "Loaded":
            began = max(at, self.ready or at)
            fetched = now if self.fetched is None else self.fetched
            parts["fetch"] = 0.0 if self.fetching is None else max(0.0, fetched - max(began, self.fetching))
            parts["load"] = min(load_seconds, now - at - parts["fetch"])
        rest = now - self.started - sum(parts.values())
        if self.source == "NewHost":
            # A model may serve before its Pod is called ready: then all that is left went into the host.
            parts["host"] = rest if self.ready is None else min(rest, max(0.0, self.ready - at))
        return parts | {"report": now - self.started - sum(parts.values())}


class Wakes:
    """Follows wakes. Bounded by the services that are being woken."""

    def __init__(self, clock: Callable[[], float], on_woken: Callable[[str, Woken], None]) -> None:
        self._clock = clock
        self._on_woken = on_woken
        self._started: dict[str, _Wake] = {}
        self._stalled: dict[str, str] = {}
        self._failed: set[str] = set()  # whose present stall was counted as a host reported it

    def began(self, changes: list[Change], served: Container[str] = ()) -> None:
        """Take note of what was decided; a replica more of a service that is `served` wakes nobody."""
        for change in changes:
            if isinstance(change, CreateHost):
                self._note((), change.placements, "NewHost", served)
            elif isinstance(change, SetModels):
                self._note(change.before, change.after, "Host", served)

    def written(self, change: Change) -> None:
        """Take note that what was decided is written."""
        after = change.placements if isinstance(change, CreateHost) else ()
        if isinstance(change, SetModels):
            after = change.after
        for placement in after:
            wake = self._started.get(placement.service)
            if wake and wake.written is None and placement.state is State.LOADED:
                wake.written = self._clock()

    def look(self, host: Host, item: Object) -> None:
        """Follow, and end, the wakes of what this host (its ModelHost: `item`) is to serve."""
        if not self._started:
            return
        for placement in host.placements:
            wake = self._started.get(placement.service)
            report = host.report(placement)
            if wake and placement.state is State.LOADED:
                self._follow(wake, host, report.state if report else None)
            if wake and report and placement.state is State.LOADED:
                self._end(placement, wake, report.state, report.reason, item)

    def settle(self, plan: Plan) -> None:
        """Stop following what is not to wake any more, and count what cannot be placed, once each."""
        for key in plan.looked_at:
            if CANDIDATE_MARK in key:
                continue  # nobody waits for it
            told = plan.services.get(key)
            self._judge(key, told)
            if told is None or told.state in ("Asleep", "Suspended"):
                self._started.pop(key, None)

    def _judge(self, key: str, told: Explanation | None) -> None:
        if told is None or told.stalled is None:
            self._stalled.pop(key, None)
            self._failed.discard(key)
            return
        reason = told.stalled[0]
        news = self._stalled.get(key) != reason and key not in self._failed
        if news and told.state == "Waking":
            WAKE_FAILURES.labels(_known(reason)).inc()
        self._stalled[key] = reason

    def forget(self, service: str) -> None:
        """Stop following a service that is gone."""
        self._started.pop(service, None)

    def _note(self, before: Placements, after: Placements, source: str, served: Container[str]) -> None:
        states = {p.id: p.state for p in before}
        for placement in after:
            loaded = placement.state is State.LOADED and states.get(placement.id) is not State.LOADED
            if loaded and placement.service not in served and CANDIDATE_MARK not in placement.service:
                start = "Loaded" if placement.id in states else source
                self._started.setdefault(placement.service, _Wake(self._clock(), start))

    def _follow(self, wake: _Wake, host: Host, state: Report | None) -> None:
        now = self._clock()
        if wake.ready is None and host.pod is Pod.RUNNING:
            wake.ready = now
        if state is Report.FETCHING and wake.fetching is None:
            wake.fetching = now
        elif state is not Report.FETCHING and wake.fetching is not None and wake.fetched is None:
            wake.fetched = now

    def _end(self, placement: Placement, wake: _Wake, state: Report, reason: str, item: Object) -> None:
        if state is Report.FAILED:
            del self._started[placement.service]
            self._failed.add(placement.service)
            WAKE_FAILURES.labels(_known(reason)).inc()
        elif state is Report.READY:
            del self._started[placement.service]
            now = self._clock()
            parts = wake.parts(now, _load_seconds(item, placement.id))
            self._on_woken(placement.service, Woken(now - wake.started, wake.source, parts))


def _load_seconds(item: Object, placement: str) -> float:
    """Return how long Triton took to load a placement, as its agent says."""
    for entry in (item.get("status") or {}).get("models", ()):
        if entry["id"] == placement:
            return float(entry.get("loadSeconds") or 0.0)
    return 0.0


def _known(reason: str) -> str:
    return reason if reason in frozenset(Reason) else "Other"
