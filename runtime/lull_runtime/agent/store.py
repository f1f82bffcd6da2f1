"""The models on this host's disk, unpacked, by digest: bounded, and the least recently used leave first."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lull.api.reasons import Reason
from lull_runtime.agent.fetch import Sources, fetch
from lull_runtime.agent.uris import check_uri
from lull_runtime.artifact.card import Card
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.format import Format, detect, inspect_repository, is_partial, read_card
from lull_runtime.artifact.tar import Bounds, unpack

_SCRATCH = ".scratch-"


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
        self._fetching: dict[str, asyncio.Lock] = {}

    def has(self, digest: str) -> bool:
        """Whether a model is here, so that `open` needs no fetch."""
        return self._home(digest).is_dir()

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
        try:
            async with lock:
                if not self.has(digest):
                    await self._fetch(uri, digest)
        finally:
            if not lock.locked():
                self._fetching.pop(digest, None)

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
        scratch = self._folder / f"{_SCRATCH}{digest.removeprefix('sha256:')}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            got = await fetch(uri, scratch / "tar", self._sources)
            if got != digest:
                raise ModelError(
                    Reason.DIGEST_MISMATCH,
                    f"{uri} is {got}, not {digest}: changed or damaged; `lull publish` prints it",
                )
            await asyncio.to_thread(self._keep, scratch, digest)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    def _keep(self, scratch: Path, digest: str) -> None:
        fresh = scratch / "model"
        fresh.mkdir()
        unpack(scratch / "tar", fresh, Bounds(total_bytes=self._sources.most_bytes))
        (scratch / "tar").unlink()
        self._make_room(_size_bytes(fresh))
        fresh.rename(self._home(digest))

    def _make_room(self, wanted_bytes: int) -> None:
        keep = {self._home(digest) for digest in self._in_use()}
        homes = [home for home in self._folder.iterdir() if not home.name.startswith(".") and home.is_dir()]
        sizes = {home: _size_bytes(home) for home in homes}
        room = self._most_bytes - sum(sizes.values()) - wanted_bytes
        for home in sorted(homes, key=lambda home: home.stat().st_mtime):
            if room >= 0:
                return
            if home not in keep:
                shutil.rmtree(home)
                room += sizes[home]
        if room < 0:
            raise ModelError(
                Reason.TOO_LARGE,
                f"{wanted_bytes} bytes do not fit this host's disk beside the models it serves",
            )

    def _home(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
