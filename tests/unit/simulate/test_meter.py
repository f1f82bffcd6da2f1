"""The meter's sums, against examples worked out by hand."""

from dataclasses import replace

import pytest

from lull.policy.power import PowerProfile
from lull.simulate.meter import Meter
from lull.simulate.setting import HOLD_SECONDS, Setting
from unit.simulate.traces import trace

HOUR = 3600.0
SETTING = Setting(gpus_per_node=2, power=PowerProfile(50.0, 20.0, 170.0, 300.0), load_seconds=36.0)
OF = trace((0, "a", 1), (0, "b", 1), length_seconds=10 * HOUR)


@pytest.fixture
def meter():
    return Meter(OF, SETTING)


def test_hosts_are_kept_from_the_wish_for_them_to_their_end_or_the_end_of_the_trace(meter):
    meter.host_kept("one", 0.0)
    meter.host_kept("two", 1 * HOUR)
    meter.host_gone("one", 3 * HOUR)
    outcome = meter.outcome("any", 10 * HOUR)
    assert outcome.host_hours == pytest.approx(3 + 9)
    assert list(outcome.kept) == [(0.0, 1), (1 * HOUR, 2), (3 * HOUR, 1)]
    assert outcome.context_wh == pytest.approx(12 * 20)


def test_what_happens_after_the_end_is_not_counted(meter):
    meter.host_kept("one", 9 * HOUR)
    meter.served(0, 9 * HOUR, 9 * HOUR, 11 * HOUR)
    meter.host_gone("one", 12 * HOUR)
    outcome = meter.outcome("any", 10 * HOUR)
    assert (outcome.host_hours, outcome.node_hours) == (1, 1)
    assert outcome.dynamic_wh == pytest.approx(1 * 100)


def test_a_new_host_goes_to_the_fullest_node_with_room_and_an_empty_node_is_off():
    meter = Meter(OF, replace(SETTING, gpus_per_node=3))
    nodes = {name: meter.host_kept(name, 0.0) for name in ("1", "2", "3", "4")}
    assert nodes["1"] == nodes["2"] == nodes["3"] != nodes["4"]
    meter.host_gone("1", 1 * HOUR)
    assert meter.host_kept("5", 1 * HOUR) == nodes["2"]
    meter.host_gone("4", 2 * HOUR)
    outcome = meter.outcome("any", 10 * HOUR)
    assert outcome.node_hours == pytest.approx(10 + 2)
    assert outcome.idle_wh == pytest.approx(12 * (3 * 50 + 300))


def test_fixed_nodes_are_on_all_the_time_as_many_as_were_ever_needed():
    meter = Meter(OF, replace(SETTING, nodes="fixed"))
    for name in ("1", "2", "3"):
        meter.host_kept(name, 2 * HOUR)
    for name in ("1", "2", "3"):
        meter.host_gone(name, 3 * HOUR)
    outcome = meter.outcome("any", 10 * HOUR)
    assert outcome.node_hours == pytest.approx(2 * 10)
    assert outcome.host_hours == pytest.approx(3)


def test_requests_of_a_model_at_one_time_are_one_batch_and_those_of_two_models_are_not(meter):
    meter.served(0, 0.0, 0.0, 1 * HOUR)
    meter.served(0, 1800.0, 1800.0, 2 * HOUR)
    meter.served(0, 1900.0, 1900.0, 2000.0)
    meter.served(1, 2000.0, 2000.0, 2000.0 + HOUR)
    outcome = meter.outcome("any", 10 * HOUR)
    assert outcome.dynamic_wh == pytest.approx(3 * 100)
    assert max(count for _, count in outcome.busy) == 2
    assert outcome.busy[-1] == (2 * HOUR, 0)


def test_loads_draw_for_their_own_time(meter):
    meter.loaded(0)
    meter.loaded(1, moved=True)
    outcome = meter.outcome("any", HOUR)
    assert (outcome.loads, outcome.moves) == (2, 1)
    assert outcome.load_wh == pytest.approx(2 * 36 / HOUR * 0.2 * 100)
    meter = Meter(OF, replace(SETTING, loads={"team/b": 72.0}))
    meter.loaded(1)
    assert meter.outcome("any", HOUR).load_wh == pytest.approx(72 / HOUR * 0.2 * 100)


def test_only_a_wait_for_a_load_or_a_host_is_a_delay_and_one_beyond_the_hold_is_a_drop(meter):
    for waited in (0.0, 0.06, 1.0, 20.0, HOLD_SECONDS):
        meter.served(0, 100.0, 100.0 + waited, 200.0)
    meter.served(0, 100.0, 100.0 + HOLD_SECONDS + 1, 200.0)
    outcome = meter.outcome("any", HOUR)
    assert (outcome.requests, outcome.delayed, outcome.dropped) == (6, 4, 1)
    assert outcome.delay_seconds.max == HOLD_SECONDS
    assert outcome.delayed_fraction == pytest.approx(4 / 6)


def test_percentiles_are_delays_that_occurred(meter):
    for waited in range(1, 51):
        meter.served(0, 0.0, float(waited), 60.0)
    delays = meter.outcome("any", HOUR).delay_seconds
    assert (delays.p50, delays.p95, delays.p99, delays.max) == (25.0, 48.0, 50.0, 50.0)


def test_nothing_at_all_is_zero_everywhere(meter):
    outcome = meter.outcome("any", HOUR)
    assert (outcome.energy_wh, outcome.host_hours, outcome.delayed_fraction) == (0, 0, 0)
    assert outcome.delay_seconds.max == 0
