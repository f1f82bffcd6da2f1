"""Guards that are easily lost: each test fails when a word of one condition goes."""

import pytest

from lull.policy import NOTHING_NOTED, CreateHost, CreatePod, Failure, Notes, Pod, Report, State, Vacate, wake
from lull.policy.fleet import Window

from .fleets import GIB, NOW, after, created, decide, fleet, host, placement, pool, replace, reported, service


def test_an_old_revision_that_fails_does_not_hold_up_the_new_one():
    old, new = service("a/one", revision="r1"), service("a/one", revision="r2")
    failed = placement(old)
    there = fleet(new, host("h1", failed, reports=[reported(failed, Report.FAILED)]), held=["a/one"])

    (change,) = wake(there, NOTHING_NOTED, NOW)

    assert "r2" in [p.model.revision for p in getattr(change, "placements", getattr(change, "after", ()))]


def test_who_sleeps_is_woken_for_its_window_no_earlier_than_a_wake_takes():
    sleeper = service(schedule=(Window("0 * * * *", "UTC", 600.0),))
    opens = 3600.0

    assert created(decide(fleet(sleeper), now=opens - 80)) == []
    assert len(created(decide(fleet(sleeper), now=opens - 60))) == 1


def test_requests_for_who_is_gone_keep_nobody_from_planning():
    one, two = service("a/one"), service("a/two")
    hosts = host("h1", placement(one)), host("h2", placement(two))

    assert decide(fleet(one, two, *hosts, held=["a/gone"], pools=[pool()])).services.keys() == {
        "a/one",
        "a/two",
    }


def test_of_two_hosts_the_one_is_raided_whose_most_important_rider_is_the_less_important():
    held = service("a/held", gib=4)
    riders = {
        name: service(f"a/{name}", gib=2, priority=priority)
        for name, priority in (("low", -1), ("high", 5), ("plain", 0), ("usual", 0))
    }
    hosts = (
        host("h1", *(placement(riders[name], state=State.RESIDENT) for name in ("low", "high"))),
        host("h2", *(placement(riders[name], state=State.RESIDENT) for name in ("plain", "usual"))),
    )

    decided = decide(fleet(held, *riders.values(), *hosts, held=["a/held"]))

    assert after(decided, "h1") is None
    assert after(decided, "h2") == ()


def test_a_host_of_a_pool_that_is_gone_gets_no_pod():
    changes = decide(fleet(host("h1", pod=Pod.MISSING), pools=[])).changes

    assert not any(isinstance(change, CreatePod) for change in changes)


def test_a_drain_from_a_host_that_is_emptied_is_never_given_up():
    one = service("a/one")
    leaving = host("h1", placement(one, state=State.DRAINING), cordoned=True)
    there = fleet(one, leaving, host("h2", placement(one, id_="there")))

    assert after(decide(there, seen_at=NOW - 400)) is None


@pytest.mark.parametrize(("busy", "emptied"), [(0.1, 1), (0.5, 0)])
def test_two_busy_models_are_not_both_counted_on_to_fit_one_host(busy, emptied):
    one, two, three = (service(f"a/{name}", gib=1) for name in ("one", "two", "three"))
    pair = [placement(one), placement(two)]
    busy_pair = host("h1", *pair, reports=[reported(p, busy=busy) for p in pair])
    there = fleet(one, two, three, busy_pair, host("h2", placement(three)))

    changes = decide(there, seen_at=NOW - 2000).changes

    assert sum(isinstance(change, Vacate) for change in changes) == emptied


def test_nobody_is_woken_or_placed_on_a_host_that_should_be_emptied_or_whose_load_hangs():
    one, culprit = service("a/one"), service("a/culprit")
    hung = placement(culprit)
    closed = (
        host("h1", cordoned=True),
        host("h2", hung, reports=[reported(hung, Report.FAILED, reason="LoadTimeout")]),
    )
    held = fleet(one, culprit, *closed, held=["a/one"], pools=[pool(max_hosts=9)])
    wanted = fleet(replace(one, min_replicas=1), culprit, *closed, pools=[pool(max_hosts=9)])

    for changes in (wake(held, NOTHING_NOTED, NOW), decide(wanted).changes):
        given = [p for c in changes for p in getattr(c, "after", ()) if p.service == "a/one"]
        assert given == []
        assert any(isinstance(c, CreateHost) for c in changes)


def test_who_is_in_use_is_never_unloaded_for_another():
    works, sleeper, held = (service(f"a/{name}", gib=2) for name in ("works", "sleeper", "held"))
    there = host("h1", placement(works), placement(sleeper, state=State.RESIDENT))

    (change,) = wake(fleet(works, sleeper, held, there, held=["a/held"]), NOTHING_NOTED, NOW)

    assert [p.service for p in change.after] == ["a/works"]
    held = replace(held, memory_bytes=3 * GIB)
    (change,) = wake(fleet(works, sleeper, held, there, held=["a/held"]), NOTHING_NOTED, NOW)
    assert isinstance(change, CreateHost)


def test_no_replica_drains_before_as_many_others_are_ready_as_are_wanted():
    one = service("a/one", min_replicas=1, max_replicas=2)
    leaving, coming = placement(one, id_="leaving"), placement(one, id_="coming")
    hosts = host("h1", leaving, cordoned=True), host("h2", coming, reports=[reported(coming, Report.LOADING)])

    assert after(decide(fleet(one, *hosts))) is None
    ready = host("h2", coming)
    (drained,) = after(decide(fleet(one, hosts[0], ready)))
    assert drained.state is State.DRAINING


def test_a_wire_name_that_still_unloads_keeps_a_wake_away():
    held, old = service("a/held", name="same"), service("b/old", name="same")
    unloading = host("h1", reports=[reported(placement(old), Report.UNLOADING)])

    changes = wake(fleet(held, old, unloading, held=["a/held"]), NOTHING_NOTED, NOW)

    assert all(isinstance(change, CreateHost) or change.after == () for change in changes)


def test_a_load_that_hangs_and_was_counted_keeps_nobody_from_another_try():
    one = service("a/one")
    hung = placement(one)
    there = host("h1", hung, reports=[reported(hung, Report.FAILED, reason="LoadTimeout")])
    again = Notes(failures={"a/one": Failure(1, "LoadTimeout", "it hung", NOW - 6, 1, frozenset({hung.id}))})

    (change,) = wake(fleet(one, there, held=["a/one"]), again, NOW)

    assert isinstance(change, CreateHost)
