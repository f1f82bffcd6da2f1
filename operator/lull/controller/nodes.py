"""Nodes: those that are to be emptied, and those that stand empty of hosts, for whoever takes nodes away."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from lull.api.names import ANNOTATION_EMPTY_SINCE, ANNOTATION_USED
from lull.controller.clock import Clock, rfc3339
from lull.controller.view import View
from lull.controller.wire import Object
from lull.kube import NODES, PODS, ApiError, Kube

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often it is looked which nodes have hosts: one that goes as another comes is no transition."""
REST_SECONDS = 60.0
"""How long a node rests whose mark was refused."""
_WRITTEN = (ANNOTATION_USED, ANNOTATION_EMPTY_SINCE)
_TAINTS = {
    "ToBeDeletedByClusterAutoscaler": "the cluster's autoscaler takes it away",
    "karpenter.sh/disrupted": "Karpenter takes it away",
    "karpenter.sh/disruption": "Karpenter takes it away",  # before its version 1
}


@dataclass(frozen=True, slots=True)
class _Marks:
    """What a Node says of our hosts."""

    used: bool = False
    empty: bool = False


class Nodes:
    """Follows the cluster's Nodes. Nothing waits for them: until they are known, none of them is cordoned.

    Neither Kubernetes' autoscaler nor Karpenter heeds a mark on an empty node: both find it by themselves, as
    no Pod is left on it that they would have to move. The mark is for people, and for tools of theirs.
    """

    def __init__(self, kube: Kube, view: View, clock: Clock, on_cordon: Callable[[], None]) -> None:
        self._kube = kube
        self._view = view
        self._clock = clock
        self._on_cordon = on_cordon
        self._marks: dict[str, _Marks] = {}
        self._versions: dict[str, int] = {}
        self._rests: dict[str, float] = {}

    def see(self, name: str, node: Object | None) -> None:
        """Take in a Node's event; nearly all are heartbeats, and one may be older than a write of ours."""
        if node is None:
            for known in (self._marks, self._versions, self._rests):
                known.pop(name, None)
        elif _version(node) >= self._versions.get(name, 0):
            self._marks[name] = _marks(node)
        if self._view.cordon(name, cordoned(node)):
            self._on_cordon()

    async def run(self) -> None:
        """Mark nodes until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.mark()

    async def mark(self) -> None:
        """Write on each Node whether hosts of ours are on it, where it does not say so."""
        used = self._used()
        for name in list(self._marks):
            if self._lacks(name, used):
                used = self._used()  # the writes before took their time
            if wanted := self._lacks(name, used):
                await self._write(name, wanted)

    def _used(self) -> set[str]:
        return {_node(pod) for key, pod in self._view.raw[PODS].items() if "/" not in key}

    def _lacks(self, name: str, used: set[str]) -> _Marks | None:
        """Return what is to be written on a Node; None where that is what it says, or it is not to be now."""
        marks = self._marks.get(name)
        if marks is None or self._rests.get(name, 0.0) > self._clock():
            return None
        wanted = _Marks(used=True) if name in used else _Marks(marks.used, empty=marks.used)
        return None if wanted == marks else wanted

    async def _write(self, name: str, wanted: _Marks) -> None:
        annotations = {
            ANNOTATION_USED: "true",
            ANNOTATION_EMPTY_SINCE: rfc3339(self._clock()) if wanted.empty else None,
        }
        try:
            node = await self._kube.merge_patch(NODES, name, None, {"metadata": {"annotations": annotations}})
        except ApiError as error:
            if error.status != 404:
                self._rests[name] = self._clock() + REST_SECONDS
                log.warning("node %s was not marked: %s", name, error)
            return
        if name in self._marks:
            self._marks[name] = _marks(node)
            self._versions[name] = _version(node)


def trimmed(node: Object) -> Object:
    """Return what is read of a Node: a hundredth of it."""
    metadata, spec = node["metadata"], node.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    return {
        "metadata": {
            "name": metadata["name"],
            "resourceVersion": metadata["resourceVersion"],
            "annotations": {name: annotations[name] for name in _WRITTEN if name in annotations},
        },
        "spec": {name: spec[name] for name in ("unschedulable", "taints") if name in spec},
    }


def cordoned(node: Object | None) -> str:
    """Return why a Node is to be emptied; empty where it is not."""
    spec = (node or {}).get("spec") or {}
    if spec.get("unschedulable"):
        return "it is cordoned"
    taints = (taint["key"] for taint in spec.get("taints") or () if taint["effect"] != "PreferNoSchedule")
    return next((_TAINTS[key] for key in taints if key in _TAINTS), "")


def _marks(node: Object) -> _Marks:
    annotations = node["metadata"].get("annotations") or {}
    return _Marks(annotations.get(ANNOTATION_USED) == "true", ANNOTATION_EMPTY_SINCE in annotations)


def _version(node: Object) -> int:
    return int(node["metadata"]["resourceVersion"])


def _node(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName", ""))
