"""Where a held service goes."""

import pytest

from lull.policy import NOTHING_NOTED, observe, wake
from lull.policy.habits import Crowd
from lull.policy.learning import Learned
from unit.policy.fleets import (
    GIB,
    NOW,
    Gateway,
    Pod,
    Report,
    State,
    after,
    created,
    decide,
    deleted,
    failing,
    fleet,
    host,
    placement,
    pool,
    replace,
    reported,
    service,
)

ONE, TWO, OTHER = service("a/one"), service("a/two"), service("b/other")


def woken(of, notes=NOTHING_NOTED):
    return wake(of, notes, NOW)


def test_a_held_service_goes_to_the_fullest_host_that_has_room():
    hosts = [host("h1"), host("h2", placement(TWO)), host("h3", pod=Pod.STARTING)]
    (change,) = woken(fleet(ONE, TWO, *hosts, held=["a/one"], pools=[pool(max_hosts=3)]))
    assert change.host == "h2"
    assert change.after[-1].service == "a/one"


def test_without_room_a_host_is_made():
    (change,) = woken(fleet(ONE, held=["a/one"]))
    assert change.pool == "pool"
    assert [p.service for p in change.placements] == ["a/one"]


def test_names_are_labels_of_63_characters_at_most():
    long = service("a/" + "x" * 63)
    (change,) = woken(fleet(long, held=[long.key]))
    assert len(change.placements[0].id) <= 63


@pytest.mark.parametrize("state", [State.RESIDENT, State.DRAINING])
def test_what_is_still_loaded_is_turned_back_with_a_new_epoch(state):
    (change,) = woken(fleet(ONE, host("h1", placement(ONE, state=state)), held=["a/one"]))
    assert [(p.state, p.epoch) for p in change.after] == [(State.LOADED, 2)]


@pytest.mark.parametrize("state", [State.RESIDENT, State.DRAINING])
def test_without_room_elsewhere_it_returns_on_a_host_that_should_be_emptied(state):
    cordoned = host("h1", placement(ONE, state=state), cordoned=True)
    assert created(decide(fleet(ONE, cordoned, held=["a/one"])))
    (change,) = woken(fleet(ONE, cordoned, held=["a/one"], pools=[pool(max_hosts=1)]))
    assert [p.state for p in change.after] == [State.LOADED]
    ending = replace(cordoned, cordoned=False, pod=Pod.TERMINATING)
    assert not woken(fleet(ONE, ending, held=["a/one"], pools=[pool(max_hosts=1)]))


def test_what_is_loading_is_waited_for():
    loading = placement(ONE)
    assert not woken(fleet(ONE, host("h1", loading, reports=[]), held=["a/one"]))


def test_the_fewest_residents_go_to_make_room_and_it_waits_until_they_are_gone():
    big = service("a/big", gib=4)
    residents = [placement(s, state=State.RESIDENT) for s in (ONE, TWO)]
    large = placement(service("a/large", gib=4), state=State.RESIDENT)
    of = fleet(
        ONE, TWO, big, service("a/large", gib=4), host("h1", *residents), host("h2", large), held=["a/big"]
    )
    (change,) = woken(of)
    assert (change.host, change.after) == ("h2", ())
    unloading = host("h2", reports=[reported(large, Report.UNLOADING, memory_bytes=4 * GIB)])
    assert not woken(fleet(ONE, TWO, big, host("h1", *residents), unloading, held=["a/big"]))


def test_only_as_many_residents_go_as_are_in_the_way():
    big = service("a/big", gib=3)
    residents = [placement(s, state=State.RESIDENT) for s in (ONE, TWO)]
    (change,) = woken(fleet(ONE, TWO, big, host("h1", *residents), held=["a/big"], pools=[pool(max_hosts=1)]))
    assert [p.service for p in change.after] == ["a/two"]


def test_residents_that_never_loaded_make_room_at_once():
    big = service("a/big", gib=4)
    of = fleet(ONE, big, host("h1", placement(ONE, state=State.RESIDENT), reports=[]), held=["a/big"])
    (change,) = woken(of)
    assert [p.service for p in change.after] == ["a/big"]


def test_a_loaded_neighbour_is_never_evicted():
    big = service("a/big", gib=4)
    of = fleet(ONE, big, host("h1", placement(ONE)), held=["a/big"], pools=[pool(max_hosts=1)])
    assert not woken(of)
    told = decide(of).services["a/big"]
    assert (told.state, told.stalled) == ("Waking", None)
    assert "hosts.max" in told.next_reason


def test_two_models_of_one_wire_name_never_share_a_host():
    same = service("b/same", name="one")
    of = fleet(ONE, same, host("h1", placement(ONE)), held=["b/same"])
    assert created(decide(of))
    leaving = host("h1", reports=[reported(placement(ONE), Report.UNLOADING, memory_bytes=GIB)])
    assert not woken(fleet(same, leaving, held=["b/same"]))


def test_a_dedicated_service_shares_with_nobody():
    alone = service("a/alone", dedicated=True)
    assert created(decide(fleet(alone, ONE, host("h1", placement(ONE)), held=["a/alone"])))
    assert created(decide(fleet(alone, ONE, host("h1", placement(alone)), held=["a/one", "a/alone"])))


def test_a_pool_may_keep_namespaces_apart():
    of = fleet(ONE, OTHER, host("h1", placement(ONE)), held=["b/other"], pools=[pool(namespaced=True)])
    assert created(decide(of))


@pytest.mark.parametrize(("code", "shares"), [(True, False), (None, False), (False, True)])
def test_code_never_leaves_its_namespace(code, shares):
    coded, plain = replace(ONE, code=code), replace(OTHER, code=False)
    pools = [pool(allow_code=True)]
    for here, coming in ((coded, plain), (plain, coded)):
        of = fleet(here, coming, host("h1", placement(here)), held=[coming.key], pools=pools)
        assert (not created(decide(of))) == shares


def test_the_models_of_a_deleted_service_may_be_code():
    of = fleet(OTHER, host("h1", placement(ONE)), held=["b/other"], pools=[pool(allow_code=True)])
    assert created(decide(of))


def test_a_model_of_unknown_size_is_given_an_assumption_that_fits():
    unknown = service("a/unknown", gib=None)
    (change,) = woken(fleet(unknown, held=["a/unknown"], pools=[pool(capacity_bytes=GIB)]))
    assert change.placements[0].memory_bytes == GIB // 2


def test_a_measured_size_counts_where_it_is_larger_than_the_declared_one():
    grown = service("a/grown", measured_bytes=3 * GIB)
    (change,) = woken(fleet(grown, held=["a/grown"]))
    assert change.placements[0].memory_bytes == 3 * GIB


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (service("a/one", gib=5), "TooLarge"),
        (service("a/one", measured_bytes=5 * GIB), "TooLarge"),
        (service("a/one", pool="none"), "NoSuchPool"),
    ],
)
def test_what_no_host_can_take_is_refused(asked, reason):
    told = decide(fleet(asked, held=["a/one"]))
    assert not told.changes
    assert told.services["a/one"].stalled[0] == reason
    assert told.services["a/one"].next_action == "Wait"


def test_what_the_accelerator_says_of_its_memory_is_believed():
    small = host("h1", capacity_bytes=3 * GIB)
    told = decide(fleet(service("a/one", gib=4), small, held=["a/one"]))
    assert told.services["a/one"].stalled[0] == "TooLarge"


def test_a_service_that_just_failed_waits_out_its_backoff():
    of = fleet(ONE, held=["a/one"])
    told = decide(of, notes=failing())
    assert not told.changes
    assert told.next_at == NOW - 1 + 5
    assert told.services["a/one"].next_at == NOW - 1 + 5
    assert created(decide(of, notes=failing(at=NOW - 5)))
    assert not created(decide(of, notes=failing(at=NOW - 299, count=30)))
    assert created(decide(of, notes=failing(at=NOW - 300, count=30)))


def test_a_wake_that_sees_a_failure_before_the_plan_does_nothing():
    broken = placement(ONE)
    of = fleet(ONE, host("h1", broken, reports=[reported(broken, Report.FAILED)]), held=["a/one"])
    assert not woken(of)


def test_a_suspended_service_is_not_woken():
    assert not woken(fleet(replace(ONE, suspend=True), held=["a/one"]))


def test_an_unknown_service_is_not_woken():
    assert not woken(fleet(held=["a/ghost"]))


def test_a_gateway_with_an_old_heartbeat_demands_nothing():
    of = fleet(ONE, held=["a/one"])
    notes = observe(NOTHING_NOTED, of, NOW - 20)
    assert not woken(of, notes)
    fresh = replace(of, gateways={"g": Gateway("g", "later", frozenset(["a/one"]))})
    assert woken(fresh, notes)


def test_beside_a_host_that_does_not_start_no_other_is_made():
    waiting = host("h1", pod=Pod.STARTING, trouble="0/3 nodes", reports=[])
    big = service("a/big", gib=4)
    of = fleet(ONE, big, replace(waiting, placements=(placement(ONE),)), held=["a/one", "a/big"])
    told = decide(of)
    assert not told.changes
    assert told.services["a/big"].stalled is None
    beating = replace(of, gateways={"g": Gateway("g", "later", of.gateways["g"].held)})
    stalled = decide(beating, notes=observe(NOTHING_NOTED, of, NOW - 30)).services
    assert stalled["a/big"].stalled[0] == stalled["a/one"].stalled[0] == "HostUnschedulable"
    assert "0/3 nodes" in stalled["a/one"].stalled[1]


@pytest.mark.parametrize("unfit", [{"cordoned": True}, {"pod": Pod.TERMINATING}, {"pod": Pod.UNREADY}])
def test_a_host_that_leaves_takes_nothing_new(unfit):
    assert created(decide(fleet(ONE, host("h1", **unfit), held=["a/one"])))


def test_more_replicas_go_to_different_hosts():
    told = decide(fleet(service("a/one", min_replicas=2, max_replicas=2)))
    assert len(created(told)) == 2
    assert after(told) is None


def test_who_waits_longest_gets_the_room():
    early = service("a/zulu", gib=4)
    late = service("a/alpha", gib=4)
    one_host = {"pools": [pool(max_hosts=1)]}
    waiting = observe(NOTHING_NOTED, fleet(early, late, held=["a/zulu"], **one_host), NOW - 5)
    (change,) = woken(fleet(early, late, host("h1"), held=["a/alpha", "a/zulu"], **one_host), waiting)
    assert [p.service for p in change.after] == ["a/zulu"]


def test_who_has_the_higher_priority_gets_the_room_however_long_others_wait():
    early = service("a/alpha", gib=4, priority=-1)
    late = service("a/zulu", gib=4)
    one_host = {"pools": [pool(max_hosts=1)]}
    waiting = observe(NOTHING_NOTED, fleet(early, late, held=["a/alpha"], **one_host), NOW - 5)
    (change,) = woken(fleet(early, late, host("h1"), held=["a/alpha", "a/zulu"], **one_host), waiting)
    assert [p.service for p in change.after] == ["a/zulu"]


def test_a_cordoned_host_takes_nothing_and_its_models_move():
    cordoned = host("h1", placement(ONE), cordoned=True)
    (moved,) = created(decide(fleet(ONE, cordoned)))
    assert [p.service for p in moved.placements] == ["a/one"]
    arrived = host("h2", placement(ONE, id_="there"))
    assert [p.state for p in after(decide(fleet(ONE, cordoned, arrived)))] == [State.DRAINING]
    riding = host("h1", placement(ONE, state=State.RESIDENT), cordoned=True)
    assert deleted(decide(fleet(ONE, riding))) == ["h1"]


def test_a_rider_of_the_same_name_goes_where_its_host_is_the_last_that_may_be():
    rider, busy, held = service("a/same"), service("a/busy"), service("b/same")
    one = host("h1", placement(rider, state=State.RESIDENT), placement(busy))
    there = fleet(rider, busy, held, one, held=["b/same"], pools=[pool(max_hosts=1)])

    decided = decide(there)

    assert [p.service for p in after(decided)] == ["a/busy"]
    assert decided.services["b/same"].state == "Waking"


def test_who_is_in_use_does_not_go_for_one_of_the_same_name():
    busy, held = service("a/same"), service("b/same")
    there = fleet(busy, held, host("h1", placement(busy)), held=["b/same"], pools=[pool(max_hosts=1)])

    assert after(decide(there)) is None


def test_where_several_need_a_place_the_largest_choose_first_and_fewer_hosts_are_made():
    wanted = [
        service(f"a/{key}", gib=gib, min_replicas=1) for key, gib in zip("abcd", (1, 1, 3, 3), strict=True)
    ]

    made = created(decide(fleet(*wanted, pools=[pool(gib=4, max_hosts=4)])))

    assert sorted(sorted(p.service for p in host.placements) for host in made) == [
        ["a/a", "a/c"],
        ["a/b", "a/d"],
    ]


# ── In time: requests are held for so long and no longer ──

THREE = service("a/three")
ROOMY = pool(max_hosts=3)


def starting(*placements, name="h1", left=30.0):
    """A host that is expected to have started in `left` seconds, with notes that say so."""
    made = host(name, *placements, reports=[], pod=Pod.STARTING)
    return made, observe(NOTHING_NOTED, fleet(ONE, TWO, THREE, made), NOW - (30.0 - left))


def where(of, notes=NOTHING_NOTED):
    """Return the host that the one service that is held goes to, or `new`."""
    (change,) = woken(of, notes)
    return change.host if change.host in of.hosts else "new"


@pytest.mark.parametrize(("left", "goes"), [(14.0, "h1"), (15.0, "new")])
def test_a_load_that_would_be_late_behind_another_gets_a_host_of_its_own(left, goes):
    """54 of 60 s are planned with: two loads of 20 s each leave 14 s of a start."""
    h, notes = starting(placement(TWO), left=left)
    assert where(fleet(ONE, TWO, h, held=["a/one"], pools=[ROOMY]), notes) == goes


@pytest.mark.parametrize(("hold", "goes"), [(100.0, "h1"), (40.0, "new")])
def test_a_service_says_for_how_long_its_requests_are_held(hold, goes):
    one = service(hold_seconds=hold)
    h, notes = starting(placement(TWO))
    assert where(fleet(one, TWO, h, held=["a/one"], pools=[ROOMY]), notes) == goes


def test_without_one_in_time_it_goes_where_it_is_ready_soonest():
    one = service(hold_seconds=10.0)
    busy = host("h1", placement(TWO), reports=[])  # 20 s: less than a start
    assert where(fleet(one, TWO, busy, held=["a/one"], pools=[ROOMY])) == "h1"
    busier = host("h1", placement(TWO), placement(THREE), reports=[])
    assert where(fleet(one, TWO, THREE, busier, held=["a/one"], pools=[ROOMY])) == "new"
    other = host("h2", placement(TWO), reports=[], pod=Pod.STARTING)
    full = fleet(one, TWO, THREE, busier, other, held=["a/one"])
    assert where(full) == "h1"


def test_a_host_that_still_starts_is_waited_for_though_nothing_is_before():
    one = service(hold_seconds=40.0)
    h, notes = starting(left=30.0)
    busy = host("h2", placement(TWO), reports=[])  # 20 s
    assert where(fleet(one, TWO, h, busy, held=["a/one"], pools=[ROOMY]), notes) == "h2"


def test_who_is_not_waited_for_goes_where_it_fits_best():
    h, _ = starting(placement(TWO), placement(THREE))
    kept = service(min_replicas=1)
    assert not created(decide(fleet(kept, TWO, THREE, h, held=["a/two", "a/three"], pools=[ROOMY])))


def test_what_unloads_or_could_on_a_host_that_is_late_makes_no_room_in_time():
    queue = [placement(service(f"a/{n}")) for n in range(3)]
    asleep = placement(TWO, state=State.RESIDENT)
    late = host("h1", *queue, asleep, reports=[reported(asleep)])
    assert where(fleet(ONE, TWO, late, held=["a/one"], pools=[ROOMY])) == "new"
    going = host("h1", *queue, reports=[reported(asleep, Report.UNLOADING, memory_bytes=GIB)])
    assert where(fleet(ONE, TWO, going, held=["a/one"], pools=[ROOMY])) == "new"


@pytest.mark.parametrize(("state", "goes"), [(State.LOADED, "new"), (State.RESIDENT, "h1")])
def test_only_what_is_asked_for_is_loaded_before(state, goes):
    behind = [placement(TWO, state=state), placement(THREE, state=state)]
    h = host("h1", *behind, reports=[])
    assert where(fleet(ONE, TWO, THREE, h, held=["a/one"], pools=[ROOMY])) == goes


@pytest.mark.parametrize(("ago", "goes"), [(5.0, "new"), (7.0, "h1"), (34.0, "h1"), (35.0, "new")])
def test_of_a_load_that_has_begun_what_is_left_counts_and_what_is_overdue_may_last(ago, goes):
    """Even of one for which nobody waits: it is not stopped."""
    loading, next_one = placement(TWO, state=State.RESIDENT), placement(THREE)
    h = host("h1", loading, next_one, reports=[reported(loading, Report.LOADING)])
    of = fleet(ONE, TWO, THREE, h, held=["a/one"], pools=[ROOMY])
    before = replace(of, gateways={"g": Gateway("g", "before")})
    assert where(of, observe(NOTHING_NOTED, before, NOW - ago)) == goes


def test_what_an_agent_says_to_load_is_only_waited_for_as_one_after_the_other():
    """It says so from the moment on that a model is fetched: of 20 s each, 10 of the first one's are over."""
    first, second, rider = placement(TWO), placement(THREE), placement(ONE, state=State.RESIDENT, id_="rider")
    big = service("a/big", hold_seconds=60.0)
    said = [reported(p, Report.LOADING) for p in (first, second)]
    of = fleet(big, ONE, TWO, THREE, host("h1", first, second, reports=said), held=["a/big"], pools=[ROOMY])
    before = replace(of, gateways={"g": Gateway("g", "before")})
    assert where(of, observe(NOTHING_NOTED, before, NOW - 10)) == "h1"
    assert where(of, observe(NOTHING_NOTED, before, NOW - 20)) == "h1", "20 s of the second one are left"
    assert where(of, observe(NOTHING_NOTED, before, NOW - 1)) == "new", "19 s and 20 s are too late"
    assert where(of, observe(NOTHING_NOTED, before, NOW - 5)) == "new", "as are 15 s and 20 s"
    assert where(of, observe(NOTHING_NOTED, before, NOW - 6)) == "h1", "14 s and 20 s are not"
    riders = [rider, placement(THREE, state=State.RESIDENT), placement(TWO, state=State.RESIDENT)]
    loading = host("h1", *riders, reports=[reported(p, Report.LOADING) for p in riders])
    ridden = fleet(big, ONE, TWO, THREE, loading, held=["a/big"], pools=[ROOMY])
    assert where(ridden) == "h1", "only one of three riders can have begun"


@pytest.mark.parametrize(("left", "goes"), [(14.0, "h1"), (15.0, "new")])
def test_a_load_on_a_host_that_starts_has_not_begun_whatever_its_agent_says(left, goes):
    first = placement(TWO)
    made = host("h1", first, reports=[reported(first, Report.LOADING)], pod=Pod.STARTING)
    of = fleet(ONE, TWO, made, held=["a/one"], pools=[ROOMY])
    notes = observe(NOTHING_NOTED, replace(of, gateways={"g": Gateway("g", "before")}), NOW - (30.0 - left))
    assert where(of, notes) == goes


def test_what_was_put_ahead_but_would_be_late_is_loaded_elsewhere_if_it_can_be():
    ahead = placement(ONE, state=State.RESIDENT)
    h, notes = starting(placement(TWO), ahead)
    assert where(fleet(ONE, TWO, h, held=["a/one"], pools=[ROOMY]), notes) == "new"
    (change,) = woken(fleet(ONE, TWO, h, held=["a/one"], pools=[pool(max_hosts=1)]), notes)
    assert [p.state for p in change.after] == [State.LOADED, State.LOADED]
    h, notes = starting(ahead)
    assert where(fleet(ONE, h, held=["a/one"], pools=[ROOMY]), notes) == "h1"


def test_what_was_put_ahead_for_whom_nobody_waits_may_be_late():
    kept, ahead = service(min_replicas=1), placement(ONE, state=State.RESIDENT)
    h, _ = starting(placement(TWO), placement(THREE), ahead)
    told = decide(fleet(kept, TWO, THREE, h, held=["a/two", "a/three"], pools=[ROOMY]))
    assert not created(told)
    assert {p.state for p in after(told)} == {State.LOADED}


def test_what_was_put_ahead_is_loaded_behind_those_that_wait_already_once_it_is_asked_for():
    ahead, waiting = placement(ONE, state=State.RESIDENT), placement(TWO)
    h, notes = starting(ahead, waiting, left=14.0)
    (change,) = woken(fleet(ONE, TWO, h, held=["a/one", "a/two"], pools=[ROOMY]), notes)
    assert [(p.id, p.state) for p in change.after] == [(waiting.id, State.LOADED), (ahead.id, State.LOADED)]


# ── Room that is being made is for who waits for it ──

BIG, SMALL = service("a/big", gib=3), service("a/small")
UNLOADS = placement(TWO)
FULL = {"pools": [pool(max_hosts=1)]}


def waits_first(first, *others, room, held=None, **fields):
    """A fleet in which the first one's requests wait longest, and notes that say so."""
    of = fleet(first, *others, *room, held=[first.key], **FULL)
    notes = observe(NOTHING_NOTED, of, NOW - 5)
    held = [first.key, *(other.key for other in others)] if held is None else held
    return replace(of, gateways={"g": Gateway("g", "now", frozenset(held))}), notes


def unloading(gib=2):
    return host("h1", reports=[reported(UNLOADS, Report.UNLOADING, memory_bytes=gib * GIB)])


def test_who_comes_later_does_not_take_the_room_that_is_made_for_another():
    small = service("a/small", gib=2)
    of, notes = waits_first(BIG, small, room=[unloading()])
    assert not woken(of, notes)
    told = decide(of, notes=notes)
    assert not told.changes
    later = told.services["a/small"]
    assert (later.state, later.stalled) == ("Waking", None)
    assert "for those whose turn is before" in later.next_reason
    gone, notes = waits_first(BIG, small, room=[host("h1")])
    (change,) = woken(gone, notes)
    assert [p.service for p in change.after] == ["a/big"]


def test_who_comes_later_takes_what_is_left_beside_the_room_that_is_made():
    of, notes = waits_first(BIG, SMALL, room=[unloading()])
    (change,) = woken(of, notes)
    assert [p.service for p in change.after] == ["a/small"]


def test_who_has_the_higher_priority_takes_the_room_that_is_made_for_another():
    urgent = service("a/urgent", gib=2, priority=1)
    of, notes = waits_first(BIG, urgent, room=[unloading()])
    (change,) = woken(of, notes)
    assert [p.service for p in change.after] == ["a/urgent"]


def test_who_waits_no_more_keeps_no_room():
    small = service("a/small", gib=2)
    of, notes = waits_first(BIG, small, room=[unloading()], held=["a/small"])
    (change,) = woken(of, notes)
    assert [p.service for p in change.after] == ["a/small"]


def test_who_comes_later_gets_a_host_where_there_may_be_one_more():
    small = service("a/small", gib=2)
    of, notes = waits_first(BIG, small, room=[unloading()])
    (made,) = woken(replace(of, pools={"pool": pool()}), notes)
    assert [p.service for p in made.placements] == ["a/small"]


def test_riders_that_make_room_for_one_make_none_for_the_next():
    riders = [placement(s, state=State.RESIDENT) for s in (ONE, TWO)]
    small = service("a/small", gib=2)
    of, notes = waits_first(BIG, small, ONE, TWO, room=[host("h1", *riders)], held=["a/big", "a/small"])
    told = decide(of, notes=notes)
    assert [p.service for p in after(told)] == ["a/two"]
    assert told.services["a/small"].state == "Waking"
    assert told.services["a/small"].stalled is None


@pytest.mark.parametrize(("ago", "waits"), [(59.0, True), (60.0, False)])
def test_beside_a_drain_room_is_kept_for_who_waits_longer_for_as_long_as_its_requests_are_held(ago, waits):
    small = service("a/small", gib=2)
    drains = host("h1", placement(service("a/two", gib=2), state=State.DRAINING))
    of, _ = waits_first(BIG, small, room=[drains])
    first = replace(of, gateways={"g": Gateway("g", "before", frozenset(["a/big"]))})
    notes = observe(NOTHING_NOTED, first, NOW - ago)
    assert bool(woken(of, notes)) is not waits
    told = decide(of, notes=notes)
    assert bool(created(told) or after(told)) is not waits
    assert "hosts.max" in told.services["a/big"].message
    assert not waits or told.next_at == NOW - ago + 60.0


def test_beside_a_drain_no_more_room_is_kept_than_that_does_not_give():
    drains = host("h1", placement(service("a/two", gib=2), state=State.DRAINING))
    of, notes = waits_first(BIG, SMALL, room=[drains])
    (change,) = woken(of, notes)
    assert [p.service for p in change.after] == ["a/two", "a/small"]


def test_the_room_of_a_namesake_that_goes_is_for_who_waits_for_it():
    same, rider = service("b/same", gib=3), service("a/same")
    small = service("a/small", gib=2)
    of, notes = waits_first(
        same,
        small,
        rider,
        room=[host("h1", placement(rider, state=State.RESIDENT))],
        held=["b/same", "a/small"],
    )
    told = decide(of, notes=notes)
    assert after(told) == ()
    assert not [p for p in after(told) if p.service == "a/small"]


def test_a_model_that_grew_evicts_nobody_for_the_sake_of_room_that_another_waits_for():
    """Room that is kept is no room that is lacking."""
    rider = placement(ONE, state=State.RESIDENT)
    there = host(
        "h1",
        rider,
        reports=[reported(rider), reported(UNLOADS, Report.UNLOADING, memory_bytes=2 * GIB)],
    )
    of, notes = waits_first(BIG, ONE, room=[there], held=["a/big"])
    assert after(decide(of, notes=notes)) is None


# ── A burst of first wakes ──


def hosts_of_a_burst(learned):
    """Return how many models each host is made with for 30 requests at once of models never loaded before."""
    asked = [service(f"a/{n}") for n in range(30)]
    of = fleet(*asked, held=[s.key for s in asked], pools=[pool(gib=80, max_hosts=40)])
    return sorted(
        (len(c.placements) for c in woken(of, replace(NOTHING_NOTED, learned=learned))), reverse=True
    )


def test_a_burst_of_first_wakes_shares_hosts_as_far_as_the_loads_of_others_say_that_all_are_in_time():
    """54 of 60 s are planned with; 11 s of a start leave time for 21 loads of 2 s."""
    assert hosts_of_a_burst(Learned(crowds={"pool": Crowd(load_seconds=2.0, start_seconds=11.0)})) == [21, 9]
    assert hosts_of_a_burst(Learned()) == [1] * 30, "30 s of a start and 20 s of a load leave no time for two"


def test_beside_several_drains_room_is_kept_on_one_host_alone():
    small, drained = service("a/small", gib=2), [service(f"a/d{n}", gib=2) for n in range(2)]
    drains = [host(f"h{n}", placement(s, state=State.DRAINING)) for n, s in enumerate(drained)]
    of, notes = waits_first(BIG, small, *drained, room=drains, held=["a/big", "a/small"])
    (change,) = woken(replace(of, pools={"pool": pool(max_hosts=2)}), notes)
    assert (change.host, [p.service for p in change.after]) == ("h1", ["a/d1", "a/small"])


def test_who_comes_later_takes_none_of_the_room_for_whom_that_is_just_enough():
    rider, small = service("a/rider", gib=3), service("a/small", gib=3)
    of, notes = waits_first(BIG, small, rider, room=[unloading(3)], held=["a/big", "a/small"])
    told = decide(of, notes=notes)
    assert not told.changes
    assert "for those whose turn is before" in told.services["a/small"].next_reason


def test_a_rider_of_the_same_name_stays_where_its_going_would_open_no_host():
    rider, alone, held = service("b/same"), service("a/alone", dedicated=True), service("a/same")
    closed = host("h1", placement(rider, state=State.RESIDENT), placement(alone))
    assert not woken(fleet(rider, alone, held, closed, held=["a/same"], **FULL))


def test_what_is_in_memory_keeps_its_place_when_it_is_turned_back():
    rider = placement(ONE, state=State.RESIDENT)
    (change,) = woken(fleet(ONE, TWO, host("h1", rider, placement(TWO)), held=["a/one"]))
    assert [p.service for p in change.after] == ["a/one", "a/two"]
