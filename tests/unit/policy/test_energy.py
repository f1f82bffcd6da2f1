"""Accounts of energy: charged once, exact over a restart, and readable."""

from dataclasses import replace

import pytest

from lull.policy.energy import (
    HOURS_KEPT,
    Account,
    HostReading,
    PoolAccount,
    Reading,
    change_meter,
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
    milligrams_per_joule,
    rebase,
    rebase_pool,
    resize,
    run_meter,
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
    assert account.baseline_joules == 5


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


def test_a_sleeping_service_owes_what_the_meter_went_forward():
    account = resize(Account(), 1000, 5_000_000)
    assert account.baseline_at(5_000_000) == 0
    assert account.baseline_at(5_004_500) == pytest.approx(4.5)


def test_the_baseline_is_counted_in_whole_joules_and_the_rest_stays_owed():
    account = rebase(resize(Account(), 1000, 0), 4_500)
    assert (account.baseline_joules, account.meter) == (4, 4_000)
    assert account.baseline_at(4_500) == pytest.approx(4.5)
    assert rebase(account, 4_600) is account
    assert rebase(Account(), 10) == Account()


def test_another_size_counts_from_now_on():
    account = resize(resize(Account(), 1000, 0), 2000, 4_500)
    assert account.baseline_joules == 5  # the begun one counts whole, so that no total ever falls
    assert account.baseline_at(5_500) == pytest.approx(7)
    assert resize(account, 2000, 9_000) is account


def test_a_meter_that_began_anew_owes_nothing_of_its_past():
    account = resize(resize(Account(), 1000, 9_000_000), 1000, 100)
    assert account.baseline_at(1_100) == pytest.approx(1)


def test_another_pool_has_another_meter():
    account = change_meter(resize(Account(), 1000, 0), 2_000, 77_000)
    account = resize(account, 1000, 77_000)
    assert account.baseline_at(78_000) == pytest.approx(3)


def test_a_host_is_charged_by_its_growth():
    pool = charge_host(PoolAccount(at=NOW), "h", HostReading(100, 40), 0.5)
    pool = charge_host(pool, "h", HostReading(110, 44), 0.5)
    assert (pool.joules, pool.baseline_joules, pool.milligrams_co2e) == (110, 44, 55)
    assert charge_host(pool, "h", HostReading(1, 1), 0.5) == pool
    assert close_hosts(pool, {"h"}) is pool
    assert close_hosts(pool, ()) == replace(pool, counted={})


def test_the_meter_runs_at_its_rate_since_then():
    pool = run_meter(PoolAccount(at=NOW), 37_000, 1000, NOW)
    assert pool.meter_at(NOW + 10) == 370_000
    assert pool.baseline_at(NOW + 10) == pytest.approx(370)
    assert pool.meter_at(NOW - 5) == 0
    assert run_meter(pool, 37_000, 1000, NOW + 3) is pool


def test_a_new_rate_keeps_what_ran_before():
    pool = run_meter(PoolAccount(at=NOW), 37_000, 1000, NOW)
    pool = run_meter(pool, 74_000, 4000, NOW + 10)
    assert pool.baseline_at(NOW + 20) == pytest.approx(370 + 740)
    assert pool.meter_at(NOW + 20) == 370_000 + 185_000
    pool = run_meter(pool, 0, 0, NOW + 20)
    assert pool.meter_at(NOW + 90) == 370_000 + 185_000


def test_a_pool_is_counted_to_now_without_a_jump():
    pool = run_meter(PoolAccount(at=NOW), 37_000, 1000, NOW)
    counted = rebase_pool(pool, NOW + 10.01)
    assert counted.baseline_joules == 370
    assert counted.baseline_at(NOW + 10.01) == pytest.approx(pool.baseline_at(NOW + 10.01))
    assert counted.meter_at(NOW + 30) == pytest.approx(pool.meter_at(NOW + 30), abs=2)
    assert rebase_pool(counted, NOW + 10.01) is counted


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
