"""What Prometheus is told."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from lull.api.host import HostModelStatus
from lull.exposition import Exposition
from lull_runtime.agent import probes
from lull_runtime.agent.meter import Held, Meter
from lull_runtime.agent.metrics import Exposed, MeterCollector
from lull_runtime.measure.accelerator import Accelerator
from lull_runtime.measure.power import PowerProfile
from lull_runtime.measure.totals import Totals

GIB = 2**30
LABELS = {
    "modelservice_namespace": "demo",
    "modelservice": "m0",
    "placement": "p0",
    "modelhost": "host-1",
    "modelpool": "gpus",
}


@pytest.fixture
def meter(tmp_path: Path) -> Meter:
    return Meter(tmp_path / "totals.json", PowerProfile(10, 20, 70, 30), 4 * GIB)


def registry(meter: Meter, models: int = 1) -> CollectorRegistry:
    statuses = [HostModelStatus(id=f"p{n}", service=f"demo/m{n}", state="Ready") for n in range(models)]
    latencies = {f"wire{n}": {0.5: 0.001, 0.95: 0.002, 0.99: 0.003} for n in range(models)}
    names = {f"p{n}": f"wire{n}" for n in range(models)}
    made = CollectorRegistry()
    collector = MeterCollector(
        lambda: Exposed("host-1", "gpus", statuses, names, meter, latencies, triton_up=True)
    )
    collector.take()
    made.register(collector)
    return made


def run(meter: Meter, models: int = 1) -> None:
    for second in range(61):
        counters = Totals(second * 4, second, second * 8 * 10**6, 10**6, second, second * 4, second * 10**8)
        meter.observe({f"p{n}": Held(GIB, counters) for n in range(models)}, second, triton_up=True)


def samples(meter: Meter, models: int = 1) -> dict[str, dict[frozenset, float]]:
    text = generate_latest(registry(meter, models)).decode()
    found: dict[str, dict[frozenset, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def test_a_placement_is_told_by_its_service_and_its_place(meter: Meter):
    run(meter)
    found = samples(meter)
    of_placement = frozenset(LABELS.items())
    assert found["lull_model_requests_total"] == {of_placement: 240}
    assert found["lull_model_failures_total"] == {of_placement: 60}
    assert found["lull_model_busy_seconds_total"] == {of_placement: 6}
    assert found["lull_model_batches_total"] == {of_placement: 60}
    assert found["lull_model_latency_seconds_count"] == {of_placement: 240}
    assert found["lull_model_latency_seconds_sum"][of_placement] == pytest.approx(0.48)
    assert found["lull_model_latency_seconds"][frozenset({**LABELS, "quantile": "0.99"}.items())] == 0.003
    assert found["lull_placement_state"] == {frozenset({**LABELS, "state": "Ready"}.items()): 1}


def test_power_and_energy_add_up(meter: Meter):
    run(meter, 3)
    found = samples(meter, 3)
    for kind in ("power_watts", "energy_joules_total"):
        [whole] = found[f"lull_host_{kind}"].values()
        [unallocated] = found[f"lull_host_unallocated_{kind}"].values()
        assert sum(found[f"lull_model_{kind}"].values()) + unallocated == pytest.approx(whole)


def test_a_host_without_known_draw_tells_no_watts(tmp_path: Path):
    meter = Meter(tmp_path / "totals.json", PowerProfile(), None)
    run(meter)
    assert not [name for name in samples(meter) if "power" in name or "energy" in name]


def test_the_residual_is_what_no_model_accounts_for(meter: Meter):
    run(meter, 2)
    assert "lull_host_memory_residual_bytes" not in samples(meter, 2)
    meter.read(Accelerator("GPU-1", 1, 80 * GIB, 5 * GIB, 0.25, 300.0, 10.0), 61)
    found = samples(meter, 2)
    assert list(found["lull_host_memory_residual_bytes"].values()) == [3 * GIB]
    assert list(found["lull_host_memory_used_bytes"].values()) == [5 * GIB]
    assert list(found["lull_host_memory_bytes"].values()) == [80 * GIB]
    assert list(found["lull_host_accelerator_utilization_ratio"].values()) == [0.25]


def test_energy_of_either_basis_is_a_counter_of_its_own(meter: Meter):
    run(meter)
    before = samples(meter)["lull_host_energy_joules_total"]
    assert [dict(labels)["basis"] for labels in before] == ["Modelled"]
    meter.read(Accelerator("GPU-1", 1, 80 * GIB, 5 * GIB, 0.25, 300.0, 10.0), 61)
    meter.read(Accelerator("GPU-1", 1, 80 * GIB, 5 * GIB, 0.25, 300.0, 1010.0), 71)
    after = {
        dict(labels)["basis"]: value
        for labels, value in samples(meter)["lull_host_energy_joules_total"].items()
    }
    assert after.keys() == {"Measured", "Modelled"}
    assert after["Modelled"] == pytest.approx(sum(before.values()), rel=0.05)


def test_a_model_that_nobody_asks_has_no_latencies(meter: Meter):
    for second in range(61):
        meter.observe({"p0": Held(GIB, Totals())}, second, triton_up=True)
    assert "lull_model_latency_seconds" not in samples(meter)


async def test_metrics_are_openmetrics_where_that_is_asked_for(meter: Meter):
    refreshed = asyncio.Event()

    async def refresh() -> None:
        refreshed.set()

    address = "127.77.3.9"
    runner = await probes.serve(address, lambda: True, Exposition(registry(meter), refresh))
    try:
        async with aiohttp.ClientSession() as session:
            url = f"http://{address}:8080/metrics"
            headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
            async with session.get(url, headers=headers) as response:
                assert response.headers["Content-Type"].startswith("application/openmetrics-text")
                assert (await response.text()).endswith("# EOF\n")
            async with session.get(url) as response:
                assert response.headers["Content-Type"].startswith("text/plain")
        assert refreshed.is_set()
    finally:
        await runner.cleanup()
