"""Fetches what its node should keep ready, one at a time, while nobody waits for anything."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from lull.api.host import StagedArtifact
from lull_runtime.agent.store import Store
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.uris import plain

log = logging.getLogger(__name__)

_LOOK_SECONDS = 10.0
"""So often it is looked at what is here: neighbours bring things too, and wakes make them leave."""
_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS = 60.0, 3600.0
"""How long one that could not be had is let alone; each failure doubles that."""


class Stager:
    """Has the store hold what the ModelHost's `spec.stage` lists, as far as there is room.

    Args:
        store: where.
        on_change: called when `staged` has changed.
        clock: seconds that never go back.
    """

    def __init__(
        self, store: Store, on_change: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._on_change = on_change
        self._clock = clock
        self._listed: tuple[StagedArtifact, ...] = ()
        self._news = asyncio.Event()
        self._rests: dict[str, tuple[float, float]] = {}
        """By digest, when it is tried again, and how long it rested."""
        self.staged: list[str] = []
        """The digests of what is listed and here."""

    def set_list(self, listed: Sequence[StagedArtifact]) -> None:
        """Take in what should be here, the most wanted first."""
        if tuple(listed) == self._listed:
            return
        self._listed = tuple(listed)
        digests = {artifact.digest for artifact in listed}
        self._store.list_only(digests)
        self._rests = {d: rest for d, rest in self._rests.items() if d in digests}
        self._news.set()

    async def run(self) -> None:
        """Stage until cancelled; what came for wakes meanwhile is made to last too."""
        while True:
            self._news.clear()
            for artifact in self._listed:
                await self._stage(artifact)
                self._look()
                if self._news.is_set():
                    break
            self._look()
            await self._store.flush()
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _stage(self, artifact: StagedArtifact) -> None:
        """Have one artifact here; what fails is told in the log, and to its service once it is woken."""
        again_at, rested_seconds = self._rests.get(artifact.digest, (0.0, 0.0))
        if self._clock() < again_at:
            return
        try:
            signers = self._store.check(artifact.uri, artifact.service.partition("/")[0])
            while not self._store.is_staged(artifact.digest, signers):
                if await self._store.stage(artifact.uri, artifact.digest, signers):
                    await self._store.flush()
                    log.info("%s is staged for %s", artifact.digest, artifact.service)
                    break
        except (ModelError, OSError) as error:
            rest_seconds = min(max(_FIRST_REST_SECONDS, 2 * rested_seconds), _LONGEST_REST_SECONDS)
            self._rests[artifact.digest] = (self._clock() + rest_seconds, rest_seconds)
            log.warning("%s of %s is not staged: %s", plain(artifact.uri), artifact.service, error)
        else:
            self._rests.pop(artifact.digest, None)

    def _look(self) -> None:
        staged = [artifact.digest for artifact in self._listed if self._store.has(artifact.digest)]
        if staged != self.staged:
            self.staged = staged
            self._on_change()
