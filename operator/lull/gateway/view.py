"""What the pilot knows: services, their placements, and which of these are routed. No I/O."""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lull.api.names import drained_claim
from lull.api.quantities import parse_duration_seconds
from lull.api.reasons import SERVED_ALL_THE_SAME, Reason
from lull.gateway.settings import HOLD_LIMIT_SECONDS

Object = dict[str, Any]

HTTP = "http"
GRPC = "grpc"
PROTOCOLS = (HTTP, GRPC)


class Lease(NamedTuple):
    """One placement as of one epoch: what is routed, fenced and claimed."""

    id: str
    epoch: int

    @property
    def name(self) -> str:
        """`id.epoch`: the claim in `drained`, and the stem of the clusters' names."""
        return drained_claim(self.id, self.epoch)

    def cluster(self, protocol: str) -> str:
        """Return the name of the cluster that carries `protocol` (`http` or `grpc`)."""
        return f"{self.name}|{protocol}"

    @classmethod
    def of_cluster(cls, name: str) -> "Lease | None":
        """Return whose cluster this is, or None where the name is none of ours."""
        stem, _, protocol = name.partition("|")
        placement, _, epoch = stem.rpartition(".")
        return cls(placement, int(epoch)) if protocol in PROTOCOLS and epoch.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Placement:
    """One replica on one host.

    Attributes:
        routed: its state is Loaded, its agent says Ready, and its host has an address.
        leaving: its state is Draining or Resident.
    """

    lease: Lease
    service: str
    model: str
    address: str
    routed: bool
    leaving: bool
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a service cannot be woken now."""

    reason: str
    message: str


RUNNING = frozenset({"Validating", "Shadowing", "Stepping", "Promoting"})
"""Phases in which both revisions may be asked."""
_TAKEN_OVER = frozenset({"Swapping", "Promoted"})


@dataclass(frozen=True, slots=True)
class Split:
    """How a rollout shares a service's requests, from `status.rollout`."""

    stable: str
    candidate: str
    phase: str
    percent: int = 0
    shadow_percent: int = 0

    @property
    def running(self) -> bool:
        """Whether both revisions may be asked."""
        return self.phase in RUNNING


@dataclass(frozen=True, slots=True)
class Targets:
    """Where the requests of a service go now.

    Attributes:
        own: placements that get them, evenly.
        candidate: those of the revision that is rolled out, if `own` is not empty.
        revision: the one that is rolled out.
        percent: share of the requests that the candidate gets.
        shadow_percent: share of the requests that it is asked too, by a copy.
    """

    own: tuple[Lease, ...]
    candidate: tuple[Lease, ...] = ()
    revision: str = ""
    percent: int = 0
    shadow_percent: int = 0

    @property
    def leases(self) -> frozenset[Lease]:
        """Return every placement that a route to these targets names."""
        return frozenset(self.own + self.candidate if self.percent else self.own)


@dataclass(frozen=True, slots=True)
class Service:
    """What the gateway needs of a ModelService.

    Attributes:
        key: `namespace/name`.
        model: the model's name on the wire.
        refusal: set where holding is in vain: suspended, or stalled as of its newest spec.
        waiting: what its status says about a wake that takes long.
        rollout: its newest rollout, over or not.
    """

    key: str
    model: str
    hold_seconds: float
    hold_max: int
    refusal: Refusal | None
    waiting: str = "its status says nothing yet"
    rollout: Split | None = None


class View:
    """Services and placements, kept by the watch events of ModelServices and ModelHosts."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self._of_host: dict[str, dict[str, Placement]] = {}
        self._of_service: dict[str, dict[str, Placement]] = {}

    def set_service(self, key: str, item: Object | None) -> bool:
        """Take a ModelService's newest state (None: deleted). Returns whether anything here changed."""
        fresh = None if item is None else _service(key, item)
        if fresh == self.services.get(key):
            return False
        if fresh is None:
            del self.services[key]
        else:
            self.services[key] = fresh
        return True

    def set_host(self, name: str, item: Object | None) -> set[str]:
        """Take a ModelHost's newest state (None: deleted). Returns the services whose placements changed.

        One that is being deleted only waits for its Pod to end, which a lost one's may never do.
        """
        before = self._of_host.pop(name, {})
        gone = item is None or "deletionTimestamp" in item["metadata"]
        after = {} if item is None or gone else _placements(item)
        if after:
            self._of_host[name] = after
        changed = {
            placement.service
            for id_ in before.keys() | after.keys()
            if before.get(id_) != after.get(id_)
            for placement in (before.get(id_), after.get(id_))
            if placement is not None
        }
        for id_, placement in before.items():
            of_service = self._of_service[placement.service]
            of_service.pop(id_, None)
            if not of_service:
                del self._of_service[placement.service]
        for id_, placement in after.items():
            self._of_service.setdefault(placement.service, {})[id_] = placement
        return changed

    def routed(self, service: str) -> list[Placement]:
        """Return the placements that may get requests of `service`, in a stable order.

        One loaded under an earlier wire name gets none: the new name may be a neighbour's on its host.
        """
        known = self.services.get(service)
        if known is None:
            return []
        placements = sorted(self._of_service.get(service, {}).items())
        return [
            item
            for _, item in placements
            if item.routed and item.model == known.model and _may_serve(item.revision, known.rollout)
        ]

    def placements(self) -> Iterator[Placement]:
        """Yield every placement of every host."""
        for placements in self._of_host.values():
            yield from placements.values()


def targets(rollout: Split | None, placements: Sequence[Placement]) -> Targets:
    """Share a service's requests among those of its placements that can be reached."""
    if rollout is None or not (rollout.running or rollout.phase in _TAKEN_OVER):
        return Targets(tuple(item.lease for item in placements))
    candidate = tuple(item.lease for item in placements if item.revision == rollout.candidate)
    others = tuple(item.lease for item in placements if item.revision != rollout.candidate)
    if not rollout.running:
        return Targets(candidate or others)
    if not (others and candidate):
        return Targets(others)
    return Targets(others, candidate, rollout.candidate, rollout.percent, rollout.shadow_percent)


def _may_serve(revision: str, rollout: Split | None) -> bool:
    if rollout is None or rollout.phase in _TAKEN_OVER:
        return True
    if rollout.running:
        return revision in (rollout.stable, rollout.candidate)
    return revision != rollout.candidate  # rejected or taken back: nothing, even before it is drained


def _service(key: str, item: Object) -> Service:
    spec = item["spec"]
    hold = spec.get("hold", {})
    return Service(
        key=key,
        model=spec["model"].get("name") or item["metadata"]["name"],
        hold_seconds=min(parse_duration_seconds(hold.get("timeout", "60s")), HOLD_LIMIT_SECONDS),
        hold_max=hold.get("max", 1000),
        refusal=_refusal(item),
        waiting=_waiting(item),
        rollout=_rollout(item.get("status", {}).get("rollout")),
    )


def _rollout(status: Object | None) -> Split | None:
    if not status:
        return None
    return Split(
        stable=status["stable"],
        candidate=status["candidate"],
        phase=status["phase"],
        percent=status.get("percent", 0),
        shadow_percent=status.get("shadowPercent", 0),
    )


def _refusal(item: Object) -> Refusal | None:
    if item["spec"].get("suspend"):
        return Refusal(Reason.SUSPENDED, "the service is suspended; set spec.suspend to false to serve again")
    generation = item["metadata"].get("generation", 0)
    for condition in item.get("status", {}).get("conditions", []):
        current = condition.get("observedGeneration", 0) == generation
        stalled = condition["type"] == "Stalled" and condition["status"] == "True"
        if stalled and current and condition["reason"] not in SERVED_ALL_THE_SAME:
            return Refusal(condition["reason"], condition.get("message", ""))
    return None


def _waiting(item: Object) -> str:
    conditions = {condition["type"]: condition for condition in item.get("status", {}).get("conditions", [])}
    for kind in ("Reconciling", "Active", "Ready"):
        condition = conditions.get(kind)
        if condition and condition.get("message"):
            return f"{condition['reason']}: {condition['message']}"
    return "its status says nothing yet"


def _placements(item: Object) -> dict[str, Placement]:
    status = item.get("status", {})
    address = _address(status.get("address"))
    ready = {model["id"] for model in status.get("models", []) if model["state"] == "Ready"}
    return {
        model["id"]: Placement(
            lease=Lease(model["id"], model.get("epoch", 1)),
            service=model["service"],
            model=model["name"],
            address=address,
            routed=model["state"] == "Loaded" and model["id"] in ready and bool(address),
            leaving=model["state"] in ("Draining", "Resident"),
            revision=model.get("revision", ""),
        )
        for model in item["spec"].get("models", [])
    }


def _address(text: str | None) -> str:
    """Return the address, or nothing where it is none: one bad status must not spoil Envoy's whole update."""
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        return ""
