"""What a plan looks at, and the indices that it looks things up in."""

import hypothesis.strategies as st
from hypothesis import given

from lull.policy import NOTHING_NOTED, Fleet, observe, over_again, plan
from lull.policy.habits import Habit
from lull.policy.learning import Learned
from lull.policy.roster import Roster
from unit.policy.fleets import GIB, NOW, Report, fleet, host, placement, pool, replace, reported, service

NAMES = st.sampled_from(["h1", "h2", "h3"])
POOLS = st.sampled_from(["pool", "other"])
SERVICES = {s.key: s for s in (service("a/one"), service("a/two"), service("b/three"))}


@given(
    st.lists(st.tuples(NAMES, st.one_of(st.none(), st.tuples(POOLS, st.sets(st.sampled_from([*SERVICES]))))))
)
def test_a_roster_finds_what_a_search_through_all_hosts_finds(history):
    roster = Roster()
    for name, shown in history:
        if shown is None:
            roster.hide(name)
        else:
            of, keys = shown
            roster.show(host(name, *(placement(SERVICES[key]) for key in sorted(keys)), pool=of))
        indexed = roster.fleet("seed")
        searched = Fleet({}, {}, roster.hosts, {})
        for key in SERVICES:
            assert {h.name for h, _ in indexed.of(key)} == {h.name for h, _ in searched.of(key)}
        for of in ("pool", "other"):
            assert set(indexed.index.pools.get(of, ())) == set(searched.index.pools.get(of, ()))
        assert indexed.index.homes.keys() == searched.index.homes.keys()
        assert indexed.index.pools.keys() == searched.index.pools.keys()


def test_a_fleet_stays_as_it_was_whatever_the_roster_hears():
    roster = Roster()
    roster.show(host("h1", placement(SERVICES["a/one"])))
    before = roster.fleet("seed")
    roster.hide("h1")
    assert [h.name for h, _ in before.of("a/one")] == ["h1"]
    assert not roster.fleet("seed").hosts


def test_what_has_not_changed_is_shown_as_the_same_object_and_what_has_as_another():
    roster = Roster()
    roster.services["a/one"] = SERVICES["a/one"]
    roster.show(host("h1", placement(SERVICES["a/one"])))
    before = roster.fleet("one")
    assert roster.fleet("two").services is before.services
    assert roster.fleet("two").index.homes is before.index.homes
    roster.services["a/one"] = replace(SERVICES["a/one"], suspend=True)
    after = roster.fleet("three")
    assert after.services is not before.services
    assert after.hosts is before.hosts
    assert not before.services["a/one"].suspend
    del roster.services["a/one"]
    assert after.services
    assert not roster.fleet("four").services


def test_a_host_that_says_the_same_again_stays_the_same_object():
    roster = Roster()
    roster.show(host("h1", placement(SERVICES["a/one"])))
    known = roster.hosts["h1"]
    roster.show(replace(known))
    assert roster.hosts["h1"] is known
    roster.show(replace(known, trouble="no node"))
    assert roster.hosts["h1"].trouble


def of_three():
    hosts = [host(f"h{n}", placement(one)) for n, one in enumerate(SERVICES.values())]
    return fleet(*SERVICES.values(), *hosts, pools=[pool(max_hosts=9)])


def test_where_nothing_has_changed_nothing_is_looked_at():
    of = of_three()
    first = plan(of, observe(NOTHING_NOTED, of, NOW), NOW)
    again = plan(of, observe(first.seen.notes, of, NOW), NOW, first)
    assert first.looked_at == SERVICES.keys()
    assert not again.looked_at
    assert again.services == first.services


def test_all_is_looked_at_again_after_a_look_over():
    of = of_three()
    first = plan(of, observe(NOTHING_NOTED, of, NOW), NOW)
    assert plan(of, first.seen.notes, NOW, over_again(first)).looked_at == SERVICES.keys()


def test_who_is_on_a_host_that_has_changed_is_looked_at_and_nobody_else():
    before = of_three()
    first = plan(before, observe(NOTHING_NOTED, before, NOW), NOW)
    after = replace(before, hosts=before.hosts | {"h1": replace(before.hosts["h1"], trouble="no node")})
    assert plan(after, observe(first.seen.notes, after, NOW), NOW, first).looked_at == {"a/two"}


def test_who_was_on_a_host_that_is_gone_is_looked_at_and_nobody_else():
    before = of_three()
    first = plan(before, observe(NOTHING_NOTED, before, NOW), NOW)
    after = replace(before, hosts={name: h for name, h in before.hosts.items() if name != "h1"})
    second = plan(after, observe(first.seen.notes, after, NOW), NOW, first)
    assert second.looked_at == {"a/two"}
    assert second.services["a/two"].state == "Asleep"


def test_a_slice_begins_with_who_waits_and_the_next_ones_go_on_until_nobody_is_left():
    of = replace(of_three(), hosts={}, gateways=fleet(held=["b/three"]).gateways)
    notes = observe(NOTHING_NOTED, of, NOW)
    slices = [plan(of, notes, NOW, most=1)]
    while slices[-1].seen.left:
        assert slices[-1].next_at == NOW
        slices.append(plan(of, notes, NOW, slices[-1], most=1))
    assert slices[0].looked_at == {"b/three"}
    assert set().union(*(one.looked_at for one in slices)) == SERVICES.keys()
    assert slices[-1].services.keys() == SERVICES.keys()


def test_a_slice_counts_the_services_that_a_host_brings():
    of = fleet(
        *SERVICES.values(), host("h1", *(placement(s) for s in SERVICES.values())), pools=[pool(gib=9)]
    )
    assert of.hosts["h1"].staying_bytes == 3 * GIB
    first = plan(of, observe(NOTHING_NOTED, of, NOW), NOW, most=2)
    assert first.looked_at == SERVICES.keys(), "one subject at least, or it would never end"
    assert not first.seen.left, "who was looked at with the host is not left"


def test_a_host_is_left_unless_all_that_is_on_it_was_looked_at_with_who_waits():
    one, two, _ = SERVICES.values()
    for on_it, left in (([one], ()), ([one, two], ("h1",))):
        of = fleet(*on_it, host("h1", *on_it), held=["a/one"])
        assert plan(of, observe(NOTHING_NOTED, of, NOW), NOW, most=1).seen.left == left


def test_what_is_gone_is_told_of_once_and_no_more():
    before = of_three()
    first = plan(before, observe(NOTHING_NOTED, before, NOW), NOW)
    left = {key: s for key, s in SERVICES.items() if key != "a/one"}
    after = replace(before, services=left)
    second = plan(after, observe(first.seen.notes, after, NOW), NOW, first)
    assert "a/one" in second.looked_at
    assert second.services.keys() == left.keys()


def test_a_look_over_in_slices_knows_who_waits_for_room():
    waits, ahead = service("a/waits", gib=3, min_replicas=1), service("b/ahead")
    gone = placement(service("a/gone", gib=2))
    unloads = reported(gone, Report.UNLOADING, memory_bytes=2 * GIB)
    of = fleet(waits, ahead, host("h1", reports=[unloads]), pools=[pool(gib=3, max_hosts=1)])
    sure = Learned({"b/ahead": Habit(silent_since=NOW - 60)})
    notes = observe(replace(NOTHING_NOTED, learned=sure), of, NOW)
    decided = over_again(plan(of, notes, NOW))
    while decided.seen.left:
        decided = plan(of, notes, NOW, decided, most=1)
        assert not decided.changes


def test_a_size_that_is_told_again_is_no_news():
    of, told = of_three(), int("5000000000")
    of = replace(of, hosts={**of.hosts, "h0": replace(of.hosts["h0"], capacity_bytes=told)})
    first = plan(of, observe(NOTHING_NOTED, of, NOW), NOW)
    same = replace(of.hosts["h0"], capacity_bytes=int("5000000000"))
    again = replace(of, hosts={**of.hosts, "h0": same})
    assert plan(again, observe(first.seen.notes, again, NOW), NOW, first).looked_at == {"a/one"}
