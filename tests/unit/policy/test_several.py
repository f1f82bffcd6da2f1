"""Of several pools, hosts, models or gateways: what holds for one says nothing of the others."""

import pytest

from lull.policy import NOTHING_NOTED, CreateHost, Notes, Vacate, observe, plan, wake
from lull.policy.changes import Draft
from lull.policy.fleet import Count
from lull.policy.habits import BINS, Crowd, Habit
from lull.policy.hosts import AHEAD_SECONDS
from lull.policy.learning import BEGUN, Learned, remembered, used
from lull.policy.load import telling
from lull.policy.prices import Price
from lull.policy.staging import stages
from lull.policy.verdict import Bar, Verdict, verdict

from .fleets import (
    GIB,
    NOW,
    ONE,
    THREE,
    TWO,
    Gateway,
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
)
from .test_verdict import took

OTHER = pool(name="other")
THERE = service("a/there", pool="other")
BOTH = [pool(), OTHER]


def vacated(decided):
    return [c.host for c in decided.changes if isinstance(c, Vacate) and c.reason]


def opened(decided):
    return [c.host for c in decided.changes if isinstance(c, Vacate) and not c.reason]


def worth(of, **hazards):
    """Notes of services that are asked for at such rates; a delay is worth 1000 s, and no host is new."""
    habits = {
        f"a/{name}": Habit(silent_since=NOW - 100, hazards=(rate,) * BINS) for name, rate in hazards.items()
    }
    prices = {(name, 5): Price(1000.0) for name in ("pool", "other")}
    since = {(kind, name): NOW - 9000 for kind in ("Kept", "Opened") for name in of.hosts}
    since |= {("Empty", name): NOW - 8000 for name in of.hosts}
    return Notes(since, learned=Learned(habits, {"pool": Crowd(), "other": Crowd()}, prices))


# ── Pools ──


def in_both(**fields):
    """Two pools of two hosts each, with one model on each host."""
    here = [service(f"a/{name}") for name in ("h1", "h2")]
    there = [service(f"a/{name}", pool="other") for name in ("o1", "o2")]
    hosts = [host(s.model.name, s, pool=s.pool) for s in (*here, *there)]
    return fleet(*here, *there, *hosts, pools=BOTH, **fields)


def test_a_host_of_each_pool_is_emptied():
    assert vacated(decide(in_both(), seen_at=NOW - 9000)) == ["h1", "o1"]


@pytest.mark.parametrize(
    "busy", [{"kept": True}, {"cordoned": True}, {"pod": Pod.STARTING}], ids=["kept", "emptied", "starting"]
)
def test_what_keeps_the_hosts_of_one_pool_keeps_none_of_another(busy):
    of = altered(altered(in_both(), "h1", **busy), "h2", kept=True)

    assert vacated(decide(of, seen_at=NOW - 9000)) == ["o1"]


def test_who_waits_in_one_pool_keeps_no_host_of_another():
    big = service("a/big", gib=9, pool="other", min_replicas=1)
    full = fleet(
        ONE,
        THERE,
        host("h1"),
        host("o1", THERE, pool="other"),
        pools=[pool(), pool(name="other", max_hosts=1)],
    )
    waits = replace(big, memory_bytes=4 * GIB)
    of = replace(full, services={**full.services, waits.key: waits})

    assert deleted(decide(of, seen_at=NOW - 9000)) == ["h1"]
    assert (
        deleted(decide(replace(of, pools={**of.pools, "pool": pool(min_hosts=1)}), seen_at=NOW - 9000)) == []
    )


def test_requests_that_are_held_in_one_pool_keep_no_host_of_another():
    of = in_both(held=["a/o1"])

    assert vacated(decide(of, notes=worth(of))) == ["h1"]


def test_each_pool_has_the_hosts_that_it_should_have_at_least():
    pools = [pool(min_hosts=1), pool(name="other", min_hosts=2, max_hosts=3)]

    made = created(decide(fleet(host("h1"), pools=pools)))

    assert [new.pool for new in made] == ["other", "other"]


def test_no_more_hosts_are_made_than_a_pool_may_have_though_it_should_have_more():
    assert len(created(decide(fleet(host("h1"), pools=[pool(min_hosts=5, max_hosts=3)])))) == 2


def test_while_somebody_waits_in_one_pool_another_is_filled():
    waits = service("a/waits", gib=4, min_replicas=1)
    works = service("a/works", pool="other")
    hosts = host("h1", TWO), host("o1", works, pool="other")
    of = fleet(waits, TWO, works, THERE, *hosts, pools=[pool(max_hosts=1), OTHER])

    decided = decide(of, notes=worth(of, there=0.001))

    assert [p.service for p in after(decided, "o1")] == ["a/works", "a/there"]


def test_a_host_is_made_ahead_in_the_pool_of_those_that_are_worth_it():
    of = fleet(ONE, THERE, pools=BOTH)

    assert [new.pool for new in created(decide(of, notes=worth(of, there=0.01)))] == ["other"]


def test_a_free_host_of_another_pool_is_none_for_who_waits():
    of = fleet(THERE, host("h1"), held=["a/there"], pools=BOTH)

    assert [new.pool for new in created(decide(of))] == ["other"]


def test_a_sleeper_of_another_pool_makes_no_room():
    sleeper, big = service("a/sleeper", gib=4), replace(THERE, memory_bytes=4 * GIB)
    of = fleet(sleeper, big, host("h1", *riding(sleeper)), held=["a/there"], pools=BOTH)

    assert after(decide(of)) is None


def test_a_host_of_another_pool_is_not_used_again_for_who_left_it():
    moved, full = replace(ONE, pool="other"), service("a/full", gib=4, pool="other")
    old = host("h1", ONE, cordoned=True, vacated=True)
    of = fleet(
        moved, full, old, host("o1", full, pool="other"), pools=[pool(), pool(name="other", max_hosts=1)]
    )

    assert opened(decide(of, seen_at=NOW - 10)) == []


def test_who_moves_to_a_pool_that_is_full_serves_on_where_it_is():
    moved, full = replace(ONE, pool="other"), service("a/full", gib=4, pool="other")
    of = fleet(
        moved,
        full,
        host("h1", ONE),
        host("o1", full, pool="other"),
        pools=[pool(), pool(name="other", max_hosts=1)],
    )

    assert after(decide(of)) is None


def test_who_moves_to_another_pool_gets_a_host_there_though_its_old_one_is_emptied_by_choice():
    moved = replace(ONE, pool="other")
    of = fleet(moved, host("h1", ONE, cordoned=True, vacated=True), pools=BOTH)

    assert [new.pool for new in created(decide(of, seen_at=NOW - 10))] == ["other"]


def test_who_moves_to_another_pool_does_not_sleep_in_the_old_one():
    moved = replace(ONE, pool="other")
    of = fleet(moved, TWO, host("h1", TWO, *riding(ONE)), pools=BOTH)

    assert [p.service for p in after(decide(of))] == ["a/two"]


def test_of_each_pool_its_own_hosts_are_summed_up():
    told = decide(
        fleet(ONE, THERE, host("h1", ONE), host("o1", pool="other", pod=Pod.STARTING), pools=BOTH)
    ).pools

    assert [(p.hosts, p.ready_hosts, p.used_bytes) for p in told.values()] == [(1, 1, GIB), (1, 0, 0)]


def test_a_pool_s_hosts_are_as_large_as_the_largest_accelerator_there_says():
    sizes = [3, 2]
    hosts = [host(f"h{n}", capacity_bytes=gib * GIB + GIB // 2) for n, gib in enumerate(sizes)]
    small = host("o1", pool="other", capacity_bytes=GIB)

    pools = decide(fleet(*hosts, small, pools=BOTH)).pools

    assert [pools["pool"].supply_bytes, pools["other"].supply_bytes] == [2 * 3 * GIB, GIB // 2]


def test_hosts_keep_ready_what_is_of_their_own_pool():
    here, there = (
        replace(s, model=replace(s.model, uri=f"oci://x/{s.key}", digest=f"sha256:{n:064x}"))
        for n, s in enumerate((ONE, THERE))
    )
    hosts = [host("h1"), host("o1", pool="other"), host("b1", pool="bare")]
    pools = [pool(staged_bytes=GIB), pool(name="other", staged_bytes=GIB), pool(name="bare")]
    of = fleet(here, there, *hosts, pools=pools)

    told = {
        s.host: [a.service for a in s.artifacts] for s in stages(of, worth(of, one=0.1, there=0.1), NOW) if s
    }

    assert told == {"h1": ["a/one"], "o1": ["a/there"]}


def test_what_does_not_fit_any_more_is_left_out_for_the_next_that_does():
    sizes = {"one": 2, "two": 2, "three": 1}
    kept = [service(f"a/{name}", gib=gib) for name, gib in sizes.items()]
    kept = [
        replace(s, model=replace(s.model, uri=f"oci://x/{s.key}", digest=f"sha256:{n:064x}"))
        for n, s in enumerate(kept)
    ]
    of = fleet(*kept, host("h1"), pools=[pool(staged_bytes=3 * GIB)])

    (told,) = filter(None, stages(of, worth(of, one=0.3, two=0.2, three=0.1), NOW))

    assert [a.service for a in told.artifacts] == ["a/one", "a/three"]


# ── Hosts ──


def test_the_idle_host_gives_way_on_which_nothing_of_a_high_priority_sleeps():
    sleepers = {
        name: service(f"a/{name}", priority=p) for name, p in (("l", -1), ("h", 5), ("p", 0), ("q", 0))
    }
    alone = service("a/alone", dedicated=True)
    hosts = [
        host("h1", *riding(sleepers["l"], sleepers["h"])),
        host("h2", *riding(sleepers["p"], sleepers["q"])),
    ]
    of = fleet(*sleepers.values(), alone, *hosts, held=["a/alone"])

    assert deleted(decide(of)) == ["h2"]


def test_of_idle_hosts_that_are_equally_important_the_one_worth_least_gives_way():
    alone = service("a/alone", dedicated=True)
    of = fleet(ONE, TWO, alone, host("h1", *riding(ONE)), host("h2", *riding(TWO)), held=["a/alone"])

    assert deleted(decide(of, notes=worth(of, one=1.0, two=0.5))) == ["h2"]


def test_a_host_gives_way_to_one_and_no_other_goes():
    alone = service("a/alone", dedicated=True)
    of = fleet(ONE, TWO, alone, host("h1", *riding(ONE)), host("h2", *riding(TWO)), held=["a/alone"])

    assert len(deleted(decide(of, notes=worth(of, one=1.0, two=1.0)))) == 1


def test_a_model_moves_to_where_the_least_is_lost():
    mover, rest, dear = service("a/mover", gib=3), service("a/rest", gib=3), service("a/dear", gib=3)
    hosts = [host("h1", mover), host("h2", ONE, *riding(dear), kept=True), host("h3", TWO, kept=True)]
    of = fleet(mover, ONE, TWO, dear, *hosts, pools=[pool(max_hosts=3)])

    assert vacated(decide(of, notes=worth(of, dear=0.0006))) == ["h1"]
    full = fleet(mover, ONE, rest, dear, *hosts[:2], host("h3", rest, kept=True), pools=[pool(max_hosts=3)])
    assert vacated(decide(full, notes=worth(full, dear=0.0006))) == []


def test_models_that_move_together_do_not_take_the_same_room():
    pair, rest = [service(f"a/{n}", gib=2) for n in "xy"], service("a/rest", gib=2)
    of = fleet(*pair, rest, host("h1", *pair), host("h2", rest, kept=True))

    assert vacated(decide(of, seen_at=NOW - 9000)) == []
    roomy = fleet(
        *pair, rest, *of.hosts.values(), host("h3", kept=True), pools=[pool(max_hosts=3, min_hosts=2)]
    )
    assert vacated(decide(roomy, seen_at=NOW - 9000)) == ["h1"]


def test_riders_that_move_together_do_not_take_the_same_room():
    riders, rest = [service(f"a/{n}") for n in ("r1", "r2")], service("a/rest", gib=2)
    of = fleet(ONE, *riders, rest, host("h1", ONE, *riding(*riders)), host("h2", rest, kept=True))

    assert vacated(decide(of, notes=worth(of, r1=0.6, r2=0.7))) == [], (
        "one of them finds room, and one is lost"
    )
    assert vacated(decide(of, notes=worth(of, r1=0.0004, r2=0.7))) == ["h1"], "the dearer one finds it"


def test_all_of_a_host_move_to_where_they_just_fit_together():
    pair, riders = [[service(f"a/{n}{k}") for k in range(2)] for n in "xy"]
    rest = [service(f"a/z{k}", gib=2) for k in range(2)]
    hosts = host("h1", *pair, *riding(*riders)), *(host(s.model.name, s, kept=True) for s in rest)
    of = fleet(*pair, *riders, *rest, *hosts, pools=[pool(max_hosts=3)])

    assert vacated(decide(of, notes=worth(of, y0=0.6, y1=0.6))) == ["h1"]


def test_busy_models_that_fit_one_by_one_are_not_moved_to_one_host():
    pair, rest = [placement(service(f"a/{n}")) for n in "xy"], placement(service("a/rest"))
    said = [reported(p, busy=0.3) for p in pair]
    hosts = host("h1", *pair, reports=said), host("h2", rest, reports=[reported(rest, busy=0.3)], kept=True)
    of = fleet(service("a/x"), service("a/y"), service("a/rest"), *hosts)

    assert vacated(decide(of, seen_at=NOW - 9000)) == []


def test_of_two_hosts_that_fit_the_fuller_one_is_filled_and_of_two_alike_the_first():
    hosts = [host("h1"), host("h2"), host("h3", TWO, pod=Pod.STARTING)]
    of = fleet(ONE, TWO, *hosts, held=["a/one"], pools=[pool(max_hosts=3)])

    (change,) = wake(of, NOTHING_NOTED, NOW)

    assert change.host == "h1"
    assert wake(altered(of, "h2", capacity_bytes=3 * GIB), NOTHING_NOTED, NOW)[0].host == "h2"


def test_what_still_drains_is_turned_back_before_what_sleeps():
    sleeps, drains = (
        placement(ONE, id_=id_, state=state) for id_, state in (("s", State.RESIDENT), ("d", State.DRAINING))
    )

    (change,) = wake(fleet(ONE, host("h1", sleeps), host("h2", drains), held=["a/one"]), NOTHING_NOTED, NOW)

    assert change.host == "h2"


def test_only_one_of_several_that_sleep_is_turned_back():
    sleeps = [host(f"h{n}", placement(ONE, id_=f"p{n}", state=State.RESIDENT)) for n in range(2)]

    assert len(wake(fleet(ONE, *sleeps, held=["a/one"]), NOTHING_NOTED, NOW)) == 1


def test_a_host_made_ahead_is_told_to_go_when_it_has_waited_for_its_time():
    of = fleet(ONE, host("h1", *riding(ONE)))
    old = Notes({BEGUN: NOW - 9000}, learned=Learned({"a/one": Habit(silent_since=NOW - 1e6)}))

    assert decide(of, notes=old, seen_at=NOW - 100).services["a/one"].next_at == NOW - 100 + AHEAD_SECONDS


def test_as_long_as_one_of_many_hosts_has_room_no_new_one_is_made():
    works = [service(f"a/w{n}", gib=4) for n in range(9)]
    hosts = [*(host(f"h{n}", s) for n, s in enumerate(works)), host("z", TWO)]
    of = fleet(ONE, TWO, *works, *hosts, held=["a/one"], pools=[pool(max_hosts=99)])

    (change,) = wake(of, NOTHING_NOTED, NOW)

    assert change.host == "z"


# ── Models of one host ──


def test_of_all_on_a_host_only_the_drain_that_ends_is_cut_or_proven():
    drains = placement(ONE, state=State.DRAINING)
    of = fleet(replace(ONE, suspend=True, drain_deadline_seconds=10.0), TWO, host("h1", drains, TWO))

    (cut,) = decide(of, seen_at=NOW - 10).changes
    assert (cut.cut, cut.proofs, [p.service for p in cut.after]) == ((drains,), (), ["a/two"])
    (proven,) = decide(replace(of, gateways=fleet(drained=[drains.claim]).gateways)).changes
    assert (proven.cut, proven.proofs, [p.service for p in proven.after]) == ((), (drains,), ["a/two"])


def test_all_replicas_of_whom_nobody_may_ask_go_at_once():
    gone = service(max_replicas=2, suspend=True)
    lazy, works = placement(gone, id_="lazy"), placement(gone, id_="works")
    of = fleet(gone, host("h1", works), host("h2", lazy, reports=[reported(lazy, idle=True)]))

    decided = decide(of, seen_at=NOW - 400)

    assert [[p.state for p in after(decided, name)] for name in ("h1", "h2")] == [[State.DRAINING]] * 2


def test_who_finds_no_host_to_be_alone_on_serves_on_beside_others():
    alone = replace(ONE, dedicated=True)

    assert after(decide(fleet(alone, TWO, host("h1", ONE, TWO), pools=[pool(max_hosts=1)]))) is None


def test_an_old_revision_serves_on_while_room_is_made_for_the_new_one_or_its_host_is_emptied():
    new, sleeper = service(revision="r2", gib=2), service("a/sleeper", gib=4)
    for old in (host("h1", ONE, cordoned=True), host("h1", placement(ONE), service("a/x", gib=3))):
        of = fleet(new, service("a/x", gib=3), sleeper, old, host("h2", *riding(sleeper)))
        decided = decide(replace(of, hosts={**of.hosts, "h2": replace(of.hosts["h2"], kept=True)}))
        assert after(decided, "h1") is None
    alone = fleet(new, host("h1", ONE, cordoned=True), pools=[pool(max_hosts=1)])
    assert after(decide(alone)) is None


def test_one_that_failed_makes_no_host_unusable_nor_does_what_a_gone_pod_said():
    failed, hung = (reported(placement(ONE), Report.FAILED, reason=r) for r in ("LoadFailed", "LoadTimeout"))

    assert host("h1", reports=[hung]).tainted
    assert not host("h1", reports=[failed]).tainted
    assert not host("h1", reports=[reported(placement(ONE), Report.LOADING, reason="LoadTimeout")]).tainted
    assert not host("h1", reports=[hung], pod=Pod.GONE).tainted


def test_what_hangs_stays_in_the_list_and_what_failed_beside_it_goes():
    hung, failed = placement(ONE), placement(TWO)
    said = [
        reported(hung, Report.FAILED, reason="LoadTimeout"),
        reported(failed, Report.FAILED, reason="LoadFailed"),
    ]
    of = fleet(ONE, TWO, THREE, host("h1", hung, failed, THREE, reports=[*said, reported(placement(THREE))]))

    assert [p.service for p in after(decide(of))] == ["a/one", "a/three"]


def test_a_rider_goes_from_a_host_that_is_emptied_though_others_still_serve_there():
    of = fleet(ONE, TWO, host("h1", TWO, *riding(ONE), cordoned=True))

    assert [p.service for p in after(decide(of))] == ["a/two"]


def test_what_sleeps_of_a_service_that_is_gone_makes_room():
    held = service("a/held", gib=4)

    (change,) = wake(fleet(held, host("h1", *riding(ONE)), held=["a/held"]), NOTHING_NOTED, NOW)

    assert (change.host, change.after) == ("h1", ())


def test_what_is_tried_again_and_loads_needs_no_other_room():
    loads = placement(ONE)
    hosts = host("h1", loads, reports=[reported(loads, Report.LOADING)]), host("h2", TWO)
    of = fleet(ONE, TWO, THREE, *hosts, held=["a/one"], pools=[pool(gib=2)])
    of = altered(of, "h1", placements=(loads, placement(service("a/rest"))))

    decided = decide(of, notes=replace(worth(of, three=1.0), failures=failing().failures))

    assert [p.service for p in after(decided, "h2") or ()] == ["a/two", "a/three"]


def test_the_room_that_is_kept_for_another_try_is_not_where_it_may_not_be():
    tried, namesake = service("a/tried"), service("b/tried", gib=3)
    of = fleet(tried, namesake, ONE, TWO, host("h1", namesake), host("h2", TWO), held=["a/tried"])

    decided = decide(of, notes=replace(worth(of, one=1.0), failures=failing("a/tried").failures))

    assert [p.service for p in after(decided, "h1") or ()] == ["b/tried", "a/one"]


def test_room_that_is_kept_for_one_is_kept_for_nobody_else():
    draft = Draft(fleet(ONE, TWO, host("h1"), host("h2")), NOTHING_NOTED, NOW)
    draft.await_room(draft.hosts["h1"], ONE, GIB)

    assert [draft.waits_for_room(s) for s in (ONE, TWO)] == ["h1", ""]
    assert [draft.awaited_bytes(h) for h in draft.hosts.values()] == [GIB, 0]


def test_only_what_is_routed_does_work():
    states = [placement(ONE, id_=s.value, state=s) for s in State]
    there = host("h1", *states, reports=[reported(p, busy=0.5) for p in states])

    assert [r.id for r in telling([(there, p) for p in states])] == ["Loaded"]
    loads = host("h1", ONE, reports=[reported(placement(ONE), Report.LOADING, busy=0.5)])
    assert telling([(loads, loads.placements[0])]) == []
    assert telling([(replace(there, pod=Pod.GONE), p) for p in states]) == []


def test_a_rider_that_failed_is_not_turned_back():
    rider = placement(ONE, state=State.RESIDENT)
    broken = host("h1", rider, reports=[reported(rider, Report.FAILED)])
    noted = Notes(failures=failing(at=NOW - 9000).failures)
    noted = replace(
        noted, failures={"a/one": replace(noted.failures["a/one"], counted=frozenset([rider.id]))}
    )

    (change,) = wake(fleet(ONE, broken, held=["a/one"]), noted, NOW)

    assert isinstance(change, CreateHost)


def test_a_drain_beside_a_load_that_hangs_is_never_given_up():
    drains, hung = placement(ONE, state=State.DRAINING), placement(TWO)
    said = [reported(drains), reported(hung, Report.FAILED, reason="LoadTimeout")]

    assert after(decide(fleet(ONE, TWO, host("h1", drains, hung, reports=said)), seen_at=NOW - 900)) is None


def test_who_is_on_a_host_that_ails_is_not_said_to_be_ready():
    told = decide(fleet(ONE, host("h1", ONE, pod=Pod.UNREADY)), seen_at=NOW - 10).services["a/one"]

    assert (told.ready, told.state) == (0, "Waking")


def test_who_failed_and_is_wanted_is_given_no_place_before_it_is_tried_again():
    kept = replace(ONE, min_replicas=1)
    of = fleet(kept, TWO, host("h1", TWO))

    assert after(decide(of, notes=failing())) is None
    assert after(decide(of, notes=failing(at=NOW - 5))) is not None


# ── Gateways ──


def test_one_gateway_that_holds_requests_is_enough():
    gateways = [Gateway("g", "now", frozenset(["a/one"])), Gateway("idle", "now")]

    assert used(fleet(ONE, gateways=gateways), ONE, [])
    assert wake(fleet(ONE, gateways=gateways), NOTHING_NOTED, NOW)


def test_what_a_silent_gateway_holds_is_not_taken_for_what_the_others_hold():
    silent, live = Gateway("g1", "old", frozenset(["a/one"])), Gateway("g2", "old", frozenset(["a/two"]))
    before = fleet(ONE, TWO, gateways=[silent, live])
    now = fleet(ONE, TWO, gateways=[silent, replace(live, renewed="new")])

    woken = wake(now, observe(NOTHING_NOTED, before, NOW - 60), NOW)

    assert [p.service for change in woken for p in change.placements] == ["a/two"]


# ── A plan ──


def test_of_two_moments_a_plan_comes_back_at_the_earlier_one():
    for moments in ((3.0, 5.0), (5.0, 3.0)):
        draft = Draft(fleet(ONE), NOTHING_NOTED, NOW)
        draft.look_at("a/one")
        assert not any(draft.due(NOW + at) for at in moments)
        assert draft.due(NOW)
        assert draft.due_at == {"a/one": NOW + 3}


def test_what_makes_room_is_said_to_make_it_for_one_and_all_else_for_nobody():
    held = service("a/held", gib=4)
    (evicts,) = wake(fleet(ONE, held, host("h1", *riding(ONE)), held=["a/held"]), NOTHING_NOTED, NOW)
    (places,) = wake(fleet(ONE, TWO, host("h1", TWO), held=["a/one"]), NOTHING_NOTED, NOW)

    assert (evicts.room_for, places.room_for) == ("a/held", "")


def test_what_helps_somebody_is_written_before_what_goes():
    lost = host("h1", TWO, pod=Pod.GONE)
    of = fleet(ONE, replace(TWO, min_replicas=1), THREE, lost, host("h2", THREE), held=["a/one"])

    kinds = [type(c).__name__ for c in decide(of).changes]

    assert kinds[-1] == "DeleteHost"
    assert "SetModels" in kinds


def test_a_host_that_goes_is_not_told_to_be_emptied_first():
    draft = Draft(fleet(host("h1"), host("h2")), NOTHING_NOTED, NOW)
    for name in ("h1", "h2"):
        draft.vacate(draft.hosts[name], "it may go")
    draft.delete(draft.hosts["h1"], "it goes")

    assert [(type(c).__name__, c.host) for c in draft.changes()] == [("Vacate", "h2"), ("DeleteHost", "h1")]


def test_a_long_name_that_is_cut_at_a_dash_has_none_at_its_end():
    long = service(f"a/{'x' * 53}-{'y' * 9}")
    (made,) = wake(fleet(long, held=[long.key]), NOTHING_NOTED, NOW)

    assert "--" not in made.placements[0].id
    assert made.placements[0].id.startswith("x" * 53)


def test_all_names_that_a_plan_makes_differ():
    made = created(
        decide(
            fleet(
                *(service(f"{n}/same", gib=4) for n in "abc"),
                held=[f"{n}/same" for n in "abc"],
                pools=[pool(max_hosts=3)],
            )
        )
    )

    assert len({new.host for new in made} | {p.id for new in made for p in new.placements}) == 6


def test_only_what_comes_back_into_use_begins_a_new_epoch():
    draft = Draft(fleet(ONE, TWO, host("h1", ONE, TWO)), NOTHING_NOTED, NOW)
    first = draft.hosts["h1"].placements[0]
    for state in (State.DRAINING, State.RESIDENT, State.LOADED):
        draft.turn(draft.hosts["h1"], draft.hosts["h1"].placements[0], state)

    one, two = draft.hosts["h1"].placements
    assert (one.id, one.epoch, two.epoch) == (first.id, 2, 1)


# ── Looks and totals ──


def test_around_hosts_that_have_to_stay_nothing_is_looked_at_again():
    of = fleet(ONE, host("h1", *riding(ONE), node="n1"), pools=[pool(min_hosts=1)])
    first = plan(of, observe(NOTHING_NOTED, of, NOW), NOW)

    assert not plan(of, observe(first.seen.notes, of, NOW), NOW, first).looked_at


def test_a_host_goes_with_its_pool_whatever_node_it_is_on():
    of = fleet(host("h1", node="n1"), host("h2", node="n1"), pools=[])

    assert deleted(decide(of, seen_at=NOW - 60)) == ["h1", "h2"]


def test_as_long_as_services_are_left_to_look_at_no_host_is_emptied_or_filled():
    of = fleet(ONE, TWO, THREE, host("h1", ONE), host("h2", TWO))
    notes = observe(worth(of, three=0.001), of, NOW)
    looks = [plan(of, notes, NOW, most=1)]
    while looks[-1].seen.left:
        looks.append(plan(of, notes, NOW, looks[-1], most=1))

    assert len(looks) > 2
    assert not any(look.changes for look in looks[:-1])
    assert looks[-1].changes


def test_another_pool_size_is_no_news_to_other_pools():
    of = fleet(ONE, THERE, host("h1", ONE), host("o1", THERE, pool="other"), pools=BOTH)
    first = plan(of, observe(NOTHING_NOTED, of, NOW), NOW)
    grown = replace(of, pools={**of.pools, "other": pool(name="other", max_hosts=9)})

    assert plan(grown, observe(first.seen.notes, grown, NOW), NOW, first).looked_at == {"a/there"}


def test_a_plan_that_nobody_reads_decides_the_same_and_says_nothing():
    of = fleet(ONE, TWO, host("h1", ONE), held=["a/two"])
    read, unread = (plan(of, observe(NOTHING_NOTED, of, NOW), NOW, explained=e) for e in (True, False))

    assert unread.changes == read.changes
    assert (unread.services, unread.pools) == ({}, {})
    assert read.services.keys() == {"a/one", "a/two"}


@pytest.mark.parametrize("fell", [Count(3, 13), Count(103, 3)])
def test_where_one_of_two_totals_fell_neither_counts(fell):
    looks = [replace(fleet(ONE), counts={"a/one": count}) for count in (Count(100, 10), fell)]
    notes = NOTHING_NOTED
    for look in looks:
        notes = observe(notes, look, NOW)

    assert notes.learned.prices == {}


def test_pools_are_learned_from_apart():
    kept = remembered(
        {"a/one": ("pool", Habit(load_seconds=2.0)), "a/there": ("other", Habit(load_seconds=8.0))},
        {"pool": 10.0},
        {},
    )

    assert [kept.load_seconds("a/new", name) for name in ("pool", "other", "third")] == [2.0, 8.0, 20.0]
    assert [kept.start_seconds(name) for name in ("pool", "other")] == [10.0, 30.0]


def test_one_answer_in_twenty_may_be_slow_however_few_of_the_old_revision_were():
    found, _ = verdict(took(0.010, each=2000), took(0.010, each=95) + took(1.0, each=5), Bar())

    assert found is Verdict.GOOD
