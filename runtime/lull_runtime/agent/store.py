"""The models on this host's disk, unpacked, by digest: bounded, and the least recently used leave first."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from lull.api.reasons import Reason
from lull_runtime.agent.fetch import Sources, fetch
from lull_runtime.agent.uris import check_uri
from lull_runtime.artifact.card import Card
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.format import Format, detect, inspect_repository, is_partial, read_card
from lull_runtime.artifact.tar import Bounds, unpack

_SCRATCH = ".scratch-"
_FETCHES = 2
"""How many models come at once; a bound of disk and network."""


@dataclass(frozen=True)
class Model:
    """A verified model on disk.

    Attributes:
        digest: what its tar hashed to.
        root: the folder that holds it.
        format: Artifact or TritonRepository.
        card: an artifact's card.
        code: whether it runs code of its own.
        partial: whether its configuration leaves inputs or outputs for Triton to find out.
    """

    digest: str
    root: Path
    format: Format
    card: Card | None
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
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f"{_SCRATCH}*"):
            shutil.rmtree(leftover)
        self._folder = folder
        self._sources = sources
        self._allow_code = allow_code
        self._most_bytes = most_bytes
        self._in_use = in_use
        self._sizes_bytes = {
            f"sha256:{home.name}": _size_bytes(home) for home in folder.iterdir() if home.is_dir()
        }
        self._reserved_bytes: dict[str, int] = {}
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(_FETCHES)

    def has(self, digest: str) -> bool:
        """Whether a model is here, so that `open` needs no fetch."""
        return digest in self._sizes_bytes and self._home(digest).is_dir()

    def check(self, uri: str) -> None:
        """Check that the pool allows a URI, also where its digest is here: who may not fetch may not have.

        Raises:
            ModelError: it does not.
        """
        check_uri(uri.partition("@sha256:")[0], self._sources.allowed)

    async def get(self, uri: str, digest: str) -> None:
        """Fetch, verify and unpack a model, unless it is here.

        Raises:
            ModelError: it cannot be had, is not what the digest says, or is no tar of a model.
        """
        lock = self._fetching.setdefault(digest, asyncio.Lock())
        async with lock, self._slots:
            if not self.has(digest):
                await self._fetch(uri, digest)

    def open(self, digest: str, declared_format: str, name: str) -> Model:
        """Return a model that is here, checked for being served as `name`.

        Raises:
            ModelError: it is no model, or one that this pool does not take.
        """
        home = self._home(digest)
        os.utime(home)
        found, root = detect(home, declared_format)
        if found is Format.ARTIFACT:
            return Model(digest, root, found, read_card(root), code=False)
        code = inspect_repository(root, name, allow_code=self._allow_code)
        return Model(digest, root, found, None, code, is_partial(root))

    async def _fetch(self, uri: str, digest: str) -> None:
        scratch = self._scratch()
        try:
            got = await fetch(uri, digest, scratch / "tar", self._sources, partial(self._reserve, digest))
            if got != digest:
                raise ModelError(
                    Reason.DIGEST_MISMATCH,
                    f"{uri} is {got}, not {digest}: changed or damaged; `lull publish` prints it",
                )
            size_bytes = await asyncio.to_thread(_unpack, scratch, self._sources.most_bytes)
            (scratch / "model").rename(self._home(digest))
            self._sizes_bytes[digest] = size_bytes
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
            self._reserved_bytes.pop(digest, None)

    async def _reserve(self, digest: str, tar_bytes: int) -> None:
        """Keep room for a tar and what is unpacked from it: what nobody uses leaves, the oldest first.

        Who leaves is decided without a pause, so that nothing comes into use meanwhile.
        """
        self._reserved_bytes[digest] = 2 * tar_bytes
        wanted = sum(self._sizes_bytes.values()) + sum(self._reserved_bytes.values()) - self._most_bytes
        idle = sorted(self._sizes_bytes.keys() - set(self._in_use()), key=self._last_use)
        leaving = []
        while wanted > 0 and idle:
            leaving.append(idle.pop(0))
            wanted -= self._sizes_bytes[leaving[-1]]
        if wanted > 0:
            raise ModelError(
                Reason.TOO_LARGE,
                f"{tar_bytes} bytes, twice while it is unpacked, do not fit this host's disk beside the "
                "models it serves",
            )
        scratches = [self._set_aside(old) for old in leaving]
        for scratch in scratches:
            await asyncio.to_thread(shutil.rmtree, scratch)

    def _set_aside(self, digest: str) -> Path:
        scratch = self._scratch()
        self._home(digest).rename(scratch)
        del self._sizes_bytes[digest]
        return scratch

    def _scratch(self) -> Path:
        """A fresh folder, which a thread that nobody waits for any more cannot be writing to."""
        return Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self._folder))

    def _last_use(self, digest: str) -> float:
        return self._home(digest).stat().st_mtime

    def _home(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")


def _unpack(scratch: Path, most_bytes: int) -> int:
    """Unpack `tar`, which goes, into `model`; return how large that is."""
    fresh = scratch / "model"
    fresh.mkdir()
    unpack(scratch / "tar", fresh, Bounds(total_bytes=most_bytes))
    (scratch / "tar").unlink()
    return _size_bytes(fresh)


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
