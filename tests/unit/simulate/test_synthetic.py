"""The made-up trace has the figures of the real one, whatever the seed."""

import numpy as np
import pytest

from lull.simulate.synthetic import synthetic

SEEDS = range(6)


def gaps(trace):
    at, model = np.array(trace.at_seconds), np.array(trace.model)
    return np.concatenate([np.diff(at[model == i]) for i in range(len(trace.models))])


@pytest.mark.parametrize("seed", SEEDS)
def test_gaps_within_a_model_are_about_those_of_the_published_trace(seed):
    p50, p90, p99 = np.percentile(gaps(synthetic(seed)), [50, 90, 99])
    assert p50 == pytest.approx(71, rel=0.15)
    assert p90 == pytest.approx(1_304, rel=0.25)  # where sessions end: it varies most from seed to seed
    assert p99 == pytest.approx(87_099, rel=0.15)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_few_models_are_hot_and_76_of_87_see_less_than_one_request_an_hour(seed):
    counts = np.bincount(synthetic(seed).model, minlength=87)
    assert counts.sum() == 27_000
    assert (counts < 23 * 24).sum() == 76
    assert counts[0] > 10 * np.median(counts) > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_requests_come_in_bursts_and_less_at_night(seed):
    trace = synthetic(seed)
    model_gaps = gaps(trace)
    assert model_gaps.std() > 3 * model_gaps.mean()  # without memory it would be 1
    hour = np.array(trace.at_seconds) % 86_400 / 3_600
    night, noon = ((hour < 6).sum(), ((hour >= 9) & (hour < 15)).sum())
    assert noon > 2 * night > 0


def test_durations_are_a_second_or_so():
    durations = np.array(synthetic(0).duration_seconds)
    assert 0.5 < np.median(durations) < 2.5
    assert durations.min() > 0
    assert np.percentile(durations, 99) < 20


def test_arrivals_are_in_order_and_end_within_the_observation():
    trace = synthetic(3)
    at = np.array(trace.at_seconds)
    assert (np.diff(at) >= 0).all()
    assert at[0] >= 0
    assert at[-1] <= trace.length_seconds == 23 * 86_400


def test_equal_seeds_give_equal_traces_and_others_do_not():
    assert synthetic(1) == synthetic(1)
    assert synthetic(1) != synthetic(2)


def test_models_are_dealt_round_robin_to_tenants():
    keys = [model.key for model in synthetic(0, tenants=3, models=5, requests=50, memory_bytes=1).models]
    assert keys == [f"tenant-{i % 3}/model-{i}" for i in range(5)]


def test_other_sizes_keep_every_promise_but_the_figures():
    trace = synthetic(0, days=1, models=4, requests=123, memory_bytes=7)
    assert len(trace) == 123
    assert sorted(set(trace.model)) == [0, 1, 2, 3]
    assert {model.memory_bytes for model in trace.models} == {7}
    assert trace.length_seconds == 86_400


@pytest.mark.parametrize("wrong", [{"models": 0}, {"tenants": 0}, {"days": 0}, {"models": 5, "requests": 4}])
def test_a_trace_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="at least one"):
        synthetic(0, **wrong)
