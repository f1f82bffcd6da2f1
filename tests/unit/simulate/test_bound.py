"""No policy goes below the bound, and it is as high as its proof allows."""

from array import array
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lull.api.names import DELAYED_SECONDS
from lull.simulate.bound import lower_bound_host_hours
from lull.simulate.policies import POLICIES
from lull.simulate.setting import GIB, HOLD_SECONDS, Setting
from lull.simulate.synthetic import synthetic
from lull.simulate.trace import Trace, TracedModel
from unit.simulate.traces import trace

WAKE_SECONDS = 50.0
SETTING = Setting(gpu_memory_bytes=20 * GIB, load_seconds=20.0, host_start_seconds=30.0)
PEERS = sorted(set(POLICIES) - {"lull"})


def bound_seconds(of, delayed=0, setting=SETTING, **may):
    return lower_bound_host_hours(of, setting, delayed / len(of), **may) * 3600


def test_one_request_needs_a_start_a_load_and_itself():
    of = trace((1000, "a", 7), length_seconds=5000)
    assert bound_seconds(of) == pytest.approx(WAKE_SECONDS - DELAYED_SECONDS + 7)
    assert bound_seconds(of, 1) == pytest.approx(WAKE_SECONDS - DELAYED_SECONDS + 7)  # a wait saves nothing


def test_requests_close_to_each_other_need_one_host_and_others_two():
    needed = WAKE_SECONDS - DELAYED_SECONDS + 1
    near = trace((1000, "a", 1), (1030, "b", 1), length_seconds=5000)
    far = trace((1000, "a", 1), (1200, "b", 1), length_seconds=5000)
    assert bound_seconds(near) == pytest.approx(needed + 30)
    assert bound_seconds(far) == pytest.approx(2 * needed)


def test_a_request_that_may_wait_is_served_with_the_next_one():
    of = trace((1000, "a", 1), (1030, "a", 1), length_seconds=5000)
    assert bound_seconds(of, 1) == pytest.approx(WAKE_SECONDS - DELAYED_SECONDS + 1)
    # half a request: halfway between
    assert bound_seconds(of, 0.5) == pytest.approx(WAKE_SECONDS - DELAYED_SECONDS + 1 + 15)


def test_a_long_request_is_not_done_earlier_for_having_waited():
    of = trace((1000, "a", 1), (1015, "a", 400), length_seconds=5000)
    assert bound_seconds(of, 2) == pytest.approx(1415 - (1000 + HOLD_SECONDS - WAKE_SECONDS))


def test_a_dropped_request_needs_nothing():
    of = trace((1000, "a", 1), (3000, "a", 1), length_seconds=5000)
    assert bound_seconds(of, 1, may_drop=True) == pytest.approx(WAKE_SECONDS - DELAYED_SECONDS + 1)
    assert bound_seconds(of, 2, may_drop=True) == 0


def test_tenants_need_hosts_of_their_own():
    requests = [(1000, "a", 1), (1000, "b", 1)]
    one = bound_seconds(trace(*requests, length_seconds=5000))
    assert bound_seconds(trace(*requests, length_seconds=5000, tenants={"b": "other"})) == pytest.approx(
        2 * one
    )


def test_models_that_fill_a_host_each_need_as_many_hosts_as_they_are():
    of = trace(*[(1000, name, 500) for name in "abc"], length_seconds=5000, gib=20)
    assert bound_seconds(of) == pytest.approx(3 * (20 - DELAYED_SECONDS + 500))


def test_a_model_that_may_wait_saves_its_share_of_a_host():
    of = trace(*[(at, name, 1) for at in (1000, 1015) for name in "abcd"], length_seconds=5000, gib=12)
    needed = 4 * 0.6 * (20 - DELAYED_SECONDS + 16)
    assert bound_seconds(of) == pytest.approx(needed)
    assert bound_seconds(of, 1) == pytest.approx(needed - 0.6 * 15)


def test_no_model_takes_longer_to_load_than_the_one_that_loads_fastest():
    of = trace((1000, "a", 1), (1000, "b", 1), length_seconds=5000)
    setting = replace(SETTING, loads={"team/b": 2.0})
    assert bound_seconds(of, setting=setting) == pytest.approx(30 + 2 - DELAYED_SECONDS + 1)


def test_hosts_count_within_the_trace_only():
    of = trace((0, "a", 5), (95, "a", 50), length_seconds=100)
    assert bound_seconds(of) == pytest.approx(5 + 50 - DELAYED_SECONDS + 5)
    assert bound_seconds(of, 1) == pytest.approx(5)  # the second one is served after the end


# Against all there is, on instances that are small enough.

instances = st.lists(
    st.tuples(st.integers(0, 40).map(lambda n: 1000.0 + 13 * n), st.sampled_from([1.0, 5.0, 40.0])),
    min_size=1,
    max_size=6,
).map(sorted)


def partitions(items):
    """Every way to put items into groups."""
    if not items:
        yield []
        return
    head, *rest = items
    for groups in partitions(rest):
        yield [[head], *groups]
        for at in range(len(groups)):
            yield [*groups[:at], [head, *groups[at]], *groups[at + 1 :]]


def lengths_of(group, ends, shortest):
    """The (late ones, length) of a period for a group of arrivals, for every start that may be the best."""
    for up in {at + wait for at, _ in group for wait in (DELAYED_SECONDS, HOLD_SECONDS)}:
        if all(up <= at + HOLD_SECONDS for at, _ in group):
            late = sum(up > at + DELAYED_SECONDS for at, _ in group)
            end = max(ends[request] for request in group)
            yield late, (end if late < len(group) else max(end, up + shortest)) - (up - WAKE_SECONDS)


def least_by_late_ones(requests):
    """For each number of late ones, the least length of all periods, whatever they serve."""
    ends = {request: min(at + d for at, d in requests[place:]) for place, request in enumerate(requests)}
    shortest = min(d for _, d in requests)
    least = [float("inf")] * (len(requests) + 1)
    for groups in partitions(list(enumerate(requests))):
        totals = {0: 0.0}
        for group in groups:
            found = {}
            for late, length in lengths_of([request for _, request in group], ends, shortest):
                for before, sum_ in totals.items():
                    found[before + late] = min(found.get(before + late, float("inf")), sum_ + length)
            totals = found
        for late, length in totals.items():
            least[late] = min(least[late], length)
    return least


def envelope(least, late):
    """The largest convex function that is nowhere above `least`, at `late`."""
    points = [(k, cost) for k, cost in enumerate(least) if cost < float("inf")]
    slopes = {0.0} | {max(0.0, (a[1] - b[1]) / (b[0] - a[0])) for a in points for b in points if a[0] < b[0]}
    return max(min(cost + slope * k for k, cost in points) - slope * late for slope in slopes)


@settings(max_examples=150)
@given(instances, st.integers(0, 6))
def test_the_bound_is_the_convex_envelope_of_the_least_that_its_proof_asks_for(requests, late):
    late = min(late, len(requests))
    of = trace(*[(at, "a", d) for at, d in requests], length_seconds=9000)
    assert bound_seconds(of, late) == pytest.approx(envelope(least_by_late_ones(requests), late))


@st.composite
def fleets(draw):
    models = draw(st.integers(1, 4))
    rows = draw(
        st.lists(
            st.tuples(st.floats(0, 900), st.integers(0, models - 1), st.floats(0, 90)),
            min_size=1,
            max_size=25,
        )
    )
    rows.sort()
    tenants = draw(st.integers(1, 2))
    sizes = [draw(st.sampled_from([4, 8, 20])) for _ in range(models)]
    setting = replace(
        SETTING,
        fixed_hosts=draw(st.integers(1, 2)),
        load_seconds=draw(st.sampled_from([0.0, 0.05, 4.0, 20.0, 50.0])),
        host_start_seconds=draw(st.sampled_from([0.0, 30.0])),
        loads=draw(st.sampled_from([{}, {"tenant-0/m0": 2.0}])),
    )
    columns = [array("d", [row[0] for row in rows]), array("l", [row[1] for row in rows])]
    return Trace(
        "drawn",
        [TracedModel(f"tenant-{i % tenants}/m{i}", size * GIB) for i, size in enumerate(sizes)],
        *columns,
        array("d", [row[2] for row in rows]),
        draw(st.sampled_from([rows[-1][0], 1000.0, 3000.0])),
    ), setting


def assert_not_below_the_bound(names, of, setting):
    for name in names:
        told = POLICIES[name](of, setting)
        bound = lower_bound_host_hours(of, setting, told.delayed_fraction, may_drop=told.dropped > 0)
        assert told.host_hours >= bound - 1e-9, name


@settings(max_examples=150)
@given(fleets())
def test_no_peer_goes_below_the_bound_at_its_own_share_of_delayed_requests(fleet):
    assert_not_below_the_bound(PEERS, *fleet)


@settings(max_examples=20)
@given(fleets())
def test_lull_does_not_go_below_the_bound_either(fleet):
    assert_not_below_the_bound(["lull"], *fleet)


def test_the_bound_falls_the_more_may_wait_and_the_less_the_more_of_them_do():
    of = synthetic(0, days=2, requests=2000)
    bounds = [lower_bound_host_hours(of, Setting(), share / 10) for share in range(11)]
    falls = [before - after for before, after in pairwise(bounds)]
    assert all(fall >= -1e-9 for fall in falls)
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(falls))
    assert bounds[0] > 0
