"""Candidates: beside the services that they follow, with a share of their replicas, last in every choice."""

from lull.policy import NOTHING_NOTED, Fleet, Gateway, observe, plan, wake
from lull.policy.changes import Draft
from lull.policy.demand import wanted
from lull.policy.fleet import candidate_key, replicas_of_share
from lull.policy.learning import learn
from lull.policy.roster import Roster
from lull.policy.worth import standing, worth
from unit.policy.fleets import (
    GIB,
    NOW,
    ONE,
    TWO,
    Report,
    State,
    after,
    created,
    decide,
    fleet,
    host,
    placement,
    pool,
    replace,
    reported,
    riding,
    service,
)


def beside(stable, share=100, revision="r2", **fields):
    """The candidate of a service, as the controller shows it."""
    return replace(
        stable,
        key=candidate_key(stable.key, revision),
        model=replace(stable.model, revision=revision),
        follows=stable.key,
        share_percent=share,
        **fields,
    )


NEXT = beside(ONE)
ROOMY = [pool(max_hosts=9)]


def replicas(of, one):
    """How many replicas a service should have."""
    return wanted(Draft(of, observe(NOTHING_NOTED, of, NOW), NOW), one)


def promoted(of, stable, candidate):
    """The fleet once the candidate is what its service is: its placements are the service's own."""
    hosts = {}
    for name, h in of.hosts.items():
        placements = tuple(replace(p, service=stable.key) for p in h.placements)
        reports = {id_: replace(r, service=stable.key) for id_, r in h.reports.items()}
        hosts[name] = replace(h, placements=placements, reports=reports)
    services = {key: s for key, s in of.services.items() if key != candidate.key}
    services[stable.key] = replace(stable, model=candidate.model)
    return Fleet(services, of.pools, hosts, of.gateways, of.seed)


def test_a_candidate_s_key_is_no_name_and_tells_whose_it_is():
    assert candidate_key("a/one", "r2") == "a/one~r2"
    assert NEXT.namespace == "a"


def test_a_share_of_replicas_is_rounded_up_and_of_none_is_none():
    assert [replicas_of_share(10, n) for n in (0, 1, 10, 11)] == [0, 1, 1, 2]
    assert replicas_of_share(0, 5) == 1
    assert replicas_of_share(100, 5) == 5


def test_a_candidate_wants_its_share_of_what_its_service_wants():
    several = replace(ONE, min_replicas=5, max_replicas=8)
    for share, count in ((0, 1), (20, 1), (21, 2), (100, 5)):
        one = beside(several, share, min_replicas=0)
        assert replicas(fleet(several, one, pools=ROOMY), one) == count
    few = beside(several, 100, min_replicas=0)
    assert replicas(fleet(several, replace(few, max_replicas=2), pools=ROOMY), few) == 5
    assert replicas(fleet(several, few, pools=ROOMY), replace(few, max_replicas=2)) == 2


def test_a_candidate_sleeps_while_its_service_does_whatever_the_spec_asks_for():
    for asleep in (ONE, replace(ONE, suspend=True, min_replicas=1)):
        assert replicas(fleet(asleep, NEXT), replace(NEXT, min_replicas=1)) == 0
    assert replicas(fleet(NEXT), NEXT) == 0, "its service is gone"


def test_a_candidate_gets_a_host_of_its_own_as_two_of_one_name_never_share_one():
    decided = decide(fleet(ONE, NEXT, host("h1", ONE)))
    (made,) = created(decided)
    assert [(p.service, p.model.revision) for p in made.placements] == [("a/one~r2", "r2")]
    assert made.placements[0].id.startswith("one-")
    assert "~" not in made.placements[0].id
    assert after(decided) is None, "the old one stays"


def test_a_long_name_makes_a_placement_that_is_a_dns_label():
    long = replace(ONE, key="a/" + "n" * 62 + "x", min_replicas=1)
    for made in created(decide(fleet(long, beside(long), pools=ROOMY))):
        for p in made.placements:
            assert len(p.id) <= 63
            assert set(p.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_a_candidate_is_looked_at_again_when_its_service_wakes_and_the_other_way_round():
    asleep = fleet(ONE, NEXT, pools=ROOMY)
    first = plan(asleep, observe(NOTHING_NOTED, asleep, NOW), NOW)
    awake = replace(asleep, gateways={"g": Gateway("g", "now", frozenset({"a/one"}))})
    decided = plan(awake, observe(first.seen.notes, awake, NOW), NOW, first)
    assert decided.looked_at == {"a/one", "a/one~r2"}
    assert {p.service for c in created(decided) for p in c.placements} == {"a/one", "a/one~r2"}


def test_a_candidate_that_rides_along_comes_back_as_soon_as_its_service_was_woken():
    one, two = riding(ONE, NEXT)
    asleep = fleet(ONE, NEXT, host("h1", one), host("h2", replace(two, id="next")))
    first = plan(asleep, observe(NOTHING_NOTED, asleep, NOW), NOW)
    woken = replace(
        asleep, hosts=asleep.hosts | {"h1": host("h1", replace(one, state=State.LOADED, epoch=2))}
    )
    decided = plan(woken, observe(first.seen.notes, woken, NOW), NOW, first)
    assert [p.state for p in after(decided, "h2")] == [State.LOADED]


def test_what_a_candidate_does_is_noted_of_its_service_though_nothing_else_has_changed():
    several = replace(ONE, max_replicas=8)
    one = beside(several, 50)
    quiet = [placement(several, id_=f"old-{n}") for n in (1, 2)]
    asked = placement(one, id_="next")
    hosts = [host(f"h{n}", p, reports=[reported(p, idle=True)]) for n, p in enumerate(quiet)]
    busy = fleet(several, one, *hosts, host("h9", asked, reports=[reported(asked, busy=1.9)]))
    first = observe(NOTHING_NOTED, busy, NOW)
    idle = host("h9", asked, reports=[reported(asked, idle=True)])
    calm = replace(busy, hosts=busy.hosts | {"h9": idle})
    later = observe(first, calm, NOW + 900)
    assert later.learned.habits["a/one"].silent_since is not None
    assert later.since.keys() - first.since.keys() == {("Enough 1", "a/one")}


def test_looks_at_a_service_and_its_candidate_one_at_a_time_come_to_an_end():
    of = fleet(ONE, NEXT)
    notes = observe(NOTHING_NOTED, of, NOW, most=1)
    for _ in range(2):
        notes = observe(notes, of, NOW, most=1)
    assert notes.seen is of


def test_a_service_whose_candidate_alone_is_asked_is_in_use():
    quiet, asked = placement(ONE), placement(NEXT, id_="next")
    of = fleet(
        ONE,
        NEXT,
        host("h1", quiet, reports=[reported(quiet, idle=True)]),
        host("h2", asked, reports=[reported(asked)]),
    )
    decided = decide(of, seen_at=NOW - 900)
    assert not decided.changes
    learned = observe(NOTHING_NOTED, of, NOW).learned
    assert learned.habits["a/one"].silent_since is None
    assert "a/one~r2" not in learned.habits


def test_a_candidate_that_is_still_loading_keeps_nobody_awake():
    quiet, loads = placement(ONE), placement(NEXT, id_="next")
    of = fleet(
        ONE,
        NEXT,
        host("h1", quiet, reports=[reported(quiet, idle=True)]),
        host("h2", loads, reports=[reported(loads, Report.LOADING)]),
    )
    decided = decide(of, seen_at=NOW - 900)
    assert [p.state for p in (*after(decided), *after(decided, "h2"))] == [State.DRAINING] * 2


def test_work_that_the_candidate_does_is_work_of_the_service():
    several = replace(ONE, max_replicas=8)
    one = beside(several, 50)
    busy = {"busy": 0.8}
    ours, theirs = placement(several), placement(one, id_="next")
    of = fleet(
        several,
        one,
        host("h1", ours, reports=[reported(ours, **busy)]),
        host("h2", theirs, reports=[reported(theirs, **busy)]),
        pools=ROOMY,
    )
    assert replicas(of, several) == 2, "as one of them alone would not do"
    assert replicas(of, one) == 1


def test_who_is_only_tried_comes_after_all_others_though_its_priority_is_high():
    high = replace(ONE, priority=9, min_replicas=1)
    other = replace(TWO, min_replicas=1)
    of = fleet(high, beside(high), other, host("h1", high, cordoned=True), host("h2"), host("h3"))
    of = replace(of, pools={"pool": pool(gib=1, max_hosts=3)})
    decided = decide(of)
    placed = {p.service for name in ("h2", "h3") for p in after(decided, name) or ()}
    assert placed == {"a/one", "a/two"}


def test_a_candidate_that_rides_along_is_the_first_to_go_and_keeps_no_host():
    lowest = replace(TWO, priority=-5)
    high = replace(ONE, priority=9)
    rider = beside(high)
    of = fleet(high, rider, lowest, host("h1", *riding(rider, lowest)))
    draft = Draft(of, observe(NOTHING_NOTED, of, NOW), NOW)
    candidate, other = of.hosts["h1"].placements
    assert standing(draft, candidate) < standing(draft, other)
    assert worth(draft, rider, NOW) == 0.0
    alone = fleet(high, rider, host("h1", *riding(rider)), pools=[pool(empty_after_seconds=None)])
    assert [c.host for c in decide(alone, seen_at=NOW - 900).changes] == ["h1"]


def test_a_candidate_s_drain_ends_though_a_gateway_is_silent_for_long():
    drains = placement(NEXT, state=State.DRAINING)
    of = fleet(ONE, NEXT, host("h1", drains))
    assert not decide(of, seen_at=NOW - 900).changes, "it is not turned back, to be drained again"
    fenced = fleet(ONE, NEXT, host("h1", drains), drained=[drains.claim])
    assert [p.state for p in after(decide(fenced))] == [State.RESIDENT]


def test_nothing_is_learned_from_a_candidate():
    one = placement(NEXT)
    of = fleet(ONE, NEXT, host("h1", one, reports=[reported(one, load_seconds=9.0)]))
    learned = learn(NOTHING_NOTED.learned, of, {}, NOW, [ONE.key, NEXT.key], ["h1"])
    assert learned.habits.keys() == {"a/one"}
    assert learned.pool_load_seconds("pool") != 9.0
    several = beside(replace(ONE, max_replicas=4))
    two = [host(f"h{n}", placement(several, id_=f"next-{n}")) for n in (1, 2)]
    assert not observe(NOTHING_NOTED, fleet(ONE, several, *two), NOW).replicas


def test_once_promoted_it_serves_without_a_load_and_the_old_one_goes():
    of = fleet(ONE, NEXT, host("h1", ONE), host("h2", placement(NEXT, id_="next")))
    decided = decide(promoted(of, ONE, NEXT))
    assert [p.state for p in after(decided)] == [State.DRAINING]
    assert after(decided, "h2") is None
    assert not created(decided)


def test_promoted_with_too_few_replicas_the_old_ones_stay_until_there_are_enough():
    several = replace(ONE, min_replicas=2, max_replicas=2)
    one = beside(several)
    old = [host(f"h{n}", placement(several, id_=f"old-{n}")) for n in (1, 2)]
    of = fleet(several, one, *old, host("h3", placement(one, id_="next")), pools=ROOMY)
    decided = decide(promoted(of, several, one))
    assert after(decided) is None
    assert after(decided, "h2") is None
    assert len(created(decided)) == 1


def test_in_a_full_pool_several_replicas_are_swapped_one_by_one():
    several = replace(ONE, min_replicas=2, max_replicas=2)
    one = beside(several)
    old = [placement(several, id_=f"old-{n}") for n in (1, 2)]
    full = [pool(gib=1, max_hosts=3)]
    fresh = placement(one, id_="next")
    hosts = [host("h1", old[0]), host("h2", old[1]), host("h3", fresh)]
    of = promoted(fleet(several, one, *hosts, pools=full), several, one)
    decided = decide(of)
    assert [p.state for p in after(decided)] == [State.DRAINING]
    assert after(decided, "h2") is None, "it goes on serving"
    loads = host("h3", fresh, reports=[reported(fresh, Report.LOADING)])
    waiting = promoted(fleet(several, one, hosts[0], hosts[1], loads, pools=full), several, one)
    assert not decide(waiting).changes, "nobody goes while the one before is not replaced"


def test_an_aborted_candidate_goes_though_its_service_has_all_it_wants():
    of = fleet(ONE, host("h1", ONE), host("h2", placement(replace(NEXT, key="a/one"), id_="next")))
    decided = decide(of)
    assert after(decided) is None
    (drains,) = after(decided, "h2")
    assert drains.state is State.DRAINING
    gone = fleet(ONE, host("h1", ONE), host("h2", drains), drained=[drains.claim])
    assert after(decide(gone), "h2") == ()


def test_an_unfit_revision_goes_at_once_though_nothing_else_is_ready_and_wakes_nobody():
    unfit = replace(ONE, unfit=frozenset({"r2"}))
    bad = placement(replace(NEXT, key="a/one"), id_="next")
    loads = placement(ONE)
    of = fleet(
        unfit, host("h1", loads, reports=[reported(loads, Report.LOADING)]), host("h2", bad), held=["a/one"]
    )
    assert [p.state for p in after(decide(of), "h2")] == [State.DRAINING]
    alone = fleet(unfit, host("h2", bad), held=["a/one"])
    assert wake(alone, observe(NOTHING_NOTED, alone, NOW), NOW), "a request waits, and not for this one"


def test_what_failed_as_another_revision_is_not_held_against_this_one():
    failed = placement(ONE)
    of = fleet(ONE, host("h1", failed, reports=[reported(failed, Report.FAILED)]), held=["a/one"])
    notes = observe(NOTHING_NOTED, of, NOW)
    assert notes.failure(ONE)
    back = replace(ONE, model=replace(ONE.model, revision="r0"))
    after_swap = fleet(back, host("h1"), held=["a/one"])
    assert not observe(notes, after_swap, NOW).failures
    assert [p.model.revision for p in after(decide(after_swap, notes=notes))] == ["r0"]


def test_a_roster_tells_who_follows_whom_as_long_as_it_does():
    roster = Roster()
    roster.services["a/one"] = ONE
    assert roster.fleet("s").pair("a/one") == ("a/one",)
    roster.services[NEXT.key] = NEXT
    assert roster.fleet("s").pair("a/one") == ("a/one", NEXT.key)
    assert roster.fleet("s").pair(NEXT.key) == (NEXT.key, "a/one")
    assert roster.fleet("s").candidates is roster.fleet("t").candidates
    del roster.services[NEXT.key]
    assert roster.fleet("s").pair(NEXT.key) == (NEXT.key,)


def test_memory_of_a_candidate_is_reserved_like_any_other():
    large = beside(ONE, memory_bytes=3 * GIB)
    (made,) = created(decide(fleet(ONE, large, host("h1", ONE))))
    assert made.placements[0].memory_bytes == 3 * GIB
    assert (
        decide(fleet(service("a/one"), replace(large, memory_bytes=9 * GIB), host("h1", ONE)))
        .services[large.key]
        .stalled
    )


def test_services_without_a_candidate_are_asked_for_none_when_all_hosts_are_seen_anew(monkeypatch):
    asked = []
    pair = Fleet.pair
    monkeypatch.setattr(Fleet, "pair", lambda self, key: asked.append(key) or pair(self, key))
    many = [service(f"a/s{number}") for number in range(200)]
    now = fleet(*many, host("h0", many[0]), *(host(f"h{number}", many[number]) for number in range(1, 200)))
    notes = NOTHING_NOTED
    while notes.seen is not now:
        notes = observe(notes, now, NOW, 10)
    assert len(asked) < 2 * len(many), "once each, and not once a slice"
