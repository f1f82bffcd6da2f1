"""A Pod's status as a pure function of its containers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lull.local.node.container import Container
from lull.local.node.environment import Object


@dataclass(frozen=True)
class Facts:
    """What does not change while a Pod runs: its addresses and when it started (RFC 3339)."""

    pod_address: str
    host_address: str
    start_time: str


def is_sidecar(spec: Object) -> bool:
    """Whether an init container is a native sidecar."""
    return spec.get("restartPolicy") == "Always"


def status(
    pod: Object,
    facts: Facts,
    init: Sequence[Container],
    main: Sequence[Container],
    previous: Object,
    now: str,
) -> Object:
    """The Pod's status now; `previous` is the one before, whose transition times are kept."""
    phase = _phase(pod, init, main)
    initialized = all(_initialized(container) for container in init)
    # Sidecars count; a Pod that has ended is not ready.
    serving = [*main, *(container for container in init if is_sidecar(container.spec))]
    ready = phase == "Running" and all(container.ready for container in serving)
    conditions = {
        "PodScheduled": True,
        "Initialized": initialized,
        "ContainersReady": ready,
        "Ready": ready and _gates_open(pod),
    }
    before = {condition["type"]: condition for condition in previous.get("conditions", [])}
    return {
        "phase": phase,
        "podIP": facts.pod_address,
        "podIPs": [{"ip": facts.pod_address}],
        "hostIP": facts.host_address,
        "hostIPs": [{"ip": facts.host_address}],
        "startTime": facts.start_time,
        "conditions": [_condition(kind, good, before.get(kind), now) for kind, good in conditions.items()],
        "initContainerStatuses": [_container_status(container) for container in init],
        "containerStatuses": [_container_status(container) for container in main],
    }


def _phase(pod: Object, init: Sequence[Container], main: Sequence[Container]) -> str:
    if _failed_to_initialize(init):
        return "Failed"
    if all(container.done.is_set() and container.exit_code is not None for container in main):
        return "Succeeded" if all(container.exit_code == 0 for container in main) else "Failed"
    began = all("waiting" not in c.state or c.restart_count or c.last_state for c in main)
    return "Running" if began and all(_initialized(container) for container in init) else "Pending"


def _failed_to_initialize(init: Sequence[Container]) -> bool:
    return any(c.done.is_set() and c.exit_code not in (None, 0) for c in init if not is_sidecar(c.spec))


def _initialized(container: Container) -> bool:
    """An init container has done its work; a sidecar has started once, whatever came then."""
    if is_sidecar(container.spec):
        return container.has_started.is_set()
    return container.done.is_set() and container.exit_code == 0


def _gates_open(pod: Object) -> bool:
    conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", [])}
    gates = pod["spec"].get("readinessGates", [])
    return all(conditions.get(gate["conditionType"]) == "True" for gate in gates)


def _condition(kind: str, good: bool, before: Object | None, now: str) -> Object:
    word = "True" if good else "False"
    kept = before is not None and before["status"] == word
    return {
        "type": kind,
        "status": word,
        "lastTransitionTime": before["lastTransitionTime"] if kept and before else now,
    }


def _container_status(container: Container) -> Object:
    image = container.spec.get("image", "")
    return {
        "name": container.name,
        "image": image,
        "imageID": image,
        "state": container.state,
        "lastState": container.last_state,
        "ready": container.ready or (container.exit_code == 0 and container.done.is_set()),
        "started": container.started,
        "restartCount": container.restart_count,
    }
