"""The host's meter: totals that never fall, whoever dies, and energy that adds up."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lull.api.host import HostModelStatus, ModelHostStatus
from lull_runtime.agent.figures import with_figures
from lull_runtime.agent.meter import Held, Meter
from lull_runtime.measure.accelerator import Accelerator
from lull_runtime.measure.power import PowerProfile
from lull_runtime.measure.totals import Totals

GIB = 2**30
POWER = PowerProfile(idle=10, context=20, max=70, node=30)
SECOND_NS = 10**9
JOULE = 10**6


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Meter]:
    """Starts an agent's meter; once more, it is that of the next agent."""

    def meter(profile: PowerProfile = POWER) -> Meter:
        return Meter(tmp_path / "totals.json", profile, 4 * GIB)

    return meter


def counted(requests: int, busy_seconds: float = 0.0) -> Totals:
    return Totals(
        requests=requests, executions=requests, inferences=requests, busy_ns=round(busy_seconds * SECOND_NS)
    )


def look(meter: Meter, now: float, **models: Totals | None) -> None:
    meter.observe({key: Held(GIB, counters) for key, counters in models.items()}, now, triton_up=True)


def gpu(watts: float | None, joules: float | None, used_bytes: int = 0) -> Accelerator:
    return Accelerator("GPU-1", 1, 4 * GIB, used_bytes, 0.5, watts, joules)


def all_there_is(meter: Meter) -> int:
    """Energy of the accounts and the unallocated: the host's, while no placement left."""
    return meter.sums.unallocated + sum(a.idle + a.dynamic for a in meter.accounts.values())


def test_golden_runs_and_what_was_before_the_load_are_no_use(start):
    meter = start()
    meter.loaded("a", counted(3, 0.5), 0)
    look(meter, 1, a=counted(5, 0.75))
    assert meter.accounts["a"].totals == counted(2, 0.25)


def test_a_reload_neither_lowers_nor_doubles_the_totals(start):
    meter = start()
    meter.loaded("a", counted(1), 0)
    look(meter, 1, a=counted(11))
    look(meter, 2)  # Triton lost it
    meter.loaded("a", counted(1), 3)
    look(meter, 4, a=counted(1))
    assert meter.accounts["a"].totals.requests == 10
    look(meter, 5, a=counted(4))
    assert meter.accounts["a"].totals.requests == 13


def test_totals_survive_the_agent_and_the_gap_is_filled_from_tritons_counters(start):
    meter = start()
    meter.loaded("a", counted(0), 0)
    look(meter, 0, a=counted(0))
    look(meter, 10, a=counted(50, 5))
    meter.save()
    drawn = meter.sums.drawn

    after = start()
    assert (after.accounts["a"].totals.requests, after.sums.drawn) == (50, drawn)
    look(after, 110, a=counted(170, 25))
    assert after.accounts["a"].totals == counted(170, 25)
    assert after.sums.drawn - drawn == 100 * (10 + 20 + 30) * JOULE + 20 * 40 * JOULE
    assert all_there_is(after) == after.sums.drawn


def test_what_an_agent_that_was_killed_had_not_saved_comes_from_the_counters_too(start):
    meter = start()
    meter.loaded("a", counted(0), 0)
    look(meter, 1, a=counted(5))
    meter.save()
    look(meter, 2, a=counted(9))
    after = start()
    look(after, 3, a=counted(12))
    assert after.accounts["a"].totals.requests == 12


def test_a_file_that_is_not_understood_starts_from_nothing(start, tmp_path: Path):
    (tmp_path / "totals.json").write_text('{"settled": 1}')
    meter = start()
    look(meter, 2, a=counted(7))
    assert meter.accounts["a"].totals.requests == 0  # unknown when they were counted
    assert meter.sums.drawn == 0


def test_a_clock_that_began_anew_takes_no_energy_back(start):
    meter = start()
    look(meter, 1000, a=counted(0))
    look(meter, 1020, a=counted(0))
    meter.save()
    after = start()
    look(after, 5, a=counted(0))
    assert after.sums.drawn == meter.sums.drawn


def test_modelled_energy_is_the_models_and_adds_up(start):
    meter = start()
    meter.loaded("a", Totals(), 0)
    meter.loaded("b", Totals(), 0)
    for second in range(101):
        look(meter, second, a=counted(0, second * 0.3), b=counted(0, second * 0.1))
    a, b = meter.accounts["a"], meter.accounts["b"]
    assert meter.basis == "Modelled"
    assert meter.sums.drawn == pytest.approx(100 * (60 + 0.4 * 40) * JOULE)
    assert a.dynamic == pytest.approx(3 * b.dynamic, rel=1e-6)
    assert a.idle == b.idle == 100 * (40 // 4 + 10) * JOULE
    assert all_there_is(meter) == meter.sums.drawn


def test_measured_energy_is_the_sensors_counter_and_the_nodes_share(start):
    meter = start()
    meter.loaded("a", Totals(), 0)
    look(meter, 0, a=Totals())
    meter.read(gpu(50, 1000), 0)
    begun = meter.sums.drawn
    for second in range(1, 61):
        look(meter, second, a=counted(0, second * 0.2))
        if second % 10 == 0:
            meter.read(
                gpu(200 if second == 30 else 50, 1000 + second * 42), second
            )  # the gauge is a moment's
    assert meter.basis == "Measured"
    assert meter.sums.drawn - begun == pytest.approx(60 * (42 + 30) * JOULE, rel=0.05)
    meter.settle(60)
    assert all_there_is(meter) == meter.sums.drawn


def test_a_sensor_that_began_anew_with_triton_gives_no_negative_energy(start):
    meter = start()
    look(meter, 0, a=Totals())
    meter.read(gpu(50, 9000), 0)
    before = meter.sums.drawn
    meter.read(gpu(60, 12), 10)
    assert meter.sums.drawn - before == 10 * (60 + 30) * JOULE


def test_nobody_guesses_where_neither_sensor_nor_profile_is(start):
    meter = start(PowerProfile())
    look(meter, 0, a=Totals())
    look(meter, 50, a=counted(9, 5))
    status = with_figures(host("a"), {"a": "a"}, meter, {})
    assert meter.power() is None
    assert status.energy is status.watts is status.models[0].energy is None
    assert status.models[0].counters.requests == 9


def test_a_placement_that_leaves_leaves_its_energy_with_the_host(start):
    meter = start()
    for second in (0, 10, 20):
        look(meter, second, a=counted(0, second * 0.5))
    drawn = meter.sums.drawn
    meter.keep_only([], 25)
    assert not meter.accounts
    assert meter.sums.drawn == drawn + 5 * 60 * JOULE
    look(meter, 26)
    assert meter.sums.unallocated > 0


def test_status_adds_up_in_whole_milliwatts(start):
    meter = start()
    for second in range(61):
        look(
            meter,
            second,
            a=counted(second, second / 7),
            b=counted(second, second / 9),
            c=counted(0, second / 11),
        )
    status = with_figures(host("a", "b", "c"), {}, meter, {})
    parts = sum(m.energy.idle_milliwatts + m.energy.dynamic_milliwatts for m in status.models)
    assert parts + status.energy.unallocated_milliwatts == status.energy.milliwatts
    assert status.watts == f"{status.energy.milliwatts / 1000:.0f}"
    assert status.busy_percent == pytest.approx(100 * (1 / 7 + 1 / 9 + 1 / 11), abs=1)


def test_latencies_are_told_with_three_digits_and_only_while_somebody_asks(start):
    meter = start()
    for second in range(61):
        look(meter, second, a=counted(second), b=counted(0))
    slow = {0.5: 0.000145, 0.95: 0.01234, 0.99: 1.24}
    a, b = with_figures(host("a", "b"), {"a": "x", "b": "y"}, meter, {"x": slow, "y": slow}).models
    assert (a.utilization.latency_p50, a.utilization.latency_p95, a.utilization.latency_p99) == (
        "0.14ms",
        "12.3ms",
        "1.2s",
    )
    assert a.utilization.requests_per_minute == 60
    assert a.utilization.window == "60s"
    assert b.utilization.latency_p50 is None


def host(*placements: str) -> ModelHostStatus:
    models = [HostModelStatus(id=key, service=f"demo/{key}", state="Ready") for key in placements]
    return ModelHostStatus(models=models, conditions=[])


def test_told_parts_are_never_less_than_the_host_so_that_savings_are_careful(start):
    meter = start(PowerProfile(idle=0.3, context=0.3, max=0.7, node=0.3))
    for now in range(20):
        look(meter, now * 10.7, a=counted(now, now * 3.3), b=counted(now))
        said = with_figures(host("a", "b"), {}, meter, {})
        parts = sum(one.energy.idle_joules for one in said.models)
        assert parts + said.energy.unallocated_joules >= said.energy.joules - said.energy.dynamic_joules
