"""What Prometheus is shown of services, pools and hosts is what the ledger says, and only what is known."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from lull.controller.collector import FleetCollector
from lull.controller.figures import PoolFigures, ServiceFigures
from lull.policy import Host, Model, Placement, Pod, State

UNKNOWN = ServiceFigures("cpu", "Waking", "LoadFailed", "", 60.0, None, 0, 1, *[None] * 7)
KNOWN = ServiceFigures(
    "cpu", "Serving", "", "Stepping", 30.0, 1.5, 10, 2, 0.2, 12.5, 100.5, 20.25, 500.0, 60.0, 3.5
)
POOL = PoolFigures(1000, 250, 0.25, 0.5, 90.0, 1e6, 2e6, 42.0, 0.02, 0.01)


def host(name, pod=Pod.RUNNING, *states, cordoned=False):
    placements = tuple(
        Placement(f"{name}-{i}", "demo/a", Model("r", "a", "file:///a"), 1, 60.0, state)
        for i, state in enumerate(states)
    )
    return Host(name, "cpu", placements, pod=pod, cordoned=cordoned)


class Source:
    """Stands for the ledger and for the view."""

    def __init__(self):
        self.figures = {"demo/a": KNOWN, "demo/b": UNKNOWN}
        self.pools_known = {"cpu": POOL}

    def services(self):
        yield from list(self.figures.items())

    def pools(self):
        return dict(self.pools_known)


class Fleet:
    def __init__(self, *hosts):
        self.pools = {"cpu": None, "gpu": None}
        self.hosts = {item.name: item for item in hosts}


@pytest.fixture
def shown():
    """Return what is scraped, as {(name, *sorted labels): value}; strictly parsed."""
    registry, collector = CollectorRegistry(), FleetCollector()
    registry.register(collector)

    async def scrape(ledger, view):
        collector.follow(ledger, view)
        await collector.take()
        families = text_string_to_metric_families(generate_latest(registry).decode())
        samples = [sample for family in families for sample in family.samples]
        series = {(s.name, *sorted(s.labels.items())): s.value for s in samples}
        assert len(series) == len(samples)
        return series

    scrape.registry = registry
    return scrape


def of(name, service="a", **labels):
    of_service = {"modelservice_namespace": "demo", "modelservice": service}
    return (name, *sorted({**of_service, **labels}.items()))


async def test_every_figure_of_a_service_is_shown_at_full_resolution(shown):
    series = await shown(Source(), Fleet())
    assert {key: value for key, value in series.items() if ("modelservice", "a") in key} == {
        of("lull_service_info", modelpool="cpu"): 1,
        of("lull_service_state", state="Serving"): 1,
        of("lull_service_rollout", phase="Stepping"): 1,
        of("lull_service_requests_total"): 10,
        of("lull_service_delayed_requests_total"): 2,
        of("lull_service_energy_joules_total", part="idle"): 100.5,
        of("lull_service_energy_joules_total", part="dynamic"): 20.25,
        of("lull_service_baseline_energy_joules_total"): 500,
        of("lull_service_overhead_energy_joules_total"): 60,
        of("lull_service_carbon_grams_total"): 3.5,
        of("lull_service_power_watts"): 12.5,
        of("lull_service_wake_seconds"): 1.5,
        of("lull_service_objective_delayed_ratio"): 0.2,
        of("lull_service_hold_timeout_seconds"): 30,
    }


async def test_what_is_not_known_is_left_out_and_never_zero(shown):
    series = await shown(Source(), Fleet())
    assert {key: value for key, value in series.items() if ("modelservice", "b") in key} == {
        of("lull_service_info", "b", modelpool="cpu"): 1,
        of("lull_service_state", "b", state="Waking"): 1,
        of("lull_service_stalled", "b", reason="LoadFailed"): 1,
        of("lull_service_requests_total", "b"): 0,
        of("lull_service_delayed_requests_total", "b"): 1,
        of("lull_service_hold_timeout_seconds", "b"): 60,
    }


async def test_a_pool_is_shown_with_its_use_and_what_perfect_packing_would_emit(shown):
    series = await shown(Source(), Fleet())
    pool = ("modelpool", "cpu")
    assert {key: value for key, value in series.items() if key[0].startswith("lull_pool")} == {
        ("lull_pool_energy_joules_total", pool): 1e6,
        ("lull_pool_baseline_energy_joules_total", pool): 2e6,
        ("lull_pool_power_watts", pool): 90,
        ("lull_pool_carbon_grams_total", pool): 42,
        ("lull_pool_utilization_ratio", pool, ("resource", "memory")): 0.25,
        ("lull_pool_utilization_ratio", pool, ("resource", "busy")): 0.5,
        ("lull_pool_carbon_grams_per_request", pool, ("packing", "present")): 0.02,
        ("lull_pool_carbon_grams_per_request", pool, ("packing", "perfect")): 0.01,
        ("lull_pool_memory_bytes", ("kind", "supply"), pool): 1000,
        ("lull_pool_memory_bytes", ("kind", "used"), pool): 250,
    }


async def test_hosts_are_counted_by_what_they_do_and_a_pool_without_any_says_so(shown):
    hosts = [
        host("serving", Pod.RUNNING, State.RESIDENT, State.LOADED),
        host("idle", Pod.RUNNING, State.RESIDENT),
        host("empty", Pod.RUNNING),
        host("starting", Pod.STARTING, State.LOADED),
        host("unready", Pod.UNREADY, State.LOADED),
        host("ending", Pod.TERMINATING, State.LOADED),
        host("emptied", Pod.RUNNING, State.LOADED, cordoned=True),
    ]
    series = await shown(Source(), Fleet(*hosts))

    def count(pool, state):
        return series["lull_hosts", ("modelpool", pool), ("state", state)]

    states = ("serving", "idle", "starting", "draining", "unready")
    assert [count("cpu", state) for state in states] == [1, 2, 1, 2, 1]
    assert [count("gpu", state) for state in states] == [0] * 5


async def test_figures_that_change_while_they_are_shown_are_those_that_were_taken(shown):
    source = Source()
    before = await shown(source, Fleet())
    source.figures["demo/c"] = KNOWN
    assert generate_latest(shown.registry).decode().count('modelservice="c"') == 0
    assert len(await shown(source, Fleet())) > len(before)
