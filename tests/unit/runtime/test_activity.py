"""When a model counts as idle."""

from lull_runtime.agent.activity import Activity
from lull_runtime.agent.triton import Usage
from lull_runtime.measure.totals import Totals


def ready(own: int = 0, now: float = 100.0) -> Activity:
    activity = Activity(Totals(own))
    activity.restart(now)
    return activity


def test_idle_since_is_the_time_of_becoming_ready_where_nobody_ever_asked():
    activity = ready(own=2)
    assert not activity.observe(Usage(Totals(2, 0), 99.9), 104, 5)
    assert activity.observe(Usage(Totals(2, 0), 99.9), 105, 5)
    assert activity.idle_since == 100.0


def test_idle_since_is_the_time_of_the_last_inference():
    activity = ready()
    activity.observe(Usage(Totals(1, 0), 103.5), 104, 5)
    activity.observe(Usage(Totals(1, 0), 103.5), 109, 5)
    assert activity.idle_since == 103.5


def test_use_ends_idleness():
    activity = ready()
    assert activity.observe(Usage(Totals(0, 0), 0.0), 105, 5)
    assert activity.observe(Usage(Totals(1, 0), 105.5), 106, 5)
    assert activity.idle_since is None


def test_only_transitions_are_told():
    activity = ready()
    assert activity.observe(Usage(Totals(0, 0), 0.0), 105, 5)
    assert not activity.observe(Usage(Totals(0, 0), 0.0), 106, 5)


def test_a_failed_inference_is_use_too():
    activity = ready()
    activity.observe(Usage(Totals(0, 1), 0.0), 105, 5)
    assert activity.idle_since is None


def test_a_clock_of_tritons_that_runs_ahead_does_not_keep_a_model_awake():
    activity = ready()
    activity.observe(Usage(Totals(1, 0), 10_000.0), 101, 5)
    activity.observe(Usage(Totals(1, 0), 10_000.0), 106, 5)
    assert activity.idle_since == 101
