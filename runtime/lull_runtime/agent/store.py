"""The models on this host's disk, unpacked, by digest: bounded, and the least recently used leave first."""

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from lull.api.reasons import Reason
from lull_runtime.agent.fetch import Sources, fetch, unkept
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
from lull_runtime.artifact.trust import Rule, Signer, signers_for
from lull_runtime.artifact.uris import check_uri, plain

log = logging.getLogger(__name__)

_SCRATCH, _PART = ".scratch-", ".part-"
_FETCHES = 2
"""How many models come at once; a bound of disk and network."""


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
    """Fetches each digest once, however many ask for it."""

    def __init__(
        self,
        folder: Path,
        sources: Sources,
        *,
        allow_code: bool,
        most_bytes: int,
        in_use: Callable[[], Iterable[str]],
        trust: Sequence[Rule] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f"{_SCRATCH}*"):
            shutil.rmtree(leftover)
        self._folder = folder
        self._sources = sources
        self._allow_code = allow_code
        self._trust = trust
        self._most_bytes = most_bytes
        self._in_use = in_use
        self._sizes_bytes = {
            f"sha256:{home.name}": _size_bytes(home) for home in folder.iterdir() if home.is_dir()
        }
        self._artifacts: dict[str, Artifact | None] = {}
        self._vouched: set[tuple[str, Signers]] = set()
        self._reserved_bytes: dict[str, int] = {}
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(_FETCHES)

    def has(self, digest: str) -> bool:
        """Whether a model is here, so that nothing is fetched for it."""
        return digest in self._sizes_bytes and self._home(digest).is_dir()

    def is_ready(self, digest: str, signers: Signers) -> bool:
        """Whether a model is here, looked through and signed as it must be, so that it is opened at once."""
        signed = not signers or (digest, signers) in self._vouched
        return signed and digest in self._artifacts and self.has(digest)

    def check(self, uri: str, namespace: str) -> Signers:
        """Check that the pool allows a URI, and return who must have signed what is there.

        Also where its digest is here: who may not fetch may not have.

        Raises:
            ModelError: it does not.
        """
        check_uri(uri.partition("@sha256:")[0], self._sources.allowed)
        signers = signers_for(self._trust, uri, namespace)
        if signers is None:
            raise ModelError(
                Reason.URI_NOT_ALLOWED,
                f"no rule of the pool's spec.trust is for {plain(uri)} in namespace {namespace}: add one "
                "there, or publish the model where one is",
            )
        return signers

    async def get(self, uri: str, digest: str, signers: Signers) -> None:
        """Fetch, unpack and look through a model, unless it is here, and verify its signature.

        Raises:
            ModelError: it cannot be had, is not what the digest says, is no tar of a model, or is not signed
                by any of those who must have signed it.
        """
        lock = self._fetching.setdefault(digest, asyncio.Lock())
        async with lock:
            if not self.has(digest):
                await self._fetch_in_turn(uri, digest)
            if not self.is_ready(digest, signers):
                await self._look_through(digest, signers)

    def open(self, digest: str, declared_format: str, name: str, signers: Signers) -> Model:
        """Return a model that is ready, checked for being served as `name`.

        Raises:
            ModelError: it is no model, or one that this pool does not take.
        """
        home = self._home(digest)
        os.utime(home)
        found, root = detect(home, declared_format)
        if artifact := self._artifacts[digest]:
            return Model(digest, root, found, artifact, code=False)
        code = inspect_repository(root, name, allow_code=self._allow_code)
        if signers:
            raise ModelError(
                Reason.NO_GOLDEN_CASES,
                "its pool asks for signed models, and a Triton model directory has no golden cases to tell "
                "whether it answers here as it did where it was signed: publish it with `lull publish`",
            )
        return Model(digest, root, found, None, code, is_partial(root))

    async def _fetch_in_turn(self, uri: str, digest: str) -> None:
        async with self._slots:
            try:
                await self._fetch(uri, digest)
            except OSError as error:
                raise unkept(uri, error) from error

    async def _fetch(self, uri: str, digest: str) -> None:
        scratch, part = self._scratch(), self._part(digest)
        # Before anything waits, so that nobody who wants room takes what is there of it for left behind.
        self._reserved_bytes[digest] = part.stat().st_size if part.exists() else 0
        try:
            await fetch(uri, digest, part, self._sources, partial(self._reserve, digest))
            part.rename(scratch / "tar")
            size_bytes = await asyncio.to_thread(_unpack, scratch, self._sources.most_bytes)
            (scratch / "model").rename(self._home(digest))
            self._sizes_bytes[digest] = size_bytes
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
            self._reserved_bytes.pop(digest, None)

    async def _look_through(self, digest: str, signers: Signers) -> None:
        """Check a model and its signature; one that nobody has found good before does not stay."""
        try:
            artifact = await asyncio.to_thread(_looked_through, self._home(digest), signers)
        except ModelError:
            if digest not in self._artifacts:
                await asyncio.to_thread(shutil.rmtree, self._set_aside(digest))
            raise
        self._artifacts[digest] = artifact
        if signers:
            self._vouched.add((digest, signers))

    async def _reserve(self, digest: str, tar_bytes: int, claimed_bytes: int) -> None:
        """Keep room for a tar and what is unpacked from it: what nobody uses leaves, the oldest first.

        What has come of others that nobody fetches any more leaves before any whole one; and nothing leaves
        for a tar that would not fit in the end.

        Who leaves is decided without a pause, so that nothing comes into use meanwhile.
        """
        in_use = set(self._in_use())
        self._reserved_bytes[digest] = 0
        self._check_fits(max(tar_bytes, claimed_bytes), in_use)
        self._reserved_bytes[digest] = 2 * tar_bytes
        parts = [path for path in self._folder.glob(f"{_PART}*") if not self._is_coming(path)]
        wanted = sum(self._sizes_bytes.values()) + sum(self._reserved_bytes.values()) - self._most_bytes
        wanted += sum(path.stat().st_size for path in parts)
        idle = sorted(self._sizes_bytes.keys() - in_use, key=self._last_use)
        while wanted > 0 and parts:
            wanted -= parts[-1].stat().st_size
            parts.pop().unlink()
        leaving = []
        while wanted > 0 and idle:
            leaving.append(idle.pop(0))
            wanted -= self._sizes_bytes[leaving[-1]]
        scratches = [self._set_aside(old) for old in leaving]
        for scratch in scratches:
            await asyncio.to_thread(shutil.rmtree, scratch)

    def _check_fits(self, tar_bytes: int, in_use: Set[str]) -> None:
        stays = sum(self._sizes_bytes[digest] for digest in in_use & self._sizes_bytes.keys())
        if stays + sum(self._reserved_bytes.values()) + 2 * tar_bytes > self._most_bytes:
            raise ModelError(
                Reason.TOO_LARGE,
                f"{tar_bytes} bytes, twice while it is unpacked, do not fit this host's disk beside the "
                "models it serves",
            )

    def _set_aside(self, digest: str) -> Path:
        scratch = self._scratch()
        self._home(digest).rename(scratch)
        del self._sizes_bytes[digest]
        self._artifacts.pop(digest, None)
        self._vouched = {vouched for vouched in self._vouched if vouched[0] != digest}
        return scratch

    def _scratch(self) -> Path:
        """A fresh folder, which a thread that nobody waits for any more cannot be writing to."""
        return Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self._folder))

    def _last_use(self, digest: str) -> float:
        return self._home(digest).stat().st_mtime

    def _home(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")

    def _part(self, digest: str) -> Path:
        """What has come of a tar so far: a later fetch takes it up."""
        return self._folder / f"{_PART}{digest.removeprefix('sha256:')}"

    def _is_coming(self, part: Path) -> bool:
        return f"sha256:{part.name.removeprefix(_PART)}" in self._reserved_bytes


def _looked_through(home: Path, signers: Signers) -> Artifact | None:
    """Verify a model's signature, then look at what it holds; nothing for a Triton model directory."""
    found, root = detect(home)
    if signers:
        log.info("sha256:%s is signed by %s", home.name, verify(root, signers))
    return read_artifact(root) if found is Format.ARTIFACT else None


def _unpack(scratch: Path, most_bytes: int) -> int:
    """Unpack `tar`, which goes, into `model`; return how large that is."""
    fresh = scratch / "model"
    fresh.mkdir()
    unpack(scratch / "tar", fresh, Bounds(total_bytes=most_bytes))
    (scratch / "tar").unlink()
    return _size_bytes(fresh)


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
