"""A server on loopback that answers as a test says, what it serves by default, and what fetches come to."""

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from lull_runtime.agent.fetch import Sources, fetch
from lull_runtime.artifact import ModelError

CONTENT = os.urandom(3 << 20)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """Serve every path by `answer`; yields the host with its port."""
    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def content(_: web.Request) -> web.Response:
    """Answer with what was asked for."""
    return web.Response(body=CONTENT)


async def plenty(size_bytes: int, claimed_bytes: int) -> None:
    """Room for everything."""


async def refused(uri: str, out: Path, sources: Sources, digest: str = DIGEST) -> ModelError:
    """Return why a fetch to `out` was refused."""
    with pytest.raises(ModelError) as caught:
        await fetch(uri, digest, out, sources, plenty)
    return caught.value
