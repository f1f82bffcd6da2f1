"""Who sleeps, what is fenced, what is given up, and when hosts go."""

import pytest

from lull.policy import NOTHING_NOTED, CreatePod, SetModels, observe
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

ONE, TWO = service("a/one"), service("a/two")


def idle(of):
    return reported(of, idle=True)


def states(decided, name="h1"):
    placements = after(decided, name)
    return None if placements is None else [p.state for p in placements]


def test_an_idle_service_is_drained():
    p = placement(ONE)
    assert states(decide(fleet(ONE, host("h1", p, reports=[idle(p)])), seen_at=NOW - 300)) == [State.DRAINING]


def test_idleness_from_before_the_wake_does_not_count():
    p = placement(ONE)
    told = decide(fleet(ONE, host("h1", p, reports=[idle(p)])), seen_at=NOW - 299)
    assert not told.changes
    assert told.next_at == NOW + 1


def test_a_held_service_is_not_drained():
    p = placement(ONE)
    assert not decide(fleet(ONE, host("h1", p, reports=[idle(p)]), held=["a/one"]), seen_at=NOW - 10).changes


def test_the_minimum_is_kept_even_idle():
    kept = service("a/one", min_replicas=1)
    p = placement(kept)
    told = decide(fleet(kept, host("h1", p, reports=[idle(p)])), seen_at=NOW - 900)
    assert not told.changes
    assert told.services["a/one"].next_action == "Stay"


def test_surplus_replicas_go_the_idle_ones_first():
    busy, lazy = placement(ONE, id_="busy"), placement(ONE, id_="azy")
    of = fleet(ONE, host("h1", busy), host("h2", lazy, reports=[idle(lazy)]))
    told = decide(of, seen_at=NOW - 300)
    assert (states(told, "h1"), states(told, "h2")) == (None, [State.DRAINING])


def test_surplus_that_is_not_ready_yet_goes_first():
    ready, loading = placement(ONE, id_="a"), placement(ONE, id_="b")
    told = decide(fleet(ONE, host("h1", ready), host("h2", loading, reports=[])))
    assert (states(told, "h1"), states(told, "h2")) == (None, [State.DRAINING])


def test_a_drain_that_every_gateway_claims_becomes_a_free_rider_once_proven():
    p = placement(ONE, state=State.DRAINING)
    (change,) = decide(fleet(ONE, host("h1", p), drained=[p.claim])).changes
    assert [q.state for q in change.after] == [State.RESIDENT]
    assert change.proofs == (p,)


def test_an_old_claim_a_silent_gateway_or_a_new_one_keeps_the_fence_open():
    p = placement(ONE, state=State.DRAINING, epoch=2)
    assert not decide(fleet(ONE, host("h1", p), drained=[f"{p.id}.1"])).changes
    gateways = [Gateway("g", "t", drained=frozenset([p.claim])), Gateway("silent", "t")]
    assert not decide(fleet(ONE, host("h1", p), gateways=gateways), seen_at=NOW - 30).changes


def test_a_drain_to_sleep_that_something_long_blocks_is_given_up():
    p = placement(ONE, state=State.DRAINING)
    of = fleet(ONE, host("h1", p))
    assert decide(of, seen_at=NOW - 59).next_at == NOW + 1
    assert states(decide(of, seen_at=NOW - 60)) == [State.LOADED]


@pytest.mark.parametrize("services", [[], [replace(ONE, suspend=True)]])
def test_deletion_and_suspension_drain_then_remove(services):
    p = placement(ONE)
    assert states(decide(fleet(*services, host("h1", p)))) == [State.DRAINING]
    draining = replace(p, state=State.DRAINING)
    (change,) = decide(fleet(*services, host("h1", draining), drained=[draining.claim])).changes
    assert (change.after, change.proofs) == ((), (draining,))
    resident = replace(p, state=State.RESIDENT)
    assert after(decide(fleet(*services, host("h1", resident)))) == ()


def test_deletion_and_suspension_cut_at_their_deadline():
    p = placement(ONE, state=State.DRAINING)
    gone = fleet(host("h1", p))
    assert not decide(gone, seen_at=NOW - 299).changes
    assert decide(gone, seen_at=NOW - 300).changes[0].cut == (p,)
    suspended = fleet(replace(ONE, suspend=True, drain_deadline_seconds=10.0), host("h1", p))
    assert decide(suspended, seen_at=NOW - 10).changes[0].cut == (p,)
    told = decide(suspended, seen_at=NOW - 9).services["a/one"]
    assert (told.state, told.next_action) == ("Draining", "Sleep")


def test_a_failed_model_is_taken_out_and_its_neighbours_stay():
    bad, good = placement(ONE), placement(TWO)
    reports = [reported(bad, Report.FAILED, reason="LoadFailed", message="no"), reported(good)]
    told = decide(fleet(ONE, TWO, host("h1", bad, good, reports=reports)))
    assert after(told) == (good,)
    assert told.services["a/one"].stalled == ("LoadFailed", "no")
    assert told.services["a/two"].stalled is None


def test_a_host_with_a_hanging_load_is_emptied_elsewhere_first_and_then_recycled():
    hanging, good = placement(ONE), placement(TWO)
    reports = [reported(hanging, Report.FAILED, reason="LoadTimeout"), reported(good)]
    tainted = host("h1", hanging, good, reports=reports)
    told = decide(fleet(ONE, TWO, tainted))
    assert [p.service for c in created(told) for p in c.placements] == ["a/two"]
    assert after(told) is None
    moved = placement(TWO, id_="two-new")
    assert states(decide(fleet(ONE, TWO, tainted, host("h2", moved)))) == [State.LOADED, State.DRAINING]
    resident = replace(good, state=State.RESIDENT)
    empty = host("h1", hanging, resident, reports=reports)
    assert deleted(decide(fleet(ONE, TWO, empty, host("h2", moved)))) == ["h1"]


def test_a_host_that_is_long_not_ready_is_drained_behind_the_fence_while_its_services_go_elsewhere():
    p = placement(ONE)
    of = fleet(ONE, host("h1", p, pod=Pod.UNREADY))
    assert decide(of, seen_at=NOW - 9).next_at == NOW + 1
    told = decide(of, seen_at=NOW - 10)
    assert states(told) == [State.DRAINING]
    assert len(created(told)) == 1


def test_a_host_that_is_not_ready_for_a_minute_is_lost_and_goes_without_a_fence():
    p = placement(ONE, state=State.DRAINING)
    of = fleet(ONE, host("h1", p, pod=Pod.UNREADY), pools=[pool(min_hosts=1, max_hosts=1)], held=["a/one"])
    beating = replace(of, gateways={"g": Gateway("g", "later", frozenset(["a/one"]))})
    notes = observe(NOTHING_NOTED, of, NOW - 59)
    told = decide(beating, notes=notes)
    assert (deleted(told), created(told)) == ([], [])
    told = decide(beating, seen_at=None, notes=notes, now=NOW + 1)
    assert deleted(told) == ["h1"]
    assert [p.service for c in created(told) for p in c.placements] == ["a/one"]


def test_a_pod_that_serves_nobody_and_does_not_end_is_not_waited_for():
    of = fleet(host("h1", pod=Pod.TERMINATING), pools=[pool(min_hosts=1)])
    assert decide(of, seen_at=NOW - 59).next_at == NOW + 1
    assert deleted(decide(of, seen_at=NOW - 60)) == ["h1"]
    routed = fleet(ONE, host("h1", placement(ONE), pod=Pod.TERMINATING))
    assert not deleted(decide(routed, seen_at=NOW - 900))


def test_without_another_host_a_terminating_one_is_drained_while_requests_wait():
    p = placement(ONE)
    full = [pool(max_hosts=1)]
    assert states(decide(fleet(ONE, host("h1", p, pod=Pod.TERMINATING), pools=full))) == [State.DRAINING]
    leaving = host("h2", reports=[reported(placement(service("a/big", gib=4)), Report.UNLOADING)])
    waits = fleet(service("a/one", gib=4), host("h1", p, pod=Pod.TERMINATING), leaving)
    assert states(decide(waits)) is None, "room is being made: its next placement is Ready first"


def test_a_service_that_asks_to_be_alone_moves_and_its_neighbours_stay():
    alone = replace(ONE, dedicated=True)
    shared = host("h1", placement(ONE), placement(TWO))
    told = decide(fleet(alone, TWO, shared))
    assert [p.service for c in created(told) for p in c.placements] == ["a/one"]
    assert after(told) is None
    there = host("h2", placement(ONE, id_="there"))
    assert states(decide(fleet(alone, TWO, shared, there))) == [State.DRAINING, State.LOADED]


def test_a_hanging_model_that_nobody_asks_for_is_not_tried_again():
    hanging = placement(ONE)
    stuck = host("h1", hanging, reports=[reported(hanging, Report.FAILED, reason="LoadTimeout")])
    told = decide(fleet(ONE, stuck), notes=failing(at=NOW - 900))
    assert (created(told), told.services["a/one"].desired) == ([], 0)


def test_a_host_that_cannot_unload_what_left_goes_once_it_serves_nobody():
    left = placement(ONE)
    stuck = host("h1", reports=[reported(left, Report.FAILED, reason="LoadTimeout")])
    assert deleted(decide(fleet(ONE, stuck))) == ["h1"]
    assert deleted(decide(fleet(ONE, host("h1", placement(TWO), reports=stuck.reports.values())))) == []


def test_a_host_whose_pod_is_gone_goes_at_once():
    told = decide(fleet(ONE, host("h1", placement(ONE), pod=Pod.GONE)))
    assert deleted(told) == ["h1"]


def test_the_last_ready_one_stays_until_another_is_ready():
    p = placement(ONE)
    leaving = host("h1", p, pod=Pod.TERMINATING)
    told = decide(fleet(ONE, leaving))
    assert (len(created(told)), after(told)) == (1, None)
    told = decide(fleet(ONE, leaving, host("h2", placement(ONE, id_="new"))))
    assert states(told) == [State.DRAINING]


def test_a_drain_on_a_terminating_host_has_a_deadline():
    p = placement(ONE, state=State.DRAINING)
    assert decide(fleet(ONE, host("h1", p, pod=Pod.TERMINATING)), seen_at=NOW - 300).changes[0].cut == (p,)


def test_a_new_revision_goes_elsewhere_and_the_old_one_serves_meanwhile():
    old, new = placement(ONE), service("a/one", revision="r2")
    told = decide(fleet(new, host("h1", old)))
    assert (len(created(told)), after(told)) == (1, None)
    told = decide(fleet(new, host("h1", old), host("h2", placement(new))))
    assert states(told) == [State.DRAINING]


def test_without_another_host_revisions_are_swapped_while_requests_wait():
    old, new = placement(ONE), service("a/one", revision="r2")
    of = fleet(new, host("h1", old), pools=[pool(max_hosts=1)])
    assert states(decide(of)) == [State.DRAINING]
    failed = failing(at=NOW - 5, revision="r2")
    assert not decide(of, notes=failed).changes, "nobody swaps for what has failed"


def test_an_old_revision_rides_nowhere():
    old, new = placement(ONE, state=State.RESIDENT), service("a/one", revision="r2")
    assert after(decide(fleet(new, host("h1", old)))) == ()


def test_a_model_that_outgrew_its_host_pushes_free_riders_out():
    small, rider, rider2 = placement(ONE), placement(TWO, state=State.RESIDENT), service("a/three")
    third = placement(rider2, state=State.RESIDENT)
    reports = [reported(small, memory_bytes=3 * GIB), reported(rider), reported(third)]
    told = decide(fleet(ONE, TWO, rider2, host("h1", small, rider, third, reports=reports)))
    assert [p.service for p in after(told)] == ["a/one", "a/two"]
    reports[0] = reported(small, memory_bytes=9 * GIB)
    told = decide(fleet(ONE, TWO, rider2, host("h1", small, rider, third, reports=reports)))
    assert after(told) == (small,)


def opened(of, gib):
    return reported(of, Report.FETCHING, memory_bytes=gib * GIB)


def test_a_model_that_needs_more_than_assumed_has_its_reservation_raised_before_it_loads():
    unknown = service("a/one", gib=None)
    p = placement(unknown)
    (raised,) = after(decide(fleet(unknown, host("h1", p, reports=[opened(p, 3)]))))
    assert (raised.memory_bytes, raised.state, raised.epoch) == (3 * GIB, State.LOADED, 1)
    assert after(decide(fleet(unknown, host("h1", raised, reports=[opened(raised, 3)])))) is None


def test_free_riders_go_for_a_model_that_needs_more_than_assumed():
    unknown = service("a/one", gib=None)
    p, rider = placement(unknown), placement(TWO, state=State.RESIDENT)
    told = decide(fleet(unknown, TWO, host("h1", p, rider, reports=[opened(p, 4), reported(rider)])))
    assert after(told) == (p,)


def test_a_model_that_needs_more_than_its_host_has_goes_elsewhere_and_its_neighbours_stay():
    unknown = service("a/one", gib=None, measured_bytes=4 * GIB)
    p, neighbour = placement(unknown), placement(TWO)
    shared = host("h1", p, neighbour, reports=[opened(p, 4), reported(neighbour)])
    told = decide(fleet(unknown, TWO, shared, held=["a/one"]))
    assert after(told) == (neighbour,)
    left = host("h1", neighbour, reports=[opened(p, 4), reported(neighbour)])
    (elsewhere,) = created(decide(fleet(unknown, TWO, left, held=["a/one"])))
    assert [q.memory_bytes for q in elsewhere.placements] == [4 * GIB]


def test_a_reservation_shrinks_to_what_was_measured():
    measured = service("a/one", gib=None, measured_bytes=GIB // 4, idle_after_seconds=7.0)
    (changed,) = after(decide(fleet(measured, host("h1", placement(ONE)))))
    assert (changed.memory_bytes, changed.idle_after_seconds, changed.epoch) == (GIB // 4, 7.0, 1)


def test_an_empty_host_goes_after_its_pool_s_time_with_its_free_riders():
    rider = placement(ONE, state=State.RESIDENT)
    of = fleet(ONE, host("h1", rider), pools=[pool(empty_after_seconds=60.0)])
    assert decide(of, seen_at=NOW - 59).next_at == NOW + 1
    assert deleted(decide(of, seen_at=NOW - 60)) == ["h1"]
    quick = fleet(ONE, host("h1", rider), pools=[pool(empty_after_seconds=1.0)])
    assert deleted(decide(quick, seen_at=NOW - 1)) == ["h1"]


def test_a_free_rider_stays_while_its_host_serves_somebody():
    of = fleet(ONE, TWO, host("h1", placement(ONE, state=State.RESIDENT), placement(TWO)))
    assert not decide(of, seen_at=NOW - 900).changes


def test_the_pool_s_minimum_of_hosts_is_kept_and_made():
    of = fleet(host("h1"), pools=[pool(min_hosts=1)])
    assert not decide(of, seen_at=NOW - 900).changes
    assert len(created(decide(fleet(pools=[pool(min_hosts=2)])))) == 2


def test_a_host_of_a_deleted_pool_serves_on_and_goes_when_empty():
    p = placement(ONE)
    busy = fleet(ONE, host("h1", p), pools=[])
    assert not decide(busy, seen_at=NOW - 900).changes
    assert deleted(decide(fleet(host("h1"), pools=[]), seen_at=NOW - 60)) == ["h1"]


def test_a_host_that_somebody_waits_for_is_not_let_go():
    big = service("a/big", gib=4)
    rider = placement(ONE, state=State.RESIDENT)
    of = fleet(ONE, big, host("h1", rider), held=["a/big"], pools=[pool(max_hosts=1)])
    told = decide(of, seen_at=NOW - 60, notes=failing("a/none"))
    fresh = replace(of, gateways={"g": Gateway("g", "later", frozenset(["a/big"]))})
    told = decide(fresh, seen_at=NOW - 19)
    assert (deleted(told), after(told)) == ([], ())


def test_a_host_without_a_pod_gets_one():
    assert decide(fleet(host("h1", pod=Pod.MISSING))).changes == [CreatePod("h1")]


def test_a_host_that_never_starts_and_that_nobody_waits_for_is_given_up():
    waiting = host("h1", placement(ONE), reports=[], pod=Pod.STARTING, trouble="no node")
    assert states(decide(fleet(ONE, waiting), seen_at=NOW - 30)) == [State.DRAINING]


def test_an_admin_s_cordon_moves_models_and_keeps_no_rider():
    p = placement(ONE)
    told = decide(fleet(ONE, host("h1", p, cordoned=True)))
    assert (len(created(told)), after(told)) == (1, None)
    assert deleted(decide(fleet(ONE, host("h1", replace(p, state=State.RESIDENT), cordoned=True)))) == ["h1"]


def test_a_model_that_serves_again_has_its_failures_forgotten():
    told = decide(fleet(ONE, host("h1", placement(ONE))), notes=failing())
    assert told.services["a/one"].stalled is None


def test_a_changed_spec_has_the_failures_of_the_old_one_forgotten():
    told = decide(fleet(replace(ONE, generation=2), held=["a/one"]), notes=failing())
    assert created(told)


def test_each_failed_placement_counts_once():
    bad = placement(ONE)
    of = fleet(ONE, host("h1", bad, reports=[reported(bad, Report.FAILED, reason="LoadTimeout")]))
    assert decide(of, seen_at=NOW - 2).services["a/one"].next_at == NOW + 3


@pytest.mark.parametrize(
    ("of", "state", "ready", "desired"),
    [
        (fleet(ONE), "Asleep", 0, 0),
        (fleet(ONE, host("h1", placement(ONE, state=State.RESIDENT))), "Asleep", 0, 0),
        (fleet(ONE, host("h1", placement(ONE))), "Serving", 1, 1),
        (fleet(ONE, host("h1", placement(ONE), reports=[])), "Waking", 0, 1),
        (fleet(ONE, held=["a/one"]), "Waking", 0, 1),
        (fleet(ONE, host("h1", placement(ONE, state=State.DRAINING))), "Draining", 0, 0),
        (fleet(replace(ONE, suspend=True)), "Suspended", 0, 0),
    ],
)
def test_a_service_s_state_is_said(of, state, ready, desired):
    told = decide(of).services["a/one"]
    assert (told.state, told.ready, told.desired) == (state, ready, desired)
    assert told.message
    assert told.next_reason


def test_a_pool_s_sums_are_said():
    told = decide(fleet(ONE, host("h1", placement(ONE)))).pools["pool"]
    assert (told.hosts, told.ready_hosts, told.supply_bytes, told.used_bytes) == (1, 1, 4 * GIB, GIB)


def test_a_host_made_by_this_very_plan_is_not_deleted_again():
    told = decide(fleet(ONE, held=["a/one"]))
    assert not [c for c in told.changes if not isinstance(c, SetModels) and c not in created(told)]


@pytest.mark.parametrize(
    ("fields", "shared", "code"),
    [
        ({"dedicated": True}, {}, None),
        ({}, {"namespaced": True}, None),
        ({"code": True}, {}, None),
        ({"code": False}, {"allow_code": True}, True),
    ],
)
def test_a_free_rider_goes_from_where_it_may_not_be_any_more(fields, shared, code):
    one, rides = replace(ONE, **fields), service("b/rides", code=code)
    rider = placement(rides, state=State.RESIDENT)
    decided = decide(fleet(one, rides, host("h1", placement(one), rider), pools=[pool(**PATIENT, **shared)]))
    assert [p.service for p in after(decided)] == [one.key]
    assert len(decided.changes) == 1  # it needs no other host to be alone


PATIENT = {"empty_after_seconds": 1e9}  # no host is made ahead then


def test_of_two_free_riders_that_may_not_share_one_stays():
    others = [service("a/rides"), service("b/rides", name="other")]
    riders = [placement(s, state=State.RESIDENT) for s in others]
    decided = decide(fleet(*others, host("h1", *riders), pools=[pool(namespaced=True)]))
    assert len(after(decided)) == 1


def test_a_reservation_does_not_shrink_before_it_serves_nor_grow_with_what_others_took():
    measured = service("a/one", gib=None, measured_bytes=GIB // 4)
    loads = placement(ONE)
    assert (
        after(decide(fleet(measured, host("h1", loads, reports=[reported(loads, Report.LOADING)])))) is None
    )
    grown = replace(measured, measured_bytes=3 * GIB)
    assert after(decide(fleet(grown, host("h1", loads)))) is None


def test_a_reservation_is_not_raised_beyond_what_there_is_beside_who_serves():
    unknown = service("a/one", gib=None)
    p, neighbour = placement(unknown), placement(replace(TWO, memory_bytes=2 * GIB))
    beside = host("h1", p, neighbour, reports=[opened(p, 3), reported(neighbour, memory_bytes=3 * GIB)])
    changed = after(decide(fleet(unknown, replace(TWO, memory_bytes=2 * GIB), beside, held=["a/one"])))
    assert 3 * GIB not in [q.memory_bytes for q in changed or ()]


def test_a_drain_is_not_given_up_where_another_replica_serves():
    drains, serves = placement(ONE, state=State.DRAINING), placement(ONE, id_="other")
    of = fleet(ONE, host("h1", drains), host("h2", serves))
    assert after(decide(of, seen_at=NOW - 900)) is None


@pytest.mark.parametrize(
    ("state", "said", "remembered"),
    [
        (State.LOADED, Report.READY, False),
        (State.RESIDENT, Report.READY, True),
        (State.LOADED, Report.LOADING, True),
        (State.DRAINING, Report.READY, True),
    ],
)
def test_only_what_serves_has_its_failures_forgotten(state, said, remembered):
    p = placement(ONE, state=state)
    notes = observe(failing(), fleet(ONE, host("h1", p, reports=[reported(p, said)])), NOW)
    assert ("a/one" in notes.failures) == remembered


def test_what_fails_without_a_reason_failed_to_load():
    p = placement(ONE)
    failed = observe(NOTHING_NOTED, fleet(ONE, host("h1", p, reports=[reported(p, Report.FAILED)])), NOW)
    assert failed.failures["a/one"].reason == "LoadFailed"


def test_an_old_replica_that_still_loads_keeps_nobody_from_being_swapped():
    new = service("a/one", revision="r2", max_replicas=2, min_replicas=2)
    serves, loads = placement(ONE, id_="serves"), placement(ONE, id_="loads")
    hosts = host("h1", serves), host("h2", loads, reports=[reported(loads, Report.LOADING)])
    told = decide(fleet(new, *hosts, pools=[pool(gib=1)]))
    assert State.DRAINING in [*(states(told, "h1") or ()), *(states(told, "h2") or ())]
