"""What a delayed request comes to be worth."""

from itertools import accumulate, pairwise
from math import exp, log

import pytest

from lull.policy.fleet import Count
from lull.policy.learning import Learned
from lull.policy.notes import NOTHING_NOTED, observe
from lull.policy.power import PowerProfile
from lull.policy.prices import (
    FIRST_RATE,
    LAST_RATE,
    LEAST_WORTH_SECONDS,
    MOST_WORTH_SECONDS,
    STEP,
    Price,
    break_even_seconds,
    first_price,
    known_price,
    load_cost_seconds,
    market_of,
    repriced,
)
from unit.policy.fleets import fleet, host, placement, replace, reported, service

ONE = service("a/one")
PROFILE = PowerProfile(72.0, 50.0, 700.0, 0.0)
POOL = ("pool", 5)


def seen(*looks, notes=NOTHING_NOTED):
    """Observe fleets one after another, each at its time."""
    for at, of in looks:
        notes = observe(notes, of, at)
    return notes


def counted(requests, delayed, of=ONE):
    return replace(fleet(of), counts={of.key: Count(requests, delayed)})


def test_a_price_begins_where_the_usual_silences_would_meet_the_objective():
    assert first_price(("pool", 50)).worth_seconds == pytest.approx(71.0)
    assert 4_000 < first_price(POOL).worth_seconds < 5_000
    assert first_price(("pool", 0)) == first_price(("pool", 1)) == Price(MOST_WORTH_SECONDS)


def test_a_delay_is_worth_more_the_more_of_them_there_are():
    notes = seen((0.0, counted(100, 10)))
    assert notes.learned.prices == {}  # totals from before are nobody's doing
    first = first_price(POOL).worth_seconds
    dearer = seen((1.0, counted(140, 30)), notes=notes).learned.prices[POOL]
    assert dearer.worth_seconds == pytest.approx(first * exp(FIRST_RATE * (20 - 2)))
    cheaper = seen((1.0, counted(500, 10)), notes=notes).learned.prices[POOL]
    assert cheaper.worth_seconds == pytest.approx(first * exp(-FIRST_RATE * 20))


def test_a_price_moves_in_steps_and_forgets_nothing_between_them():
    price, worths = known_price(1000.0), []
    for _ in range(1_000):
        price = repriced(price, POOL, 20, 2, 60.0)
        worths.append(price.worth_seconds)
    steps = sorted(set(worths))
    assert len(steps) == 1 + int(LAST_RATE * 1_000 / log(1 + STEP))
    assert all(b / a == pytest.approx(1 + STEP, rel=0.005) for a, b in pairwise(steps))
    assert price.worth_seconds * exp(price.moved) == pytest.approx(1000 * exp(LAST_RATE * 1_000))


def test_a_price_moves_ever_less_until_it_only_follows_new_habits():
    prices = list(
        accumulate(
            range(500), lambda price, _: repriced(price, POOL, 100, 6, 60.0), initial=first_price(POOL)
        )
    )
    known = [log(price.worth_seconds) + price.moved for price in prices]
    moves = [b - a for a, b in pairwise(known)]
    assert moves[0] == pytest.approx(FIRST_RATE)
    assert all(b <= a + 1e-9 for a, b in pairwise(moves))
    assert moves[-1] == pytest.approx(LAST_RATE)
    again = repriced(known_price(1000.0), POOL, 100, 6, 60.0)
    assert again.moved == pytest.approx(LAST_RATE), "what was found before a restart is believed"


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("percent", [2, 5, 30])
def test_the_share_of_delayed_requests_comes_to_the_objective(percent, scale):
    market = ("pool", percent)
    price, due, requests = first_price(market), 0.0, 1000 * 100 // percent
    right = first_price(market).worth_seconds * scale
    told = 0
    for _ in range(requests):
        due += min(1.0, percent / 100 * (right / price.worth_seconds) ** 0.55)  # the dearer, the fewer
        delayed = int(due) - told
        told += delayed
        price = repriced(price, market, 1, delayed, 1.0)
    assert price.worth_seconds == pytest.approx(right, rel=0.25)
    assert told / requests == pytest.approx(percent / 100, rel=0.15)


def test_services_of_one_objective_share_a_price_and_others_have_their_own():
    strict = replace(ONE, delayed_percent=0)
    assert (market_of(ONE), market_of(strict)) == (POOL, ("pool", 0))
    notes = seen((0.0, counted(0, 0, strict)), (1.0, counted(10, 0, strict)))
    assert notes.learned.prices == {("pool", 0): Price(MOST_WORTH_SECONDS)}


def test_what_services_of_one_market_are_asked_adds_up():
    def both(requests, delayed):
        counts = {key: Count(requests, delayed) for key in ("a/one", "a/two")}
        return replace(fleet(ONE, service("a/two")), counts=counts)

    notes = seen((0.0, both(0, 0)), (1.0, both(40, 10)))
    assert notes.learned.prices[POOL] == repriced(first_price(POOL), POOL, 80, 20, 50.0)


def test_a_price_has_bounds():
    first = first_price(POOL)
    assert repriced(first, POOL, 10_000, 10_000, 60.0).worth_seconds == pytest.approx(MOST_WORTH_SECONDS)
    assert repriced(first, POOL, 100_000, 0, 60.0).worth_seconds == pytest.approx(60.0)
    assert repriced(first, POOL, 40_000, 40_000, 60.0).worth_seconds == pytest.approx(MOST_WORTH_SECONDS)
    assert repriced(first, POOL, 100_000, 0, 0.0).worth_seconds == pytest.approx(LEAST_WORTH_SECONDS)


def test_totals_that_fell_are_those_of_another_and_change_no_price():
    assert seen((0.0, counted(100, 10)), (1.0, counted(3, 3))).learned.prices == {}


def test_a_delay_counts_though_its_request_is_told_only_later():
    apart = seen((0.0, counted(0, 0)), (1.0, counted(0, 20)), (31.0, counted(20, 20))).learned.prices
    together = seen((0.0, counted(0, 0)), (1.0, counted(20, 20))).learned.prices
    worth = apart[("pool", 5)].worth_seconds
    assert worth == pytest.approx(together[("pool", 5)].worth_seconds, rel=0.1)


def test_a_wake_costs_its_start_its_load_and_the_load_s_energy():
    assert load_cost_seconds(PROFILE, 20.0) == pytest.approx(20 * 0.2 * 578 / 122)
    assert load_cost_seconds(None, 20.0) == load_cost_seconds(PowerProfile(0, 0, 9), 20.0) == 0.0
    assert break_even_seconds(None, 20.0, 30.0) == 50.0


def test_a_price_never_falls_below_break_even():
    notes = seen((0.0, counted(0, 0)), (1.0, counted(100_000, 0)))
    assert notes.learned.prices[("pool", 5)].worth_seconds == pytest.approx(
        break_even_seconds(None, 20.0, 30.0)
    )


def test_where_loads_are_known_to_be_short_a_delay_may_be_worth_less():
    p = placement(ONE)
    short = fleet(ONE, host("h1", p, reports=[reported(p, load_seconds=2.0)]))
    notes = seen((0.0, short), (1.0, counted(0, 0)), (2.0, counted(100_000, 0)))
    assert notes.learned.prices[POOL].worth_seconds == pytest.approx(break_even_seconds(None, 2.0, 30.0))


def test_the_price_of_a_pool_that_is_gone_is_forgotten_and_no_other():
    learned = Learned(prices={POOL: Price(700.0), ("gone", 5): Price(700.0)})
    notes = observe(replace(NOTHING_NOTED, learned=learned), fleet(ONE), 0.0)
    assert notes.learned.prices == {POOL: Price(700.0)}
