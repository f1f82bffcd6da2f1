"""Serves /metrics: OpenMetrics where the scraper asks for it, rendered off the event loop."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder

# OpenMetrics adds to each counter and histogram a series of when it began, which nothing here reads.
disable_created_metrics()  # type: ignore[no-untyped-call]

Encoder = Callable[[CollectorRegistry], bytes]
Before = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    """Do nothing."""


class Exposition:
    """The figures of one registry over HTTP. Scrapes that come at one time share one rendering.

    Collectors are called in a thread: they must read values that nothing changes meanwhile. `before` runs in
    the event loop, before a rendering, to take these.
    """

    def __init__(self, registry: CollectorRegistry, before: Before = _nothing) -> None:
        self._registry = registry
        self._before = before
        self._renderings: dict[str, asyncio.Task[bytes]] = {}

    async def handle(self, request: web.Request) -> web.Response:
        """Answer GET /metrics."""
        encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
        rendering = self._renderings.get(content_type)
        if rendering is None:
            rendering = asyncio.create_task(self._render(encoder))
            self._renderings[content_type] = rendering
            rendering.add_done_callback(lambda _: self._renderings.pop(content_type))
        # Shielded: who hangs up must not take the rendering from the others.
        return web.Response(body=await asyncio.shield(rendering), headers={"Content-Type": content_type})

    async def _render(self, encoder: Encoder) -> bytes:
        await self._before()
        return await asyncio.to_thread(encoder, self._registry)
