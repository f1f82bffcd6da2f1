"""What is learned of silences, loads and starts."""

import pytest

from lull.policy.fleet import Count, Report
from lull.policy.habits import (
    BINS,
    EDGES_SECONDS,
    MOST_SILENCES,
    NO_GAPS,
    UNKNOWN_HAZARDS,
    Crowd,
    Habit,
    bin_of,
    counts_of,
    habit_from,
    hazards,
    with_average,
    with_silence,
)
from lull.policy.learning import Learned, learn, remembered, starting
from lull.policy.notes import NOTHING_NOTED, observe
from lull.policy.prices import known_price
from unit.policy.fleets import (
    NOW,
    Pod,
    State,
    fleet,
    host,
    placement,
    replace,
    reported,
    service,
)

ONE, TWO = service("a/one"), service("a/two")


def seen(*looks, notes=NOTHING_NOTED):
    """Observe fleets one after another, each at its time."""
    for at, of in looks:
        notes = observe(notes, of, at)
    return notes


def habit(notes, key="a/one"):
    return notes.learned.habits[key]


def idle_host(p, *, idle=True, name="h1"):
    return host(name, p, reports=[reported(p, idle=idle)])


def test_every_edge_begins_a_bin_and_what_is_beyond_falls_into_the_first_and_the_last():
    assert [bin_of(1.001 * edge) for edge in EDGES_SECONDS] == [*range(BINS), BINS - 1]
    assert [bin_of(0.999 * edge) for edge in EDGES_SECONDS[1:]] == list(range(BINS))
    assert (bin_of(-5.0), bin_of(1e12)) == (0, BINS - 1)


def test_nothing_known_leaves_the_prior_and_much_known_outweighs_it():
    assert hazards(NO_GAPS, UNKNOWN_HAZARDS) == pytest.approx(UNKNOWN_HAZARDS)
    gaps = NO_GAPS
    for _ in range(1000):
        gaps = with_silence(gaps, 100.0)
    known = hazards(gaps, UNKNOWN_HAZARDS)
    ends_in = bin_of(100.0)
    width = EDGES_SECONDS[ends_in + 1] - EDGES_SECONDS[ends_in]
    assert known[ends_in] == pytest.approx(2 / width, rel=0.1)  # in its middle, on average
    assert known[ends_in - 1] < UNKNOWN_HAZARDS[ends_in - 1] / 10


def test_counts_are_bounded_and_forget_the_old():
    gaps = (0,) * 5 + (MOST_SILENCES,) + (0,) * (BINS - 6)
    assert sum(with_silence(gaps, 100.0)) <= MOST_SILENCES // 2 + 1


def test_a_habit_outlives_a_restart_as_a_short_list_of_counts():
    gaps = with_silence(with_silence(NO_GAPS, 40.0), 100.0)
    kept = counts_of(Habit(gaps=gaps))
    assert len(kept) == bin_of(100.0) + 1
    again = habit_from(kept, 7.0)
    assert (again.gaps, again.load_seconds) == (gaps, 7.0)
    assert counts_of(Habit()) == []
    assert habit_from([1] * 64).gaps == (1,) * BINS


def test_an_average_follows_slowly():
    assert with_average(None, 10.0) == 10.0
    assert with_average(10.0, 20.0) == pytest.approx(13.0)


def test_a_silence_begins_with_the_last_request_and_ends_when_a_gateway_holds():
    p = placement(ONE)
    used, quiet = fleet(ONE, idle_host(p, idle=False)), fleet(ONE, idle_host(p))
    notes = seen((0.0, used), (400.0, quiet))
    assert habit(notes).silent_since == 100.0  # idle is told 300 s after the last request
    asleep = fleet(ONE)
    notes = seen((500.0, asleep), (1100.0, fleet(ONE, held=["a/one"])), notes=notes)
    assert habit(notes).silent_since is None
    assert habit(notes).gaps[bin_of(1000.0)] == sum(habit(notes).gaps) == 1
    assert notes.learned.crowds["pool"].gaps == habit(notes).gaps
    assert habit(notes).hazards == hazards(habit(notes).gaps, notes.learned.crowds["pool"].hazards)


def test_a_silence_is_as_long_whenever_it_begins():
    p, begun = placement(ONE), 1e6
    used, quiet = fleet(ONE, idle_host(p, idle=False)), fleet(ONE, idle_host(p))
    asked = fleet(ONE, held=["a/one"])
    notes = seen((begun, used), (begun + 400.0, quiet), (begun + 1100.0, asked))
    assert habit(notes).gaps[bin_of(1000.0)] == sum(habit(notes).gaps) == 1


def test_a_silence_ends_when_an_agent_sees_a_request():
    p = placement(ONE)
    used, quiet = fleet(ONE, idle_host(p, idle=False)), fleet(ONE, idle_host(p))
    notes = seen((0.0, used), (400.0, quiet), (450.0, fleet(ONE, idle_host(p, idle=False))))
    assert sum(habit(notes).gaps) == 1


def test_idleness_from_before_a_turn_is_no_silence():
    p = placement(ONE)
    used, quiet = fleet(ONE, idle_host(p, idle=False)), fleet(ONE, idle_host(p))
    assert habit(seen((0.0, used), (299.0, quiet))).silent_since is None
    draining = fleet(ONE, idle_host(replace(p, state=State.DRAINING)))
    assert habit(seen((500.0, draining))).silent_since == 200.0


def test_idleness_counts_from_the_very_moment_on_at_which_it_was_long_enough():
    p = placement(ONE)
    used, quiet = fleet(ONE, idle_host(p, idle=False)), fleet(ONE, idle_host(p))
    assert habit(seen((0.0, used), (300.0, quiet))).silent_since == 0.0


def test_a_silence_is_as_long_as_the_longest_idleness_says():
    p, rides = placement(ONE, id_="p"), placement(ONE, id_="rides", state=State.RESIDENT)
    used = fleet(ONE, idle_host(p, idle=False), idle_host(rides, idle=False, name="h2"))
    quiet = fleet(ONE, idle_host(p), idle_host(rides, name="h2"))
    assert habit(seen((0.0, used), (400.0, quiet))).silent_since == 100.0


def test_one_replica_that_is_asked_is_no_silence():
    p, q = placement(ONE, id_="p"), placement(ONE, id_="q")
    used = fleet(ONE, idle_host(p, idle=False), idle_host(q, idle=False, name="h2"))
    half = fleet(ONE, idle_host(p), idle_host(q, idle=False, name="h2"))
    assert habit(seen((0.0, used), (400.0, half))).silent_since is None


def test_what_was_loaded_unasked_neither_ends_a_silence_nor_hides_one():
    rider = placement(ONE, state=State.RESIDENT)
    notes = seen((0.0, fleet(ONE, idle_host(rider, idle=False))))
    assert (habit(notes).silent_since, habit(notes).gaps) == (0.0, NO_GAPS)


def test_who_was_never_seen_in_use_has_no_silence():
    assert habit(seen((0.0, fleet(ONE)))).silent_since is None


def test_a_start_is_what_is_left_of_the_first_wake_without_its_load_though_no_pod_is_called_ready_yet():
    p = placement(ONE)
    starts = fleet(ONE, host("h1", p, reports=[], pod=Pod.STARTING))
    fetches = fleet(ONE, host("h1", p, reports=[reported(p, Report.FETCHING)], pod=Pod.STARTING))
    loads = fleet(ONE, host("h1", p, reports=[reported(p, Report.LOADING)], pod=Pod.STARTING))
    ready = fleet(ONE, host("h1", p, reports=[reported(p, load_seconds=3.0)], pod=Pod.STARTING))
    notes = seen((-1.0, fleet()), (0.0, starts), (1.0, fetches), (2.0, loads), (8.0, ready), (9.0, ready))
    assert notes.learned.start_seconds("pool") == 5.0
    called_ready = fleet(ONE, host("h1", p, reports=[reported(p, Report.LOADING)]))
    notes = seen(
        (-1.0, fleet()), (0.0, starts), (2.0, loads), (7.0, called_ready), (9.0, fleet(ONE, host("h1", p)))
    )
    assert notes.learned.start_seconds("pool") == 7.0


def test_a_start_that_began_before_anybody_looked_or_was_hindered_teaches_nothing():
    starts, runs = fleet(host("h1", pod=Pod.STARTING)), fleet(host("h1"))
    assert seen((0.0, starts), (1.0, runs)).learned.start_seconds("pool") == 30.0
    hindered = fleet(host("h1", pod=Pod.STARTING, trouble="no node has room"))
    assert seen((-1.0, fleet()), (0.0, hindered), (9.0, runs)).learned.start_seconds("pool") == 30.0
    notes = seen((-1.0, fleet()), (0.0, hindered), (7.0, starts), (9.0, runs))
    assert notes.learned.start_seconds("pool") == 2.0


def test_a_start_counts_once_in_however_many_looks():
    first = replace(fleet(host("h0", pod=Pod.STARTING)), seed="1")
    second = fleet(host("h0"), host("h1", pod=Pod.STARTING))
    notes = seen((-1.0, fleet()), (0.0, first), (10.0, second))
    ends = fleet(ONE, TWO, host("h0", placement(ONE)), host("h1", placement(TWO)))
    whole = observe(notes, ends, 110.0)
    while notes.seen is not ends:
        notes = observe(notes, ends, 110.0, most=1)
    assert notes.learned.start_seconds("pool") == whole.learned.start_seconds("pool") == 37.0


def test_load_and_start_times_are_learned_each_once():
    p = placement(ONE)
    starts = fleet(ONE, host("h1", p, reports=[], pod=Pod.STARTING))
    runs = fleet(ONE, host("h1", p, reports=[reported(p, load_seconds=8.0)]))
    notes = seen((-1.0, fleet()), (0.0, starts), (40.0, runs), (50.0, runs))
    assert notes.learned.load_seconds("a/one", "pool") == 8.0
    assert notes.learned.start_seconds("pool") == 32.0
    second = placement(ONE, id_="second")
    moved = fleet(ONE, host("h2", second, reports=[reported(second, load_seconds=18.0)]))
    assert seen((60.0, moved), notes=notes).learned.load_seconds("a/one", "pool") == pytest.approx(11.0)
    assert (Learned().load_seconds("a/one", "pool"), Learned().start_seconds("pool")) == (20.0, 30.0)
    known = Learned(habits={"a/one": Habit()})
    assert known.load_seconds("a/one", "pool") == 20.0


def test_who_was_never_loaded_is_expected_to_take_as_long_as_others_of_its_pool_do():
    p, q = placement(ONE), placement(TWO)
    first = fleet(ONE, TWO, host("h1", p, reports=[reported(p, load_seconds=2.0)]))
    both = fleet(ONE, TWO, host("h1", p, q, reports=[reported(p), reported(q, load_seconds=12.0)]))
    learned = seen((0.0, first), (9.0, both)).learned
    assert learned.load_seconds("a/three", "pool") == pytest.approx(5.0)
    assert learned.load_seconds("a/three", "other") == 20.0
    assert learned.load_seconds("a/two", "pool") == 12.0
    kept = {key: ("pool", habit) for key, habit in learned.habits.items()} | {"a/new": ("pool", Habit())}
    assert remembered(kept, {}, {}).load_seconds("a/three", "pool") == 7.0
    orphan = replace(TWO, pool="none")
    astray = host("h9", q, reports=[reported(q, load_seconds=12.0)], pool="none")
    assert seen((0.0, fleet(orphan, astray))).learned.crowds == {}


def test_how_long_an_unload_takes_is_learned_where_it_was_seen_to_begin():
    p = placement(ONE)
    there, gone = fleet(ONE, host("h1", p)), fleet(ONE, host("h1"))
    leaves = fleet(ONE, host("h1", reports=[reported(p, Report.UNLOADING)]))
    assert seen((0.0, leaves), (3.0, gone)).learned.unload_seconds("pool") == 1.0
    notes = seen((0.0, there), (1.0, leaves), (2.0, leaves), (4.0, gone), (9.0, gone))
    assert notes.learned.unload_seconds("pool") == 3.0
    ended = fleet(ONE, host("h1", pod=Pod.GONE))
    assert seen((0.0, there), (1.0, leaves), (9.0, ended)).learned.unload_seconds("pool") == 1.0


def test_what_was_learned_is_bounded_by_the_fleet():
    p = placement(ONE)
    notes = seen((0.0, fleet(ONE, idle_host(p))), (400.0, fleet(ONE, TWO, held=["a/one"])))
    assert notes.learned.habits.keys() == {"a/one", "a/two"}
    gone = seen((500.0, fleet(pools=[])), notes=notes).learned
    assert (gone.habits, gone.crowds, gone.prices) == ({}, {}, {})


def test_a_service_of_no_pool_teaches_nobody():
    orphan = replace(ONE, pool="none")
    p = placement(orphan)
    used, quiet = fleet(orphan, idle_host(p, idle=False)), fleet(orphan, idle_host(p))
    counted = replace(fleet(orphan, held=["a/one"]), counts={"a/one": Count(5, 5)})
    learned = seen((0.0, used), (400.0, quiet), (500.0, counted)).learned
    assert sum(learned.habits["a/one"].gaps) == 1
    assert (learned.crowds, learned.prices) == ({}, {})


def test_a_look_at_who_is_gone_is_no_look():
    assert learn(Learned(), fleet(), {}, NOW, ["a/gone"]) == Learned()


def test_a_restarted_controller_goes_on_with_what_it_kept():
    gaps = with_silence(NO_GAPS, 100.0)
    learned = remembered(
        {"a/one": ("pool", Habit(gaps=gaps)), "a/two": ("pool", Habit(gaps=gaps))},
        {"pool": 12.0, "other": 5.0},
        {("pool", 5): 700.0},
    )
    assert learned.crowds["pool"].gaps == tuple(2 * n for n in gaps)
    assert (learned.start_seconds("pool"), learned.start_seconds("other")) == (12.0, 5.0)
    assert learned.habits["a/one"].hazards == hazards(gaps, learned.crowds["pool"].hazards)
    assert learned.prices[("pool", 5)] == known_price(700.0)


def test_who_had_no_silence_yet_goes_on_as_its_pool_learns():
    learned = remembered({"a/one": ("pool", Habit())}, {}, {})
    assert learned.habits["a/one"].hazards == ()


def test_the_first_totals_after_a_restart_are_no_news_and_the_next_ones_are():
    kept = replace(NOTHING_NOTED, learned=remembered({"a/one": ("pool", Habit(count=None))}, {}, {}))
    unknown = seen((0.0, fleet(ONE)), notes=kept)
    assert unknown.learned.habits["a/one"].count is None
    first = seen((1.0, counted(100, 10)), notes=unknown)
    assert first.learned.prices == {}
    assert seen((2.0, counted(120, 20)), notes=first).learned.prices


def test_a_host_that_starts_is_a_fact_until_it_runs():
    of = fleet(host("h1", pod=Pod.STARTING))
    assert starting(of.hosts["h1"]) in observe(NOTHING_NOTED, of, 0.0).since
    assert starting(of.hosts["h1"]) not in observe(NOTHING_NOTED, fleet(host("h1")), 0.0).since


def counted(requests, delayed, of=ONE):
    return replace(fleet(of), counts={of.key: Count(requests, delayed)})


@pytest.mark.parametrize("state", [State.RESIDENT, State.LOADED])
def test_a_silence_that_was_under_way_at_a_restart_is_not_counted_but_the_next_one_is(state):
    p = placement(ONE, state=state)
    asleep, asked = fleet(ONE, idle_host(p)), fleet(ONE, idle_host(p), held=["a/one"])
    notes = seen((0.0, asleep), (400.0, asleep), (410.0, asked))
    assert (habit(notes).gaps, habit(notes).silent_since) == (NO_GAPS, None)
    notes = seen((800.0, asleep), (1300.0, asleep), (1400.0, asked), notes=notes)
    assert sum(habit(notes).gaps) == 1


@pytest.mark.parametrize(("own", "begins_with"), [((), 0.25), ((0.5,) * BINS, 0.5)])
def test_a_silence_begins_with_what_is_known_of_the_service_else_of_its_pool(own, begins_with):
    pools = {"pool": Crowd(hazards=(0.25,) * BINS)}
    known = replace(NOTHING_NOTED, learned=Learned({"a/one": Habit(asked=True, hazards=own)}, pools))
    rides = fleet(service(), host("h1", placement(service(), state=State.RESIDENT)))
    assert observe(known, rides, NOW).learned.habits["a/one"].hazards == (begins_with,) * BINS


def test_as_many_silences_are_kept_as_are_allowed():
    full = with_silence((MOST_SILENCES - 1, *NO_GAPS[1:]), 0.0)
    assert sum(full) == MOST_SILENCES
