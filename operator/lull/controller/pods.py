"""What a host's Pod is doing."""

from lull.controller.wire import Object
from lull.policy import Pod

_CANNOT_START = (
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
)
_ENDED = ("Failed", "Succeeded")
"""Phases that no Pod ever leaves."""


def pod_ended(pod: Object) -> bool:
    """Tell whether a Pod has ended: none of its containers runs, or ever will again."""
    return (pod.get("status") or {}).get("phase") in _ENDED


def pod_state(host: Object, pod: Object | None) -> Pod:
    """Tell how the Pod of a ModelHost is."""
    if pod is None:
        return Pod.GONE if (host.get("status") or {}).get("address") else Pod.MISSING
    if pod["metadata"].get("deletionTimestamp") or not _owned(host, pod):
        return Pod.TERMINATING
    if pod_ended(pod):
        return Pod.GONE
    if _condition(pod, "Ready").get("status") == "True":
        return Pod.RUNNING
    return Pod.UNREADY if _was_ready(pod) else Pod.STARTING


def pod_trouble(pod: Object | None) -> str:
    """Return why a Pod does not start, in the words of scheduler or kubelet; empty where nothing is wrong."""
    if pod is None:
        return ""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return str(scheduled.get("message") or "no node takes its Pod")
    status = pod.get("status") or {}
    for container in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _CANNOT_START:
            return f"container {container['name']}: {waiting['reason']} {waiting.get('message', '')}".strip()
    return ""


def _was_ready(pod: Object) -> bool:
    """Tell whether a Pod that is not ready has been: else it is unready since before it was initialized."""
    ready, initialized = _condition(pod, "Ready"), _condition(pod, "Initialized")
    turned = ready.get("lastTransitionTime", "") > initialized.get("lastTransitionTime", "")
    return initialized.get("status") == "True" and turned


def _owned(host: Object, pod: Object) -> bool:
    """Tell whether a Pod is this host's, and not that of an earlier one of the same name."""
    owners = pod["metadata"].get("ownerReferences") or []
    return any(owner.get("uid") == host["metadata"]["uid"] for owner in owners)


def _condition(pod: Object, type_: str) -> Object:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == type_), {})
