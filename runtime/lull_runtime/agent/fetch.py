"""Brings a model's tar here, from the pool's volume or over HTTP: bounded, and hashed on the way."""

import asyncio
import hashlib
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import SplitResult, unquote, urljoin

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


async def fetch(uri: str, out: Path, sources: Sources) -> str:
    """Write the tar at `uri` to a new file and return its digest.

    Raises:
        ModelError: UriNotAllowed, Unreachable or TooLarge.
    """
    plain = uri.partition("@sha256:")[0]  # a pinned digest is not part of the address
    parts = check_uri(plain, sources.allowed)
    try:
        async with asyncio.timeout(sources.deadline_seconds):
            if parts.scheme == "file":
                return await asyncio.to_thread(_copy_file, parts, out, sources)
            if parts.scheme in ("http", "https"):
                return await _download(plain, out, sources)
    except TimeoutError as error:
        raise ModelError(
            Reason.UNREACHABLE, f"{plain} was not here after {sources.deadline_seconds:g} s"
        ) from error
    raise ModelError(
        Reason.URI_NOT_ALLOWED, f"{parts.scheme}: URIs cannot be fetched yet; use https: or file:"
    )


def _copy_file(parts: SplitResult, out: Path, sources: Sources) -> str:
    root = sources.files.resolve()
    path = (root / unquote(parts.path).lstrip("/")).resolve()
    if parts.netloc or not path.is_relative_to(root):
        raise ModelError(Reason.URI_NOT_ALLOWED, f"{parts.geturl()} leads out of the pool's files volume")
    try:
        with out.open("xb") as target:
            if path.is_dir():
                return write_tar(_Bounded(target, sources.most_bytes), tree(path))
            with path.open("rb") as source:
                return _copy(source, _Bounded(target, sources.most_bytes))
    except OSError as error:
        message = f"{parts.geturl()}: {error.strerror}: is the file in the pool's files volume?"
        raise ModelError(Reason.UNREACHABLE, message) from error


def _copy(source: IO[bytes], target: "_Bounded") -> str:
    sha256 = hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        sha256.update(chunk)
        target.write(chunk)
    return f"sha256:{sha256.hexdigest()}"


async def _download(uri: str, out: Path, sources: Sources) -> str:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    connector = aiohttp.TCPConnector(resolver=_CheckedResolver(sources.allowed), limit=4)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False, headers={"Accept-Encoding": "identity"}
    ) as session:
        for attempt in range(_TRIES):
            try:
                return await _follow(session, uri, out, sources)
            except (aiohttp.ClientError, TimeoutError, OSError, _TryAgainError) as error:
                if (refusal := _refusal_in(error)) is not None:
                    raise refusal from error
                if attempt == _TRIES - 1:
                    raise ModelError(Reason.UNREACHABLE, f"{uri}: {error or 'no answer'}") from error
            await asyncio.sleep(_RETRY_SECONDS * 2**attempt)
    raise AssertionError("the last try returns or raises")


class _TryAgainError(Exception):
    """The server failed in a way that may pass."""


async def _follow(session: aiohttp.ClientSession, uri: str, out: Path, sources: Sources) -> str:
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
            return await _receive(response, out, sources.most_bytes)
    raise ModelError(Reason.UNREACHABLE, f"{uri}: more than {_REDIRECTS} redirects")


def _joined(uri: str, location: str) -> str:
    try:
        return urljoin(uri, location)
    except ValueError as error:
        raise ModelError(
            Reason.UNREACHABLE, f"{uri}: it redirects to {location!r}, which is no URI"
        ) from error


async def _receive(response: aiohttp.ClientResponse, out: Path, most_bytes: int) -> str:
    sha256 = hashlib.sha256()
    with out.open("wb") as file:
        target = _Bounded(file, most_bytes)
        target.expect(response.content_length or 0)
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            sha256.update(chunk)
            target.write(chunk)
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
    """A file that takes only so much."""

    def __init__(self, file: IO[bytes], most_bytes: int) -> None:
        self._file = file
        self._most_bytes = self._left_bytes = most_bytes

    def expect(self, size_bytes: int) -> None:
        """Refuse at once what announces itself as too large."""
        if size_bytes > self._left_bytes:
            raise ModelError(Reason.TOO_LARGE, f"the artifact is larger than {self._most_bytes} bytes")

    def write(self, data: bytes) -> int:
        """Write, as long as it fits."""
        self.expect(len(data))
        self._left_bytes -= len(data)
        return self._file.write(data)
