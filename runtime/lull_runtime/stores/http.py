"""HTTP as models come by it: from checked addresses only, on connections that never wait for ever."""

import asyncio
import ipaddress
import re
import socket
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.uris import check_address, check_public, check_uri, named_hosts, plain, split
from lull_runtime.stores.credentials import Login
from lull_runtime.stores.stream import PassingError, SlowError, Stream

_CHUNK_BYTES = 1 << 20
_REDIRECTS = 5
_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 30.0
_LEAST_BYTES, _LEAST_SECONDS = 1 << 20, 30.0
"""What must come in which time of waiting for it: a trickle would keep others from being fetched."""
_ANSWER_BYTES = 4 << 20
"""The longest answer that is read whole: a manifest or a token."""
_ERROR_BYTES = 4096
_RANGE = re.compile(r"bytes (\d{1,19})-\d+/(\d{1,19}|\*)")
_SAID = 200
"""How much is repeated of what a server says."""


@dataclass(frozen=True)
class Rules:
    """Where a transfer may go.

    Attributes:
        allowed: prefixes that URIs must lie beneath, and whose hosts may have private addresses.
        store: where the store is that the pool allows by another scheme. It may send on to any public host by
            https, as registries and object stores do with their blobs, and registries for tokens.
    """

    allowed: Sequence[str]
    store: str | None = None

    def check(self, uri: str) -> SplitResult:
        """Return the parts of a URI that may be asked for.

        Raises:
            ModelError: it may not.
        """
        parts = split(uri)
        if self.store and parts.scheme == "https" and not self._names(parts.hostname):
            check_uri(uri, ["https:"])
        else:
            check_uri(uri, self._prefixes())
        host = parts.hostname or ""
        if _is_address(host):  # which no resolver sees
            self.check_address(host, host)
        return parts

    def check_address(self, address: str, host: str) -> None:
        """Check what a host name stands for.

        Raises:
            ModelError: nothing may connect there.
        """
        check_address(address, host, self.allowed)
        if self.store and not self._names(host):
            check_public(address, host)

    def _names(self, host: str | None) -> bool:
        return host in named_hosts(self._prefixes())

    def _prefixes(self) -> list[str]:
        return [*self.allowed, *([self.store] if self.store else [])]


class Client:
    """Asks on behalf of one model, as its rules say. Leave it as a context manager."""

    def __init__(self, uri: str, rules: Rules) -> None:
        self._uri = plain(uri)
        self._rules = rules
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> "Client":
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
        self._session = await self._closing.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_CheckedResolver(self._rules)),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=timeout,
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()

    async def get(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Return the answer to a request, which redirects have led to, and which is left open.

        Raises:
            ModelError: it leads where it may not, or round and round.
            PassingError: no answer, or that the server has trouble.
        """
        for _ in range(_REDIRECTS):
            parts = self._rules.check(url)
            with _passing(self._uri):
                # What is quoted already stays as it is: a signature may be over it.
                response = await self._closing.enter_async_context(
                    self._session.get(URL(url, encoded="%" in url), allow_redirects=False, headers=headers)
                )
            if response.status in (301, 302, 303, 307, 308):
                response.close()
                url = self._joined(url, response.headers.get("Location", ""))
                headers = headers if _same_place(parts, url) else _without("Authorization", headers)
                continue
            if response.status == 416 and "Range" in headers:  # it is shorter than what is here
                response.close()
                headers = _without("Range", headers)
                continue
            if response.status >= 500 or response.status in (408, 429):
                raise PassingError(f"the server answered {_status(response)}")
            return response
        raise ModelError(Reason.UNREACHABLE, f"{self._uri}: more than {_REDIRECTS} redirects")

    async def text(self, response: aiohttp.ClientResponse) -> bytes:
        """Return a short answer whole.

        Raises:
            ModelError: it is not short.
            PassingError: it broke off.
        """
        with _passing(self._uri):
            body = b""
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                body += chunk
                if len(body) > _ANSWER_BYTES:
                    raise ModelError(
                        Reason.UNREACHABLE, f"{self._uri}: the store answers at too great length"
                    )
        return body

    async def stream(self, response: aiohttp.ClientResponse, offset: int, digest: str) -> Stream:
        """Return the answer to a request for the bytes from an offset on; with it goes this client.

        Raises:
            ModelError: it is not of success (Unauthorized, Unreachable).
            PassingError: it is of other bytes.
        """
        ranged = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        size_bytes = int(ranged[2]) if ranged and ranged[2].isdigit() else None
        if response.status == 206 and ranged and int(ranged[1]) == offset:
            begins = offset
        elif response.status == 200:
            begins, size_bytes = 0, response.content_length
        elif response.status == 206:
            raise ModelError(Reason.UNREACHABLE, f"{self._uri}: the server answers for other bytes")
        else:
            raise await self.refusal(response)
        chunks = await self._closing.enter_async_context(aclosing(self._chunks(response)))
        return Stream(size_bytes, begins, digest, chunks, self._closing.pop_all())

    async def refusal(self, response: aiohttp.ClientResponse) -> ModelError:
        """Return what an answer that is not of success says."""
        said = _status(response)
        with _passing(self._uri):
            code = re.search(rb"<Code>(\w{1,64})</Code>", await response.content.read(_ERROR_BYTES))
        if code:  # S3 says more there than in its status
            said += f" ({code[1].decode()})"
        if response.status in (401, 403) or (code and code[1] in (b"ExpiredToken", b"InvalidToken")):
            return ModelError(
                Reason.UNAUTHORIZED,
                f"{self._uri}: the store answered {said}: are the pool's credentials for it there, right and "
                "not expired? See the Secret that spec.credentials names",
            )
        return ModelError(Reason.UNREACHABLE, f"{self._uri}: the server answered {said}")

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        with _passing(self._uri):
            waited_seconds, came_bytes, clock = 0.0, 0, asyncio.get_running_loop().time
            since = clock()
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                waited_seconds += clock() - since
                came_bytes += len(chunk)
                if came_bytes >= _LEAST_BYTES:
                    waited_seconds, came_bytes = 0.0, 0
                elif waited_seconds > _LEAST_SECONDS:
                    raise SlowError(f"the store sent {came_bytes} bytes in {waited_seconds:.0f} s")
                yield chunk
                since = clock()  # what becomes of a chunk here is not the store's time

    def _joined(self, url: str, location: str) -> str:
        try:
            return urljoin(url, location)
        except ValueError as error:
            raise ModelError(
                Reason.UNREACHABLE, f"{self._uri}: it redirects to {plain(location)!r}, which is no URI"
            ) from error


@dataclass(frozen=True)
class HttpOrigin:
    """A tar on a web server.

    Attributes:
        url: where it is.
        uri: the model's, for messages.
        digest: what the tar must hash to.
        rules: where the transfer may go.
        headers: what the server is shown, and nobody whom it sends us on to.
    """

    url: str
    uri: str
    digest: str
    rules: Rules
    headers: Mapping[str, str] = field(default_factory=dict)

    async def open(self, offset: int) -> Stream:
        """Begin to read at an offset."""
        return await download(self.url, self.uri, offset, self.digest, self.rules, self.headers)


async def download(
    url: str, uri: str, offset: int, digest: str, rules: Rules, headers: Mapping[str, str]
) -> Stream:
    """Begin to read what one URL stands for, on behalf of the model at `uri`.

    Raises:
        ModelError: it cannot be had.
        PassingError: it cannot be had now.
    """
    async with Client(uri, rules) as client:
        response = await client.get(url, {**headers, **from_offset(offset)})
        return await client.stream(response, offset, digest)


def from_offset(offset: int) -> dict[str, str]:
    """Return the headers that ask for the bytes from an offset on."""
    return {"Range": f"bytes={offset}-"} if offset else {}


def shown_to(parts: SplitResult, login: Login | None) -> dict[str, str]:
    """Return the headers that show a server who asks: a password goes by https, or to this very machine."""
    if login and (parts.scheme == "https" or is_this_machine(parts.hostname or "")):
        return {"Authorization": login.basic()}
    return {}


def is_this_machine(host: str) -> bool:
    """Whether a host is loopback by its very name, so that nothing in between listens."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(_address(host)).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(_address(host))
    except ValueError:
        return False
    return True


def _address(host: str) -> str:
    return host.partition("%")[0]  # without the zone


def _status(response: aiohttp.ClientResponse) -> str:
    return f"{response.status} {response.reason or ''}"[:_SAID]


def _same_place(parts: SplitResult, url: str) -> bool:
    there = urlsplit(url)
    return (parts.scheme, parts.netloc) == (there.scheme, there.netloc)


def _without(name: str, headers: Mapping[str, str]) -> dict[str, str]:
    return {other: value for other, value in headers.items() if other != name}


@contextmanager
def _passing(uri: str) -> Iterator[None]:
    """Tell refusals of addresses, which the HTTP client wraps into errors of its own, from what may pass."""
    try:
        yield
    except (ValueError, aiohttp.NonHttpUrlClientError) as error:
        raise ModelError(Reason.URI_NOT_ALLOWED, f"{uri} leads to what is no URI") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if (refusal := _refusal_in(error)) is not None:
            raise refusal from error
        said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)  # not its URL
        raise PassingError(said[:_SAID] or "no answer") from error


def _refusal_in(error: BaseException) -> ModelError | None:
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

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        try:
            for result in found:
                self._rules.check_address(result["host"], host)
        except ModelError as error:
            raise _RefusedError(error) from error
        return found

    async def close(self) -> None:
        await self._resolver.close()
