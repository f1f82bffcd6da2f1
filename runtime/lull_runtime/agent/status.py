"""Writes the ModelHost's status: a change of state at once, figures now and then, one write at a time."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from prometheus_client import Counter

from lull.kube import MODELHOSTS, ApiError, Kube
from lull.kube.client import backoff

log = logging.getLogger(__name__)

WRITES = Counter("lull_agent_status_writes", "Writes of the ModelHost's status.", registry=None)

_GATHER_SECONDS = 0.05
"""How long changes that nobody waits for are gathered into one write."""
_ACTIVE_SECONDS, _KEPT_SECONDS = 30.0, 300.0
"""How old written figures get while somebody asks the host's models, and while it is merely kept."""
_RISEN_SECONDS = 5.0
"""How old they get where a model is asked so much more that it may want a replica; looked at as often."""
_RISEN_BUSY_PERCENT, _RISEN_QUEUE_MILLISECONDS = 20, 200
"""What is so much more: of the window's time, and of the mean wait in Triton's queue."""
_LOOK_SECONDS = 1.0
_TOLD_SECONDS = 2.0
_LAST_SECONDS = 3.0

_HOST_FIGURES = frozenset({"busyPercent", "watts", "energy"})
_ACCELERATOR_FIGURES = frozenset({"memoryUsed", "utilizationPercent"})
_MODEL_FIGURES = frozenset({"counters", "utilization", "energy"})


class StatusWriter:
    """Keeps `status` of one ModelHost equal to what `snapshot` returns. Its only writer.

    Args:
        kube: where to.
        namespace: of the ModelHost.
        name: of it.
        snapshot: returns the status of this moment.
        keep: has what is told outlive this agent; a write does not wait for it.
        active: whether anybody asked a model in the window.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        snapshot: Callable[[], dict[str, Any]],
        keep: Callable[[], Awaitable[object]],
        active: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._snapshot = snapshot
        self._keep = keep
        self._active = active
        self._clock = clock
        self._changed = asyncio.Event()
        self._urgent = asyncio.Event()
        self._told = asyncio.Condition()
        self._asked = self._answered = 0
        self._written: dict[str, Any] | None = None
        self._there: Mapping[str, Any] = {}
        self._written_seconds = self._looked_seconds = 0.0
        self._written_active = False

    def notify(self, urgent: bool) -> None:
        """Say that the status changed; `urgent` where a request may be waiting for it."""
        if urgent:
            self._urgent.set()
        self._changed.set()

    def saw(self, status: Mapping[str, Any] | None) -> None:
        """Take in what stands there; write again whatever it should be if someone else emptied it."""
        self._there = status or {}
        if "address" not in self._there:
            self._written = None
            self.notify(urgent=False)

    async def told(self) -> None:
        """Return once what is true at the call is written, or could not be in good time."""
        self._asked += 1
        mine = self._asked
        self.notify(urgent=True)
        try:
            async with asyncio.timeout(_TOLD_SECONDS), self._told:
                await self._told.wait_for(lambda: self._answered >= mine)
        except TimeoutError:
            log.warning("the status is not written yet")

    async def run(self) -> None:
        """Write until cancelled; what fails is tried again with what is true by then."""
        attempt = 0
        while True:
            if not await self._wait() and self._clock() < min(self._due_seconds(), self._look_seconds()):
                continue
            try:
                await self._write()
            except ApiError as error:
                log.warning("writing the status: %s", error)
                self._changed.set()
                await backoff(attempt, first_seconds=0.05, longest_seconds=5.0)
                attempt += 1
            else:
                attempt = 0

    async def close(self) -> None:
        """Write the last figures; `run` has ended."""
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                self._written_seconds = -math.inf
                await self._write()
        except (ApiError, TimeoutError) as error:
            log.warning("the last figures are not written: %s", error)

    async def _wait(self) -> bool:
        """Wait for a change, and gather those that come with it; return False where none came for a while."""
        try:
            async with asyncio.timeout(None if self._written is None else _LOOK_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            return False
        try:
            async with asyncio.timeout(_GATHER_SECONDS):
                await self._urgent.wait()
        except TimeoutError:
            pass
        return True

    async def _write(self) -> None:
        """Write what there is to say, if anything."""
        self._changed.clear()
        self._urgent.clear()
        asked, fresh = self._asked, self._snapshot()
        self._looked_seconds = self._clock()
        if self._is_worth(fresh) or asked > self._answered:
            await self._patch(fresh)
        async with self._told:
            self._answered = asked
            self._told.notify_all()

    async def _patch(self, fresh: dict[str, Any]) -> None:
        if fresh != self._written:
            patch = {"status": _merging(_merging(fresh, self._written or {}), self._there)}
            write = self._kube.merge_patch(
                MODELHOSTS, self._name, self._namespace, patch, subresource="status"
            )
            await asyncio.gather(write, self._keep())
            WRITES.inc()
        self._written, self._written_seconds = fresh, self._clock()
        self._written_active = self._active()

    def _is_worth(self, fresh: dict[str, Any]) -> bool:
        """Whether the state changed, or the figures that stand there are old."""
        if self._written is None or _state(fresh) != _state(self._written):
            return True
        now = self._clock()
        risen = now >= self._written_seconds + _RISEN_SECONDS and _risen(fresh, self._written)
        return risen or now >= self._due_seconds()

    def _look_seconds(self) -> float:
        """When it is looked next whether somebody is asked much more."""
        return self._looked_seconds + _RISEN_SECONDS if self._active() else math.inf

    def _due_seconds(self) -> float:
        """When the figures that stand there are old: sooner where somebody asks, or is said to."""
        active = self._written_active or self._active()
        return self._written_seconds + (_ACTIVE_SECONDS if active else _KEPT_SECONDS)


def _merging(fresh: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch that leaves nothing but `fresh`: what it does not name stays, so it names what goes."""
    patch = dict.fromkeys(there.keys() - fresh.keys()) | dict(fresh)
    for key, value in fresh.items():
        if isinstance(value, Mapping) and isinstance(before := there.get(key), Mapping):
            patch[key] = _merging(value, before)
    return patch


def _risen(fresh: Mapping[str, Any], written: Mapping[str, Any]) -> bool:
    """Whether a model computes, or lets its requests wait, much more than what is written says."""
    before = {model["id"]: model.get("utilization") or {} for model in written.get("models", [])}
    for model in fresh.get("models", []):
        use, old = model.get("utilization") or {}, before.get(model["id"], {})
        limits = {"busyPercent": _RISEN_BUSY_PERCENT, "queueMilliseconds": _RISEN_QUEUE_MILLISECONDS}
        if any(use.get(name, 0) >= old.get(name, 0) + more for name, more in limits.items()):
            return True
    return False


def _state(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status without what moves all the time."""
    return {
        **_without(status, _HOST_FIGURES),
        "models": [_without(model, _MODEL_FIGURES) for model in status.get("models", [])],
        "accelerator": _without(status.get("accelerator") or {}, _ACCELERATOR_FIGURES),
    }


def _without(fields: Mapping[str, Any], left_out: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in left_out}
