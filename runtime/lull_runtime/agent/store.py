"""The models on this node's disk, unpacked, by digest: bounded, and the least recently used leave first."""

import asyncio
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from lull.api.reasons import Reason
from lull_runtime.agent.fetch import Sources, fetch, unkept
from lull_runtime.agent.rules import Rules
from lull_runtime.agent.shelf import Lock, Shelf
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.format import (
    Artifact,
    Format,
    detect,
    inspect_repository,
    is_partial,
    read_artifact,
)
from lull_runtime.artifact.sign import verify
from lull_runtime.artifact.tar import Bounds, unpack
from lull_runtime.artifact.trust import Signer, signers_for
from lull_runtime.artifact.uris import check_uri, plain

log = logging.getLogger(__name__)

_FETCHES = 2
"""How many models come at once; a bound of disk and network."""
_DECIDING_SECONDS = 30.0
"""How long another agent may take to decide who leaves: it only looks at names and sizes."""


Signers = tuple[Signer, ...]
"""Any one of whom must have signed a model; nobody: it need not be signed."""


@dataclass(frozen=True)
class Model:
    """A verified model on disk.

    Attributes:
        digest: what its tar hashed to.
        root: the folder that holds it.
        format: Artifact or TritonRepository.
        artifact: what an artifact holds; None for a Triton model directory.
        code: whether it runs code of its own.
        partial: whether its configuration leaves inputs or outputs for Triton to find out.
    """

    digest: str
    root: Path
    format: Format
    artifact: Artifact | None
    code: bool
    partial: bool = False


class Store:
    """Fetches each digest once, however many ask for it, on this host and on its neighbours.

    Args:
        folder: where; the agents of a node may share it.
        own: this host's part of it.
        sources: how models are fetched.
        rules: what may be fetched and run; may be others later.
        most_bytes: bound of what is there, shared or not.
        in_use: the digests that this host needs.
    """

    def __init__(
        self,
        folder: Path,
        own: Path,
        sources: Sources,
        rules: Rules,
        *,
        most_bytes: int,
        in_use: Callable[[], Iterable[str]],
    ) -> None:
        self._shelf = Shelf(folder, own)
        self._sources = sources
        self.rules = rules
        self._most_bytes = most_bytes
        self._in_use = in_use
        self._artifacts: dict[str, Artifact | None] = {}
        self._vouched: set[tuple[str, Signers]] = set()
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(_FETCHES)
        self._rush: Counter[str] = Counter()
        self._calm = asyncio.Event()
        self._calm.set()
        self._staging: tuple[str, asyncio.Task[None]] | None = None
        self._unflushed: set[str] = set()

    def has(self, digest: str) -> bool:
        """Whether a model is here, so that nothing is fetched for it."""
        return self._shelf.has(digest)

    def is_ready(self, digest: str, signers: Signers) -> bool:
        """Whether a model is here, looked through and signed as it must be, so that it is opened at once.

        Then it stays while this host needs it.
        """
        return self._is_known(digest, signers) and self._shelf.hold(digest)

    def is_staged(self, digest: str, signers: Signers) -> bool:
        """Whether a model is here as `is_ready` tells; but it may leave."""
        return self._is_known(digest, signers) and self.has(digest)

    def check(self, uri: str, namespace: str) -> Signers:
        """Check that the pool allows a URI, and return who must have signed what is there.

        Also where its digest is here: who may not fetch may not have.

        Raises:
            ModelError: it does not.
        """
        check_uri(uri.partition("@sha256:")[0], self.rules.allowed)
        signers = signers_for(self.rules.trust, uri, namespace)
        if signers is None:
            raise ModelError(
                Reason.URI_NOT_ALLOWED,
                f"no rule of the pool's spec.trust is for {plain(uri)} in namespace {namespace}: add one "
                "there, or publish the model where one is",
            )
        return signers

    async def get(self, uri: str, digest: str, signers: Signers) -> None:
        """Fetch, unpack and look through a model, unless it is here, and verify its signature.

        What is only staged makes way for it.

        Raises:
            ModelError: it cannot be had, is not what the digest says, is no tar of a model, or is not signed
                by any of those who must have signed it.
        """
        self._rush[digest] += 1
        self._calm.clear()
        if self._staging and self._staging[0] not in self._rush:
            self._staging[1].cancel()
        try:
            await self._provide(uri, digest, signers, staging=False)
        finally:
            self._rush -= Counter([digest])
            if not self._rush:
                self._calm.set()

    def list_only(self, digests: Collection[str]) -> None:
        """Keep these ready: they leave after all else, and never for what any host of the node lists."""
        self._shelf.list_only(digests)

    async def stage(self, uri: str, digest: str, signers: Signers) -> bool:
        """Have a model here before anybody needs it, once nobody waits for another; nothing listed leaves.

        Returns:
            False where it made way for one that is needed now; what has come of it stays.

        Raises:
            ModelError: as `get`.
        """
        while self._rush:  # who wakes next may come before this goes on
            await self._calm.wait()
        work = asyncio.create_task(self._provide(uri, digest, signers, staging=True))
        self._staging = (digest, work)
        try:
            await asyncio.wait([work])
        finally:
            self._staging = None
            work.cancel()
        return not work.cancelled() and work.result() is None

    async def flush(self) -> None:
        """Have what has come outlive a crash of the node; nobody who needs it waits for that."""
        while self._unflushed:
            await self._calm.wait()
            digest = self._unflushed.pop()
            if self.has(digest):
                await asyncio.to_thread(self._shelf.flush, digest)

    def let_go(self) -> None:
        """Let what this host does not need any more leave, once others want its room."""
        self._shelf.hold_only(set(self._in_use()))

    def open(self, digest: str, declared_format: str, name: str, signers: Signers) -> Model:
        """Return a model that is ready, checked for being served as `name`.

        Raises:
            ModelError: it is no model, or one that this pool does not take.
        """
        self._shelf.use(digest)
        found, root = detect(self._shelf.model(digest), declared_format)
        if artifact := self._artifacts[digest]:
            return Model(digest, root, found, artifact, code=False)
        code = inspect_repository(root, name, allow_code=self.rules.code)
        if signers:
            raise ModelError(
                Reason.NO_GOLDEN_CASES,
                "its pool asks for signed models, and a Triton model directory has no golden cases to tell "
                "whether it answers here as it did where it was signed: publish it with `lull publish`",
            )
        return Model(digest, root, found, None, code, is_partial(root))

    async def _provide(self, uri: str, digest: str, signers: Signers, *, staging: bool) -> None:
        lock = self._fetching.setdefault(digest, asyncio.Lock())
        try:
            async with lock, self._shelf.locked(digest, self._sources.deadline_seconds) as alone:
                if not await self._is_here(digest):
                    async with self._slots:
                        await self._fetch(uri, digest, alone, staging=staging)
                if digest in self._rush:
                    self._shelf.hold(digest)
                await self._look_through(digest, signers)
        except TimeoutError as error:
            raise ModelError(
                Reason.UNREACHABLE,
                f"{plain(uri)}: another agent of this node has fetched it for "
                f"{self._sources.deadline_seconds:g} s",
            ) from error
        except OSError as error:
            raise unkept(uri, error) from error

    async def _is_here(self, digest: str) -> bool:
        """Whether a model is here as it came; what somebody put there, or altered, leaves."""
        if digest in self._artifacts and self.has(digest):
            return True
        self._forget(digest)
        if await asyncio.to_thread(self._shelf.is_unchanged, digest):
            return True
        if aside := self._shelf.set_aside(digest):
            log.warning("%s is not as it came, and is fetched anew", digest)
            await asyncio.to_thread(shutil.rmtree, aside)
        return False

    async def _fetch(self, uri: str, digest: str, alone: Lock, *, staging: bool) -> None:
        fresh, part = self._shelf.fresh(), self._shelf.part(digest)
        # Before anything waits, so that nobody who wants room takes what is there of it for left behind.
        alone.reserve(part.stat().st_size if part.exists() else 0)
        try:
            reserve = partial(self._reserve, digest, alone, staging)
            sources = replace(self._sources, allowed=self.rules.allowed)
            await fetch(uri, digest, part, sources, reserve)
            await _to_its_end(self._keep, digest, part, fresh)
            self._unflushed.add(digest)
        finally:
            await _to_its_end(shutil.rmtree, fresh, True)

    def _keep(self, digest: str, part: Path, fresh: Path) -> None:
        """Show to all what has come whole; the tar itself goes, whatever it is."""
        try:
            _unpack(part, fresh, self._sources.most_bytes)
            self._shelf.place(digest, fresh)
        finally:
            part.unlink(missing_ok=True)

    async def _look_through(self, digest: str, signers: Signers) -> None:
        """Check a model and its signature. A refused one is not fetched anew for the next try."""
        if digest not in self._artifacts:
            self._artifacts[digest] = await asyncio.to_thread(_looked_through, self._shelf.model(digest))
        if signers and (digest, signers) not in self._vouched:
            await asyncio.to_thread(self._verify, digest, signers)
            self._vouched.add((digest, signers))

    def _verify(self, digest: str, signers: Signers) -> None:
        """Verify a signature, unless another agent of this node has done so."""
        keys = [signer.public_key for signer in signers]
        name = self._shelf.voucher(digest, keys)
        if not name:
            name = verify(detect(self._shelf.model(digest))[1], signers)
            self._shelf.vouch(digest, keys, name)
        log.info("%s is signed by %s", digest, name)

    async def _reserve(
        self, digest: str, alone: Lock, staging: bool, tar_bytes: int, claimed_bytes: int
    ) -> None:
        """Keep room for a tar and what is unpacked from it: what nobody uses leaves, the oldest first.

        What has come of others that nobody fetches any more leaves before any whole one; and nothing leaves
        for a tar that would not fit in the end.
        """
        self.let_go()
        try:
            await _to_its_end(self._make_room, digest, alone, staging, tar_bytes, claimed_bytes)
        except TimeoutError as error:
            raise ModelError(
                Reason.UNREACHABLE,
                f"another agent of this node has decided for {_DECIDING_SECONDS:g} s who makes room: has it "
                "stopped?",
            ) from error
        for known in [known for known in self._artifacts if not self.has(known)]:
            self._forget(known)

    def _make_room(self, digest: str, alone: Lock, staging: bool, tar_bytes: int, claimed_bytes: int) -> None:
        """Decide who leaves, and remove it."""
        self._shelf.clear_deserted()
        with self._shelf.deciding(_DECIDING_SECONDS):
            asides = self._evicted(digest, alone, staging, tar_bytes, claimed_bytes)
        for aside in asides:
            shutil.rmtree(aside)

    def _evicted(
        self, digest: str, alone: Lock, staging: bool, tar_bytes: int, claimed_bytes: int
    ) -> list[Path]:
        """Keep room, and take out who must leave for it; return where that is then."""
        homes, coming, listed = self._shelf.homes(), self._shelf.coming(), self._shelf.listed()
        spared = listed - {digest} if staging else set()
        coming.pop(digest, None)
        stays = sum(home.size_bytes for home in homes if home.held or home.digest in spared)
        self._check_fits(2 * max(tar_bytes, claimed_bytes), stays + sum(coming.values()))
        alone.reserve(2 * tar_bytes)
        parts = self._shelf.idle_parts()
        wanted = sum(home.size_bytes for home in homes) + sum(coming.values()) + sum(parts.values())
        wanted += 2 * tar_bytes - self._most_bytes
        while wanted > 0 and parts:
            left, size_bytes = parts.popitem()
            self._shelf.part(left).unlink(missing_ok=True)
            wanted -= size_bytes
        idle = [home for home in homes if not home.held and home.digest not in spared]
        idle.sort(key=lambda home: (home.digest in listed, home.used_seconds))
        asides = []
        for home in idle:
            if wanted > 0 and (aside := self._shelf.evict(home.digest)):
                wanted -= home.size_bytes
                asides.append(aside)
        return asides

    def _check_fits(self, need_bytes: int, stays_bytes: int) -> None:
        """Check that there is room for a tar and what is unpacked from it.

        Raises:
            ModelError: TooLarge where there never is any, DiskFull where others have it now.
        """
        need = f"{need_bytes} bytes, for its tar and what is unpacked from it,"
        if need_bytes > self._most_bytes:
            raise ModelError(Reason.TOO_LARGE, f"{need} do not fit this host's disk")
        if need_bytes + stays_bytes > self._most_bytes:
            raise ModelError(
                Reason.DISK_FULL,
                f"{need} do not fit this host's disk beside the models that are used or on their way now; "
                "it is tried again",
            )

    def _is_known(self, digest: str, signers: Signers) -> bool:
        """Whether this agent has looked through a model, and knows it to be signed by one of these."""
        return digest in self._artifacts and (not signers or (digest, signers) in self._vouched)

    def _forget(self, digest: str) -> None:
        self._artifacts.pop(digest, None)
        self._vouched = {vouched for vouched in self._vouched if vouched[0] != digest}


async def _to_its_end(work: Callable[..., None], *arguments: object) -> None:
    """Run something in a thread, which ends before any cancel does: it must not go on without the locks."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    task.result()


def _looked_through(home: Path) -> Artifact | None:
    """Look at what a model holds; nothing for a Triton model directory."""
    found, root = detect(home)
    return read_artifact(root) if found is Format.ARTIFACT else None


def _unpack(tar: Path, fresh: Path, most_bytes: int) -> None:
    """Unpack a tar into `fresh/model`."""
    model = fresh / "model"
    model.mkdir()
    unpack(tar, model, Bounds(total_bytes=most_bytes))
