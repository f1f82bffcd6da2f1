"""Lull in virtual time, on traces whose outcome can be worked out by hand."""

from dataclasses import replace

import pytest

from lull.controller import planner
from lull.policy import Report, plan
from lull.policy.packing import HOST_OVERHEAD_BYTES
from lull.simulate import lull
from lull.simulate.agent import Agent
from lull.simulate.lull import simulate_lull
from lull.simulate.meter import Meter
from lull.simulate.setting import GIB, HOLD_SECONDS, Setting
from lull.simulate.synthetic import synthetic
from unit.simulate.traces import trace

SETTING = Setting()
HOST_SECONDS = SETTING.host_start_seconds
LOAD_SECONDS = SETTING.load_seconds
HOPS_SECONDS = 0.5
"""What writes that have to reach others may add to a wait."""
LONG = 7200.0


def about(seconds):
    return pytest.approx(seconds + HOPS_SECONDS / 2, abs=HOPS_SECONDS / 2)


def test_the_first_request_waits_for_a_host_and_a_load_and_the_next_for_nothing():
    outcome = simulate_lull(trace((10, "a", 1), (100, "a", 1), length_seconds=LONG), SETTING)
    assert (outcome.requests, outcome.delayed, outcome.dropped, outcome.loads) == (2, 1, 0, 1)
    assert outcome.delay_seconds.max == about(HOST_SECONDS + LOAD_SECONDS)


def test_requests_during_a_wake_wait_for_what_is_left_of_it():
    outcome = simulate_lull(trace((10, "a", 1), (20, "a", 1), length_seconds=LONG), SETTING)
    assert (outcome.delayed, outcome.loads) == (2, 1)
    assert outcome.delay_seconds.p50 == about(HOST_SECONDS + LOAD_SECONDS - 10)


def test_a_second_model_is_loaded_on_the_host_of_the_first_after_its_load():
    outcome = simulate_lull(trace((0, "a", 1), (20, "b", 1), length_seconds=LONG), SETTING)
    assert max(count for _, count in outcome.kept) == 1
    assert outcome.delay_seconds.max == about(HOST_SECONDS + 2 * LOAD_SECONDS - 20)


def test_a_second_model_that_would_run_out_of_its_hold_behind_the_first_gets_a_host_of_its_own():
    outcome = simulate_lull(trace((0, "a", 1), (5, "b", 1), length_seconds=LONG), SETTING)
    assert max(count for _, count in outcome.kept) == 2
    assert outcome.dropped == 0


def test_an_idle_host_goes_and_the_next_request_wakes_all_anew():
    outcome = simulate_lull(trace((0, "a", 1), (90_000, "a", 1), length_seconds=100_000), SETTING)
    assert (outcome.delayed, outcome.loads) == (2, 2)
    assert [count for _, count in outcome.kept] == [1, 0, 1, 0]
    assert outcome.host_hours < 10


def test_a_model_that_fell_asleep_on_a_kept_host_wakes_without_a_load():
    awake = [(at, "busy", 1) for at in range(0, 2000, 50)]
    outcome = simulate_lull(trace(*awake, (60, "a", 1), (1500, "a", 1), length_seconds=LONG), SETTING)
    assert outcome.loads == 2
    first_waits = [at for at, _, _ in awake if at < HOST_SECONDS + LOAD_SECONDS]
    assert outcome.delayed == len(first_waits) + 1


def test_a_sleeping_model_makes_room_for_a_wake():
    awake = [(at, "busy", 1) for at in range(0, 3000, 50)]
    of = trace(*awake, (60, "a", 1), (2000, "b", 1), length_seconds=LONG, gib=30)
    outcome = simulate_lull(of, replace(SETTING, delayed_percent=50))
    assert max(count for _, count in outcome.kept) == 1
    assert outcome.loads == 3


def test_models_that_do_not_fit_together_get_hosts_of_their_own():
    outcome = simulate_lull(trace((0, "a", 1), (0, "b", 1), length_seconds=LONG, gib=60), SETTING)
    assert max(count for _, count in outcome.kept) == 2


def test_plans_come_as_soon_after_a_change_as_the_controllers():
    assert lull.IDLE_WINDOW_SECONDS == planner.IDLE_WINDOW_SECONDS
    assert lull.LONGEST_WINDOW_SECONDS == planner.LONGEST_WINDOW_SECONDS


def test_tenants_share_no_host():
    of = trace((0, "a", 1), (0, "b", 1), length_seconds=LONG, tenants={"a": "red", "b": "blue"})
    assert max(count for _, count in simulate_lull(of, SETTING).kept) == 2


def test_a_request_that_would_wait_longer_than_the_hold_is_dropped_and_the_load_goes_on():
    slow = replace(SETTING, host_start_seconds=100.0)
    outcome = simulate_lull(trace((0, "a", 1), (70, "a", 1), length_seconds=LONG), slow)
    assert (outcome.requests, outcome.dropped, outcome.delayed, outcome.loads) == (2, 1, 2, 1)
    assert outcome.delay_seconds.max == HOLD_SECONDS
    assert outcome.delay_seconds.p50 == about(100 + LOAD_SECONDS - 70)


def test_measured_times_of_a_model_take_the_place_of_the_common_one():
    measured = replace(SETTING, host_start_seconds=5.0, loads={"team/a": 2.0})
    outcome = simulate_lull(trace((0, "a", 1), length_seconds=LONG), measured)
    assert outcome.delay_seconds.max == about(7.0)


def test_who_waits_at_the_end_of_the_trace_is_served_after_it():
    outcome = simulate_lull(trace((100, "a", 1), length_seconds=100), SETTING)
    assert (outcome.requests, outcome.delayed, outcome.host_hours) == (1, 1, 0)


@pytest.fixture(scope="module")
def day():
    return synthetic(7, tenants=2, days=0.3, models=10, requests=200)


@pytest.fixture(scope="module")
def outcome_of_day(day):
    return simulate_lull(day, SETTING)


def test_every_request_is_answered_exactly_once(day, outcome_of_day):
    assert outcome_of_day.requests == len(day)
    assert 0 < outcome_of_day.delayed < len(day)


def test_the_same_trace_and_setting_give_the_same_outcome(day, outcome_of_day):
    assert simulate_lull(day, SETTING) == outcome_of_day


def test_plans_of_what_changed_that_say_nothing_keep_what_whole_and_explained_plans_keep(
    day, outcome_of_day, monkeypatch
):
    def whole(fleet, notes, now, _last, *, explained):
        return plan(fleet, notes, now)

    monkeypatch.setattr("lull.simulate.lull.plan", whole)
    assert simulate_lull(day, SETTING) == outcome_of_day


def test_all_that_is_computed_is_charged_once(day, outcome_of_day):
    """Batches draw no more than their requests one by one, and no less than the longest of them."""
    watts = SETTING.power.max_watts - SETTING.power.idle_watts - SETTING.power.context_watts
    most = sum(day.duration_seconds) / 3600 * watts
    assert 0.5 * most < outcome_of_day.dynamic_wh <= most * 1.000001


def test_hosts_hold_what_fits_and_are_kept_as_long_as_the_meter_says(monkeypatch):
    lives = {}
    most = SETTING.gpu_memory_bytes - HOST_OVERHEAD_BYTES

    class Recorder(Meter):
        def host_kept(self, host, at):
            lives[host] = [at, OF.length_seconds]
            return super().host_kept(host, at)

        def host_gone(self, host, at):
            lives[host][1] = at
            super().host_gone(host, at)

    class Scales(Agent):
        def reports(self):
            reports = super().reports()
            assert sum(report.memory_bytes for report in reports.values()) <= most
            assert sum(report.state is Report.LOADING for report in reports.values()) <= 1
            return reports

    monkeypatch.setattr("lull.simulate.lull.Meter", Recorder)
    monkeypatch.setattr("lull.simulate.world.Agent", Scales)
    outcome = simulate_lull(OF, SETTING)
    kept_seconds = sum(min(gone, OF.length_seconds) - kept for kept, gone in lives.values())
    assert outcome.host_hours == pytest.approx(kept_seconds / 3600)
    assert len(lives) > 3


OF = synthetic(7, days=0.3, models=10, requests=200, memory_bytes=30 * GIB)
