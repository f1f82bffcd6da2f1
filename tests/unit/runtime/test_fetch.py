"""Where models come from: only from where the pool says, whole, bounded and in time."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.resolver import ThreadedResolver

from lull.api.reasons import Reason
from lull_runtime.agent.fetch import Sources, fetch
from lull_runtime.artifact import ModelError
from lull_runtime.artifact.uris import check_address, check_uri
from lull_runtime.stores import files as files_module
from lull_runtime.stores import http as http_module
from lull_runtime.stores.credentials import Credentials
from lull_runtime.stores.origin import origin_of
from unit.runtime.fetching import CONTENT, DIGEST, Answer, content, plenty, refused, serving


class Server:
    """An HTTP server on loopback that answers as each test says."""

    def __init__(self) -> None:
        self.answer: Answer = content
        self.requests = 0
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        return await self.answer(request)

    def url(self, path: str = "m.tar", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/models/{path}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with serving(server.handle) as host:
        server.port = int(host.partition(":")[2])
        yield server


@pytest.fixture
def sources(tmp_path: Path, server: Server) -> Sources:
    (tmp_path / "files").mkdir()
    return Sources(tmp_path / "files", ["file:///", f"http://127.0.0.1:{server.port}/models/"])


async def test_a_download_is_whole_and_hashed_on_the_way(server, sources, tmp_path):
    assert await fetch(server.url(), DIGEST, tmp_path / "out", sources, plenty) == DIGEST
    assert (tmp_path / "out").read_bytes() == CONTENT


async def test_a_pinned_uri_names_the_same_file(server, sources, tmp_path):
    assert await fetch(f"{server.url()}@{DIGEST}", DIGEST, tmp_path / "out", sources, plenty) == DIGEST


async def test_a_file_is_relative_to_the_files_volume(sources, tmp_path):
    (sources.files / "sub").mkdir()
    (sources.files / "sub" / "m.tar").write_bytes(CONTENT)
    assert await fetch("file:///sub/m.tar", DIGEST, tmp_path / "out", sources, plenty) == DIGEST


async def test_a_link_out_of_the_files_volume_is_refused(sources, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (sources.files / "m.tar").symlink_to(tmp_path / "secret")
    assert (await refused("file:///m.tar", tmp_path / "out", sources)).reason is Reason.URI_NOT_ALLOWED


async def test_a_link_to_what_the_pool_does_not_allow_is_refused(sources, tmp_path):
    for name in ("mine", "theirs"):
        (sources.files / name).mkdir()
    (sources.files / "theirs" / "m.tar").write_bytes(CONTENT)
    (sources.files / "mine" / "m.tar").symlink_to("../theirs/m.tar")
    sources = replace(sources, allowed=["file:///mine/"])
    assert (await refused("file:///mine/m.tar", tmp_path / "out", sources)).reason is Reason.URI_NOT_ALLOWED


async def test_a_pipe_is_not_waited_for(sources, tmp_path):
    os.mkfifo(sources.files / "m.tar")
    sources = replace(sources, deadline_seconds=5)
    assert (await refused("file:///m.tar", tmp_path / "out", sources)).reason is Reason.NOT_A_MODEL


async def test_a_volume_that_hangs_keeps_nothing_else_waiting(sources, tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(files_module, "_locate", lambda *_: release.wait(10))
    sources = replace(sources, deadline_seconds=0.1)
    try:
        for _ in range(2):
            assert (await refused("file:///m.tar", tmp_path / "out", sources)).reason is Reason.UNREACHABLE
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
        busy = [t for t in threading.enumerate() if t.name.startswith("volume")]
        assert len(busy) == 2
    finally:
        release.set()


async def test_a_read_that_nobody_waits_for_ends(sources):
    with (sources.files / "m.tar").open("wb") as file:
        file.truncate(1 << 40)
    origin = origin_of("file:///m.tar", DIGEST, sources, Credentials.in_folder(None))
    async with await origin.open(0) as stream:
        assert await anext(stream.chunks)
    for _ in range(3):  # more than there are threads
        async with asyncio.timeout(10), await origin.open(0) as stream:
            assert await anext(stream.chunks)


async def test_room_is_reserved_before_it_is_taken(server, sources, tmp_path):
    async def unannounced(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(CONTENT)
        return response

    asked: list[int] = []

    async def reserve(size_bytes: int, claimed_bytes: int) -> None:
        asked.append(size_bytes)

    (sources.files / "m.tar").write_bytes(CONTENT)
    await fetch("file:///m.tar", DIGEST, tmp_path / "a", sources, reserve)
    await fetch(server.url(), DIGEST, tmp_path / "b", sources, reserve)
    assert asked == [len(CONTENT)] * 2
    server.answer = unannounced
    await fetch(server.url(), DIGEST, tmp_path / "c", sources, reserve)
    assert asked[-1] >= len(CONTENT)


async def test_a_full_disk_is_not_the_source_s_fault(server, sources, tmp_path):
    async def full(size_bytes: int, claimed_bytes: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (sources.files / "m.tar").write_bytes(CONTENT)
    for uri in ("file:///m.tar", server.url()):
        with pytest.raises(ModelError, match="disk is full") as caught:
            await fetch(uri, DIGEST, tmp_path / "out", sources, full)
        assert caught.value.reason is Reason.DISK_FULL
    assert server.requests == 1


async def test_an_error_that_passes_is_tried_again(server, sources, tmp_path):
    async def second_time_lucky(request: web.Request) -> web.Response:
        return web.Response(status=503) if server.requests == 1 else await content(request)

    server.answer = second_time_lucky
    assert await fetch(server.url(), DIGEST, tmp_path / "out", sources, plenty) == DIGEST


async def test_a_file_that_is_not_there_is_not_asked_for_again(server, sources, tmp_path):
    async def missing(_: web.Request) -> web.Response:
        return web.Response(status=404)

    server.answer = missing
    error = await refused(server.url(), tmp_path / "out", sources)
    assert error.reason is Reason.UNREACHABLE
    assert "404" in error.message
    assert server.requests == 1


async def test_a_server_that_is_not_there_is_unreachable(sources, tmp_path):
    sources = replace(sources, allowed=["http://127.0.0.1:"])
    assert (await refused("http://127.0.0.1:9/m.tar", tmp_path / "out", sources)).reason is Reason.UNREACHABLE


async def test_a_server_that_falls_silent_is_unreachable_in_time(server, sources, tmp_path):
    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.sleep(2)
        return response

    server.answer = silent
    error = await refused(server.url(), tmp_path / "out", replace(sources, deadline_seconds=0.5))
    assert error.reason is Reason.UNREACHABLE


async def test_a_server_that_sends_a_trickle_is_given_up_and_keeps_no_place(
    server, sources, tmp_path, monkeypatch
):
    monkeypatch.setattr(http_module, "_LEAST_SECONDS", 0.1)

    async def trickling(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if wanted := request.headers.get("Range"):
            response.set_status(206)
            response.headers["Content-Range"] = f"{wanted.replace('=', ' ')}{1 << 20}/*"
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    server.answer = trickling
    error = await refused(server.url(), tmp_path / "out", replace(sources, deadline_seconds=20))
    assert (error.reason, server.requests) == (Reason.UNREACHABLE, 3)
    assert "bytes in" in error.message


async def test_a_length_that_a_server_merely_claims_takes_no_room(server, sources, tmp_path):
    async def claiming(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1 << 40
        await response.prepare(request)
        await response.write(CONTENT)
        request.transport.close()
        return response

    class LetGoError(Exception):
        """Ends the fetch."""

    asked: list[int] = []

    async def reserve(size_bytes: int, claimed_bytes: int) -> None:
        asked.append(size_bytes)
        raise LetGoError

    server.answer = claiming
    with pytest.raises(LetGoError):
        await fetch(server.url(), DIGEST, tmp_path / "out", replace(sources, most_bytes=1 << 41), reserve)
    assert asked[0] <= len(CONTENT) + (64 << 20)


async def test_what_announces_itself_as_too_large_is_not_downloaded(server, sources, tmp_path):
    error = await refused(server.url(), tmp_path / "out", replace(sources, most_bytes=1000))
    assert error.reason is Reason.TOO_LARGE
    assert not (tmp_path / "out").exists()


async def test_what_turns_out_too_large_ends_there(server, sources, tmp_path):
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 16))

    server.answer = endless
    error = await refused(server.url(), tmp_path / "out", replace(sources, most_bytes=1 << 20))
    assert error.reason is Reason.TOO_LARGE
    assert not (tmp_path / "out").exists()


async def test_a_redirect_within_what_is_allowed_is_followed(server, sources, tmp_path):
    async def elsewhere(request: web.Request) -> web.Response:
        if request.path.endswith("m.tar"):
            raise web.HTTPFound("/models/other.tar")
        return await content(request)

    server.answer = elsewhere
    assert await fetch(server.url(), DIGEST, tmp_path / "out", sources, plenty) == DIGEST


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:1/models/m.tar",
        "/private/m.tar",
        "file:///etc/passwd",
    ],
)
async def test_a_redirect_to_elsewhere_is_refused(server, sources, tmp_path, target):
    async def away(_: web.Request) -> web.Response:
        raise web.HTTPFound(target)

    server.answer = away
    sources = replace(sources, allowed=[sources.allowed[1]])
    assert (await refused(server.url(), tmp_path / "out", sources)).reason is Reason.URI_NOT_ALLOWED
    assert server.requests == 1


async def test_a_redirect_to_what_is_no_uri_is_the_server_s_fault(server, sources, tmp_path):
    async def away(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://[::1"})

    server.answer = away
    assert (await refused(server.url(), tmp_path / "out", sources)).reason is Reason.UNREACHABLE


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
def test_a_host_that_no_resolver_takes_is_no_uri(host: str):
    with pytest.raises(ModelError):
        check_uri(f"https://{host}/m", ["https://"])


async def test_redirects_in_a_circle_end(server, sources, tmp_path):
    async def round_and_round(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.path)

    server.answer = round_and_round
    assert (await refused(server.url(), tmp_path / "out", sources)).reason is Reason.UNREACHABLE
    assert server.requests < 10


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "127.0.0.1",
        "::1",
        "fe80::1",
        "::ffff:169.254.1.1",
        "0.0.0.0",
        "::",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::169.254.169.254",
        "64:ff9b::127.0.0.1",
    ],
)
async def test_a_name_that_stands_for_a_forbidden_address_is_refused(
    sources, tmp_path, monkeypatch: pytest.MonkeyPatch, address: str
):
    async def resolve(self, host, port=0, family=0):
        return [{"hostname": host, "host": address, "port": port, "family": 2, "proto": 6, "flags": 0}]

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    sources = replace(sources, allowed=["http://"])
    error = await refused("http://models.example/m.tar", tmp_path / "out", sources)
    assert error.reason is Reason.URI_NOT_ALLOWED, error.message


@pytest.mark.parametrize(
    "uri", ["http://169.254.169.254/m", "http://[fe80::1]/m", "http://[::ffff:169.254.1.1]/m"]
)
async def test_link_local_addresses_are_refused_even_where_a_prefix_names_them(sources, tmp_path, uri):
    assert (
        await refused(uri, tmp_path / "out", replace(sources, allowed=[uri]))
    ).reason is Reason.URI_NOT_ALLOWED


@pytest.mark.parametrize(
    ("uri", "prefix"),
    [
        ("https://models.example.evil/m", "https://models.example"),
        ("https://models.example:8443/m", "https://models.example"),
        ("http://models.example/m", "https://models.example"),
        ("https://models.example/other/m", "https://models.example/mine/"),
        ("https://models.example/mine/../other/m", "https://models.example/mine/"),
        ("https://models.example/mine/%2e%2e/other/m", "https://models.example/mine/"),
        ("https://models.example@evil/m", "https://models.example"),
        ("https://me@models.example/m", "https://models.example"),
        ("https://models.example:port/m", "https://models.example"),
        ("file:///m", "https://models.example"),
        ("https://store.example/team-abc/m", "https://store.example/team-a"),
        ("file:///team-abc/m", "file:///team-a"),
    ],
)
def test_a_prefix_is_more_than_text(uri: str, prefix: str):
    with pytest.raises(ModelError):
        check_uri(uri, [prefix])


@pytest.mark.parametrize(
    ("uri", "prefix"),
    [
        ("https://models.example/m", "https://models.example"),
        ("https://models.example:443/mine/m", "https://models.example/mine/"),
        ("http://127.0.0.1:8123/m", "http://127.0.0.1:"),
        ("file:///a/m.tar", "file:///"),
        ("file:///a/m.tar", "file:///a"),
        ("https://models.example/m.tar", "https://models.example/m.tar"),
    ],
)
def test_what_lies_beneath_a_prefix_is_allowed(uri: str, prefix: str):
    check_uri(uri, [prefix])


def test_loopback_is_for_pools_that_name_it():
    check_address("127.0.0.1", "127.0.0.1", ["http://127.0.0.1:8000/"])
    with pytest.raises(ModelError):
        check_address("127.0.0.1", "localhost", ["http://"])
