"""Brings a model's tar here, from the pool's volume or over HTTP: bounded, and hashed on the way."""

import asyncio
import errno
import hashlib
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import SplitResult, quote, unquote, urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from lull.api.reasons import Reason
from lull_runtime.agent.uris import check_address, check_uri
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.tar import tree, write_tar

_CHUNK_BYTES = 1 << 20
_REDIRECTS = 5
_TRIES = 3
_RETRY_SECONDS = 0.3
_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 30.0
_STEP_BYTES = 64 << 20
"""How far room is reserved ahead of a download that does not say how long it is."""
_COPIERS = ThreadPoolExecutor(2, "copy")
"""Threads of their own, since a volume that hangs keeps them beyond every deadline."""
_TAR_MEMBER_BYTES, _TAR_END_BYTES = 4096, 20480
"""What a tar adds to a file, at most, and to all of them."""

Reserve = Callable[[int], Awaitable[None]]
"""Makes room for a tar of so many bytes in all. Raises ModelError (TooLarge) where there is none."""


@dataclass(frozen=True)
class Sources:
    """Where models may come from.

    Attributes:
        files: what `file:` URIs are relative to.
        allowed: URI prefixes.
        most_bytes: how large a tar may be.
        deadline_seconds: how long one fetch may take, all tries included.
    """

    files: Path
    allowed: Sequence[str]
    most_bytes: int = 64 << 30
    deadline_seconds: float = 600.0


async def fetch(uri: str, out: Path, sources: Sources, reserve: Reserve) -> str:
    """Write the tar at `uri` to a new file, for which room is reserved first, and return its digest.

    Raises:
        ModelError: UriNotAllowed, Unreachable, NotAModel or TooLarge.
    """
    plain = uri.partition("@sha256:")[0]  # a pinned digest is not part of the address
    parts = check_uri(plain, sources.allowed)
    try:
        async with asyncio.timeout(sources.deadline_seconds):
            if parts.scheme == "file":
                return await _copy_file(parts, out, sources, reserve)
            if parts.scheme in ("http", "https"):
                return await _download(plain, out, sources, reserve)
    except TimeoutError as error:
        raise ModelError(
            Reason.UNREACHABLE, f"{plain} was not here after {sources.deadline_seconds:g} s"
        ) from error
    raise ModelError(
        Reason.URI_NOT_ALLOWED, f"{parts.scheme}: URIs cannot be fetched yet; use https: or file:"
    )


async def _copy_file(parts: SplitResult, out: Path, sources: Sources, reserve: Reserve) -> str:
    loop = asyncio.get_running_loop()
    gone = threading.Event()
    try:
        path, size_bytes = await loop.run_in_executor(_COPIERS, _locate, parts, sources)
        _check_size(size_bytes, sources.most_bytes)
        await reserve(size_bytes)
        return await loop.run_in_executor(_COPIERS, _copy, path, out, size_bytes, gone)
    except OSError as error:
        what = f"{error.strerror}: is the file in the pool's files volume?"
        raise _unreachable(parts.geturl(), error, what) from error
    finally:
        gone.set()


def _locate(parts: SplitResult, sources: Sources) -> tuple[Path, int]:
    """Where a file or folder of the files volume is, links followed, and how long its tar is at most."""
    root = sources.files.resolve()
    named = root / unquote(parts.path).lstrip("/")
    path = named.resolve()
    if parts.netloc or not path.is_relative_to(root):
        raise ModelError(Reason.URI_NOT_ALLOWED, f"{parts.geturl()} leads out of the pool's files volume")
    if path != named:  # where a link leads must be allowed as well
        check_uri("file:///" + quote(path.relative_to(root).as_posix()), sources.allowed)
    if path.is_dir():
        files = tree(path)
        return path, sum(file.stat().st_size + _TAR_MEMBER_BYTES for file in files.values()) + _TAR_END_BYTES
    size_bytes = path.stat().st_size
    if not path.is_file():  # opening a pipe would wait for its other end
        raise ModelError(Reason.NOT_A_MODEL, f"{parts.geturl()} is neither a file nor a folder")
    return path, size_bytes


def _copy(path: Path, out: Path, size_bytes: int, gone: threading.Event) -> str:
    with out.open("xb") as file:
        target = _Bounded(file, size_bytes, gone)
        if path.is_dir():
            return write_tar(target, tree(path))
        sha256 = hashlib.sha256()
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                sha256.update(chunk)
                target.write(chunk)
        return f"sha256:{sha256.hexdigest()}"


def _unreachable(uri: str, error: Exception, what: str) -> ModelError:
    """What to say of an error: that of a full disk is not the source's."""
    if _is_disk_full(error):
        return ModelError(Reason.TOO_LARGE, f"{uri} does not fit: this host's disk is full")
    return ModelError(Reason.UNREACHABLE, f"{uri}: {what}")


def _is_disk_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _check_size(size_bytes: int, most_bytes: int) -> None:
    if size_bytes > most_bytes:
        raise ModelError(Reason.TOO_LARGE, f"the artifact is larger than {most_bytes} bytes")


async def _download(uri: str, out: Path, sources: Sources, reserve: Reserve) -> str:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    connector = aiohttp.TCPConnector(resolver=_CheckedResolver(sources.allowed), limit=4)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False, headers={"Accept-Encoding": "identity"}
    ) as session:
        for attempt in range(_TRIES):
            try:
                return await _follow(session, uri, out, sources, reserve)
            except (aiohttp.ClientError, TimeoutError, OSError, _TryAgainError) as error:
                if (refusal := _refusal_in(error)) is not None:
                    raise refusal from error
                if attempt == _TRIES - 1 or _is_disk_full(error):
                    raise _unreachable(uri, error, str(error) or "no answer") from error
            await asyncio.sleep(_RETRY_SECONDS * 2**attempt)
    raise AssertionError("the last try returns or raises")


class _TryAgainError(Exception):
    """The server failed in a way that may pass."""


async def _follow(
    session: aiohttp.ClientSession, uri: str, out: Path, sources: Sources, reserve: Reserve
) -> str:
    """Download, with each redirect held to the same rules as the URI itself."""
    for _ in range(_REDIRECTS):
        _check_literal(check_uri(uri, sources.allowed), sources.allowed)
        async with session.get(uri, allow_redirects=False) as response:
            if response.status in (301, 302, 303, 307, 308):
                uri = _joined(uri, response.headers.get("Location", ""))
                continue
            if response.status >= 500 or response.status == 429:
                raise _TryAgainError(f"the server answered {response.status} {response.reason}")
            if response.status != 200:
                raise ModelError(
                    Reason.UNREACHABLE, f"{uri}: the server answered {response.status} {response.reason}"
                )
            return await _receive(response, out, sources.most_bytes, reserve)
    raise ModelError(Reason.UNREACHABLE, f"{uri}: more than {_REDIRECTS} redirects")


def _joined(uri: str, location: str) -> str:
    try:
        return urljoin(uri, location)
    except ValueError as error:
        raise ModelError(
            Reason.UNREACHABLE, f"{uri}: it redirects to {location!r}, which is no URI"
        ) from error


async def _receive(response: aiohttp.ClientResponse, out: Path, most_bytes: int, reserve: Reserve) -> str:
    sha256 = hashlib.sha256()
    written_bytes, reserved_bytes = 0, response.content_length or 0
    with out.open("wb") as file:
        _check_size(reserved_bytes, most_bytes)
        await reserve(reserved_bytes)
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            written_bytes += len(chunk)
            _check_size(written_bytes, most_bytes)
            if written_bytes > reserved_bytes:
                reserved_bytes = written_bytes + _STEP_BYTES
                await reserve(reserved_bytes)
            sha256.update(chunk)
            file.write(chunk)
    return f"sha256:{sha256.hexdigest()}"


def _check_literal(parts: SplitResult, allowed: Sequence[str]) -> None:
    """Check a host that is an address already, which no resolver sees."""
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    check_address(host, host, allowed)


def _refusal_in(error: BaseException) -> ModelError | None:
    """The refusal of an address, which the HTTP client wraps into errors of its own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _RefusedError):
            return seen.why
        seen = seen.__cause__ or seen.__context__
    return None


class _RefusedError(OSError):
    def __init__(self, why: ModelError) -> None:
        super().__init__(why.message)
        self.why = why


class _CheckedResolver(AbstractResolver):
    """Resolves host names; what is connected to is exactly what was checked."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = allowed
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        try:
            for result in found:
                check_address(result["host"], host, self._allowed)
        except ModelError as error:
            raise _RefusedError(error) from error
        return found

    async def close(self) -> None:
        await self._resolver.close()


class _Bounded:
    """A file that takes only so much, and nothing once nobody waits for it."""

    def __init__(self, file: IO[bytes], most_bytes: int, gone: threading.Event) -> None:
        self._file = file
        self._most_bytes = most_bytes
        self._gone = gone
        self._written_bytes = 0

    def write(self, data: bytes) -> int:
        """Write, as long as it fits."""
        if self._gone.is_set():
            raise TimeoutError("nobody waits for this copy any more")
        self._written_bytes += len(data)
        _check_size(self._written_bytes, self._most_bytes)
        return self._file.write(data)
