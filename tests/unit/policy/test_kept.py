"""Hosts that may not be let go by choice, as a PodDisruptionBudget forbids it: all plans count on them."""

from dataclasses import replace

import pytest

from lull.policy import NOTHING_NOTED, DeleteHost, Report, State, Vacate, observe, plan
from lull.policy.consolidate import SETTLED_SECONDS

from .fleets import NOW, decide, fleet, host, placement, pool, reported, service

ONE, TWO, THREE = service("a/one"), service("a/two"), service("a/three", gib=4)
POOL = pool(empty_after_seconds=60.0)


def asleep(**fields):
    return host("h1", placement(ONE, state=State.RESIDENT), **fields)


def gone(of, **how):
    return [change.host for change in decide(of, **how).changes if isinstance(change, DeleteHost)]


@pytest.mark.parametrize("kept", [False, True])
def test_a_host_that_may_not_go_stays_and_still_counts_for_its_pool(kept):
    of = fleet(ONE, asleep(kept=kept), pools=[POOL])
    decided = decide(of, seen_at=NOW - 100)
    assert [change.host for change in decided.changes] == ([] if kept else ["h1"])
    assert decided.pools["pool"].hosts == (1 if kept else 0)


def test_who_sleeps_on_a_host_that_may_not_go_is_told_so():
    told = decide(fleet(ONE, asleep(kept=True), pools=[POOL]), seen_at=NOW - 100).services["a/one"]
    assert told.message.startswith("still in memory on h1, which may not be evicted")
    assert (told.next_action, told.next_at) == ("Wake", None)


@pytest.mark.parametrize("kept", [False, True])
def test_no_host_makes_way_that_may_not_go(kept):
    foreign = service("b/two")
    of = fleet(ONE, foreign, asleep(kept=kept), held=["b/two"], pools=[pool(max_hosts=1, namespaced=True)])
    assert gone(of) == ([] if kept else ["h1"])


def test_a_host_whose_memory_is_lost_goes_whatever_keeps_it():
    p = placement(ONE, state=State.RESIDENT)
    hung = host("h1", p, reports=[reported(p, Report.FAILED, reason="LoadTimeout")], kept=True)
    assert gone(fleet(ONE, hung, pools=[POOL])) == ["h1"]


def test_a_host_of_a_deleted_pool_goes_whatever_keeps_it():
    assert gone(fleet(ONE, asleep(kept=True), pools=[]), seen_at=NOW - 10_000) == ["h1"]


def test_another_host_is_emptied_where_the_first_may_not_go():
    hosts = [host("h1", placement(ONE)), host("h2", placement(TWO))]
    for first, chosen in ((hosts[0], "h1"), (replace(hosts[0], kept=True), "h2")):
        of = fleet(ONE, TWO, first, hosts[1])
        notes = observe(NOTHING_NOTED, of, NOW - SETTLED_SECONDS)
        changes = plan(of, notes, NOW).changes
        assert [change.host for change in changes if isinstance(change, Vacate)] == [chosen]
