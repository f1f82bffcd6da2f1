"""Accounts of energy: charged once, exact over a restart, and readable."""

from dataclasses import replace

import pytest

from lull.policy.energy import (
    HOURS_KEPT,
    Account,
    HostReading,
    Meters,
    PoolAccount,
    Reading,
    Share,
    charge,
    charge_host,
    close,
    close_hosts,
    disown,
    energy_text,
    fewest_hosts,
    grams_per_request,
    grams_text,
    kept_milliwatts,
    microseconds_of,
    milligrams_per_joule,
    move,
    resize,
    set_rate,
    watt_hours_text,
    watts_text,
)
from lull.policy.power import PowerProfile

NOW = 1_000_000.0
L4 = PowerProfile(16, 21, 72, 3)


def test_a_placement_is_charged_by_its_growth():
    account = charge(Account(), "a", Reading(10, 5, 3), NOW, 0.0)
    account = charge(account, "a", Reading(12, 9, 4), NOW, 0.0)
    assert (account.idle_joules, account.dynamic_joules, account.requests) == (12, 9, 4)
    assert account.joules == 21


def test_an_old_reading_changes_nothing():
    account = charge(Account(), "a", Reading(10, 5, 3), NOW, 1.0)
    assert charge(account, "a", Reading(9, 4, 2), NOW, 1.0) == account


def test_computing_would_have_drawn_the_same_on_the_baseline():
    account = charge(Account(), "a", Reading(10, 5, 0), NOW, 0.0)
    assert account.baseline == Share(0, 5_000_000)
    assert account.saved_joules == -10


def test_what_left_stays_charged_and_is_forgotten():
    account = charge(Account(), "a", Reading(10, 5, 3), NOW, 0.0)
    assert close(account, {"a"}) is account
    closed = close(account, set())
    assert closed == replace(account, counted={})


def test_a_namesake_is_not_charged():
    account = charge(disown(Account(), "a", Reading(10, 5, 3)), "a", Reading(11, 5, 3), NOW, 0.0)
    assert (account.idle_joules, account.requests) == (1, 0)


def test_the_last_day_is_the_present_hour_and_24_before():
    account = Account()
    for hour in range(30):
        account = charge(account, "a", Reading(hour + 1, 0, 0), hour * 3600.0, 0.0)
    assert len(account.hours) == HOURS_KEPT
    assert account.last_day_joules(29 * 3600.0) == 25
    assert account.last_day_joules(31 * 3600.0) == 23


def test_milligrams_are_whole_and_lose_nothing_while_the_controller_lives():
    account = Account()
    for joules in range(1, 101):
        account = charge(account, "a", Reading(joules, 0, 0), NOW, 0.11)
    assert account.milligrams_co2e == pytest.approx(11, abs=1)
    assert account.milligrams_co2e + account.spare_milligrams == pytest.approx(11)


def test_a_sleeping_service_owes_what_the_meters_went_forward():
    account = resize(Account(), 1000, Meters(5_000_000, 7_000_000))
    assert account.saved_joules == 0
    account = account.until(Meters(5_004_500, 7_001_250))
    assert (account.baseline, account.overhead) == (Share(5_004_500, 4_500_000), Share(7_001_250, 1_250_000))
    assert account.saved_joules == 3.25


def test_another_size_counts_from_now_on():
    account = resize(resize(Account(), 1000, Meters()), 2000, Meters(4_500, 100))
    assert (account.baseline.microjoules, account.overhead.microjoules) == (4_500_000, 100_000)
    account = account.until(Meters(5_500, 200))
    assert (account.baseline.microjoules, account.overhead.microjoules) == (6_500_000, 300_000)
    assert resize(account, 2000, Meters(9_000, 900)) is account


@pytest.mark.parametrize("past", [Meters(9_000_000, 0), Meters(0, 9_000_000)])
def test_a_meter_that_began_anew_is_owed_nothing_of_its_past(past):
    account = resize(resize(Account(), 1000, past), 1000, Meters(100, 100))
    account = account.until(Meters(1_100, 1_100))
    parts = {"new": 1_000_000, "as before": 1_100_000}
    assert account.baseline.microjoules == parts["new" if past.baseline else "as before"]
    assert account.overhead.microjoules == parts["new" if past.overhead else "as before"]


def test_another_pool_has_other_meters():
    account = move(resize(Account(), 1000, Meters()), Meters(2_000, 50), Meters(77_000, 100))
    account = account.until(Meters(78_000, 110))
    assert (account.baseline.microjoules, account.overhead.microjoules) == (3_000_000, 60_000)


def test_a_host_is_charged_by_its_growth():
    pool = charge_host(PoolAccount(microseconds_of(NOW)), "h", HostReading(100, 40), 0.5)
    pool = charge_host(pool, "h", HostReading(110, 44), 0.5)
    assert (pool.joules, pool.baseline_joules, pool.milligrams_co2e) == (110, 44, 55)
    assert pool.saved_joules == -66
    assert charge_host(pool, "h", HostReading(1, 1), 0.5) == pool
    assert close_hosts(pool, {"h"}) is pool
    assert close_hosts(pool, ()) == replace(pool, counted={})


def test_what_hosts_draw_for_nobody_is_shared_by_memory_all_of_it_at_least():
    pool = set_rate(PoolAccount(microseconds_of(NOW)), 0, 3_000_000, NOW)
    pool = charge_host(pool, "h", HostReading(10, 0, 10), 0.0)
    assert pool.meters.overhead == 4  # 3 1/3
    pool = charge_host(pool, "h", HostReading(20, 0, 20), 0.0)
    assert pool.meters.overhead == 7  # 6 2/3
    pool = charge_host(pool, "h", HostReading(21, 0, 21), 0.0)
    assert pool.meters.overhead == 7  # what it was ahead
    assert charge_host(pool, "h", HostReading(9, 0, 9), 0.0) == pool


def test_what_is_drawn_for_nobody_while_there_is_no_model_stays_the_pools():
    pool = charge_host(PoolAccount(microseconds_of(NOW)), "h", HostReading(10, 0, 10), 0.0)
    assert pool.meters == Meters()
    pool = charge_host(set_rate(pool, 0, 1000, NOW), "h", HostReading(11, 0, 11), 0.0)
    assert pool.meters == Meters(0, 1000)
    assert pool.saved_joules == -11


def test_the_baselines_meter_runs_at_its_rate_since_then():
    pool = set_rate(PoolAccount(microseconds_of(NOW)), 37_000, 1000, NOW)
    assert pool.until(NOW + 10).meters.baseline == 370_000
    assert pool.until(NOW + 10).baseline_joules == 370
    assert pool.until(NOW - 5) == pool
    assert set_rate(pool, 37_000, 1000, NOW + 3) is pool


def test_a_new_rate_keeps_what_ran_before():
    pool = set_rate(PoolAccount(microseconds_of(NOW)), 37_000, 1000, NOW)
    pool = set_rate(pool, 74_000, 4000, NOW + 10)
    assert pool.until(NOW + 20).baseline_joules == 370 + 740
    assert pool.until(NOW + 20).meters.baseline == 370_000 + 185_000
    pool = set_rate(pool, 0, 0, NOW + 20)
    assert pool.until(NOW + 90).meters.baseline == 370_000 + 185_000


def test_the_fewest_hosts_are_a_lower_bound():
    assert fewest_hosts([], 10) == 0
    assert fewest_hosts([5, 5], 10) == 1
    assert fewest_hosts([5, 6], 10) == 2
    assert fewest_hosts([5], 0) == 0


def test_a_kept_host_draws_idle_context_and_its_part_of_the_node():
    assert kept_milliwatts(L4, 2) == 80_000


def test_carbon_is_energy_times_intensity_and_pue():
    assert milligrams_per_joule(360, 1.5) * 3.6e6 / 1000 == pytest.approx(540)
    assert grams_per_request(60, 2, milligrams_per_joule(360, 1)) == pytest.approx(0.003)
    assert grams_per_request(60, 0, 1.0) is None


@pytest.mark.parametrize(
    ("watt_hours", "text"),
    [
        (0, "0Wh"),
        (0.04, "0Wh"),
        (-0.04, "0Wh"),
        (0.42, "0.4Wh"),
        (9.96, "10Wh"),
        (48.4, "48Wh"),
        (-3.14, "-3.1Wh"),
        (999.6, "1kWh"),
        (1234, "1.2kWh"),
        (2_500_000, "2.5MWh"),
    ],
)
def test_energy_reads_well(watt_hours, text):
    assert energy_text(watt_hours * 3600) == text


def test_decimals_are_plain():
    assert watt_hours_text(0) == "0"
    assert watt_hours_text(-0.0) == "0"
    assert watt_hours_text(3600 * 1234.5) == "1234"
    assert watt_hours_text(3600 * 0.01234) == "0.0123"
    assert grams_text(0.0000001) == "0"
    assert grams_text(1500) == "1.5"
    assert watts_text(48_400) == "48"
    assert watts_text(3_240) == "3.2"
    assert watts_text(0) == "0"


def test_hours_that_a_clock_set_back_left_in_the_future_are_dropped():
    account = Account()
    for hour in range(40):
        account = charge(account, "a", Reading(hour + 1), NOW + 3600 * hour, 0.0)
    account = charge(account, "a", Reading(100), NOW + 3600 * 20, 0.0)
    assert len(account.hours) <= HOURS_KEPT
    assert max(account.hours) == int(NOW + 3600 * 20) // 3600
