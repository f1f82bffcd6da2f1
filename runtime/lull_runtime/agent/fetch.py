"""Brings a model's tar here from any store: bounded, hashed on the way, taken up where it broke off."""

import asyncio
import errno
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.uris import plain
from lull_runtime.stores.credentials import Credentials
from lull_runtime.stores.origin import Origin, origin_of
from lull_runtime.stores.sources import Sources
from lull_runtime.stores.stream import PassingError, SlowError

__all__ = ["Reserve", "Sources", "fetch", "unkept"]

_CHUNK_BYTES = 1 << 20
_TRIES = 3
"""How often in a row nothing may come before the store counts as down."""
_RETRY_SECONDS = 0.3
_STEP_BYTES = 64 << 20
"""How far room is reserved ahead of what has come: a length that a store merely claims empties no cache."""
_MAY_GO_ON = frozenset({Reason.UNREACHABLE, Reason.UNAUTHORIZED})
"""Where the same fetch may succeed later, from where this one ended."""

Reserve = Callable[[int, int], Awaitable[None]]
"""Makes room for so many bytes of a tar, which is to have so many in all, 0 where its store does not say.

Raises ModelError (TooLarge) where there is none, or none for all of it.
"""


async def fetch(uri: str, digest: str, out: Path, sources: Sources, reserve: Reserve) -> str:
    """Bring the tar of a digest to a file, for which room is reserved first, and return the digest.

    What the file holds already is taken for the beginning of it, and stays for the next time where the store
    is down, too slow or wants other credentials. After any other error there is no file.

    Raises:
        ModelError: UriNotAllowed, Unreachable, Unauthorized, NotAModel, DigestMismatch, TooLarge or DiskFull.
    """
    shown = plain(uri)
    try:
        async with asyncio.timeout(sources.deadline_seconds):
            origin = origin_of(uri, digest, sources, Credentials.in_folder(sources.credentials))
            with out.open("a+b") as file:
                await _bring(origin, shown, digest, _Part(file), sources.most_bytes, reserve)
    except TimeoutError as error:
        raise ModelError(
            Reason.UNREACHABLE, f"{shown} was not here after {sources.deadline_seconds:g} s"
        ) from error
    except ModelError as error:
        if error.reason not in _MAY_GO_ON:
            _remove(out)
        raise
    except OSError as error:
        _remove(out)
        raise unkept(uri, error) from error
    return digest


def unkept(uri: str, error: OSError) -> ModelError:
    """Return what an error of this host's disk says to whoever wants a model on it."""
    what = "this host's disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
    return ModelError(Reason.DISK_FULL, f"{plain(uri)} cannot be kept here: {what}")


async def _bring(
    origin: Origin, uri: str, digest: str, part: "_Part", most_bytes: int, reserve: Reserve
) -> None:
    await asyncio.to_thread(part.take_up)
    fruitless = 0
    while part.digest != digest:
        had_bytes = part.size_bytes
        try:
            await _receive(origin, uri, part, most_bytes, reserve)
            return
        except PassingError as error:
            something_came = part.size_bytes > had_bytes and not isinstance(error, SlowError)
            fruitless = 1 if something_came else fruitless + 1
            if fruitless == _TRIES:
                raise ModelError(Reason.UNREACHABLE, f"{uri}: {error}") from error
        await asyncio.sleep(_RETRY_SECONDS * 2 ** (fruitless - 1))


async def _receive(origin: Origin, uri: str, part: "_Part", most_bytes: int, reserve: Reserve) -> None:
    """Take what is missing from a store, once."""
    async with await origin.open(part.size_bytes) as stream:
        if stream.offset == 0:
            part.drop()
        claimed_bytes, reserved_bytes = stream.size_bytes or 0, 0
        _check_size(claimed_bytes, most_bytes)
        async for chunk in stream.chunks:
            size_bytes = part.size_bytes + len(chunk)
            _check_size(size_bytes, most_bytes)
            if size_bytes > reserved_bytes:
                ahead_bytes = size_bytes + _STEP_BYTES
                reserved_bytes = max(size_bytes, min(ahead_bytes, claimed_bytes or ahead_bytes))
                await reserve(reserved_bytes, claimed_bytes)
            part.append(chunk)
    if part.digest == stream.digest:
        return
    wrong, length_bytes = part.digest, part.size_bytes
    part.drop()
    if stream.offset:
        raise PassingError("what had come before was of something else")
    raise ModelError(
        Reason.DIGEST_MISMATCH,
        f"{uri} is {wrong} ({length_bytes} bytes), not {stream.digest}: changed or damaged; `lull publish` "
        "prints it",
    )


def _remove(out: Path) -> None:
    out.unlink(missing_ok=True)


def _check_size(size_bytes: int, most_bytes: int) -> None:
    if size_bytes > most_bytes:
        raise ModelError(Reason.TOO_LARGE, f"the artifact is larger than {most_bytes} bytes")


class _Part:
    """As much of a file as is here, and its hash."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"

    def take_up(self) -> None:
        """Read what an earlier fetch left."""
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            self._sha256.update(chunk)
            self.size_bytes += len(chunk)

    def drop(self) -> None:
        """Begin anew."""
        self._file.truncate(0)
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def append(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._sha256.update(chunk)
        self.size_bytes += len(chunk)
