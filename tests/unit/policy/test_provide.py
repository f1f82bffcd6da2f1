"""Those that need a place at once: together they get the fewest hosts, and nobody more than there is."""

import random
from collections import Counter

import pytest

from bench.packing import HOST_BYTES, SHAPES, by_tenant, made, moving
from bench.packing import fleet as random_items
from lull.policy import NOTHING_NOTED, observe, plan
from lull.policy.pack import pack
from lull.policy.provide import GATHER_SECONDS, GATHERED

from .fleets import (
    GIB,
    NOW,
    Pod,
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
    telling,
)


def asking(sizes, **fields):
    """Return services that want a replica each, named by their size in GiB and a number."""
    return [service(f"a/m{gib}-{n}", gib=gib, min_replicas=1, **fields) for n, gib in enumerate(sizes)]


def on(hosts):
    """Return the sizes in GiB of what new hosts are given."""
    return sorted(sorted((p.memory_bytes // GIB for p in new.placements), reverse=True) for new in hosts)


def waits_for(told):
    """Return the reason why a service has to wait, if it has to."""
    return told.stalled and str(told.stalled[0])


def emptied(*models, busy):
    """Return a host for each model that should be emptied, and on which that is busy."""
    placed = [placement(model, id_=f"old-{n}") for n, model in enumerate(models)]
    return [telling(f"{p.id}-host", p, busy=busy, cordoned=True) for p in placed]


def slices(of, *, most=1, times=()):
    """Plan for a fleet a few services at once, first at these moments; nothing is written meanwhile."""
    told, times = None, iter(times)
    while told is None or told.seen.left:
        now = next(times, NOW) if told is None else next(times, told.next_at)
        told = plan(of, observe(NOTHING_NOTED, of, now), now, told, most)
        yield told


@pytest.mark.parametrize("shape", SHAPES)
def test_the_plan_needs_as_many_hosts_as_packing_by_itself(shape):
    items = random_items(shape, 60, random.Random(1))
    quiet = [replace(item, busy=0.0) for item in items]

    moved, anew = moving(items), replace(moving(items), hosts={})

    assert made(moved) == sum(len(pack(some, HOST_BYTES)) for some in by_tenant(items))
    assert made(anew) == sum(len(pack(some, HOST_BYTES)) for some in by_tenant(quiet))


def test_several_share_new_hosts_so_that_one_less_is_made_than_if_the_largest_chose_first():
    wanted = asking([5, 4, 4, 3, 2, 2])

    new = created(decide(fleet(*wanted, pools=[pool(gib=10, max_hosts=9)])))

    assert on(new) == [[4, 4, 2], [5, 3, 2]]


def test_models_that_move_together_are_not_put_where_they_would_wait_for_each_other():
    models = asking([1, 1, 1])
    there = fleet(*models, *emptied(*models, busy=0.5), pools=[pool(max_hosts=9)])

    assert on(created(decide(there))) == [[1], [1], [1]]


def test_a_busy_model_moves_to_the_host_that_is_not_busy():
    mover, works = asking([1]), service("a/works")
    there = fleet(*mover, works, telling("h1", works, busy=0.6), host("h2"), *emptied(*mover, busy=0.3))

    assert after(decide(there), "h1") is None
    assert len(after(decide(there), "h2")) == 1


def test_of_two_replicas_each_makes_its_own_host_as_busy_as_it_is():
    mover, works = asking([1]), service("a/works", min_replicas=2, max_replicas=2)
    hosts = [telling(f"h{n}", placement(works, id_=f"p{n}"), busy=busy) for n, busy in enumerate([0.7, 0.1])]

    assert len(after(decide(fleet(*mover, works, *hosts, *emptied(*mover, busy=0.3))), "h1")) == 2


def test_what_still_loads_counts_as_busy_as_it_was_elsewhere():
    first, second = asking([1, 1])
    coming = placement(first, id_="coming")
    starting = host("h1", coming, reports=[], pod=Pod.STARTING)
    there = fleet(first, second, starting, *emptied(first, second, busy=0.5), pools=[pool(max_hosts=9)])

    assert on(created(decide(there))) == [[1]]


def test_who_has_no_busy_share_takes_the_room_of_a_host_that_is_too_busy():
    quiet, works = asking([1]), service("a/works")

    decided = decide(fleet(*quiet, works, telling("h1", works, busy=0.95)))

    assert len(after(decided)) == 2


def test_a_sleeper_makes_no_host_busy():
    mover, sleeper = asking([1]), service("a/sleeper")
    hosts = telling("h1", *riding(sleeper), busy=0.8), host("h2")

    assert len(after(decide(fleet(*mover, sleeper, *hosts, *emptied(*mover, busy=0.3))))) == 2


def test_free_room_is_taken_before_a_host_is_made():
    works = service("a/works", gib=2)

    decided = decide(fleet(*asking([2, 3, 1]), works, host("h1", works), pools=[pool(max_hosts=9)]))

    assert sum(p.memory_bytes for p in after(decided)) == 4 * GIB
    assert on(created(decided)) == [[3, 1]]


@pytest.mark.parametrize(("pod", "goes"), [(Pod.RUNNING, "h2"), (Pod.STARTING, "h1")])
def test_the_fullest_host_is_filled_first_unless_it_still_starts(pod, goes):
    small, large = service("a/small"), service("a/large", gib=2)
    there = fleet(*asking([1]), small, large, host("h1", small), host("h2", large, pod=pod))

    assert [c.host for c in decide(there).changes] == [goes]


def test_no_host_is_made_for_whom_a_sleeper_can_make_room():
    sleeper = service("a/sleeper", gib=3)
    there = fleet(*asking([2, 2]), sleeper, host("h1", *riding(sleeper)))

    decided = decide(there)

    assert created(decided) == []
    assert after(decided) == ()


def test_small_ones_are_packed_with_large_ones_though_a_sleeper_could_make_room_for_them_alone():
    sleeper, works = service("a/sleeper", gib=2), service("a/works", gib=8)
    there = fleet(
        *asking([5, 4, 4, 3, 2, 2]),
        sleeper,
        works,
        host("h1", works, *riding(sleeper)),
        pools=[pool(gib=10, max_hosts=9)],
    )

    assert on(created(decide(there))) == [[4, 4, 2], [5, 3, 2]]


def test_no_host_is_made_for_whom_room_is_being_made_already():
    gone = placement(service("a/gone", gib=4))
    unloads = host("h1", reports=[reported(gone, Report.UNLOADING, memory_bytes=4 * GIB)])

    assert created(decide(fleet(*asking([2, 2]), unloads))) == []


def test_a_sleeper_on_a_host_that_takes_nobody_keeps_nobody_from_being_packed():
    sleeper = service("a/sleeper", gib=10)
    closed = host("h1", *riding(sleeper), cordoned=True)
    there = fleet(*asking([5, 4, 4, 3, 2, 2]), sleeper, closed, pools=[pool(gib=10, max_hosts=9)])

    assert on(created(decide(there))) == [[4, 4, 2], [5, 3, 2]]


def test_no_more_hosts_are_made_than_the_pool_may_have_and_the_others_wait():
    decided = decide(fleet(*asking([3, 3, 3]), pools=[pool(max_hosts=2)]))

    assert on(created(decided)) == [[3], [3]]
    assert (
        sum("all 2 hosts of pool pool are in use" in told.message for told in decided.services.values()) == 1
    )


def test_beside_a_host_that_does_not_start_none_is_made():
    stuck = host("h1", pod=Pod.STARTING, trouble="no node is left", capacity_bytes=GIB)

    assert created(decide(fleet(*asking([3, 3]), stuck, pools=[pool(max_hosts=9)]))) == []


def test_a_host_that_is_lost_does_not_count_towards_those_that_a_pool_may_have():
    gone = host("h1", pod=Pod.GONE), host("h2", pod=Pod.GONE)
    there = fleet(*asking([5, 4, 4, 3, 2, 2]), *gone, pools=[pool(gib=10, max_hosts=2)])

    assert on(created(decide(there))) == [[4, 4, 2], [5, 3, 2]]


def test_the_highest_priority_chooses_first_whatever_its_size():
    low, high = asking([3]), asking([1], priority=5)

    decided = decide(fleet(*low, *high, pools=[pool(gib=3, max_hosts=1)]))

    assert on(created(decided)) == [[1]]


def test_replicas_of_one_service_and_models_of_one_wire_name_get_hosts_of_their_own():
    twice = service("a/twice", min_replicas=2, max_replicas=2, name="same")
    other = service("b/other", min_replicas=1, name="same", code=False)

    new = created(decide(fleet(twice, other, pools=[pool(max_hosts=9)])))

    assert on(new) == [[1], [1], [1]]


def test_a_name_that_is_on_a_host_or_still_being_unloaded_keeps_it_closed():
    old = placement(service("b/old", name="m1-0"))

    for there in (
        host("h1", reports=[reported(old, Report.UNLOADING)]),
        host("h1", old, reports=[], pod=Pod.STARTING),
    ):
        decided = decide(fleet(*asking([1]), service("b/old", name="m1-0"), there))
        assert "a/m1-0" not in [p.service for p in after(decided) or ()]


@pytest.mark.parametrize(
    ("fields", "allows", "hosts"),
    [
        ({"code": False}, {"allow_code": True}, 1),
        ({"code": None}, {"allow_code": True}, 2),
        ({"code": None}, {}, 1),
        ({"code": True}, {"allow_code": True}, 2),
        ({"code": False}, {"namespaced": True}, 2),
        ({"code": False, "dedicated": True}, {}, 4),
    ],
)
def test_tenants_that_must_not_meet_get_hosts_of_their_own(fields, allows, hosts):
    wanted = [service(key, min_replicas=1, **fields) for key in ("a/one", "a/two", "b/three", "b/four")]

    assert len(created(decide(fleet(*wanted, pools=[pool(max_hosts=9, **allows)])))) == hosts


def test_tenants_that_share_their_hosts_take_no_room_beside_whom_one_of_them_must_not_meet():
    wanted = [service(key, min_replicas=1, code=False) for key in ("a/one", "b/two")]
    code = service("a/code", code=True)
    own = host("h1", code)

    decided = decide(fleet(*wanted, code, own, pools=[pool(max_hosts=9, allow_code=True)]))

    assert "b/two" not in [p.service for p in after(decided) or ()]
    assert "b/two" in [p.service for new in created(decided) for p in new.placements]


def test_who_can_be_turned_back_is_while_the_others_find_a_place():
    sleeper = service("a/sleeper", min_replicas=1)
    drains = host("h1", placement(sleeper, state=State.DRAINING))

    decided = decide(fleet(sleeper, *asking([1, 2]), drains))

    assert [p.state for p in after(decided)] == [State.LOADED] * 3


def test_who_cannot_be_placed_at_all_is_told_why_and_keeps_nobody_waiting():
    giant, lost_one = asking([9]), service("a/lost", min_replicas=1, pool="nowhere")

    decided = decide(fleet(*giant, lost_one, *asking([1, 2])))

    assert on(created(decided)) == [[2, 1]]
    assert waits_for(decided.services["a/m9-0"]) == "TooLarge"
    assert waits_for(decided.services["a/lost"]) == "NoSuchPool"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_plan_in_slices_needs_hardly_more_hosts_than_one_of_all_at_once(shape):
    there = moving(random_items(shape, 150, random.Random(1)))

    assert made(there, 40) <= made(there) + 1


def test_who_needs_a_host_waits_for_whom_to_share_it_with_as_long_as_others_are_left():
    first, second, last = slices(fleet(*asking([5, 4, 1]), pools=[pool(gib=10, max_hosts=9)]))

    assert not first.changes
    assert not second.changes
    assert on(created(last)) == [[5, 4, 1]]
    assert not first.looked_at, "what is said of it would be wrong in a moment"
    assert not first.services
    assert last.looked_at == {"a/m1-2", "a/m4-1", "a/m5-0"}
    assert not last.seen.kept_back


def test_free_room_and_whoever_is_suspended_meanwhile_wait_for_nobody():
    there = fleet(*asking([2, 3, 1]), host("h1"))
    _, first, *_ = slices(there)
    assert len(after(first)) == 1

    alone = replace(there, hosts={})
    first, *_ = slices(alone)
    assert first.seen.kept_back.keys() == {"a/m1-2"}
    calm = replace(there.services["a/m1-2"], suspend=True)
    last = plan(replace(alone, services={calm.key: calm}), NOTHING_NOTED, NOW, first)
    assert not last.changes
    assert last.services["a/m1-2"].state == "Suspended"


def test_nobody_waits_for_others_for_long():
    there = fleet(*asking([1, 1, 1, 1]), pools=[pool(gib=9)])
    times = [NOW, NOW + 0.9 * GATHER_SECONDS, NOW + GATHER_SECONDS]

    assert [len(told.changes) for told in slices(there, times=times)] == [0, 0, 1, 1]


def test_no_more_are_kept_back_than_can_be_packed_in_a_moment_those_first_that_leave_a_host_empty():
    there = fleet(*asking([4] * (GATHERED - 1) + [1, 1, 1]), pools=[pool(max_hosts=99)])
    first, last = slices(there, most=GATHERED + 1)

    assert on(created(first)) == [[4]]
    assert len(first.seen.kept_back) == GATHERED
    assert on(created(last)) == [[1, 1, 1]] + [[4]] * (GATHERED - 2)


def test_a_host_is_full_that_will_be_busy():
    busy, calm = asking([1] * GATHERED), asking([2] * GATHERED)
    there = fleet(
        *busy, *calm, service("b/last"), *emptied(*busy, busy=0.8), pools=[pool(gib=2, max_hosts=999)]
    )
    first, _ = slices(there, most=2 * GATHERED)

    assert first.seen.kept_back.keys() == {s.key for s in calm}


def test_tenants_who_share_no_hosts_have_as_many_kept_back_each():
    kinds = [service(f"{tenant}/{n}", gib=4, min_replicas=1) for tenant in "ab" for n in range(GATHERED)]
    there = fleet(*kinds, service("c/last"), pools=[pool(max_hosts=999, namespaced=True)])
    first, _ = slices(there, most=len(kinds))

    assert Counter(key[0] for key in first.seen.kept_back) == {"a": GATHERED // 2, "b": GATHERED // 2}


def test_a_host_that_is_left_for_who_is_kept_back_is_not_made_for_a_lower_priority():
    high, low = asking([1], priority=5), asking([3])
    there = fleet(*high, *low, service("a/z"), pools=[pool(gib=3, max_hosts=1)])
    first, last = slices(there, most=2)

    assert first.seen.kept_back.keys() == {"a/m1-0"}
    assert created(first) == []
    assert on(created(last)) == [[1]]
