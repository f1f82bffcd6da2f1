"""What is told of a model's use is what its clients asked of a real Triton."""

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from lull_runtime.measure.accelerator import read_metrics

from .conftest import IDENTITY, POWER, Bench, as_array, eventually, model

SERVICE_SECONDS = 0.05
"""The least: on a machine that is busy a sleep takes longer, up to twice as long here."""
MODEL = f"""
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep({SERVICE_SECONDS})
        inputs = [pb_utils.get_input_tensor_by_name(request, "input").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("output", array)]) for array in inputs]
"""


@pytest.fixture
async def slow(bench: Bench, tmp_path: Path) -> Bench:
    """A host that serves a model of a known service time."""
    source = tmp_path / "source"
    (source / "1").mkdir(parents=True)
    config = (IDENTITY / "config.pbtxt").read_text()
    (source / "config.pbtxt").write_text(config.replace("identity", "slow"))
    (source / "1" / "model.py").write_text(MODEL)
    bench.host.set_desired([model("slow", bench.put("slow.tar", source))])
    await bench.until("slow-1", "Ready")
    return bench


async def ask(bench: Bench, requests: int, each_seconds: float) -> None:
    """An open loop: requests at fixed times, whatever becomes of those before."""
    started, asked = time.perf_counter(), []
    for number in range(requests):
        await asyncio.sleep(max(0.0, started + number * each_seconds - time.perf_counter()))
        inputs, types = {"input": as_array(number)}, {"input": "FP32"}
        asked.append(asyncio.create_task(bench.driver.infer("slow", inputs, types)))
    await asyncio.gather(*asked)


def requests(bench: Bench) -> int:
    account = bench.meter.accounts.get("slow-1")
    return account.totals.requests if account else 0


async def test_rate_busy_share_batches_and_latency_are_those_of_the_load(slow: Bench):
    await ask(slow, 60, each_seconds=0.1)
    await eventually(lambda: requests(slow) == 60)
    rates = slow.meter.rates("slow-1")
    assert rates.requests_per_second * rates.seconds == pytest.approx(60)
    assert 60 * SERVICE_SECONDS <= rates.busy_ratio * rates.seconds < 120 * SERVICE_SECONDS
    assert rates.batch_size == 1
    assert rates.queue_seconds < SERVICE_SECONDS
    async with aiohttp.ClientSession() as session:
        reading = await read_metrics(session, f"http://{slow.triton.address}:8002/metrics")
    assert reading.accelerator is None
    assert SERVICE_SECONDS <= reading.latencies["slow"][0.5] < 2 * SERVICE_SECONDS
    assert SERVICE_SECONDS <= reading.latencies["slow"][0.99] < 10 * SERVICE_SECONDS


async def test_energy_is_the_modelled_draw_over_time(slow: Bench):
    meter = slow.meter
    await eventually(lambda: "slow-1" in meter._kept.held)
    meter.settle(began := time.monotonic())
    account = meter.accounts["slow-1"]
    before, dynamic, busy_ns = meter.sums.drawn, account.dynamic, account.totals.busy_ns
    await ask(slow, 40, each_seconds=0.1)
    await eventually(lambda: requests(slow) == 40)
    await slow.host.metering.look_last()
    seconds = time.monotonic() - began
    kept_watts = POWER.idle + POWER.context + POWER.node
    span_watts = POWER.max - POWER.idle - POWER.context
    busy_seconds = (account.totals.busy_ns - busy_ns) / 1e9
    assert 40 * SERVICE_SECONDS <= busy_seconds < 80 * SERVICE_SECONDS
    expected_dynamic = busy_seconds * span_watts
    assert (account.dynamic - dynamic) / 1e6 == pytest.approx(expected_dynamic, rel=0.01)
    assert (meter.sums.drawn - before) / 1e6 == pytest.approx(
        seconds * kept_watts + expected_dynamic, rel=0.02
    )


async def test_totals_go_on_after_triton_was_killed(slow: Bench):
    await ask(slow, 5, 0.05)
    await eventually(lambda: requests(slow) == 5)
    slow.triton.kill()
    await slow.until("slow-1", "Loading")
    slow.triton.start()
    await slow.until("slow-1", "Ready")
    assert requests(slow) == 5
    await ask(slow, 3, 0.05)
    await eventually(lambda: requests(slow) == 8)


async def test_totals_go_on_after_the_agent_died_and_count_what_it_missed(slow: Bench):
    wanted = list(slow.host._desired.values())
    await ask(slow, 5, 0.05)
    await eventually(lambda: requests(slow) == 5)
    slow.meter.settle(died := time.monotonic())
    await slow.meter.keep(flush=True)  # as before anything is told
    drawn, busy_ns = slow.meter.sums.drawn, slow.meter.accounts["slow-1"].totals.busy_ns
    await slow.stop_agent()

    slow.start_agent()
    await ask(slow, 4, 0.05)  # the new one knows nothing yet of what is wanted
    slow.host.set_desired(wanted)
    await slow.until("slow-1", "Ready")
    await eventually(lambda: requests(slow) == 9)
    missed_seconds = (slow.meter.accounts["slow-1"].totals.busy_ns - busy_ns) / 1e9
    assert 4 * SERVICE_SECONDS <= missed_seconds < 8 * SERVICE_SECONDS
    slow.meter.settle(now := time.monotonic())
    kept_watts = POWER.idle + POWER.context + POWER.node
    expected = (now - died) * kept_watts + missed_seconds * (POWER.max - POWER.idle - POWER.context)
    assert (slow.meter.sums.drawn - drawn) / 1e6 == pytest.approx(expected, rel=0.02)


async def test_the_last_totals_are_told_before_a_model_is_gone(slow: Bench):
    told = []
    slow.reporter.on_told = lambda: told.append(requests(slow))
    await ask(slow, 7, 0.05)
    slow.host.set_desired([])
    await slow.until("slow-1", None)
    assert told == [7]
    assert not slow.meter.accounts


async def test_golden_runs_are_no_requests(bench: Bench, digits):
    bench.put("digits.tar", digits.path)
    bench.host.set_desired([model("digits", digits.digest)])
    await bench.until("digits-1", "Ready")
    await eventually(lambda: bench.meter.rates("digits-1") is not None)
    usage = (await bench.driver.usage("digits"))["digits"].totals
    assert usage.requests > 0
    assert bench.meter.accounts["digits-1"].totals.requests == 0
    assert bench.meter.accounts["digits-1"].totals.busy_ns == 0
