"""Figures for Prometheus of what the controller itself does. No label grows with what users make.

Those of hosts, and of single services and pools, are `lull.controller.collector`'s.
"""

from collections import Counter as Tally
from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

from lull.api.reasons import Reason
from lull.policy import Plan
from lull.policy.fleet import CANDIDATE_MARK
from lull.policy.rollout import Rollout

_STATES = ("Asleep", "Waking", "Serving", "Draining", "Suspended")
_WAKE_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 30, 60, 120, 300)

WAKE_SECONDS = Histogram(
    "lull_wake_seconds",
    "From the controller's first sight of a held request to the placement that serves it.",
    ["source"],
    buckets=_WAKE_BUCKETS,
)
WAKE_PART_SECONDS = Histogram(
    "lull_wake_part_seconds",
    "What a wake's time went into; the parts of one wake add up to it.",
    ["part"],
    buckets=_WAKE_BUCKETS,
)
WAKE_FAILURES = Counter(
    "lull_wake_failures", "Wakes that came to nothing, and services that cannot be placed.", ["reason"]
)
PLAN_SECONDS = Histogram(
    "lull_plan_seconds", "Time to plan the fleet.", buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
)
PLAN_TIMESTAMP = Gauge("lull_plan_timestamp_seconds", "When the fleet was planned last, in Unix time.")
WRITES_PENDING = Gauge("lull_writes_pending", "Writes of hosts and statuses that are decided and not done.")
EVENTS_DROPPED = Counter("lull_events_dropped", "Events that were not posted: too many at once, or refused.")
API_REQUESTS = Counter(
    "lull_api_requests",
    "Calls of the API server, kopf's watches left out; code 0 is no answer.",
    ["verb", "kind", "code"],
)
API_SECONDS = Histogram(
    "lull_api_request_seconds",
    "Until the API server answered; of a watch, until it began.",
    ["verb"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
SERVICES = Gauge("lull_services", "Services by state.", ["state"])
FENCES = Counter("lull_fences", "Drains by how they ended; given up: routed to again.", ["outcome"])
FENCE_SECONDS = Histogram(
    "lull_fence_seconds",
    "From the drain of a placement to its end, however it ended.",
    buckets=(0.5, 1, 2, 3, 5, 10, 30, 60, 120, 300, 600),
)
FENCES_OPEN = Gauge("lull_fences_open", "Placements that the gateways have still to let go of.")
FENCE_OLDEST = Gauge("lull_fence_oldest_seconds", "Age of the oldest open fence; 0 without any.")
MOVES = Counter("lull_moves", "Placements left for another host's, or lost with their host.", ["reason"])
EVICTIONS = Counter("lull_evictions", "Sleeping models that lost their place in memory.", ["reason"])
SLEEPS = Counter("lull_sleeps", "Services that fell asleep.")
ROLLOUTS = Counter("lull_rollouts", "Rollouts that are over, by how they ended.", ["outcome"])

# A rate misses the first of a series that was not there at zero.
for _source in ("Loaded", "Host", "NewHost"):
    WAKE_SECONDS.labels(_source)
for _outcome in ("passed", "given_up", "cut"):
    FENCES.labels(_outcome)
for _outcome in ("promoted", "rejected", "aborted"):
    ROLLOUTS.labels(_outcome)
for _reason in Reason:
    WAKE_FAILURES.labels(_reason)


def observe_wake(seconds: float, source: str, parts: Mapping[str, float]) -> None:
    """Count a wake that is over."""
    WAKE_SECONDS.labels(source).observe(seconds)
    for part, part_seconds in parts.items():
        WAKE_PART_SECONDS.labels(part).observe(part_seconds)


def observe_call(verb: str, kind: str, code: int, seconds: float) -> None:
    """Count a call of the API server."""
    API_REQUESTS.labels(verb, kind, str(code)).inc()
    API_SECONDS.labels(verb).observe(seconds)


def observe_turn(before: Rollout | None, rollout: Rollout) -> None:
    """Count a rollout that is over; one that another takes the place of was aborted."""
    if before and before.running and before.candidate != rollout.candidate:
        ROLLOUTS.labels("aborted").inc()
    if not rollout.running and (before is None or before.running):
        ROLLOUTS.labels(rollout.phase.value.lower()).inc()


class PlanMetrics:
    """Says that the fleet was planned, and what its services are; each plan's news are counted alone."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._tally: Tally[str] = Tally()

    def observe(self, plan: Plan) -> None:
        """Take in a plan."""
        PLAN_TIMESTAMP.set_to_current_time()
        for key in plan.looked_at:
            self._tally[self._states.pop(key, "")] -= 1
            told = plan.services.get(key)
            if told and CANDIDATE_MARK not in key:
                self._states[key] = told.state
                self._tally[told.state] += 1
        for state in _STATES:
            SERVICES.labels(state).set(self._tally[state])
