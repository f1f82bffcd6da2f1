"""How many replicas: by work, fast up and slow down, never to and fro; and by schedule."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lull.policy import NOTHING_NOTED, observe, plan
from lull.policy.changes import Draft
from lull.policy.demand import SPARE_SECONDS, wanted
from lull.policy.fleet import Window
from lull.policy.habits import Crowd, Habit
from lull.policy.learning import Learned
from lull.policy.load import enough, more
from lull.policy.schedule import broken, hours, trouble
from unit.policy.fleets import (
    NOW,
    Report,
    State,
    after,
    altered,
    created,
    decide,
    fleet,
    host,
    placement,
    pool,
    replace,
    reported,
    service,
    telling,
)

MANY = service("a/one", max_replicas=8)
SWIFT = replace(MANY, latency_seconds=0.1)
POOL = pool(max_hosts=20)


def serving(of, *figures, **fields):
    """A service on as many hosts as there are figures of its replicas."""
    hosts = [
        telling(f"h{number}", placement(of, id_=f"p{number}"), **figure, **fields)
        for number, figure in enumerate(figures)
    ]
    return fleet(of, *hosts, pools=[POOL])


def target(of, *, seen=(), now=NOW, notes=NOTHING_NOTED):
    """The replicas wanted now, after the fleets that were `seen` at their times."""
    for at, before in (*seen, (now, of)):
        notes = observe(notes, before, at)
    return wanted(Draft(of, notes, now), of.services["a/one"])


def busy(*shares, **others):
    return [{"busy": share, **others} for share in shares]


@pytest.mark.parametrize(
    ("shares", "replicas"),
    [([0.0], 1), ([0.8], 1), ([0.85], 2), ([0.6, 0.6], 2), ([0.85, 0.85], 3), ([1.0, 0.95, 1.0], 4)],
)
def test_replicas_are_added_as_soon_as_they_are_busier_than_the_target(shares, replicas):
    assert target(serving(MANY, *busy(*shares))) == replicas


def test_a_replica_more_goes_to_another_host_at_once():
    told = decide(serving(MANY, *busy(0.9)))
    assert [change.placements[0].service for change in created(told)] == ["a/one"]
    assert told.services["a/one"].desired == 2


def test_saturated_replicas_whose_requests_wait_double():
    assert target(serving(MANY, *busy(1.0, 1.0, 1.0, queue_seconds=2.0))) == 6


def test_a_window_at_most_doubles_them_however_busy():
    assert target(serving(MANY, *busy(4.0))) == 2


def test_never_more_than_the_user_allows():
    assert target(serving(replace(MANY, max_replicas=3), *busy(1.0, 1.0, 1.0, queue_seconds=2.0))) == 3
    assert target(serving(replace(MANY, max_replicas=1), *busy(1.0))) == 1


def test_a_queue_that_one_replica_has_and_another_has_not_is_no_reason():
    slow, fast = busy(0.75, queue_seconds=2.0) + busy(0.75)
    assert target(serving(MANY, slow, fast)) == 2


@pytest.mark.parametrize(
    ("latency", "share", "replicas"),
    [(0.2, 0.6, 2), (0.1, 0.6, 1), (None, 0.6, 1), (0.2, 0.3, 1)],
    ids=["missed", "met", "not known", "missed, and not for load"],
)
def test_a_latency_objective_that_is_missed_under_load_adds_a_replica(latency, share, replicas):
    assert target(serving(SWIFT, {"busy": share, "latency_seconds": latency})) == replicas


def test_a_replica_goes_only_when_fewer_have_been_enough_for_five_minutes():
    of = serving(MANY, *busy(0.2, 0.2))
    before = [(NOW - SPARE_SECONDS, of)]
    assert target(of, seen=[(NOW - SPARE_SECONDS + 1, of)]) == 2
    assert target(of, seen=before) == 1
    burst = serving(MANY, *busy(0.8, 0.8))
    assert target(of, seen=[*before, (NOW - 10, burst)]) == 2


def test_the_plan_comes_back_when_fewer_will_have_been_enough():
    assert decide(serving(MANY, *busy(0.2, 0.2)), seen_at=NOW - 100).next_at == NOW - 100 + SPARE_SECONDS


def test_as_many_stay_as_the_last_five_minutes_needed():
    six = serving(MANY, *busy(*[0.5] * 6))
    five = serving(MANY, *busy(*[0.1] * 6))
    assert target(five, seen=[(NOW - 900, six), (NOW - 200, five)]) == 5


def test_replicas_that_move_are_not_counted_twice():
    steady = serving(MANY, *busy(0.4, 0.4))
    moving = altered(serving(MANY, *busy(0.4, 0.4, 0.0)), "h0", cordoned=True)
    assert target(moving, seen=[(NOW - 5, steady)]) == 2


def test_a_replica_that_failed_does_no_work_and_is_none():
    good, bad = placement(MANY, id_="p0"), placement(MANY, id_="p1")
    of = fleet(
        MANY,
        host("h0", good, reports=[reported(good, busy=0.9)]),
        host("h1", bad, reports=[reported(bad, Report.FAILED, busy=0.9)]),
        pools=[POOL],
    )
    assert observe(NOTHING_NOTED, of, NOW).replicas == {}
    assert target(of) == 2


def test_a_service_that_nobody_asks_needs_none_however_many_it_has():
    p = [placement(MANY, id_=f"p{n}") for n in range(2)]
    of = fleet(MANY, *(host(f"h{n}", q, reports=[reported(q, idle=True)]) for n, q in enumerate(p)))
    assert target(of, seen=[(NOW - 300, of)]) == 0


@settings(max_examples=400)
@given(work=st.floats(0, 6), objective=st.booleans(), start=st.integers(1, 8))
def test_one_and_the_same_work_moves_the_number_of_replicas_one_way_only(work, objective, start):
    of = SWIFT if objective else MANY
    count, now, notes, counts = start, NOW, NOTHING_NOTED, [start]
    for _ in range(24):
        share = min(1.0, work / count)
        waits = 0.04 / (1.001 - share)  # as random arrivals do
        figure = {
            "busy": round(share * 20) / 20,
            "queue_seconds": waits - 0.04,
            "latency_seconds": 3 * waits,
        }
        seen = serving(of, *[figure] * count)
        notes = observe(notes, seen, now)
        wished = wanted(Draft(seen, notes, now), of)
        assert wished <= 2 * count
        count, now = wished, now + 60
        counts.append(count)
    moves = [(a, b) for a, b in pairwise(counts) if a != b]
    assert len(moves) == len(set(moves)), counts  # none is made twice
    assert counts[-1] == counts[-8]


@given(st.lists(st.integers(0, 20), max_size=8), st.booleans())
def test_what_is_enough_is_never_less_than_what_is_needed(shares, objective):
    of = SWIFT if objective else MANY
    reports = [reported(placement(of), busy=share / 20, latency_seconds=1.0) for share in shares]
    assert enough(of, reports) >= more(of, reports)


# In words.


@pytest.mark.parametrize(
    ("of", "shares", "others", "why"),
    [
        (MANY, [0.9], {}, "busy 90% of one replica, of which each takes 80%"),
        (
            replace(MANY, max_replicas=2),
            [0.9],
            {},
            "busy 90% of one replica, of which each takes 80%, and replicas.max is 2",
        ),
        (
            MANY,
            [1.0],
            {"queue_seconds": 1.0},
            "busy 100% of one replica, and requests wait for more than 0.5s in the mean",
        ),
        (SWIFT, [0.6], {"latency_seconds": 0.2}, "busy 60% of one replica, and latency is above 100ms"),
        (
            MANY,
            [0.1, 0.1],
            {},
            (
                "busy 20% of one replica, of which each takes 80%; fewer replicas have not been enough "
                "for 5m yet"
            ),
        ),
        (replace(MANY, min_replicas=2), [0.1], {}, "replicas.min is 2"),
        (
            replace(MANY, schedule=(Window("* * * * *", "UTC", 60.0, 2),)),
            [0.1],
            {},
            "a window of spec.schedule is open",
        ),
        (MANY, [0.1], {}, ""),
        (MANY, [], {}, ""),
    ],
)
def test_the_number_of_replicas_is_explained(of, shares, others, why):
    told = decide(serving(of, *busy(*shares, **others))).services["a/one"].desired_why
    assert told == why


def test_that_fewer_are_enough_is_explained():
    of = serving(MANY, *busy(0.1, 0.1))
    told = decide(of, seen_at=NOW - SPARE_SECONDS).services["a/one"]
    assert told.desired == 1
    assert told.desired_why.endswith("fewer replicas have been enough for 5m")


# Schedules.

BERLIN = Window("0 8 * * 1-5", "Europe/Berlin", 10 * 3600.0, 2)


def at(text):
    """Seconds since the epoch of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def planned(schedule=(BERLIN,), *, lead=0.0, now):
    return hours(service("a/one", schedule=schedule), at(now), lead)


@pytest.mark.parametrize(
    ("now", "replicas", "changes"),
    [
        ("2026-01-05 06:59:59", 0, "2026-01-05 07:00:00"),
        ("2026-01-05 07:00:00", 2, "2026-01-05 17:00:00"),
        ("2026-01-05 16:59:59", 2, "2026-01-05 17:00:00"),
        ("2026-01-05 17:00:00", 0, "2026-01-06 07:00:00"),
        ("2026-01-09 18:00:00", 0, "2026-01-12 07:00:00"),
        ("2026-07-06 06:00:00", 2, "2026-07-06 16:00:00"),  # summer time
    ],
)
def test_a_window_is_open_by_its_own_clock(now, replicas, changes):
    told = planned(now=now)
    assert (told.replicas, told.changes_at) == (replicas, at(changes))


def test_a_window_opens_early_and_closes_in_time():
    assert planned(lead=90, now="2026-01-05 06:58:29").changes_at == at("2026-01-05 06:58:30")
    assert planned(lead=90, now="2026-01-05 06:58:30").replicas == 2
    assert planned(lead=90, now="2026-01-05 17:00:00").replicas == 0


def test_the_larger_of_two_open_windows_counts():
    often = Window("*/10 * * * *", "UTC", 60.0)
    told = planned((BERLIN, often), now="2026-01-05 07:00:30")
    assert told.replicas == 2
    assert told.changes_at == at("2026-01-05 07:01:00")
    assert told.opens_at == at("2026-01-05 07:10:00")
    assert told.closes_at == at("2026-01-05 17:00:00")


def test_a_window_that_opens_again_before_it_closes_stays_open():
    often = Window("*/10 * * * *", "UTC", 700.0)
    assert planned((often,), now="2026-01-05 07:09:59").replicas == 1
    assert planned((often,), now="2026-01-05 07:10:00").replicas == 1


@pytest.mark.parametrize("now", ["2026-03-29 00:59:59", "2026-03-29 01:00:00", "2026-10-25 00:30:00"])
def test_the_hour_in_which_clocks_change_spoils_nothing(now):
    told = planned((Window("30 2 * * *", "Europe/Berlin", 3600.0),), now=now)
    assert told.opens_at > at(now)


@pytest.mark.parametrize("minutes", range(0, 60, 10))
def test_a_window_in_the_hour_that_comes_twice_opens_in_the_first(minutes):
    window = Window("30 2 * * *", "Europe/Berlin", 3600.0)
    opened = at("2026-10-25 00:30:00")
    told = hours(service("a/one", schedule=(window,)), opened + 60 * minutes, 0.0)
    assert (told.replicas, told.closes_at) == (1, opened + 3600)
    early = hours(service("a/one", schedule=(window,)), opened - 60 - 60 * minutes, 0.0)
    assert (early.replicas, early.opens_at) == (0, opened)


@pytest.mark.parametrize(
    ("window", "says"),
    [
        (Window("0 8 * * 1-5", "Mars/Base", 60.0), "names no time zone: 'Mars/Base'"),
        (Window("0 8 * * 1-5", "../etc", 60.0), "names no time zone"),
        (Window("0 8 * * 5-1", "UTC", 60.0), "(Bad day-of-week)"),
        (Window("0 0 31 2 *", "UTC", 60.0), "(Bad day-of-month)"),
        (Window("0 0 30 2 *", "Europe/Berlin", 60.0), "cron"),
    ],
)
def test_a_window_that_cannot_be_kept_is_told_and_says_nothing(window, says):
    broken.cache_clear()
    kept = service("a/one", schedule=(BERLIN, window))
    assert says in (trouble(kept) or "")
    assert hours(kept, at("2026-01-05 08:00:00"), 0.0).replicas == 2


def test_a_schedule_that_can_be_kept_is_no_trouble():
    assert trouble(service("a/one", schedule=(BERLIN,))) is None


def test_without_windows_nothing_is_due():
    told = planned((), now="2026-01-05 08:00:00")
    assert (told.replicas, told.changes_at, told.opens_at) == (0, None, None)


def test_a_sleeping_service_is_awake_when_its_window_opens_and_may_sleep_when_it_closes():
    kept = service("a/one", schedule=(replace(BERLIN, min_replicas=1),))
    opens, closes = at("2026-01-05 07:00:00"), at("2026-01-05 17:00:00")
    before = decide(fleet(kept), now=opens - 600)
    assert not before.changes
    assert opens - 600 < before.next_at < opens
    assert created(decide(fleet(kept), now=before.next_at))
    p = placement(kept)
    idle = fleet(kept, host("h1", p, reports=[reported(p, idle=True)]))
    assert decide(idle, seen_at=opens, now=closes - 1).next_at == closes
    assert [p.state for p in after(decide(idle, seen_at=opens, now=closes))] == [State.DRAINING]


def test_what_its_wake_taught_puts_nobody_to_sleep_before_the_window_opens():
    kept = service("a/one", schedule=(replace(BERLIN, min_replicas=1),), idle_after_seconds=1.0)
    opens = at("2026-01-05 07:00:00")
    p = placement(kept)
    idle = fleet(kept, host("h1", p, reports=[reported(p, idle=True)]))
    quick = Learned({"a/one": Habit(load_seconds=0.1)}, {"pool": Crowd(start_seconds=1.0)})
    notes = observe(replace(NOTHING_NOTED, learned=quick), idle, opens - 100)
    assert not plan(idle, notes, opens - 50).changes
    assert plan(idle, notes, opens - 50).services["a/one"].next_action == "Stay"


def test_a_suspended_service_has_no_windows():
    kept = service("a/one", schedule=(BERLIN,), suspend=True)
    assert not plan(fleet(kept), NOTHING_NOTED, at("2026-01-05 08:00:00")).changes


STEPS = st.lists(
    st.tuples(st.integers(1, 400), st.lists(st.integers(0, 20), min_size=3, max_size=3)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=100)
@given(STEPS)
def test_what_time_and_figures_change_is_seen_by_a_plan_that_looks_only_at_what_changed(steps):
    window = Window("*/10 * * * *", "UTC", 240.0, 2)
    of = replace(MANY, schedule=(window,))
    now, notes, last, hosts = NOW, NOTHING_NOTED, None, {}
    for seconds, shares in steps:
        now += seconds
        for name, fresh in serving(of, *busy(*[share / 20 for share in shares])).hosts.items():
            hosts[name] = hosts[name] if hosts.get(name) == fresh else fresh
        seen = fleet(of, *hosts.values(), pools=[POOL])
        notes = observe(notes, seen, now)
        last, whole = plan(seen, notes, now, last), plan(seen, notes, now)
        assert (last.changes, last.services) == (whole.changes, whole.services)
        assert last.next_at == whole.next_at
