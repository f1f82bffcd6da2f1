"""The host's meter: totals that never fall, whoever dies, and energy that adds up."""

import random
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lull.api.host import Counters, HostEnergy, HostModelEnergy, HostModelStatus, ModelHostStatus
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


def all_drawn(meter: Meter) -> int:
    """Energy that was drawn, that which waits for the inference that it is for included."""
    return meter.sums.drawn + sum(energy for _, energy in meter._kept.pot.waiting)


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


async def test_totals_survive_the_agent_and_the_gap_is_filled_from_tritons_counters(start):
    meter = start()
    meter.loaded("a", counted(0), 0)
    look(meter, 0, a=counted(0))
    look(meter, 10, a=counted(50, 5))
    await meter.keep(flush=True)
    drawn = meter.sums.drawn

    after = start()
    assert (after.accounts["a"].totals.requests, after.sums.drawn) == (50, drawn)
    look(after, 110, a=counted(170, 25))
    assert after.accounts["a"].totals == counted(170, 25)
    assert after.sums.drawn - drawn == 100 * (10 + 20 + 30) * JOULE + 20 * 40 * JOULE
    assert all_there_is(after) == after.sums.drawn


async def test_what_an_agent_that_was_killed_had_not_saved_comes_from_the_counters_too(start):
    meter = start()
    meter.loaded("a", counted(0), 0)
    look(meter, 1, a=counted(5))
    await meter.keep(flush=True)
    look(meter, 2, a=counted(9))
    after = start()
    look(after, 3, a=counted(12))
    assert after.accounts["a"].totals.requests == 12


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "7",
        "\xff",
        '{"accounts": []}',
        '{"accounts": {"a": [1]}}',
        '{"sums": {"busy_ns": "x"}}',
    ],
)
def test_a_file_that_is_not_understood_starts_from_nothing(start, tmp_path: Path, content: str):
    (tmp_path / "totals.json").write_text(content, encoding="latin-1")
    meter = start()
    look(meter, 2, a=counted(7))
    assert meter.accounts["a"].totals.requests == 0  # unknown when they were counted
    assert meter.sums.drawn == 0


async def test_a_clock_that_began_anew_takes_no_energy_back(start):
    meter = start()
    look(meter, 1000, a=counted(0))
    look(meter, 1020, a=counted(0))
    await meter.keep(flush=True)
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
    before = all_drawn(meter)
    meter.read(gpu(60, 12), 10)
    assert all_drawn(meter) - before == 10 * (60 + 30) * JOULE


def test_nobody_guesses_where_neither_sensor_nor_profile_is(start):
    meter = start(PowerProfile())
    look(meter, 0, a=Totals())
    look(meter, 50, a=counted(9, 5))
    status = with_figures(host("a"), {"a": "a"}, meter, {}, {})
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
    status = with_figures(host("a", "b", "c"), {}, meter, {}, {})
    parts = sum(m.energy.idle_milliwatts + m.energy.dynamic_milliwatts for m in status.models)
    assert parts + status.energy.unallocated_milliwatts == status.energy.milliwatts
    assert status.watts == f"{status.energy.milliwatts / 1000:.0f}"
    assert status.busy_percent == pytest.approx(100 * (1 / 7 + 1 / 9 + 1 / 11), abs=1)


def test_latencies_are_told_with_three_digits_and_only_while_somebody_asks(start):
    meter = start()
    for second in range(61):
        look(meter, second, a=counted(second), b=counted(0))
    slow = {0.5: 0.000145, 0.95: 0.01234, 0.99: 1.24}
    a, b = with_figures(host("a", "b"), {"a": "x", "b": "y"}, meter, {"x": slow, "y": slow}, {}).models
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
        said = with_figures(host("a", "b"), {}, meter, {}, {})
        parts = sum(one.energy.idle_joules for one in said.models)
        assert parts + said.energy.unallocated_joules >= said.energy.joules - said.energy.dynamic_joules


# ── Who computed, whenever it shows ──

SPAN_WATTS = POWER.max - POWER.idle - POWER.context


class Load:
    """Models that compute alternately: how long by when, and how much of it shows."""

    def __init__(self, seconds: float, **models: tuple[float, float]) -> None:
        """Each is its service time, and the share of the time that it computes."""
        dice = random.Random(7)
        self.services = {key: service for key, (service, _) in models.items()}
        self.ends: dict[str, list[float]] = {}
        for key, (service, busy) in models.items():
            every = service / busy
            last = int((seconds - service) / every)
            phase = dice.random() * every
            self.ends[key] = [phase + n * every + service for n in range(last)]

    def shown(self, now: float) -> dict[str, Totals]:
        """What Triton counts by now: inferences that are done."""
        return {
            key: counted(done := bisect_right(ends, now), done * self.services[key])
            for key, ends in self.ends.items()
        }

    def computed(self, now: float) -> float:
        """Seconds computed by now, done or not."""
        done = sum(shown.busy_ns for shown in self.shown(now).values()) / SECOND_NS
        return done + sum(
            max(0.0, now - (ends[next_one] - self.services[key]))
            for key, ends in self.ends.items()
            if (next_one := bisect_right(ends, now)) < len(ends)
        )


def run_load(meter: Meter, load: Load, seconds: int, *, sensor: bool) -> None:
    for key in load.ends:
        meter.loaded(key, Totals(), 0)
    kept = POWER.idle + POWER.context
    for now in range(0, seconds + 1, 2):
        look(meter, now, **load.shown(now))
        if sensor and now % 10 == 0:
            meter.read(gpu(kept, kept * now + SPAN_WATTS * load.computed(now)), now)
        assert all_there_is(meter) == meter.sums.drawn


def test_modelled_inferences_longer_than_a_settlement_lose_no_energy(start):
    meter, load = start(), Load(600, a=(30.0, 1.0))
    run_load(meter, load, 700, sensor=False)
    busy_seconds = len(load.ends["a"]) * 30
    assert meter.accounts["a"].dynamic == pytest.approx(busy_seconds * SPAN_WATTS * JOULE, rel=0.001)


def test_modelled_draw_is_never_more_than_all_the_host_can(start):
    meter = start()
    meter.loaded("a", Totals(), 0)
    look(meter, 0, a=counted(0))
    before = meter.sums.drawn
    for now in range(10, 100, 10):
        look(meter, now, a=counted(1, 60.0))
        assert meter.sums.drawn - before <= 10 * (POWER.max + POWER.node) * JOULE
        before = meter.sums.drawn


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.01, 0.5, 7.0, 30.0, 60.0]), st.floats(0.1, 0.3)), min_size=2, max_size=3
    ),
    st.booleans(),
)
def test_whoever_computes_is_charged_however_long_its_inferences_take(tmp_path_factory, models, sensor):
    meter = Meter(tmp_path_factory.mktemp("meter") / "totals.json", POWER, 4 * GIB)
    seconds = 3600
    load = Load(seconds, **{f"m{n}": model for n, model in enumerate(models)})
    run_load(meter, load, seconds + 100, sensor=sensor)
    busy = {key: account.totals.busy_ns for key, account in meter.accounts.items()}
    dynamic = {key: account.dynamic for key, account in meter.accounts.items()}
    for key in busy:
        share = busy[key] / sum(busy.values())
        assert dynamic[key] / sum(dynamic.values()) == pytest.approx(share, abs=0.06)
    computed = sum(busy.values()) / SECOND_NS
    assert sum(dynamic.values()) / JOULE == pytest.approx(computed * SPAN_WATTS, rel=0.05)


def test_slow_inferences_pay_for_themselves_where_a_sensor_measures(start):
    meter = start()
    run_load(meter, Load(3600, slow=(60.0, 0.9), fast=(0.01, 0.1)), 3600, sensor=True)
    slow, fast = meter.accounts["slow"], meter.accounts["fast"]
    assert slow.dynamic / (slow.dynamic + fast.dynamic) == pytest.approx(0.9, abs=0.02)


def test_what_a_sensor_measures_while_nobody_computes_is_nobodys_in_the_end(start):
    meter = start()
    meter.loaded("a", Totals(), 0)
    for now in range(0, 601, 10):
        look(meter, now, a=counted(0))
        meter.read(gpu(80, 80.0 * now), now)
    assert meter.accounts["a"].dynamic == 0
    # Free memory and the node's share of it aside, at least all but two minutes of the surplus.
    assert meter.sums.unallocated >= 470 * 50 * JOULE
    assert all_there_is(meter) == meter.sums.drawn


# ── What is no longer true is not told ──


def test_a_placement_that_is_not_looked_at_has_no_rates(start):
    meter = start()
    for second in range(61):
        look(meter, second, a=counted(second * 10), b=counted(0))
    assert meter.active
    for second in range(61, 70):
        look(meter, second, a=None, b=counted(0))
    assert meter.rates("a") is None
    assert not meter.active
    look(meter, 70, b=counted(0))
    assert meter.rates("a") is None
    assert meter.rates("b") is not None


def test_a_sensor_that_no_longer_answers_is_not_believed(start):
    meter = start()
    look(meter, 0, a=counted(0))
    meter.read(gpu(700, 0, GIB), 0)
    meter.read(gpu(700, 7000, GIB), 10)
    meter.lose(40)
    before = all_drawn(meter)
    look(meter, 1000, a=counted(0))
    assert meter.basis == "Modelled"
    assert (meter.accelerator.watts, meter.accelerator.memory_used_bytes) == (None, None)
    assert meter.capacity_bytes == 4 * GIB
    assert all_drawn(meter) - before == 960 * (10 + 20 + 30) * JOULE
    meter.read(gpu(50, 3, GIB), 1010)
    meter.read(gpu(50, 503, GIB), 1020)
    assert meter.basis == "Measured"
    assert all_drawn(meter) - before == (970 * (10 + 20 + 30) + 10 * (50 + 30)) * JOULE


def test_a_triton_that_is_down_draws_no_measured_watts(start):
    meter = start()
    look(meter, 0, a=counted(0))
    meter.read(gpu(700, 0), 0)
    meter.observe({}, 1, triton_up=False)
    assert (meter.basis, meter.power().draw.total) == ("Modelled", 40 * JOULE)


def test_a_counter_that_began_anew_holds_nothing_back(start):
    meter = start()
    look(meter, 0, a=counted(0))
    meter.read(gpu(700, 9000), 0)
    meter.settle(1000)  # charged by the last watts
    meter.read(gpu(50, 0), 1000)
    before = all_drawn(meter)
    meter.read(gpu(50, 500), 1010)
    assert all_drawn(meter) - before == 10 * (50 + 30) * JOULE


def test_a_reading_before_triton_looked_at_its_devices_is_none(start):
    meter = start()
    meter.read(Accelerator("GPU-1", 1, 0, 0, None, None, None), 0)
    assert meter.accelerator is None


def test_what_is_measured_and_what_is_modelled_are_summed_apart(start):
    meter = start()
    look(meter, 0, a=counted(0))
    look(meter, 100, a=counted(0))
    modelled = meter.sums.modelled
    meter.read(gpu(30, 0), 100)
    meter.read(gpu(30, 300), 110)
    assert (meter.sums.modelled, meter.sums.measured) == (modelled, 10 * (30 + 30) * JOULE)
    assert meter.sums.drawn == modelled + meter.sums.measured


def test_totals_whose_file_is_lost_go_on_from_what_was_told(start):
    told = ModelHostStatus(
        models=[
            HostModelStatus(
                id="a",
                service="demo/a",
                state="Ready",
                counters=Counters(requests=70, failures=2),
                energy=HostModelEnergy(idle_joules=500, dynamic_joules=40),
            )
        ],
        energy=HostEnergy(basis="Modelled", joules=900, dynamic_joules=40, unallocated_joules=360),
        conditions=[],
    )
    meter = start()
    meter.take_up(told)
    meter.take_up(told)
    look(meter, 5, a=counted(7))  # unknown when they were counted
    assert (meter.accounts["a"].totals.requests, meter.sums.drawn) == (70, 900 * JOULE)
    look(meter, 15, a=counted(9))
    assert meter.accounts["a"].totals.requests == 72
    assert all_there_is(meter) == meter.sums.drawn


async def test_totals_whose_file_is_there_are_not_taken_up_twice(start):
    meter = start()
    look(meter, 0, a=counted(0))
    look(meter, 10, a=counted(50))
    await meter.keep(flush=True)
    after = start()
    told = ModelHostStatus(
        models=[HostModelStatus(id="a", service="demo/a", state="Ready", counters=Counters(requests=60))],
        conditions=[],
    )
    after.take_up(told)
    look(after, 20, a=counted(65))
    assert after.accounts["a"].totals.requests == 65


def test_a_host_that_is_new_does_not_take_up_its_own_figures(start):
    meter = start()
    meter.take_up(None)
    meter.take_up(ModelHostStatus(energy=HostEnergy(basis="Modelled", joules=900), conditions=[]))
    assert meter.sums.drawn == 0


def test_what_moved_is_told_anew_and_what_did_not_is_not_made_again(start):
    meter, made = start(), {}
    for second in range(61):
        look(meter, second, a=counted(second), b=counted(0))
    first = with_figures(host("a", "b"), {}, meter, {}, made)
    look(meter, 61, a=counted(90), b=counted(0))
    second = with_figures(host("a", "b"), {}, meter, {}, made)
    assert second.models[0].counters.requests == 90
    assert second.models[1] is first.models[1]
    assert second == with_figures(host("a", "b"), {}, meter, {}, {})
    with_figures(host("b"), {}, meter, {}, made)
    assert made.keys() == {"b"}
