"""When Triton's metrics are read, and what becomes of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
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
        self.text: str | bytes = METRICS
        self.status = 200

    async def metrics(self, _: web.Request) -> web.Response:
        self.asked += 1
        body = self.text if isinstance(self.text, bytes) else self.text.encode()
        return web.Response(body=body, status=self.status)


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


class Watched(Readings):
    """Readings, and what became of them."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession) -> None:
        self.meter = Meter(folder / "totals.json", PowerProfile(), None)
        self.found = 0
        self.session = session
        super().__init__(f"http://{ADDRESS}:8002/metrics", self.meter, self.note)

    def note(self) -> None:
        self.found += 1

    async def once(self) -> None:
        await self.look(self.session)


@pytest.fixture
async def readings(tmp_path: Path) -> AsyncIterator[Watched]:
    async with aiohttp.ClientSession() as session:
        yield Watched(tmp_path, session)


async def test_an_accelerator_is_told_of_once_it_is_found(triton: FakeTriton, readings: Watched):
    await readings.once()
    await readings.once()
    assert readings.meter.accelerator.count == 2
    assert readings.meter.basis == "Measured"
    assert readings.latencies["identity"][0.5] == 0.000145
    assert readings.found == 1


async def test_memory_that_triton_tells_late_is_told_once_it_is_known(triton: FakeTriton, readings: Watched):
    triton.text = METRICS.replace(" 16944988160.000000", " 0.000000")
    await readings.once()
    assert readings.meter.accelerator is None
    triton.text = METRICS
    await readings.once()
    await readings.once()
    assert readings.meter.capacity_bytes == 2 * 16944988160
    assert readings.found == 1


async def test_a_sensor_that_does_not_answer_for_long_is_lost(
    triton: FakeTriton, readings: Watched, monkeypatch
):
    await readings.once()
    triton.status = 503
    await readings.once()
    assert readings.meter.basis == "Measured"  # once is no loss
    assert readings.latencies == {}
    monkeypatch.setattr("lull_runtime.agent.readings._LOST_SECONDS", 0.0)
    await readings.once()
    assert readings.meter.basis is None
    assert readings.meter.capacity_bytes == 2 * 16944988160


@pytest.mark.parametrize("body", [b"\xff\xfe", b"x" * 100, b"{" * 50, b"nv_gpu_power_usage{} +Inf"])
async def test_what_is_no_metrics_is_no_reading_and_kills_nobody(
    triton: FakeTriton, readings: Watched, monkeypatch, body: bytes
):
    monkeypatch.setattr("lull_runtime.measure.accelerator._MOST_BYTES", 80)
    triton.text = body
    await readings.once()
    assert readings.meter.accelerator is None


async def test_a_triton_that_is_away_is_looked_for_at_the_same_pace(readings: Watched, monkeypatch):
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr("lull_runtime.agent.readings.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await readings.run()
    assert min(slept) >= 10
