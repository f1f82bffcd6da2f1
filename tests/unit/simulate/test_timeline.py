"""Virtual time."""

import math

from lull.simulate.timeline import Timeline


def test_actions_run_at_their_times_and_those_of_one_time_in_the_order_asked():
    timeline, told = Timeline(), []
    for name, at in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
        timeline.at(at, lambda name=name: told.append((name, timeline.now)))
    while timeline.next_at < math.inf:
        timeline.run_next()
    assert told == [("first", 1.0), ("second", 1.0), ("late", 2.0)]


def test_what_is_asked_for_the_past_happens_now():
    timeline = Timeline()
    timeline.at(5.0, lambda: timeline.at(1.0, lambda: None))
    timeline.run_next()
    timeline.run_next()
    assert timeline.now == 5.0
