"""What is kept, evicted, loaded ahead and moved, by what it is worth."""

import pytest

from lull.policy import NOTHING_NOTED, Notes, Vacate, observe
from lull.policy.changes import Draft
from lull.policy.consolidate import consolidate
from lull.policy.habits import BINS, EDGES_SECONDS, Crowd, Habit
from lull.policy.hosts import cost
from lull.policy.learning import BEGUN, Learned
from lull.policy.power import PowerProfile
from lull.policy.prices import Price
from lull.policy.worth import cheapest, kept_worth, less_than, worth
from unit.policy.fleets import (
    GIB,
    NOW,
    ONE,
    THREE,
    TWO,
    Pod,
    Report,
    State,
    after,
    altered,
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
    riding,
    service,
    telling,
)

RIDER = State.RESIDENT


def knowing(ages=(), *, price=1000.0, hazards=(), of="pool", objective=5, since=()):
    """Notes of services that are silent for so long, and of what a delay is worth."""
    habits = {key: Habit(silent_since=NOW - age) for key, age in dict(ages).items()}
    habits |= {key: replace(habits[key], hazards=(rate,) * BINS) for key, rate in dict(hazards).items()}
    learned = Learned(habits, {of: Crowd()}, {(of, objective): Price(price)})
    return Notes(learned=learned, since=dict(since))


def served(name="h1", at=NOW - 9000):
    """A host that was there before it was empty."""
    return {("Kept", name): at, ("Empty", name): at + 1000}


def draft(of, notes, now=NOW):
    return Draft(of, notes, now)


def test_worth_is_the_price_of_a_delay_times_the_chance_of_one():
    of, rates = fleet(ONE), {"a/one": 0.001}
    assert worth(draft(of, knowing({"a/one": 100}, hazards=rates)), ONE) == pytest.approx(1.0)
    assert worth(draft(of, knowing({"a/one": 100}, hazards=rates, price=500.0)), ONE) == pytest.approx(0.5)
    fresh, old = (worth(draft(of, knowing({"a/one": age})), ONE) for age in (60, 6000))
    assert fresh == pytest.approx(100 * old, rel=0.3)


def test_nobody_asks_for_what_is_suspended_or_was_never_used():
    assert worth(draft(fleet(ONE), knowing()), ONE) == 0.0
    suspended = replace(ONE, suspend=True)
    assert worth(draft(fleet(suspended), knowing({"a/one": 60})), suspended) == 0.0


def test_what_is_kept_goes_at_the_first_bin_in_which_it_is_worth_less():
    rates = {"a/one": 0.001, "a/two": 0.002}
    of = fleet(ONE, TWO, host("h1", *riding(ONE, TWO)))
    found = draft(of, knowing({"a/one": 100, "a/two": 200}, hazards=rates))
    kept = of.hosts["h1"].placements
    assert less_than(found, kept, 3.1, NOW) == NOW
    assert less_than(found, kept, 2.9, NOW) is None  # these hazards never fall
    falling = draft(of, knowing({"a/one": 100, "a/two": 1e9}))
    at = less_than(falling, kept, kept_worth(falling, kept), NOW)
    assert at == NOW - 100 + min(edge for edge in EDGES_SECONDS if edge > 100)
    assert less_than(falling, kept, kept_worth(falling, kept), NOW + 9000) == NOW + 9000
    assert less_than(falling, [], 1.0, NOW) == NOW
    unknown = draft(of, knowing())  # nobody has seen them asleep yet
    assert less_than(unknown, kept, kept_worth(unknown, kept), NOW) is None
    suspended = fleet(replace(ONE, suspend=True), host("h1", *riding(ONE)))
    assert less_than(draft(suspended, knowing({"a/one": 100})), kept[:1], 0.1, NOW) == NOW


def test_of_all_moments_it_is_the_first_at_which_the_sum_is_worth_less():
    of = fleet(ONE, TWO, THREE, host("h1", *riding(ONE, TWO)))
    notes = knowing({"a/one": 100, "a/two": 777})
    kept = of.hosts["h1"].placements
    for least in (20.0, 5.0, 1.0, 0.1):
        at = less_than(draft(of, notes), kept, least, NOW)
        assert kept_worth(draft(of, notes, now=at), kept) < least
        assert at == NOW or kept_worth(draft(of, notes, now=at - 0.01), kept) >= least


def test_an_idle_host_stays_while_what_rides_on_it_is_worth_its_cost():
    of = fleet(ONE, host("h1", *riding(ONE)))
    notes = knowing({"a/one": 100}, hazards={"a/one": 0.0011}, since=served())
    stays = decide(of, notes=notes)
    assert not stays.changes
    assert stays.next_at is None  # its hazard never falls
    rates = notes.learned.habits["a/one"].hazards
    bin_of_140_seconds = 4
    falling = (*rates[:bin_of_140_seconds], *(rate / 2 for rate in rates[bin_of_140_seconds:]))
    habits = {"a/one": Habit(silent_since=NOW - 100, hazards=falling)}
    then = decide(of, notes=replace(notes, learned=replace(notes.learned, habits=habits)))
    assert then.next_at == NOW - 100 + EDGES_SECONDS[bin_of_140_seconds]
    assert deleted(decide(of, notes=knowing({"a/one": 100}, hazards={"a/one": 0.0009}, since=served()))) == [
        "h1"
    ]


def test_what_several_models_are_worth_adds_up():
    of = fleet(ONE, TWO, host("h1", *riding(ONE, TWO)))
    rates = {"a/one": 0.0006, "a/two": 0.0006}
    ages = {"a/one": 100, "a/two": 100}
    assert not decide(of, notes=knowing(ages, hazards=rates, since=served())).changes
    assert deleted(decide(of, notes=knowing(ages, hazards=rates, price=800.0, since=served()))) == ["h1"]


def test_a_spare_replica_keeps_no_host():
    awake, rides = placement(ONE), placement(ONE, id_="rides", state=RIDER)
    sure = knowing({"a/one": 100}, hazards={"a/one": 1.0}, since=served("h2"))
    of = fleet(ONE, host("h1", awake), host("h2", rides))
    assert deleted(decide(of, notes=sure)) == ["h2"]
    loads = replace(of, hosts={**of.hosts, "h1": host("h1", awake, reports=[])})
    assert not deleted(decide(loads, notes=sure))


def test_people_who_say_empty_after_are_not_argued_with():
    of = fleet(ONE, host("h1", *riding(ONE)), pools=[pool(empty_after_seconds=5.0)])
    sure = knowing({"a/one": 100}, hazards={"a/one": 1.0})
    assert deleted(decide(of, notes=sure, seen_at=NOW - 5)) == ["h1"]
    assert not deleted(decide(of, notes=sure, seen_at=NOW - 4))


def test_a_host_that_was_to_be_emptied_goes_once_it_serves_nobody():
    of = fleet(host("h1", cordoned=True), pools=[pool(empty_after_seconds=86400.0)])
    assert deleted(decide(of)) == ["h1"]


def test_a_host_that_is_to_be_emptied_is_none_of_those_that_are_kept():
    of = fleet(ONE, host("h1", ONE, cordoned=True), host("h2"), pools=[pool(min_hosts=2, max_hosts=3)])
    told = decide(of, seen_at=NOW - 9000)
    assert (len(created(told)), deleted(told)) == (1, [])
    full = replace(of, pools={"pool": pool(min_hosts=2, max_hosts=2)})
    assert not created(decide(full, seen_at=NOW - 9000))


def test_an_empty_host_is_kept_a_moment_for_who_failed_on_it():
    of = fleet(host("h1"))
    assert not deleted(decide(of, seen_at=NOW - 59))
    assert deleted(decide(of, seen_at=NOW - 60)) == ["h1"]


def test_a_host_made_ahead_waits_for_requests():
    of = fleet(ONE, host("h1", *riding(ONE)))
    notes = knowing({"a/one": 1e6}, since={BEGUN: NOW - 9000})
    told = decide(of, notes=notes, seen_at=NOW - 1799)
    assert (deleted(told), told.next_at) == ([], NOW + 1)
    assert deleted(decide(of, notes=notes, seen_at=NOW - 1800)) == ["h1"]


def test_a_host_that_has_served_goes_at_once_where_nothing_on_it_is_worth_its_cost():
    of = fleet(ONE, host("h1", *riding(ONE)))
    notes = knowing({"a/one": 1e6}, since={BEGUN: NOW - 9000, ("Kept", "h1"): NOW - 9000})
    assert deleted(decide(of, notes=replace(notes, since={**notes.since, ("Empty", "h1"): NOW}))) == ["h1"]


def test_an_idle_host_from_before_a_restart_is_not_kept_as_if_it_was_made_ahead():
    of = fleet(ONE, host("h1", *riding(ONE)))
    notes = knowing({"a/one": 1e6})
    assert not deleted(decide(of, notes=notes, seen_at=NOW - 59))
    assert deleted(decide(of, notes=notes, seen_at=NOW - 60)) == ["h1"]


def test_the_last_host_of_a_node_costs_its_node_too():
    profile = PowerProfile(50.0, 50.0, 700.0, 100.0)
    last = host("h1", *riding(ONE), node="n1")
    of = fleet(ONE, last, pools=[pool(profile=profile)])
    assert cost(draft(of, NOTHING_NOTED), last) == 1.5
    beside = fleet(ONE, last, host("h2", node="n1"), pools=[pool(profile=profile)])
    assert cost(draft(beside, NOTHING_NOTED), last) == 1.0
    other = fleet(ONE, last, host("h2", node="n2"), pools=[pool(profile=profile)])
    assert cost(draft(other, NOTHING_NOTED), last) == 1.5
    dark = pool(profile=PowerProfile(0.0, 0.0, 9.0))
    for unknown in (pool(), dark):
        assert cost(draft(fleet(last, pools=[unknown]), NOTHING_NOTED), last) == 1.0
    assert cost(draft(fleet(last, pools=[]), NOTHING_NOTED), last) == 1.0
    assert cost(draft(of, NOTHING_NOTED), replace(last, node="")) == 1.0


def test_a_host_that_keeps_a_node_on_goes_sooner():
    profile = PowerProfile(50.0, 50.0, 700.0, 100.0)
    last = host("h1", *riding(ONE), node="n1")
    notes = knowing({"a/one": 100}, hazards={"a/one": 0.0012}, since=served())
    alone = fleet(ONE, last, pools=[pool(profile=profile)])
    assert deleted(decide(alone, notes=notes)) == ["h1"]
    beside = fleet(ONE, TWO, last, host("h2", TWO, node="n1"), pools=[pool(profile=profile)])
    assert not deleted(decide(beside, notes=notes))


def test_an_idle_host_gives_way_to_who_waits_for_one():
    mine, other = service("a/one"), service("b/two")
    kept = [host("h1", *riding(mine)), host("h2", service("a/x", gib=4))]
    of = fleet(mine, other, service("a/x", gib=4), *kept, pools=[pool(namespaced=True)], held=["b/two"])
    sure = knowing({"a/one": 100}, hazards={"a/one": 1.0}, since=served())
    assert deleted(decide(of, notes=sure)) == ["h1"]
    roomier = replace(of, pools={"pool": pool(namespaced=True, max_hosts=3)})
    assert not deleted(decide(roomier, notes=sure))


def test_the_least_worth_is_evicted_first():
    wants = service("a/new")
    of = fleet(ONE, TWO, wants, host("h1", *riding(ONE, TWO)), held=["a/new"], pools=[pool(gib=2)])
    notes = knowing({"a/one": 60, "a/two": 6000})
    assert [p.service for p in after(decide(of, notes=notes))] == ["a/one"]
    notes = knowing({"a/one": 6000, "a/two": 60})
    assert [p.service for p in after(decide(of, notes=notes))] == ["a/two"]


def test_the_lower_priority_is_evicted_first_whatever_it_is_worth():
    dear = replace(ONE, priority=1)
    of = fleet(
        dear, TWO, service("a/new"), host("h1", *riding(dear, TWO)), held=["a/new"], pools=[pool(gib=2)]
    )
    notes = knowing({"a/one": 6000, "a/two": 60})
    assert [p.service for p in after(decide(of, notes=notes))] == ["a/one"]


def test_a_large_load_throws_out_the_little_that_does():
    big, small = service("a/big", gib=4), service("a/new", gib=2)
    many = [service(f"a/s{i}") for i in range(4)]
    hosts = [host("h1", *riding(*many)), host("h2", *riding(big))]
    of = fleet(big, small, *many, *hosts, held=["a/new"])
    ages = {"a/big": 60, "a/s0": 6000, "a/s1": 7000, "a/s2": 60, "a/s3": 60}
    told = decide(of, notes=knowing(ages))
    assert [p.service for p in after(told)] == ["a/s2", "a/s3"]
    assert after(told, "h2") is None


def test_none_goes_that_need_not():
    large = service("a/large", gib=3)
    here = host("h1", *riding(ONE, large))
    of = draft(fleet(ONE, large, here), knowing({"a/one": 6000, "a/large": 600}))
    assert [p.service for p in cheapest(of, here, 3 * GIB)] == ["a/large"]
    assert cheapest(of, here, 5 * GIB) is None
    assert cheapest(of, here, 0) == []


def test_what_is_just_being_loaded_is_evicted_last():
    one, two = riding(ONE, TWO)
    here = host("h1", one, two, reports=[reported(one, Report.LOADING), reported(two)])
    of = draft(fleet(ONE, TWO, here), knowing({"a/one": 6000, "a/two": 60}))
    assert cheapest(of, here, GIB) == [two]


def test_room_goes_to_the_most_worth_that_is_loaded_nowhere():
    of = fleet(ONE, TWO, THREE, host("h1", ONE), pools=[pool(gib=2)])
    told = decide(of, notes=knowing({"a/two": 6000, "a/three": 60}))
    assert [(p.service, p.state) for p in after(told)] == [("a/one", State.LOADED), ("a/three", RIDER)]


@pytest.mark.parametrize(
    "unfit",
    [
        replace(TWO, dedicated=True),
        replace(TWO, suspend=True),
        replace(TWO, memory_bytes=9 * GIB),
        replace(TWO, pool="other"),
        service("a/two", name="one"),
    ],
)
def test_nobody_is_loaded_ahead_who_could_not_be_woken_there(unfit):
    of = fleet(ONE, unfit, host("h1", ONE), pools=[pool(max_hosts=1)])
    assert not decide(of, notes=knowing({"a/two": 60}, of=unfit.pool)).changes


@pytest.mark.parametrize(
    "fields",
    [
        {"cordoned": True},
        {"trouble": "no node has room", "pod": Pod.STARTING},
        {"pod": Pod.TERMINATING},
    ],
)
def test_nothing_is_loaded_ahead_on_a_host_that_may_go(fields):
    of = fleet(TWO, host("h1", **fields), pools=[pool(max_hosts=1)])
    assert not [c for c in decide(of, notes=knowing({"a/two": 60})).changes if isinstance(c, type(after))]
    assert after(decide(of, notes=knowing({"a/two": 60}))) is None


def test_a_load_ahead_has_to_be_worth_its_energy():
    hot = PowerProfile(72.0, 50.0, 700.0)
    of = fleet(ONE, TWO, host("h1", ONE), pools=[pool(profile=hot)])
    assert after(decide(of, notes=knowing({"a/two": 60}, hazards={"a/two": 0.001}))) is not None
    assert after(decide(of, notes=knowing({"a/two": 60}, hazards={"a/two": 0.00001}))) is None


def test_a_host_is_made_for_those_that_are_worth_it_together():
    of = fleet(ONE, TWO)
    ages = {"a/one": 100, "a/two": 100}
    enough = decide(of, notes=knowing(ages, hazards={"a/one": 0.0008, "a/two": 0.0008}))
    assert [[(p.service, p.state) for p in c.placements] for c in created(enough)] == [
        [("a/one", RIDER), ("a/two", RIDER)]
    ]
    assert not decide(of, notes=knowing(ages, hazards={"a/one": 0.0007, "a/two": 0.0007})).changes


def test_a_host_made_ahead_is_for_those_that_may_share_it():
    both = [service("a/one"), service("b/two")]
    ages = {"a/one": 100, "b/two": 100}
    notes = knowing(ages, hazards={"a/one": 0.0008, "b/two": 0.0008})
    assert len(created(decide(fleet(*both), notes=notes))) == 1
    assert not created(decide(fleet(*both, pools=[pool(namespaced=True)]), notes=notes))
    dear = knowing(ages, hazards={"a/one": 0.0008, "b/two": 0.002})
    (made,) = created(decide(fleet(*both, pools=[pool(namespaced=True)]), notes=dear))
    assert [p.service for p in made.placements] == ["b/two"]


def test_no_more_fits_a_host_made_ahead_than_its_memory():
    three = [service(f"a/s{i}", gib=3) for i in range(2)]
    notes = knowing({s.key: 100 for s in three}, hazards={s.key: 0.001 for s in three})
    assert not created(decide(fleet(*three), notes=notes))


@pytest.mark.parametrize("pods", [[Pod.STARTING], [Pod.RUNNING, Pod.RUNNING]])
def test_hosts_are_made_ahead_one_at_a_time_and_within_the_pool(pods):
    full = [service(f"a/f{i}", gib=4) for i in range(len(pods))]
    hosts = [host(f"h{i}", s, pod=pod) for i, (s, pod) in enumerate(zip(full, pods, strict=True))]
    notes = knowing({"a/one": 100}, hazards={"a/one": 1.0})
    assert not created(decide(fleet(ONE, *full, *hosts), notes=notes))


def test_no_host_is_made_ahead_where_people_say_how_long_empty_ones_stay():
    of = fleet(ONE, pools=[pool(empty_after_seconds=600.0)])
    assert not created(decide(of, notes=knowing({"a/one": 100}, hazards={"a/one": 1.0})))


def test_who_may_run_code_is_loaded_ahead_with_its_own_namespace_alone():
    both = [service("a/one"), service("b/two")]
    notes = knowing({s.key: 100 for s in both}, hazards={s.key: 0.01 for s in both})
    (made,) = created(decide(fleet(*both, pools=[pool(allow_code=True)]), notes=notes))
    assert len(made.placements) == 1
    here = fleet(*both, ONE, host("h1", service("a/here")), service("a/here"), pools=[pool(allow_code=True)])
    assert {p.service for p in after(decide(here, notes=notes))} == {"a/here", "a/one"}


def test_a_tenant_s_host_is_filled_with_what_is_its_own_though_others_are_worth_more():
    mine, others, here = service("b/mine"), [service("a/x"), service("c/y")], service("b/here")
    ages = {s.key: 100 for s in (mine, *others)}
    notes = knowing(ages, hazards={"b/mine": 0.0001, "a/x": 0.0005, "c/y": 0.0005})
    of = fleet(mine, *others, here, host("h1", here), pools=[pool(namespaced=True)])
    assert [p.service for p in after(decide(of, notes=notes))] == ["b/here", "b/mine"]


def test_nothing_is_loaded_ahead_where_its_namesake_is_still_being_unloaded():
    gone = reported(placement(service("b/two")), Report.UNLOADING)
    of = fleet(ONE, TWO, host("h1", ONE, reports=[reported(placement(ONE)), gone]), pools=[pool(max_hosts=1)])
    assert after(decide(of, notes=knowing({"a/two": 60}))) is None


def test_who_failed_and_is_not_asked_for_keeps_no_room():
    of = fleet(ONE, TWO, THREE, host("h1", ONE), pools=[pool(gib=2, max_hosts=1)])
    notes = replace(knowing({"a/two": 60}), failures=failing("a/three").failures)
    assert [p.service for p in after(decide(of, notes=notes))] == ["a/one", "a/two"]


def test_what_failed_is_not_loaded_again_before_somebody_asks():
    of = fleet(ONE, TWO, host("h1", ONE))
    notes = replace(knowing({"a/two": 60}), failures=failing("a/two", at=NOW - 9000).failures)
    assert after(decide(of, notes=notes)) is None
    healed = replace(of, services={**of.services, "a/two": replace(TWO, generation=2)})
    assert after(decide(healed, notes=notes)) is not None


def test_the_room_of_who_failed_and_is_tried_again_is_not_filled_meanwhile():
    of = fleet(ONE, TWO, host("h1", THREE), THREE, pools=[pool(gib=2)])
    worthy = replace(knowing({"a/two": 60}), failures=failing().failures)
    asked = replace(of, gateways=fleet(held=["a/one"]).gateways)
    assert after(decide(asked, notes=worthy)) is None
    assert after(decide(of, notes=worthy)) is not None  # nobody asks for it any more
    roomier = replace(asked, hosts={**of.hosts, "h2": host("h2")})
    told = decide(roomier, notes=worthy)
    assert (after(told), [p.service for p in after(told, "h2")]) == (None, ["a/two"])


def test_a_host_is_made_ahead_only_for_more_than_it_costs_with_its_node():
    of = fleet(ONE, pools=[pool(profile=PowerProfile(50.0, 50.0, 700.0, 100.0))])  # costs 2 alone
    assert not created(decide(of, notes=knowing({"a/one": 100}, hazards={"a/one": 0.0022})))
    assert created(decide(of, notes=knowing({"a/one": 100}, hazards={"a/one": 0.0024})))


def test_namesakes_are_not_both_counted_on_for_a_host_made_ahead():
    both = [service("a/one", name="same"), service("a/two", name="same")]
    ages = {"a/one": 100, "a/two": 100}
    assert not created(decide(fleet(*both), notes=knowing(ages, hazards=dict.fromkeys(ages, 0.0008))))


def test_the_lower_priority_gives_way_first_whatever_it_is_worth():
    high, low = service("a/high", priority=1), service("a/low")
    other = service("b/two", dedicated=True)
    hosts = [host("h1", *riding(high)), host("h2", *riding(low))]
    notes = knowing({"a/high": 6000, "a/low": 60}, since=served("h1") | served("h2"))
    assert deleted(decide(fleet(high, low, other, *hosts, held=["b/two"]), notes=notes)) == ["h2"]
    bare = [host("h1", *riding(high)), host("h2")]
    gone = service("a/gone", gib=4)
    unloads = [reported(placement(gone), Report.UNLOADING, memory_bytes=4 * GIB)]
    bare[1] = replace(bare[1], reports={r.id: r for r in unloads})
    assert deleted(decide(fleet(high, other, *bare, held=["b/two"]), notes=notes)) == ["h2"]


def test_a_host_that_ends_makes_no_way_for_anybody():
    other = service("b/two", dedicated=True)
    hosts = [host("h1", pod=Pod.TERMINATING), host("h2", *riding(ONE))]
    assert deleted(decide(fleet(ONE, other, *hosts, held=["b/two"]))) == ["h2"]


def vacated(told):
    return [change.host for change in told.changes if isinstance(change, Vacate)]


def spread(*, one=(), two=(), **fields):
    """Two hosts, each with one model in use, and whatever else."""
    hosts = [host("h1", ONE, *one), host("h2", TWO, *two)]
    return fleet(ONE, TWO, THREE, *hosts, **fields)


def test_a_host_whose_models_fit_elsewhere_is_vacated_and_they_move():
    told = decide(spread(), seen_at=NOW - 1800)
    assert vacated(told) == ["h1"]
    moved = decide(altered(spread(), cordoned=True), seen_at=NOW - 10)
    assert [p.service for p in after(moved, "h2")] == ["a/two", "a/one"]
    assert vacated(moved) == []


def test_a_host_is_not_vacated_before_it_has_paid_for_its_start():
    told = decide(spread(), seen_at=NOW - 1799)
    assert (vacated(told), told.next_at) == ([], NOW + 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"pools": [pool(min_hosts=2)]},
        {"pools": [pool(gib=1)]},
    ],
)
def test_no_host_is_vacated_while_somebody_waits_or_it_is_needed(fields):
    assert not vacated(decide(spread(**fields), seen_at=NOW - 9000))


def test_no_host_is_vacated_while_somebody_finds_no_room_though_its_models_would():
    large = service("a/three", gib=4, min_replicas=1)
    told = decide(
        replace(spread(), services={"a/one": ONE, "a/two": TWO, large.key: large}), seen_at=NOW - 9000
    )
    assert "all 2 hosts" in told.services["a/three"].message
    assert not vacated(told)


def test_no_host_is_vacated_while_requests_are_held():
    assert vacated(decide(spread(), notes=_old(NOTHING_NOTED))) == ["h1"]
    assert not vacated(decide(spread(held=["a/three"]), notes=_old(NOTHING_NOTED)))


def test_no_host_is_vacated_while_another_moves_or_starts():
    for fields in ({"cordoned": True}, {"pod": Pod.STARTING}):
        other = host("h3", THREE, **fields)
        of = spread(pools=[pool(max_hosts=3)])
        assert not vacated(decide(replace(of, hosts={**of.hosts, "h3": other}), seen_at=NOW - 9000))


def test_no_host_is_vacated_while_a_load_hangs_on_another():
    hung = reported(placement(THREE), Report.FAILED, reason="LoadTimeout")
    of = spread(pools=[pool(max_hosts=3)])
    stuck = host("h3", service("a/x"), reports=[reported(placement(service("a/x"))), hung])
    of = replace(of, hosts={**of.hosts, "h3": stuck}, services={**of.services, "a/x": service("a/x")})
    assert not vacated(decide(of, seen_at=NOW - 9000))


def test_requests_for_who_is_gone_or_suspended_wait_for_nobody():
    assert vacated(decide(spread(held=["a/gone"]), notes=_old(NOTHING_NOTED))) == ["h1"]


def test_who_names_a_pool_that_is_gone_is_not_moved_whatever_it_takes():
    of = spread()
    lost = replace(ONE, pool="gone", memory_bytes=None, min_replicas=1)
    assert vacated(decide(replace(of, services={**of.services, "a/one": lost}), seen_at=NOW - 9000)) == ["h2"]


def test_a_host_on_which_all_sleep_is_not_vacated_as_it_goes_by_what_it_is_worth():
    of = fleet(ONE, TWO, host("h1", *riding(ONE)), host("h2", TWO, kept=True))
    notes = knowing({"a/one": 100}, hazards={"a/one": 0.0011}, since=served())
    assert not decide(of, notes=replace(notes, since={**notes.since, **_old(notes).since})).changes


def test_nobody_is_moved_to_where_its_namesake_is_still_being_unloaded():
    gone = reported(placement(service("b/one")), Report.UNLOADING)
    other = host("h2", TWO, reports=[reported(placement(TWO)), gone], kept=True)
    assert vacated(decide(altered(spread(), "h2", kept=True), seen_at=NOW - 9000)) == ["h1"]
    assert not vacated(decide(fleet(ONE, TWO, host("h1", ONE), other), seen_at=NOW - 9000))


def test_a_host_that_drains_or_loads_is_not_vacated():
    drains = placement(THREE, state=State.DRAINING)
    of = fleet(ONE, TWO, THREE, host("h1", ONE, drains), host("h2", TWO, drains))
    assert not vacated(decide(of, seen_at=NOW - 9000))
    loading = [telling("h1", ONE, Report.LOADING), telling("h2", TWO, Report.LOADING)]
    assert not vacated(decide(fleet(ONE, TWO, *loading), seen_at=NOW - 9000))


def test_nobody_is_moved_to_a_host_that_would_be_too_busy():
    busy = [telling("h1", ONE, busy=0.5), telling("h2", TWO, busy=0.5)]
    assert not vacated(decide(fleet(ONE, TWO, *busy), seen_at=NOW - 9000))
    calm = [telling("h1", ONE, busy=0.4), telling("h2", TWO, busy=0.4)]
    assert vacated(decide(fleet(ONE, TWO, *calm), seen_at=NOW - 9000)) == ["h1"]


def test_who_is_alone_is_not_moved_to_save_a_host():
    alone = [replace(s, dedicated=True) for s in (ONE, TWO)]
    assert not vacated(decide(fleet(*alone, host("h1", ONE), host("h2", TWO)), seen_at=NOW - 9000))


def test_who_is_gone_is_not_moved_before_it_was_looked_at():
    of = fleet(TWO, host("h1", ONE), host("h2", TWO))
    d = draft(of, observe(_old(NOTHING_NOTED), of, NOW))
    consolidate(d)
    assert [change.host for change in d.changes()] == ["h2"]


def test_a_move_that_loses_too_much_worth_is_not_made():
    third = service("a/three", gib=3)
    of = fleet(ONE, TWO, third, host("h1", ONE, *riding(third)), host("h2", TWO, *riding(BIG)))
    dear = knowing({"a/three": 100, "a/big": 100}, hazards={"a/three": 0.0006, "a/big": 0.0006})
    assert not vacated(decide(replace(of, services={**of.services, "a/big": BIG}), notes=_old(dear)))
    cheap = knowing({"a/three": 100, "a/big": 100}, hazards={"a/three": 0.0002, "a/big": 0.0002})
    assert vacated(decide(replace(of, services={**of.services, "a/big": BIG}), notes=_old(cheap))) == ["h1"]


BIG = service("a/big", gib=3)


def _old(notes):
    return replace(notes, since={("Opened", name): NOW - 9000 for name in ("h1", "h2")})


def crowded(full, *, each=4, gib=1):
    """Hosts that are full with what is in use."""
    kept = [[service(f"a/f{n}-{i}", gib=gib) for i in range(each)] for n in range(full)]
    return [s for few in kept for s in few] + [host(f"h{n:02}", *few) for n, few in enumerate(kept)]


def test_a_host_is_vacated_however_many_full_ones_come_first():
    small = [service("a/x"), service("a/y")]
    hosts = [host("z1", small[0]), host("z2", small[1])]
    of = fleet(*small, *crowded(9), *hosts, pools=[pool(max_hosts=50)])
    assert vacated(decide(of, seen_at=NOW - 9000)) == ["z1"]


def test_a_host_is_vacated_however_many_nobody_can_take_come_first():
    pairs = [[service(f"a/{name}{n}") for n in range(2)] for name in "xy"]
    hosts = [host(f"z{n}", *pair) for n, pair in enumerate(pairs)]
    of = fleet(*pairs[0], *pairs[1], *crowded(10, each=1, gib=4), *hosts, pools=[pool(max_hosts=50)])
    turns = [vacated(decide(of, seen_at=NOW - 9000, now=NOW + 60 * turn)) for turn in range(2)]
    assert sorted(turns) == [[], ["z0"]]


def test_a_model_that_takes_more_than_it_reserved_is_not_moved_to_where_only_that_fits():
    grown = replace(ONE, measured_bytes=3 * GIB)
    tight = [host("h1", grown), host("h2", service("a/two", gib=2), kept=True)]
    of = fleet(grown, service("a/two", gib=2), *tight)
    assert not vacated(decide(of, seen_at=NOW - 9000))


def test_a_rider_that_finds_free_room_is_not_lost():
    of = spread(one=riding(THREE))
    dear = knowing({"a/three": 100}, hazards={"a/three": 1.0})
    assert vacated(decide(of, notes=_old(dear))) == ["h1"]


@pytest.mark.parametrize(("hazard", "moved"), [(1.0, []), (0.0001, ["h1"])])
def test_a_rider_that_finds_only_the_room_of_other_riders_is_lost(hazard, moved):
    of = altered(spread(one=riding(THREE), two=riding(BIG)), "h2", kept=True)
    of = replace(of, services={**of.services, "a/big": BIG})
    notes = knowing({"a/three": 100, "a/big": 100}, hazards={"a/three": hazard, "a/big": 0.0001})
    assert vacated(decide(of, notes=_old(notes))) == moved


@pytest.mark.parametrize(("hazard", "moved"), [(0.0003, []), (0.0002, ["h1"])])
def test_all_riders_count_that_a_move_would_lose(hazard, moved):
    riders, other = [service("a/r1"), service("a/r2")], service("a/other", gib=3)
    hosts = [host("h1", ONE, *riding(*riders)), host("h2", other, kept=True)]
    ages = {"a/r1": 100, "a/r2": 100}
    notes = knowing(ages, hazards=dict.fromkeys(ages, hazard))
    assert vacated(decide(fleet(ONE, other, *riders, *hosts), notes=_old(notes))) == moved


@pytest.mark.parametrize(("node", "moved"), [("n1", ["h1"]), ("n2", [])])
def test_more_may_be_lost_where_a_node_may_go_too(node, moved):
    other, nodes = service("a/other", gib=3), pool(profile=PowerProfile(50.0, 50.0, 700.0, 100.0))
    hosts = [host("h1", ONE, *riding(THREE), node=node), host("h2", other, kept=True, node="n2")]
    notes = knowing({"a/three": 100}, hazards={"a/three": 0.0007})  # between half of 1 and of 1.5
    assert vacated(decide(fleet(ONE, THREE, other, *hosts, pools=[nodes]), notes=_old(notes))) == moved


EMPTIED = {"cordoned": True, "vacated": True}
HELD = service("a/held", gib=2)


def full(*, held=("a/held",), pools=None, more=(), **fields):
    """A vacated host, and one whose room was taken before the vacated one's model could move there."""
    taken = host("h2", service("a/big", gib=4))
    hosts = [host("h1", ONE, **(EMPTIED | fields)), taken]
    return fleet(ONE, HELD, service("a/big", gib=4), *hosts, *more, held=held, pools=pools)


def opened(told):
    return [change.host for change in told.changes if isinstance(change, Vacate) and not change.reason]


def test_a_vacated_host_is_used_again_where_somebody_waits_for_its_room():
    told = decide(full(), seen_at=NOW - 10)
    assert (opened(told), len(told.changes)) == (["h1"], 1)
    assert told.services["a/held"].message == "host h1 is used again"
    then = decide(full(cordoned=False, vacated=False), seen_at=NOW - 10)
    assert [p.service for p in after(then)] == ["a/one", "a/held"]
    assert (opened(then), vacated(then)) == ([], [])


def test_no_host_is_made_for_a_model_that_leaves_a_vacated_one():
    roomy = [pool(max_hosts=3)]
    told = decide(full(held=(), pools=roomy), seen_at=NOW - 10)
    assert (opened(told), created(told)) == (["h1"], [])
    by_admin = decide(full(held=(), pools=roomy, vacated=False), seen_at=NOW - 10)
    assert (opened(by_admin), len(created(by_admin))) == ([], 1)


def test_a_host_that_ends_is_left_for_a_new_one_though_it_was_vacated():
    told = decide(full(held=(), pools=[pool(max_hosts=3)], pod=Pod.TERMINATING), seen_at=NOW - 10)
    assert (opened(told), len(created(told))) == ([], 1)


def test_a_vacated_host_is_not_used_again_for_who_would_find_no_room_there_either():
    big = service("a/held", gib=4)
    of = full(more=[host("h3")], pools=[pool(max_hosts=3)])
    moved = altered(of, "h3", placements=(placement(ONE, id_="moved"),))
    moved = replace(moved, services={**of.services, "a/held": big})
    assert opened(decide(moved, seen_at=NOW - 10)) == []


def test_a_host_that_is_used_again_is_not_vacated_at_once():
    notes = observe(observe(NOTHING_NOTED, altered(spread(), **EMPTIED), NOW - 9000), spread(), NOW - 1799)
    of = altered(spread(), "h2", kept=True)
    assert vacated(decide(of, notes=notes)) == []
    assert vacated(decide(of, notes=notes, now=NOW + 1)) == ["h1"]
