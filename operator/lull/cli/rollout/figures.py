"""What the status of a service says of its rollout and its revisions: the data of the table and of JSON.

The fields of these classes are the keys of `lull rollout status -o json`; null means that nobody knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lull.api.quantities import parse_duration_seconds

Object = Mapping[str, Any]

RUNNING = frozenset({"Validating", "Shadowing", "Stepping", "Promoting", "Swapping"})
STOPPED = frozenset({"Rejected", "Aborted"})


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision; what it was asked is of the rollout's present step. `since` is RFC 3339."""

    name: str
    state: str
    uri: str
    digest: str
    format: str
    model_name: str
    percent: int
    ready: bool
    since: str | None
    reason: str
    message: str
    requests: int | None = None
    failures: int | None = None
    p95_seconds: float | None = None
    compared: int | None = None
    differed: int | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """How a service's newest revision takes over, or what became of it. `since` is RFC 3339.

    Attributes:
        phase: empty where there was none: the first revision, or one that took over directly.
        current: whether the controller has seen the newest spec; all the rest is of the spec that it saw.
        serves: whether no rollout has to end before the spec's revision serves, as its condition says.
        stalled: why it cannot serve, where it cannot.
    """

    namespace: str
    service: str
    phase: str
    stable: str
    candidate: str
    percent: int
    shadow_percent: int
    step: int
    steps: tuple[int, ...]
    since: str | None
    message: str
    current: bool
    serves: bool
    stalled: str
    revisions: tuple[Revision, ...]

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.service}"

    @property
    def running(self) -> bool:
        """Whether it is not decided yet."""
        return self.phase in RUNNING

    def revision(self, name: str) -> Revision | None:
        """Return a revision that the status knows."""
        return next((revision for revision in self.revisions if revision.name == name), None)

    @property
    def outcome(self) -> bool | None:
        """Whether the newest revision took over; None while that is open."""
        if not self.current or self.running:
            return None
        if self.phase in STOPPED or self.stalled:
            return False
        return True if self.phase == "Promoted" or self.serves else None


def rollout(item: Object) -> Rollout:
    """Read a ModelService."""
    metadata, status = item["metadata"], item.get("status") or {}
    told = status.get("rollout") or {}
    traffic = {entry["revision"]: entry for entry in told.get("traffic", ())}
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    stalled = conditions.get("Stalled", {})
    return Rollout(
        namespace=metadata["namespace"],
        service=metadata["name"],
        phase=told.get("phase", ""),
        stable=told.get("stable", ""),
        candidate=told.get("candidate", ""),
        percent=told.get("percent", 0),
        shadow_percent=told.get("shadowPercent", 0),
        step=told.get("step", 0),
        steps=tuple((item["spec"].get("rollout") or {}).get("steps") or (100,)),
        since=told.get("since"),
        message=told.get("message") or "",
        current=status.get("observedGeneration") == metadata.get("generation"),
        serves=conditions.get("RolledOut", {}).get("status") == "True",
        stalled=stalled.get("message", "") if stalled.get("status") == "True" else "",
        revisions=tuple(
            _revision(entry, traffic.get(entry["name"], {})) for entry in status.get("revisions") or ()
        ),
    )


def _revision(entry: Object, traffic: Object) -> Revision:
    p95 = traffic.get("p95")
    return Revision(
        name=entry["name"],
        state=entry.get("state", "Serving"),
        uri=entry.get("uri", ""),
        digest=entry.get("digest", ""),
        format=entry.get("format", "Auto"),
        model_name=entry.get("modelName", ""),
        percent=entry["percent"],
        ready=entry["ready"],
        since=entry.get("since"),
        reason=entry.get("reason", ""),
        message=entry.get("message") or "",
        requests=traffic.get("requests"),
        failures=traffic.get("failures"),
        p95_seconds=parse_duration_seconds(p95) if p95 else None,
        compared=traffic.get("compared"),
        differed=traffic.get("differed"),
    )
