"""When Triton's metrics are read, and what becomes of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from lull_runtime.agent.meter import Meter
from lull_runtime.agent.readings import Readings
from lull_runtime.measure.power import PowerProfile

METRICS = (Path(__file__).parent / "data" / "triton_metrics_two_gpus.txt").read_text()
ADDRESS = "127.78.4.2"


class FakeTriton:
    def __init__(self) -> None:
        self.asked = 0
        self.text = METRICS

    async def metrics(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(text=self.text)


@pytest.fixture
async def triton() -> AsyncIterator[FakeTriton]:
    fake = FakeTriton()
    application = web.Application()
    application.add_routes([web.get("/metrics", fake.metrics)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, ADDRESS, 8002).start()
    yield fake
    await runner.cleanup()


@pytest.fixture
async def readings(tmp_path: Path) -> AsyncIterator[Readings]:
    meter = Meter(tmp_path / "totals.json", PowerProfile(), None)
    found = []
    made = Readings(f"http://{ADDRESS}:8002/metrics", meter, lambda: found.append(1))
    made.meter, made.found = meter, found
    yield made
    await made.close()


async def test_many_who_want_figures_at_once_are_one_look(triton: FakeTriton, readings: Readings):
    assert all(await asyncio.gather(*(readings.refresh() for _ in range(20))))
    assert triton.asked == 1
    assert readings.latencies["identity"][0.5] == 0.000145


async def test_an_accelerator_is_told_of_once_it_is_found(
    triton: FakeTriton, readings: Readings, monkeypatch
):
    monkeypatch.setattr("lull_runtime.agent.readings._FRESH_SECONDS", 0.0)
    await readings.refresh()
    await readings.refresh()
    assert readings.meter.accelerator.count == 2
    assert readings.meter.basis == "Measured"
    assert readings.found == [1]


async def test_memory_that_triton_tells_late_is_told_too(triton: FakeTriton, readings: Readings, monkeypatch):
    monkeypatch.setattr("lull_runtime.agent.readings._FRESH_SECONDS", 0.0)
    triton.text = METRICS.replace(" 16944988160.000000", " 0.000000")
    await readings.refresh()
    triton.text = METRICS
    await readings.refresh()
    await readings.refresh()
    assert readings.meter.capacity_bytes == 2 * 16944988160
    assert readings.found == [1, 1]


async def test_a_host_without_accelerator_is_not_followed(
    triton: FakeTriton, readings: Readings, monkeypatch
):
    monkeypatch.setattr("lull_runtime.agent.readings._SENSOR_SECONDS", 0.0)
    triton.text = ""
    async with asyncio.timeout(5):
        await readings.run()
    assert triton.asked == 1


async def test_a_triton_that_is_away_is_waited_for(readings: Readings):
    assert not await readings.refresh()
    assert readings.latencies == {}
