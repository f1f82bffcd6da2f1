"""Whether a new revision does worse than the old one: said as soon as it is sure, and not before."""

from fractions import Fraction
from math import comb

import hypothesis.strategies as st
import pytest
from hypothesis import given

from lull.api.latency import BINS, EDGES_SECONDS
from lull.policy.verdict import SURE, Bar, Sample, Verdict, tail, upper_share, verdict


def took(*seconds, each=1):
    """A sample of answers that took so long."""
    counts = [0] * BINS
    for one in seconds:
        counts[next(i for i, edge in enumerate((*EDGES_SECONDS, float("inf"))) if one <= edge)] += each
    return Sample(each * len(seconds), latency=tuple(counts))


def exact(count, of, share):
    """The binomial tail, summed up in fractions."""
    p = Fraction(share)
    return float(sum(comb(of, k) * p**k * (1 - p) ** (of - k) for k in range(count, of + 1)))


@given(st.integers(1, 300), st.data(), st.floats(0.001, 0.999))
def test_the_tail_is_never_said_to_be_thinner_than_it_is_nor_much_thicker(of, data, share):
    count = data.draw(st.integers(0, of))
    bound, sum_ = tail(count, of, share), exact(count, of, share)
    assert bound >= sum_ * (1 - 1e-9)
    assert sum_ > 0.01 or bound <= 1.6 * sum_ or bound < 1e-12


def test_the_tail_of_many_is_found_as_well():
    assert tail(5_300_000, 100_000_000, 0.05) < SURE < tail(5_000_100, 100_000_000, 0.05)


def test_what_can_never_be_is_sure_and_what_must_be_is_not():
    assert tail(1, 10, 0.0) == 0.0
    assert tail(10, 10, 1.0) == 1.0
    assert tail(0, 0, 0.5) == 1.0


def test_of_whom_nothing_was_seen_every_share_may_be():
    assert upper_share(0, 0) == 1.0
    assert 0.05 < upper_share(50, 1000) < 0.08


@pytest.mark.parametrize(("count", "of"), [(0, 50), (1, 50), (50, 1000), (7, 10), (999, 1000)])
def test_a_share_may_really_be_so_large_that_what_was_seen_is_just_three_deviations_below(count, of):
    share = upper_share(count, of)
    assert share - count / of == pytest.approx(3 * (share * (1 - share) / of) ** 0.5)


@pytest.mark.parametrize(("old", "stopped"), [(1000, 2), (50, 4), (10, 10)])
def test_a_revision_that_fails_always_is_stopped_within_few_requests(old, stopped):
    bad = [n for n in range(1, 100) if verdict(Sample(old), Sample(n, n), Bar())[0] is Verdict.BAD]
    assert bad[0] == stopped


def test_one_that_fails_always_is_stopped_though_the_old_one_is_asked_no_more_than_it():
    bad = [n for n in range(1, 100) if verdict(Sample(n), Sample(n, n), Bar())[0] is Verdict.BAD]
    assert bad[0] == 10


def test_a_failure_that_the_old_one_has_too_is_held_against_nobody():
    assert verdict(Sample(1000, 100), Sample(200, 20), Bar()) == (Verdict.GOOD, "")


def test_one_that_may_be_worse_waits_until_that_is_sure():
    found, why = verdict(Sample(100), Sample(50, 2), Bar())
    assert found is Verdict.UNKNOWN
    assert why == (
        "2 of its 50 requests failed, and 0 of 100 of the old revision; "
        "more requests tell, or promote it to go on sooner"
    )
    assert verdict(Sample(1000), Sample(500, 25), Bar())[0] is Verdict.BAD


def test_too_few_requests_are_waited_for_in_numbers():
    assert verdict(Sample(100), Sample(34), Bar()) == (
        Verdict.UNKNOWN,
        "34 of 50 requests; promote it to go on sooner",
    )
    assert verdict(Sample(), Sample(99, compared=34), Bar(), shadow=True) == (
        Verdict.UNKNOWN,
        "34 of 50 compared answers; promote it to go on sooner",
    )
    assert verdict(Sample(), Sample(), Bar(min_requests=0))[0] is Verdict.GOOD


def test_one_that_is_much_slower_is_bad_and_one_within_its_bar_is_not():
    usual = took(*[0.010] * 95, *[0.020] * 5)
    found, why = verdict(usual, took(*[0.100] * 20), Bar())
    assert found is Verdict.BAD
    assert why == "20 of its 20 answers took longer than 17ms, and the p95 of the old revision is 12ms"
    assert verdict(usual, took(*[0.013] * 60), Bar())[0] is Verdict.GOOD
    assert verdict(usual, took(*[0.013] * 60), Bar(latency_percent=0))[0] is Verdict.BAD
    assert verdict(Sample(), took(*[9.0] * 60), Bar())[0] is Verdict.GOOD, "nothing is known of the old one"


def test_one_that_answers_otherwise_is_bad_where_that_is_more_than_its_bar():
    agreed = verdict(Sample(), Sample(compared=100, differed=4), Bar(), shadow=True)
    assert agreed == (Verdict.GOOD, "")
    found, why = verdict(Sample(), Sample(compared=20, differed=9), Bar(), shadow=True)
    assert found is Verdict.BAD
    assert why == "9 of 20 compared answers were other ones than the old revision's"
    assert verdict(Sample(), Sample(compared=1, differed=1), Bar(disagree_percent=0))[0] is Verdict.BAD


def test_a_sample_tells_its_p95_to_the_edge_of_a_bin():
    assert Sample().p95_seconds is None
    assert Sample(latency=(0, 0)).p95_seconds is None
    assert took(*[0.0005] * 95, *[5.0] * 5).p95_seconds == 0.001
    assert took(*[0.0005] * 94, *[5.0] * 6).p95_seconds == 6.018531
    assert took(100.0).p95_seconds == 1.25 * EDGES_SECONDS[-1]


def test_who_is_slower_than_all_bins_is_slower_than_any_limit_within_them():
    assert took(100.0, 0.001).slower_than(1.0) == 1
    assert took(100.0).slower_than(2 * EDGES_SECONDS[-1]) == 0


def test_samples_add_up_and_go_on_from_before():
    one, two = Sample(5, 1, (1, 2), 3, 1), Sample(1, 0, (0, 0, 1), 0, 0)
    assert one + two == Sample(6, 1, (1, 2, 1), 3, 1)
    assert (one + two) - one == two
    assert two - one == two, "its counting began anew"
    assert Sample(1) - Sample() == Sample(1)
