"""Sums over counters that may begin anew, and the figures of the last minute."""

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lull_runtime.measure.totals import Totals
from lull_runtime.measure.window import Window

SECOND_NS = 10**9


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=30))
def test_a_reload_takes_nothing_away_and_counts_nothing_twice(steps):
    """Each step is some requests, after a reload or not; a look follows each."""
    counters, seen, summed, truth = Totals(), Totals(), Totals(), 0
    for reload, requests in steps:
        if reload:
            counters = Totals()
        counters += Totals(requests, 0, requests * 7, 0, requests, requests, requests * 5)
        before = summed
        summed += counters.since(seen)
        seen = counters
        truth += requests
        assert min(astuple(summed - before)) >= 0
        assert summed.requests <= truth  # a reload that grew past the last look hides what it replaced
        if not any(again for again, _ in steps):
            assert summed.requests == truth


def window(*samples: tuple[float, Totals]) -> Window:
    made = Window()
    for at, totals in samples:
        made.add(at, totals)
    return made


def test_figures_are_those_of_the_last_minute_alone():
    made = window((0, Totals()), (100, Totals(requests=1000)), (130, Totals(requests=1000)))
    made.add(160, Totals(requests=1090, failures=30, queue_ns=9 * SECOND_NS, busy_ns=30 * SECOND_NS))
    rates = made.rates()
    assert rates.seconds == 60
    assert rates.requests_per_second * 60 == pytest.approx(90)
    assert rates.failures_per_second * 60 == pytest.approx(30)
    assert rates.busy_ratio == pytest.approx(0.5)
    assert rates.queue_seconds == pytest.approx(0.1)


def test_a_younger_model_is_measured_over_its_age():
    rates = window((0, Totals()), (8, Totals(requests=80))).rates()
    assert (rates.seconds, rates.requests_per_second) == (8, 10)


def test_one_request_of_a_moment_is_not_thousands_a_minute():
    rates = window((0, Totals()), (0.02, Totals(requests=1))).rates()
    assert rates.requests_per_second * 60 == 12


def test_there_are_no_figures_of_a_moment():
    assert window((5, Totals())).rates() is None
    assert window((5, Totals()), (5, Totals(requests=1))).rates() is None


def test_looking_often_keeps_no_more_samples_than_seconds():
    made = window(*[(n / 10, Totals(requests=n)) for n in range(6000)])
    assert len(made._samples) <= 65
    assert made.rates().requests_per_second == pytest.approx(10, rel=0.03)


def test_the_batch_size_is_the_mean_of_the_runs():
    assert window((0, Totals()), (9, Totals(8, executions=2, inferences=8))).rates().batch_size == 4
    assert window((0, Totals()), (9, Totals())).rates().batch_size is None
