"""/metrics: in the form that is asked for, off the event loop, one rendering for all who ask at once."""

import asyncio
import threading

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.registry import Collector

from lull.exposition import Exposition

OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}


class Slow(Collector):
    """A collector that waits to be let go, and knows its threads."""

    def __init__(self):
        self.go = threading.Event()
        self.threads = []

    def collect(self):
        self.threads.append(threading.current_thread())
        assert self.go.wait(10)
        return ()


@pytest.fixture
async def served(unused_tcp_port):
    registry = CollectorRegistry()
    Counter("requests", "How many.", registry=registry).inc(3)
    taken = []
    asked = asyncio.Semaphore(0)

    async def take():
        taken.append(1)

    exposition = Exposition(registry, take)

    async def handle(request):
        asked.release()
        return await exposition.handle(request)

    app = web.Application()
    app.add_routes([web.get("/metrics", handle)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.10", unused_tcp_port).start()
    async with aiohttp.ClientSession(f"http://127.0.0.10:{unused_tcp_port}") as session:
        yield registry, session, taken, asked
    await runner.cleanup()


async def test_openmetrics_where_it_is_asked_for_and_plain_text_otherwise(served):
    _, session, _, _ = served
    async with session.get("/metrics", headers=OPENMETRICS) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        (family,) = read_openmetrics(await response.text())
    assert [(sample.name, sample.value) for sample in family.samples] == [("requests_total", 3)]
    async with session.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")


async def test_scrapes_at_one_time_share_a_rendering_that_holds_nobody_up(served):
    registry, session, taken, asked = served
    slow = Slow()
    slow.go.set()
    registry.register(slow)  # which collects once
    slow.go.clear()
    slow.threads.clear()
    scrapes = [asyncio.create_task(session.get("/metrics")) for _ in range(5)]
    async with asyncio.timeout(10):
        for _ in scrapes:
            await asked.acquire()
        scrapes.pop(0).cancel()  # who hangs up takes nothing from the others
        await session.get("/nothing")  # the loop turns
        slow.go.set()
        answers = await asyncio.gather(*scrapes)
    assert [answer.status for answer in answers] == [200] * 4
    assert slow.threads != [threading.main_thread()]
    assert (len(slow.threads), len(taken)) == (1, 1)
