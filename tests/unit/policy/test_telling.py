"""What users are told: how long a wake would take, why a model is where it is, and what happens next."""

import pytest

from lull.policy import NOTHING_NOTED, observe, plan
from lull.policy.changes import Draft
from lull.policy.expect import HOP_SECONDS, WORD_SECONDS, Expected, expected_wake
from lull.policy.fleet import Window
from lull.policy.habits import Crowd, Habit
from lull.policy.hosts import AHEAD_SECONDS
from lull.policy.learning import BEGUN, Learned
from lull.policy.prices import Price
from unit.policy.fleets import (
    NOW,
    ONE,
    THREE,
    TWO,
    Pod,
    Report,
    State,
    decide,
    failing,
    fleet,
    host,
    placement,
    pool,
    replace,
    reported,
    riding,
    service,
)

LOAD, OTHER_LOAD, START, UNLOAD = 7.0, 5.0, 40.0, 3.0
LEARNED = Learned(
    {"a/one": Habit(load_seconds=LOAD), "a/two": Habit(load_seconds=OTHER_LOAD)},
    {"pool": Crowd(start_seconds=START, unload_seconds=UNLOAD)},
)


def expected(of, key="a/one"):
    return expected_wake(Draft(of, replace(NOTHING_NOTED, learned=LEARNED), NOW), of.services[key])


def rounded(wake):
    word = WORD_SECONDS if wake and wake.source == "Host" else 0.0
    return wake and (round(wake.seconds - HOP_SECONDS - word, 3), wake.source)


def test_what_serves_is_awake():
    assert expected(fleet(ONE, host("h1", ONE))) == Expected(0.0)


@pytest.mark.parametrize("state", [State.RESIDENT, State.DRAINING])
def test_what_is_in_memory_takes_a_hop(state):
    assert expected(fleet(ONE, host("h1", placement(ONE, state=state)))) == Expected(HOP_SECONDS, "Loaded")


def test_a_rider_that_is_still_loading_takes_its_load():
    p = placement(ONE, state=State.RESIDENT)
    loading = fleet(ONE, host("h1", p, reports=[reported(p, Report.LOADING)]))
    assert rounded(expected(loading)) == (LOAD, "Host")


def test_a_host_with_room_takes_a_load():
    assert rounded(expected(fleet(ONE, TWO, host("h1", TWO)))) == (LOAD, "Host")


def test_where_somebody_must_go_that_is_waited_for():
    full = fleet(service("a/one", gib=4), TWO, host("h1", *riding(TWO)))
    assert rounded(expected(full)) == (UNLOAD + LOAD, "Host")


def test_who_loads_there_already_is_waited_for():
    p = placement(TWO)
    queued = fleet(ONE, TWO, host("h1", p, reports=[reported(p, Report.LOADING)]))
    assert rounded(expected(queued)) == (OTHER_LOAD + LOAD, "Host")


@pytest.mark.parametrize(("hold", "seconds"), [(60.0, OTHER_LOAD + LOAD), (10.0, LOAD)])
def test_a_queue_that_a_wake_would_wait_in_is_waited_for(hold, seconds):
    p, one = placement(TWO), service("a/one", hold_seconds=hold)
    hosts = [host("h1", p, reports=[]), host("h2", THREE)]
    assert rounded(expected(fleet(one, TWO, THREE, *hosts))) == (seconds, "Host")


@pytest.mark.parametrize("hosts", [[], [host("h1", pod=Pod.STARTING)]], ids=["none", "starting"])
def test_without_a_host_that_runs_its_start_is_waited_for(hosts):
    assert rounded(expected(fleet(ONE, *hosts))) == (START + LOAD, "NewHost")


def test_a_host_that_has_loaded_something_has_started_whatever_its_pod_is_called():
    early = host("h1", TWO, pod=Pod.STARTING)
    assert rounded(expected(fleet(ONE, TWO, early))) == (LOAD, "NewHost")


def test_a_wake_that_is_under_way_goes_on_where_it_began():
    p, q = placement(TWO), placement(ONE)
    of = fleet(ONE, TWO, host("h1", p, q, reports=[], pod=Pod.STARTING), host("h2"))
    assert rounded(expected(of)) == (START + OTHER_LOAD + LOAD, "NewHost")


def test_what_failed_is_no_wake_under_way():
    p = placement(ONE)
    of = fleet(ONE, host("h1", p, reports=[reported(p, Report.FAILED)]), host("h2"))
    assert expected(of) is None, "it was not noted yet"
    notes = replace(observe(NOTHING_NOTED, of, NOW), learned=LEARNED)
    assert rounded(expected_wake(Draft(of, notes, NOW), ONE)) == (LOAD, "Host")


def test_what_sleeps_on_a_host_that_is_emptied_is_loaded_elsewhere():
    hosts = [host("h1", *riding(ONE), cordoned=True), host("h2")]
    assert rounded(expected(fleet(ONE, *hosts))) == (LOAD, "Host")
    full = fleet(ONE, host("h1", *riding(ONE), cordoned=True), pools=[pool(max_hosts=1)])
    assert expected(full) == Expected(HOP_SECONDS, "Loaded")


def test_beside_a_host_that_does_not_start_nothing_is_expected():
    stuck = host("h1", TWO, pod=Pod.STARTING, trouble="0/3 nodes", reports=[])
    assert expected(fleet(service("a/one", gib=4), TWO, stuck)) is None


@pytest.mark.parametrize(
    ("asked", "hosts"),
    [
        (replace(ONE, suspend=True), []),
        (service("a/one", gib=9), []),
        (service("a/one", pool="none"), []),
        (service("a/one", gib=4), [host("h1", TWO), host("h2", THREE)]),
    ],
    ids=["suspended", "too large", "no pool", "no room"],
)
def test_where_nothing_would_wake_it_nothing_is_expected(asked, hosts):
    assert expected(fleet(asked, TWO, THREE, *hosts)) is None


def test_among_many_hosts_that_are_anothers_one_s_own_is_found():
    foreign = service("b/two")
    hosts = [host(f"h{n}", placement(foreign, id_=f"p{n}")) for n in range(40)]
    namespaced = {"pools": [pool(namespaced=True, max_hosts=99)]}
    assert rounded(expected(fleet(ONE, foreign, *hosts, **namespaced))) == (START + LOAD, "NewHost")
    own = host("own", TWO, THREE)
    assert rounded(expected(fleet(ONE, TWO, THREE, foreign, *hosts, own, **namespaced))) == (LOAD, "Host")
    assert rounded(expected(fleet(ONE, foreign, *hosts, pools=[pool(max_hosts=99)]))) == (LOAD, "Host")


def many(*last, full=6, **fields):
    """Hosts that are full, and others; as many as the pool may have."""
    works = [service(f"a/w{n}", gib=4) for n in range(full)]
    hosts = [*(host(f"h{n}", s) for n, s in enumerate(works)), *last]
    return fleet(ONE, TWO, *works, *hosts, **({"pools": [pool(max_hosts=len(hosts))]} | fields))


def test_among_many_that_are_full_the_one_with_room_is_found():
    assert rounded(expected(many(host("z", TWO)))) == (LOAD, "Host")


def test_among_many_that_are_full_there_is_no_room_unless_the_pool_may_have_one_more():
    assert expected(many()) is None
    assert rounded(expected(many(pools=[pool(max_hosts=7)]))) == (START + LOAD, "NewHost")
    moved = many(host("o1", *riding(ONE), pool="other"), pools=[pool(max_hosts=7), pool(name="other")])
    assert rounded(expected(moved)) == (START + LOAD, "NewHost"), "its old host counts for another pool"


def test_among_many_one_that_does_not_start_is_not_overlooked():
    stuck = host("z", service("a/big", gib=4), pod=Pod.STARTING, trouble="0/3 nodes", reports=[])
    assert expected(many(stuck, pools=[pool(max_hosts=9)])) is None


def test_the_quickest_of_two_wakes_that_are_under_way_is_told():
    p, q = placement(ONE, id_="p"), placement(ONE, id_="q")
    slow, quick = host("h1", p, reports=[], pod=Pod.STARTING), host("h2", q, reports=[])
    assert rounded(expected(fleet(ONE, slow, quick))) == (LOAD, "Host")


def test_room_that_is_being_made_is_waited_for_no_longer_than_the_loads_before_take():
    gone = placement(service("a/gone", gib=3))
    said = [
        reported(placement(TWO), Report.LOADING),
        reported(gone, Report.UNLOADING, memory_bytes=3 * 2**30),
    ]
    busy = fleet(ONE, TWO, host("h1", TWO, reports=said), pools=[pool(max_hosts=1)])
    assert rounded(expected(busy)) == (OTHER_LOAD + LOAD, "Host")


# In words.


def told(of, key="a/one", **how):
    return decide(of, **how).services[key]


def asleep(*others, **fields):
    return host("h1", *riding(ONE), *others, **fields)


def test_who_serves_is_said_to_be_where_it_is_routed_and_nowhere_else():
    rides = host("h2", placement(ONE, state=State.RESIDENT, id_="p2"))
    assert told(fleet(ONE, host("h1", ONE), rides)).message == "on h1"


def test_what_failed_and_is_asked_for_all_the_same_is_not_said_to_load_anywhere():
    of = fleet(ONE, host("h1"), held=["a/one"])
    assert told(of, notes=failing()).message == "not loaded anywhere"
    assert told(of).message == "loading on h1"


def test_a_host_that_is_not_made_yet_is_not_named():
    assert told(fleet(ONE, held=["a/one"])).message == "loading on a new host"


def test_a_rider_is_told_who_keeps_its_host():
    assert told(fleet(ONE, TWO, asleep(TWO))).message == (
        "still in memory on h1, which others keep awake; unloaded when its memory is needed"
    )
    assert told(fleet(ONE, asleep())).message == (
        "still in memory on h1, which is kept for those that sleep on it"
    )


def test_a_rider_on_two_hosts_is_told_of_others_where_one_of_them_serves():
    rides = host("h2", placement(ONE, state=State.RESIDENT, id_="p2"))
    assert told(fleet(ONE, TWO, asleep(TWO), rides)).message == (
        "still in memory on h1, h2, which others keep awake; unloaded when its memory is needed"
    )


def test_who_sleeps_on_a_host_that_does_not_start_is_not_said_to_wait_for_it():
    kept = replace(TWO, min_replicas=1)
    stuck = host("h1", *riding(ONE), kept, pod=Pod.STARTING, trouble="no node has room", reports=[])
    of = fleet(ONE, kept, stuck)
    waits = decide(of, seen_at=NOW - 60).services
    assert waits["a/one"].stalled is None
    assert waits["a/two"].stalled == (
        "HostUnschedulable",
        "host h1 does not start: no node has room",
    )


def test_what_hangs_is_not_said_to_be_in_memory():
    hung = placement(ONE)
    said = [reported(hung, Report.FAILED, reason="LoadTimeout"), reported(placement(TWO))]
    there = host("h1", hung, placement(TWO), reports=said)
    assert told(fleet(ONE, TWO, there)).message == "not loaded anywhere"


def test_a_rider_is_told_when_its_host_goes_where_the_pool_says_it():
    of = fleet(ONE, asleep(), pools=[pool(empty_after_seconds=600.0)])
    next_ = told(of, seen_at=NOW - 100)
    assert (next_.next_action, next_.next_at) == ("Unload", NOW + 500)
    assert "unless somebody asks" in next_.next_reason
    kept = fleet(ONE, asleep(), pools=[pool(min_hosts=1, empty_after_seconds=600.0)])
    assert told(kept, seen_at=NOW - 10).next_at is None
    assert told(fleet(ONE, asleep(), pools=[])).next_action == "Wait"


def test_a_rider_is_told_no_end_of_a_host_that_somebody_is_woken_on():
    of = fleet(ONE, TWO, asleep(), held=["a/two"], pools=[pool(empty_after_seconds=600.0)])
    notes = observe(NOTHING_NOTED, replace(of, gateways={}), NOW - 100)
    assert told(of, notes=notes).next_action == "Wake"


def test_a_rider_on_two_hosts_is_told_when_the_last_one_goes():
    pools = [pool(empty_after_seconds=600.0)]
    first, both = asleep(), fleet(ONE, asleep(), host("h2", placement(ONE, state=State.RESIDENT, id_="p2")))
    notes = observe(NOTHING_NOTED, fleet(ONE, first, pools=pools), NOW - 100)
    of = replace(both, pools={"pool": pools[0]})
    assert told(of, notes=observe(notes, of, NOW - 10)).next_at == NOW + 590


SILENT = Learned({"a/one": Habit(silent_since=NOW - 300)})
WORTHY = replace(SILENT, prices={("pool", 5): Price(worth_seconds=1e9)})


def silent(learned, *, asked_at=None):
    """A rider on a host where all sleep, as looked at now; it served somebody until `asked_at`, if at all."""
    of, notes = fleet(ONE, asleep()), replace(NOTHING_NOTED, learned=learned)
    if asked_at is not None:
        notes = observe(notes, fleet(ONE, host("h1", ONE, reports=[])), asked_at)
        notes = replace(notes, learned=learned)
    return of, observe(notes, of, NOW if asked_at is None else asked_at + 1)


def test_a_rider_is_told_when_its_host_will_not_be_worth_its_cost_any_more():
    of, notes = silent(SILENT, asked_at=NOW - 400)
    goes_at = plan(of, notes, NOW).services["a/one"].next_at
    assert goes_at is not None
    assert goes_at > NOW
    before, then = plan(of, notes, goes_at - 1), plan(of, notes, goes_at)
    assert not before.changes
    assert [change.host for change in then.changes] == ["h1"]


def test_a_host_that_was_made_ahead_is_told_to_stay_for_half_an_hour():
    of, notes = silent(SILENT)
    notes = replace(notes, since={**notes.since, BEGUN: NOW - 9000})
    assert plan(of, notes, NOW).services["a/one"].next_at >= NOW + AHEAD_SECONDS


def test_what_is_always_worth_its_host_is_told_no_end():
    of, notes = silent(WORTHY, asked_at=NOW - 400)
    told_worthy = plan(of, notes, NOW).services["a/one"]
    assert (told_worthy.next_action, told_worthy.next_at) == ("Wake", None)


def test_texts_stay_as_they_are_while_time_passes():
    of = fleet(ONE, TWO, asleep(TWO))
    assert told(of, seen_at=NOW - 900) == told(of, seen_at=NOW - 900, now=NOW + 900)


def test_a_model_is_told_where_it_moves_from():
    moving = told(fleet(ONE, host("h1", ONE, cordoned=True)))
    assert (moving.next_action, moving.next_at) == ("Move", None)
    assert moving.next_reason == "from h1 to another host, as h1 is being emptied"


HOURLY = Window("0 * * * *", "UTC", 1800.0)
YEARLY = Window("0 0 1 1 *", "UTC", 3600.0)


def test_a_sleeping_model_is_told_when_its_window_opens():
    next_ = told(fleet(replace(ONE, schedule=(YEARLY,))), now=7200.0)
    assert (next_.next_action, next_.next_at) == ("Wake", 365 * 86_400.0)
    assert "its window in spec.schedule opens" in next_.next_reason


def test_a_model_in_its_window_is_told_when_that_closes():
    next_ = told(fleet(replace(ONE, schedule=(HOURLY,)), host("h1", ONE)), now=7800.0)
    assert (next_.next_action, next_.next_at) == ("Stay", 7200.0 + 1800.0)
    outside = told(fleet(replace(ONE, schedule=(YEARLY,)), host("h1", ONE)), now=7200.0)
    assert outside.next_action == "Sleep"


def test_a_schedule_that_cannot_be_kept_is_told_and_keeps_nobody_from_serving():
    bad = replace(ONE, schedule=(Window("0 8 * * *", "Mars/Base", 60.0),))
    told_bad = told(fleet(bad, host("h1", bad)))
    assert told_bad.stalled is not None
    assert told_bad.stalled[0] == "InvalidSchedule"
    assert "spec.schedule[0] names no time zone: 'Mars/Base'" in told_bad.stalled[1]
    assert (told_bad.state, told_bad.next_action) == ("Serving", "Sleep")


def test_an_estimate_is_no_part_of_what_is_decided():
    one = told(fleet(ONE))
    assert one == replace(one, wake=None)
    assert one.wake is not None
    assert observe(NOTHING_NOTED, fleet(ONE), NOW).replicas == {}
