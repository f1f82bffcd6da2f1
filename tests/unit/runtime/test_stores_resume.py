"""A fetch goes on where the last one ended, whatever the store makes of that."""

import errno
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from lull.api.reasons import Reason
from lull_runtime.agent import fetch as fetch_module
from lull_runtime.agent.fetch import Sources, fetch
from unit.runtime.fetching import CONTENT, DIGEST, plenty, refused, serving

HALF = len(CONTENT) // 2


class Server:
    """Serves CONTENT as told, and notes what is asked for."""

    def __init__(self) -> None:
        self.host = ""
        self.asked: list[str | None] = []
        self.breaks_after_bytes: list[int] = []
        self.knows_ranges = True

    @property
    def url(self) -> str:
        return f"http://{self.host}/m.tar"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        begin = int(wanted[len("bytes=") : -1]) if wanted and self.knows_ranges else 0
        if begin >= len(CONTENT):
            return web.Response(status=416)
        response = web.StreamResponse(status=206 if begin else 200)
        response.content_length = len(CONTENT) - begin
        if begin:
            response.headers["Content-Range"] = f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"
        await response.prepare(request)
        end = begin + self.breaks_after_bytes.pop(0) if self.breaks_after_bytes else len(CONTENT)
        await response.write(CONTENT[begin:end])
        if end < len(CONTENT):
            request.transport.close()
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with serving(server.handle) as server.host:
        yield server


@pytest.fixture
def sources(tmp_path: Path, server: Server) -> Sources:
    return Sources(tmp_path, ["file:///", f"http://{server.host}/"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


async def test_what_is_here_is_not_asked_for_again(server, sources, out):
    out.write_bytes(CONTENT[:HALF])
    assert await fetch(server.url, DIGEST, out, sources, plenty) == DIGEST
    assert out.read_bytes() == CONTENT
    assert server.asked == [f"bytes={HALF}-"]


async def test_what_is_all_here_is_not_asked_for_at_all(server, sources, out):
    out.write_bytes(CONTENT)
    assert await fetch(server.url, DIGEST, out, sources, plenty) == DIGEST
    assert server.asked == []


async def test_what_the_pool_does_not_allow_is_refused_even_where_all_of_it_is_here(server, sources, out):
    out.write_bytes(CONTENT)
    error = await refused(server.url, out, replace(sources, allowed=["https://models.example/"]))
    assert error.reason is Reason.URI_NOT_ALLOWED
    assert not out.exists()


async def test_a_server_that_gives_only_the_whole_is_read_from_the_start(server, sources, out):
    server.knows_ranges = False
    out.write_bytes(CONTENT[:HALF])
    assert await fetch(server.url, DIGEST, out, sources, plenty) == DIGEST
    assert out.read_bytes() == CONTENT


@pytest.mark.parametrize("size_bytes", [HALF, len(CONTENT), len(CONTENT) + 1])
async def test_what_is_of_something_else_is_dropped_and_all_asked_for(server, sources, out, size_bytes):
    out.write_bytes(bytes(size_bytes))
    assert await fetch(server.url, DIGEST, out, sources, plenty) == DIGEST
    assert out.read_bytes() == CONTENT
    assert server.asked[-1] is None


async def test_a_connection_may_break_often_as_long_as_something_comes(server, sources, out, monkeypatch):
    monkeypatch.setattr(fetch_module, "_RETRY_SECONDS", 0.0)
    server.breaks_after_bytes = [300_000] * 8
    assert await fetch(server.url, DIGEST, out, sources, plenty) == DIGEST
    assert out.read_bytes() == CONTENT
    assert len(server.asked) == 9
    begins = [int(wanted[len("bytes=") : -1]) for wanted in server.asked[1:]]
    assert begins == sorted(set(begins)), "each begins where the one before broke off"


async def test_what_came_before_the_store_went_down_stays(server, sources, out, monkeypatch):
    monkeypatch.setattr(fetch_module, "_RETRY_SECONDS", 0.0)
    server.breaks_after_bytes = [HALF, 0, 0, 0]
    assert (await refused(server.url, out, sources)).reason is Reason.UNREACHABLE
    assert out.read_bytes() == CONTENT[:HALF]
    assert await fetch(server.url, DIGEST, out, sources, plenty) == DIGEST


async def test_what_a_disk_that_fills_up_took_is_removed(server, sources, out, monkeypatch):
    def full(part, chunk):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch_module._Part, "append", full)
    error = await refused(server.url, out, sources)
    assert error.reason is Reason.DISK_FULL
    assert not out.exists()
    assert len(server.asked) == 1


async def test_a_file_of_a_volume_is_read_from_where_the_last_fetch_ended(sources, out, tmp_path):
    (tmp_path / "m.tar").write_bytes(bytes(HALF) + CONTENT[HALF:])  # what is skipped is not looked at
    out.write_bytes(CONTENT[:HALF])
    assert await fetch("file:///m.tar", DIGEST, out, sources, plenty) == DIGEST
    assert out.read_bytes() == CONTENT


async def test_a_changed_file_is_a_mismatch_that_says_what_it_is(sources, out, tmp_path):
    (tmp_path / "m.tar").write_bytes(b"changed")
    error = await refused("file:///m.tar", out, sources)
    assert error.reason is Reason.DIGEST_MISMATCH
    assert hashlib.sha256(b"changed").hexdigest() in error.message
    assert not out.exists()
