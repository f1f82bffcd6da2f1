"""Serves /metrics: OpenMetrics where the scraper asks for it, rendered off the event loop."""

import asyncio
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder

# OpenMetrics adds to each counter and histogram a series of when it began, which nothing here reads.
disable_created_metrics()  # type: ignore[no-untyped-call]

Encoder = Callable[[CollectorRegistry], bytes]


class Exposition:
    """The figures of one registry over HTTP. Scrapes that come at one time share one rendering.

    Collectors are called in a thread: they must read values that nothing changes meanwhile. `before` is
    called in the event loop, before a rendering, to take these.
    """

    def __init__(self, registry: CollectorRegistry, before: Callable[[], None] = lambda: None) -> None:
        self._registry = registry
        self._before = before
        self._renderings: dict[str, asyncio.Task[bytes]] = {}

    async def handle(self, request: web.Request) -> web.Response:
        """Answer GET /metrics."""
        encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
        rendering = self._renderings.get(content_type)
        if rendering is None:
            self._before()
            rendering = asyncio.create_task(asyncio.to_thread(encoder, self._registry))
            self._renderings[content_type] = rendering
            rendering.add_done_callback(lambda _: self._renderings.pop(content_type))
        # Shielded: who hangs up must not take the rendering from the others.
        return web.Response(body=await asyncio.shield(rendering), headers={"Content-Type": content_type})
