"""Packing many at once: nothing over capacity, who must not meet is apart, and no host more than needed."""

import random
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from bench.packing import HOST_BYTES, SHAPES, first_fit, fleet, optimum
from lull.policy.pack import TARGET_BUSY, Item, Room, lower_bound, pack

from .fleets import GIB


def hosts(items, rooms=(), *, gib=10):
    """Pack, and return what each host is given as sets of ids, new hosts last."""
    loads = pack(items, gib * GIB, rooms)
    return sorted(((load.room, {item.id for item in load.items}) for load in loads), key=lambda h: not h[0])


def item(id_, gib, busy=0.0, **fields):
    return Item(id_, int(gib * GIB), busy, **fields)


ITEMS = st.lists(
    st.builds(
        lambda gib, busy, kin: (gib, busy, kin),
        st.sampled_from([0, 0.5, 1, 2.5, 3.3, 5, 6, 9, 10]),
        st.sampled_from([0.0, 0.05, 0.2, 0.4, 0.45, 0.8, 1.3]),
        st.sampled_from(["", "", "x", "y"]),
    ),
    max_size=40,
)
ROOMS = st.lists(
    st.tuples(
        st.sampled_from([-1, 0, 2, 5, 10]),
        st.sampled_from([-0.1, 0.0, 0.3, 0.8]),
        st.sampled_from([frozenset(), frozenset({"x"})]),
    ),
    max_size=4,
)


@settings(max_examples=200)
@given(ITEMS, ROOMS)
def test_everything_is_placed_once_within_memory_and_busy_share_and_apart_from_whom_it_must_not_meet(
    raw, free
):
    items = [Item(f"i{k}", int(gib * GIB), busy, kin) for k, (gib, busy, kin) in enumerate(raw)]
    rooms = {f"r{k}": Room(f"r{k}", gib * GIB, busy, kin) for k, (gib, busy, kin) in enumerate(free)}

    loads = pack(items, 10 * GIB, rooms.values(), looks=500)

    assert Counter(one.id for load in loads for one in load.items) == Counter(one.id for one in items)
    named = [load.room for load in loads if load.room]
    assert len(named) == len(set(named))
    for load in loads:
        room = rooms.get(load.room, Room("", 10 * GIB))
        assert sum(one.memory_bytes for one in load.items) <= room.memory_bytes
        assert sum(min(one.busy, TARGET_BUSY) for one in load.items) <= room.busy + 1e-6
        kin = [one.kin for one in load.items if one.kin] + sorted(room.kin)
        assert len(kin) == len(set(kin))
    if not rooms:
        assert len(loads) >= lower_bound(items, 10 * GIB)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "tenants"])
def test_never_more_hosts_than_first_fit_decreasing_and_near_the_lower_bound(shape):
    items = fleet(shape, 150, random.Random(7))

    packed = len(pack(items, HOST_BYTES, looks=20_000))

    assert packed <= len(first_fit(items))
    assert packed <= 1.1 * lower_bound(items, HOST_BYTES)


@pytest.mark.parametrize("shape", ["bimodal", "correlated", "halves and thirds"])
def test_small_fleets_get_the_optimum_where_there_is_time(shape):
    for seed in range(3):
        items = fleet(shape, 20, random.Random(seed))
        packed = len(pack(items, HOST_BYTES, looks=400_000))
        assert packed == optimum(items, packed, seconds=60.0)


def test_the_same_fleet_is_packed_the_same_way_whatever_its_order():
    items = fleet("bimodal", 60, random.Random(3))
    other = random.Random(4).sample(items, len(items))

    assert pack(items, HOST_BYTES) == pack(other, HOST_BYTES)


def test_a_host_that_first_fit_needs_is_saved_by_moving_others():
    # First fit decreasing puts 5 and 4 together, and has no room for the second pair of 3 then.
    items = [Item(f"i{k}", HOST_BYTES * tenths // 10) for k, tenths in enumerate([5, 4, 4, 3, 2, 2])]

    assert len(first_fit(items)) == 3
    assert len(pack(items, HOST_BYTES)) == 2


def test_free_room_is_filled_before_there_is_a_new_host():
    rooms = [Room("full", 0), Room("half", 5 * GIB)]

    assert hosts([item("a", 5), item("b", 2)], rooms) == [("half", {"a"}), ("", {"b"})]


def test_kin_of_what_is_on_a_host_goes_elsewhere():
    rooms = [Room("h", 10 * GIB, kin=frozenset({"x"}))]

    assert hosts([item("a", 1, kin="x"), item("b", 1, kin="y")], rooms) == [("h", {"b"}), ("", {"a"})]


def test_one_that_needs_more_than_the_busy_target_has_a_host_without_other_busy_ones():
    placed = hosts([item("busy", 1, 2.0), item("quiet", 1, 0.0), item("some", 1, 0.1)])

    assert sorted(sorted(ids) for _, ids in placed) in (
        [["busy", "quiet"], ["some"]],
        [["busy"], ["quiet", "some"]],
    )


def test_what_does_not_fit_an_empty_host_is_refused_by_name():
    with pytest.raises(ValueError, match="giant needs"):
        pack([item("giant", 11)], 10 * GIB)


def test_nothing_needs_nothing():
    assert pack([], GIB) == []
    assert lower_bound([], GIB) == 0


def test_without_work_allowed_it_is_still_a_packing():
    items = fleet("halves and thirds", 100, random.Random(1))

    assert len(pack(items, HOST_BYTES, looks=0)) >= len(pack(items, HOST_BYTES))


@pytest.mark.parametrize(
    ("sizes", "least"),
    [
        ([6, 6, 6], 3),  # above half: one each
        ([7, 7, 4, 4, 4], 4),  # no room for 4 beside 7, and two of them to a host: the sum alone says 3
        ([5, 5, 5, 5], 2),  # exactly halves pair up
        ([3, 3, 3, 3], 2),
        ([1] * 10, 1),
        ([0, 0], 0),
    ],
)
def test_the_lower_bound_sees_what_cannot_share(sizes, least):
    assert lower_bound([item(f"i{k}", gib) for k, gib in enumerate(sizes)], 10 * GIB) == least


def test_the_lower_bound_counts_busy_share_and_kin():
    assert lower_bound([item(f"i{k}", 1, 0.5) for k in range(3)], 10 * GIB) == 3
    assert lower_bound([item(f"i{k}", 1, kin="x") for k in range(3)], 10 * GIB) == 3


MEASURED = {
    "uniform": (42, 41),
    "bimodal": (33, 33),
    "correlated": (50, 48),
    "opposed": (28, 28),
    "opposed, few a host": (44, 42),
    "many small": (12, 12),
    "halves and thirds": (60, 60),
    "tenants": (38, 38),
}
"""Hosts for three fleets of 60 of each shape, and the lower bound on them: neither may get worse."""


@pytest.mark.parametrize("shape", MEASURED)
def test_no_more_hosts_are_needed_and_no_less_is_proven_than_was_measured(shape):
    fleets = [fleet(shape, 60, random.Random(seed)) for seed in range(3)]
    needed, proven = MEASURED[shape]

    assert sum(len(pack(items, HOST_BYTES)) for items in fleets) <= needed
    assert sum(lower_bound(items, HOST_BYTES) for items in fleets) >= proven


FILLED = {
    "uniform": (42, 63, 33),
    "bimodal": (35, 63, 26),
    "correlated": (51, 72, 42),
    "opposed": (30, 43, 21),
    "opposed, few a host": (44, 67, 36),
    "many small": (14, 18, 4),
    "halves and thirds": (62, 97, 54),
    "tenants": (41, 62, 30),
}
"""Hosts for the same fleets and for one of 300 with nothing moved, and new ones beside six that are there."""


@pytest.mark.parametrize("shape", FILLED)
def test_hosts_are_filled_no_worse_than_was_measured(shape):
    fleets = [fleet(shape, 60, random.Random(seed)) for seed in range(3)]
    few, many, beside = FILLED[shape]

    assert sum(len(pack(items, HOST_BYTES, looks=0)) for items in fleets) <= few
    assert len(pack(fleet(shape, 300, random.Random(9)), HOST_BYTES, looks=0)) <= many
    new = [
        load
        for k, items in enumerate(fleets)
        for load in pack(items, HOST_BYTES, half_full(k))
        if not load.room
    ]
    assert len(new) <= beside


def half_full(seed):
    """Six hosts that are there, of which some is taken."""
    dice = random.Random(seed)
    left = [(dice.choice([0.1, 0.3, 0.5, 0.8]), dice.choice([0.1, 0.4, 0.7, 1.0])) for _ in range(6)]
    return [Room(f"r{k}", int(HOST_BYTES * m), TARGET_BUSY * b) for k, (m, b) in enumerate(left)]


def test_kin_that_would_fill_a_host_best_as_a_pair_are_kept_apart():
    sizes, kin = [5, 4, 4, 3, 2, 2], ["", "", "", "x", "x", "x"]
    items = [item(f"i{k}", gib, kin=of) for k, (gib, of) in enumerate(zip(sizes, kin, strict=True))]

    placed = pack(items, 10 * GIB)

    assert len(placed) == 3
    assert all(len([one for one in load.items if one.kin]) <= 1 for load in placed)


def test_a_host_that_is_there_is_filled_with_what_fits_its_busy_share():
    calm = Room("calm", 10 * GIB, 0.1)

    assert hosts([item("a", 6, 0.5), item("b", 4, 0.1)], [calm]) == [("calm", {"b"}), ("", {"a"})]
