"""Writes the ModelHost's status: only on change, at once when somebody waits for it, never two at a time."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from lull.kube import MODELHOSTS, ApiError, Kube
from lull.kube.client import backoff

log = logging.getLogger(__name__)

_GATHER_SECONDS = 0.05
"""How long changes that nobody waits for are gathered into one write."""


class StatusWriter:
    """Keeps `status` of one ModelHost equal to what `snapshot` returns. Its only writer."""

    def __init__(self, kube: Kube, namespace: str, name: str, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._snapshot = snapshot
        self._changed = asyncio.Event()
        self._urgent = asyncio.Event()
        self._written: dict[str, Any] | None = None

    def notify(self, urgent: bool) -> None:
        """Say that the status changed; `urgent` where a request may be waiting for it."""
        if urgent:
            self._urgent.set()
        self._changed.set()

    def forget(self) -> None:
        """Write again whatever stands there: someone else changed it."""
        self._written = None
        self.notify(urgent=False)

    async def run(self) -> None:
        """Write until cancelled; what fails is tried again with what is true by then."""
        attempt = 0
        while True:
            await self._changed.wait()
            await self._gather()
            self._changed.clear()
            self._urgent.clear()
            fresh = self._snapshot()
            if fresh == self._written:
                continue
            try:
                await self._kube.merge_patch(
                    MODELHOSTS, self._name, self._namespace, {"status": fresh}, subresource="status"
                )
            except ApiError as error:
                log.warning("writing the status: %s", error)
                self._changed.set()
                await backoff(attempt, first_seconds=0.05, longest_seconds=5.0)
                attempt += 1
            else:
                self._written = fresh
                attempt = 0

    async def _gather(self) -> None:
        try:
            async with asyncio.timeout(_GATHER_SECONDS):
                await self._urgent.wait()
        except TimeoutError:
            pass
