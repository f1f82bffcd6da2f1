"""Just enough is enough: what fits exactly fits, what costs exactly what it is worth stays."""

import pytest

from lull.policy import NOTHING_NOTED, Notes, Vacate, wake
from lull.policy.changes import Draft
from lull.policy.expect import expected_wake
from lull.policy.habits import BINS, Crowd, Habit
from lull.policy.learning import Learned
from lull.policy.load import enough, in_words, more
from lull.policy.pack import Item, pack
from lull.policy.prices import Price
from lull.policy.verdict import Bar, Sample, Verdict, tail, verdict

from .fleets import (
    GIB,
    NOW,
    ONE,
    TWO,
    Report,
    after,
    created,
    decide,
    deleted,
    fleet,
    host,
    placement,
    pool,
    replace,
    reported,
    riding,
    service,
)

HELD, REST, RIDER = service("a/held", gib=2), service("a/rest", gib=2), service("a/rider", gib=2)
ONE_HOST = {"pools": [pool(max_hosts=1)]}


def worth(of, *, price=1000.0, **hazards):
    """Notes of services that are asked for at such rates, on hosts that were there for long."""
    habits = {
        f"a/{name}": Habit(silent_since=NOW - 100, hazards=(rate,) * BINS) for name, rate in hazards.items()
    }
    learned = Learned(habits, {"pool": Crowd()}, {("pool", 5): Price(price)})
    since = {(kind, name): NOW - 9000 for kind in ("Kept", "Opened") for name in of.hosts}
    return Notes(since | {("Empty", name): NOW - 8000 for name in of.hosts}, learned=learned)


# ── Memory ──


@pytest.mark.parametrize("fields", [{"held": ["a/held"]}, {}], ids=["woken", "provided"])
def test_what_takes_all_that_is_left_of_a_host_goes_there(fields):
    kept = HELD if fields else replace(HELD, min_replicas=1)

    decided = decide(fleet(kept, REST, host("h1", REST), **fields))

    assert [p.service for p in after(decided) or ()] == ["a/rest", "a/held"]
    assert not created(decided)


def test_what_needs_all_that_is_being_unloaded_waits_for_that():
    gone = reported(placement(RIDER), Report.UNLOADING, memory_bytes=2 * GIB)
    of = fleet(HELD, REST, host("h1", REST, reports=[gone]), held=["a/held"])

    assert not wake(of, NOTHING_NOTED, NOW)


def test_no_host_is_made_for_whom_all_that_sleeps_is_just_enough():
    kept = replace(HELD, min_replicas=1)
    decided = decide(fleet(kept, REST, RIDER, host("h1", REST, *riding(RIDER))))

    assert not created(decided)
    assert [p.service for p in after(decided)] == ["a/rest"]


def test_for_whom_one_of_several_is_too_large_for_all_that_sleeps_a_host_is_made_for_them_all():
    large, small = (service(f"a/{gib}", gib=gib, min_replicas=1) for gib in (3, 1))
    (made,) = created(decide(fleet(large, small, REST, RIDER, host("h1", REST, *riding(RIDER)))))

    assert {p.service for p in made.placements} == {"a/3", "a/1"}


def test_a_rider_of_the_same_name_goes_though_all_that_sleeps_is_just_enough():
    namesake, held = service("b/held", gib=2), service("a/held", gib=2)
    of = fleet(namesake, REST, held, host("h1", REST, *riding(namesake)), held=["a/held"], **ONE_HOST)

    assert [p.service for p in after(decide(of))] == ["a/rest"]


def test_what_is_as_large_as_a_host_is_not_too_large():
    (made,) = created(decide(fleet(service(gib=4), held=["a/one"])))

    assert [p.memory_bytes for p in made.placements] == [4 * GIB]


def test_a_vacated_host_is_used_again_for_whom_it_just_has_the_room():
    emptied = host("h1", REST, cordoned=True, vacated=True)
    big = service("a/big", gib=4)
    of = fleet(HELD, REST, big, emptied, host("h2", big), held=["a/held"])

    assert [c.host for c in decide(of, seen_at=NOW - 10).changes if isinstance(c, Vacate)] == ["h1"]


def test_what_is_loaded_ahead_may_fill_a_host():
    of = fleet(RIDER, REST, host("h1", REST), **ONE_HOST)

    assert [p.service for p in after(decide(of, notes=worth(of, rider=0.001)))] == ["a/rest", "a/rider"]


def test_a_host_is_made_ahead_for_who_fills_it():
    of = fleet(service(gib=4))

    assert len(created(decide(of, notes=worth(of, one=0.002)))) == 1


def test_a_host_is_packed_to_its_last_byte():
    items = [Item(f"i{k}", gib * GIB) for k, gib in enumerate([5, 4, 4, 3, 2, 2])]

    assert len(pack(items, 10 * GIB, looks=0)) == 2, "the pair that fills a host best, before any is moved"


def test_a_host_is_packed_to_the_last_of_its_busy_share():
    items = [Item(f"i{k}", GIB, tenths / 10 * 0.8) for k, tenths in enumerate([5, 4, 4, 3, 2, 2])]

    assert len(pack(items, 10 * GIB, looks=0)) == 2


# ── Worth ──


@pytest.mark.parametrize(("rate", "gone"), [(0.001, []), (0.000999, ["h1"])])
def test_a_host_stays_that_is_worth_what_it_costs(rate, gone):
    of = fleet(ONE, host("h1", *riding(ONE)))

    assert deleted(decide(of, notes=worth(of, one=rate))) == gone


@pytest.mark.parametrize(("rate", "made"), [(0.00075, 1), (0.000749, 0)])
def test_a_host_is_made_for_those_that_are_worth_half_as_much_again_as_it_costs(rate, made):
    of = fleet(ONE, TWO)

    assert len(created(decide(of, notes=worth(of, one=rate, two=rate)))) == made


@pytest.mark.parametrize(("rate", "moved"), [(0.0005, []), (0.000499, ["h1"])])
def test_a_move_may_lose_less_than_half_of_what_a_host_costs(rate, moved):
    rider, other = service("a/rider", gib=3), service("a/other", gib=3)
    of = fleet(ONE, rider, other, host("h1", ONE, *riding(rider)), host("h2", other, kept=True))
    changes = decide(of, notes=worth(of, rider=rate)).changes

    assert [c.host for c in changes if isinstance(c, Vacate)] == moved


# ── Hosts of a pool ──


@pytest.mark.parametrize(("least", "gone"), [(1, ["h1"]), (2, [])])
def test_so_many_hosts_stay_as_a_pool_has_at_least(least, gone):
    of = fleet(host("h1"), host("h2", ONE), ONE, pools=[pool(min_hosts=least, max_hosts=3)])

    assert deleted(decide(of, seen_at=NOW - 9000)) == gone


def test_a_host_is_emptied_though_no_more_stay_than_the_pool_has_at_least():
    of = fleet(ONE, TWO, host("h1", ONE), host("h2", TWO), pools=[pool(min_hosts=1)])
    changes = decide(of, seen_at=NOW - 9000).changes

    assert [c.host for c in changes if isinstance(c, Vacate)] == ["h1"]


@pytest.mark.parametrize(("least", "at"), [(0, NOW + 500), (1, None)])
def test_who_sleeps_on_one_of_the_hosts_that_are_kept_is_told_no_end(least, at):
    pools = [pool(min_hosts=least, empty_after_seconds=600.0)]
    of = fleet(ONE, host("h1", *riding(ONE)), pools=pools)

    assert decide(of, seen_at=NOW - 100).services["a/one"].next_at == at


# ── Work ──


def doing(busy, queue=0.0, latency=None):
    return reported(placement(ONE), busy=busy, queue_seconds=queue, latency_seconds=latency)


SCALES = service(max_replicas=9)
QUICK = replace(SCALES, latency_seconds=0.2)


@pytest.mark.parametrize(
    ("asked", "reports", "needed"),
    [
        (SCALES, [doing(0.8)], 1),
        (SCALES, [doing(0.85)], 2),
        (SCALES, [doing(0.75, queue=0.5)], 1),
        (SCALES, [doing(0.75, queue=0.51)], 2),
        (SCALES, [doing(0.7, queue=0.51)], 1),
        (SCALES, [doing(0.9, queue=0.51), doing(0.9, queue=0.51)], 4),
        (SCALES, [doing(0.9, queue=0.51), doing(0.85, queue=0.51)], 3),
        (QUICK, [doing(0.45, latency=0.2)], 1),
        (QUICK, [doing(0.45, latency=0.21)], 2),
        (QUICK, [doing(0.4, latency=0.21)], 1),
        (SCALES, [], 0),
    ],
)
def test_so_many_replicas_are_needed_and_one_more_only_beyond_the_limit(asked, reports, needed):
    assert more(asked, reports) == needed


@pytest.mark.parametrize(
    ("asked", "shares", "stay"),
    [(SCALES, [0.65], 1), (SCALES, [0.7], 2), (QUICK, [0.35], 1), (QUICK, [0.4], 2), (SCALES, [], 1)],
)
def test_so_many_replicas_are_enough_though_shares_were_rounded_down(asked, shares, stay):
    assert enough(asked, [doing(busy) for busy in shares]) == stay


def test_one_replica_whose_requests_wait_is_no_wait_of_all():
    for calm in ([], [doing(0.5, queue=9.0), doing(0.5)]):
        assert "of which each takes" in in_words(SCALES, calm)
    assert "requests wait" in in_words(SCALES, [doing(0.5, queue=9.0)])
    assert "latency is above 200ms" in in_words(QUICK, [doing(0.5, latency=9.0)])


# ── A new revision ──


@pytest.mark.parametrize(
    ("new", "found"),
    [
        (Sample(100, 1), Verdict.GOOD),
        (Sample(100, 2), Verdict.UNKNOWN),
        (Sample(50), Verdict.GOOD),
        (Sample(49), Verdict.UNKNOWN),
        (Sample(100, compared=100, differed=5), Verdict.GOOD),
        (Sample(100, compared=100, differed=6), Verdict.UNKNOWN),
    ],
)
def test_a_revision_just_at_its_bar_is_good(new, found):
    assert verdict(Sample(1000), new, Bar())[0] is found


def test_what_fails_of_the_old_revision_is_allowed_the_new_one_and_no_more():
    found = [verdict(Sample(1000, 100), Sample(200, failed), Bar())[0] for failed in (22, 23)]

    assert found == [Verdict.GOOD, Verdict.UNKNOWN]


def test_what_a_wide_bar_allows_is_never_bad_however_much_was_seen():
    bar = Bar(error_percent=20, disagree_percent=20)

    assert verdict(Sample(10_000), Sample(1000, 200), bar)[0] is Verdict.GOOD
    assert verdict(Sample(10_000), Sample(1000, compared=1000, differed=200), bar)[0] is Verdict.GOOD


def test_answers_to_shadowed_requests_are_enough_from_the_very_number_on():
    seen = [verdict(Sample(), Sample(compared=n), Bar(), shadow=True)[0] for n in (49, 50)]

    assert seen == [Verdict.UNKNOWN, Verdict.GOOD]


def test_as_much_as_is_to_be_expected_is_no_sign():
    assert tail(5, 100, 0.05) == 1.0


# ── A wake ──


def test_a_wake_of_what_is_in_memory_is_hardly_noticed_and_one_of_what_is_not_takes_its_load():
    asleep, gone = fleet(ONE, host("h1", *riding(ONE))), fleet(ONE, host("h1"))
    short, long = (expected_wake(Draft(of, NOTHING_NOTED, NOW), ONE).seconds for of in (asleep, gone))

    assert 0 < short < 0.1
    assert 20 < long < 20.5
