"""When a model that only fails is looked at closer."""

from lull_runtime.agent.pulse import Pulse
from lull_runtime.measure.totals import Totals


def looks(*counts: tuple[float, int, int]) -> list[bool]:
    """What a pulse says of (seconds, answered, failed) in turn."""
    pulse = Pulse()
    return [
        pulse.is_gone(Totals(requests=answered, failures=failed), now) for now, answered, failed in counts
    ]


def test_failures_without_an_answer_for_two_seconds_are_looked_into():
    assert looks((0, 5, 0), (1, 5, 1), (2, 5, 2), (3, 5, 3)) == [False, False, False, True]


def test_one_failure_and_silence_are_not():
    assert not any(looks((0, 5, 0), (1, 5, 1), (10, 5, 1), (99, 5, 1)))


def test_an_answer_between_failures_shows_that_it_lives():
    assert not any(looks((0, 5, 0), (1, 5, 1), (2, 6, 2), (3, 6, 3), (4.9, 6, 4)))


def test_who_was_looked_into_is_not_again_for_what_the_look_itself_counted():
    assert looks((0, 5, 0), (1, 5, 1), (3, 5, 2), (4, 5, 3), (99, 5, 3))[2:] == [True, False, False]
