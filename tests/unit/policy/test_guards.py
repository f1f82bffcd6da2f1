"""Guards that are easily lost: each test fails when a word of one condition goes."""

import pytest

from lull.policy import (
    NOTHING_NOTED,
    CreateHost,
    CreatePod,
    Failure,
    Notes,
    Pod,
    Report,
    State,
    Vacate,
    observe,
    plan,
    wake,
)
from lull.policy.changes import Draft
from lull.policy.demand import opening_hours
from lull.policy.expect import RESIDENT, expected_wake
from lull.policy.fleet import Gateway, Window
from lull.policy.habits import Habit
from lull.policy.learning import Learned
from lull.policy.notes import LONGEST_RETRY_SECONDS
from lull.policy.packing import HOST_OVERHEAD_BYTES, charged_bytes, room_bytes
from lull.policy.queue import wait_seconds
from lull.policy.schedule import hours
from lull.policy.scope import Subjects
from lull.policy.worth import kept_worth

from .fleets import (
    GIB,
    NOW,
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
    telling,
)


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
    again = Notes(
        failures={"a/one": Failure(1, "r1", "LoadTimeout", "it hung", NOW - 6, 1, frozenset({hung.id}))}
    )

    (change,) = wake(fleet(one, there, held=["a/one"]), again, NOW)

    assert isinstance(change, CreateHost)


def test_a_window_is_open_from_its_very_minute_on():
    at_one = service(schedule=(Window("1 * * * *", "UTC", 600.0),))

    assert [hours(at_one, now, 0.0).replicas for now in (3659.0, 3660.0)] == [0, 1]


def test_subjects_come_once_each_in_their_order_with_those_that_come_in_ahead():
    subjects, seen = Subjects(["b", "d"]), list[str]()
    for name in subjects:
        seen.append(name)
        subjects.names |= {"a", "c"}

    assert seen == ["b", "c", "d"]


def test_a_gateway_that_gave_a_sign_of_life_is_not_looked_at_for_its_old_one():
    one = service()
    first = fleet(one, host("h1", one), held=["a/one"])
    then = replace(first, gateways={"g": Gateway("g", "later", frozenset(["a/one"]))})
    notes = observe(NOTHING_NOTED, first, NOW)
    last = plan(first, notes, NOW)
    notes = observe(notes, then, NOW + 5)

    assert plan(then, notes, NOW + 5, last).next_at == plan(then, notes, NOW + 5).next_at > last.next_at


def test_a_drain_is_looked_at_until_the_gateways_have_let_go():
    one = service()
    drains = placement(one, state=State.DRAINING)
    holds = fleet(one, host("h1", drains))
    notes = observe(NOTHING_NOTED, holds, NOW)
    last = plan(holds, notes, NOW)
    for moment in (1, 2):
        last = plan(holds, observe(notes, holds, NOW + moment), NOW + moment, last)
        assert not last.changes
    let_go = replace(holds, gateways=fleet(drained=[drains.claim]).gateways)

    (rides,) = after(plan(let_go, observe(notes, let_go, NOW + 3), NOW + 3, last))
    assert rides.state is State.RESIDENT


def test_an_old_revision_in_memory_makes_no_wake_of_the_new_one_a_short_one():
    old, new = service(revision="old"), service(revision="new")
    asleep = fleet(new, host("h1", placement(old, state=State.RESIDENT)))

    assert expected_wake(Draft(asleep, NOTHING_NOTED, NOW), new).seconds > RESIDENT.seconds


def test_of_a_failure_only_those_are_remembered_that_are_still_there():
    one = service()
    counted = Failure(1, "r1", "LoadFailed", "it broke", NOW - 1, 1, frozenset({"gone"}))

    assert not observe(Notes(failures={"a/one": counted}), fleet(one), NOW).failures["a/one"].counted


def test_a_look_at_so_many_services_takes_as_many_hosts_as_bring_them():
    three = [service(f"a/s{n}") for n in range(3)]
    of = fleet(*three, *(host(f"h{n}", s) for n, s in enumerate(three)))

    assert len(observe(NOTHING_NOTED, of, NOW, most=2).seen.hosts) == 2
    before = observe(NOTHING_NOTED, fleet(host("h0", three[0])), NOW)
    assert observe(before, of, NOW, most=2).seen.hosts.keys() == {"h0", "h1"}


def test_a_look_at_one_service_takes_one():
    three = fleet(*(service(f"a/s{n}") for n in range(3)))

    assert len(observe(NOTHING_NOTED, three, NOW, most=1).learned.habits) == 1


def test_failures_are_counted_from_the_first_on():
    one, first, second = service(), placement(service(), id_="first"), placement(service(), id_="second")
    looks = [host("h1", p, reports=[reported(p, Report.FAILED)]) for p in (first, second)]
    notes = observe(NOTHING_NOTED, fleet(one, looks[0]), NOW)
    assert notes.failures["a/one"].count == 1

    assert observe(notes, fleet(one, looks[1]), NOW).failures["a/one"].count == 2


def test_a_placement_is_found_once_however_its_host_changes():
    one, two = service("a/one"), service("a/two")
    draft = Draft(fleet(one, two, host("h1", one)), NOTHING_NOTED, NOW)

    draft.place(draft.hosts["h1"], two, GIB)

    assert [len(draft.of(key)) for key in ("a/one", "a/two")] == [1, 1]


def test_what_was_put_ahead_and_is_late_is_taken_where_a_host_does_not_start_either():
    one, slow, full = service(), service("a/slow"), service("a/full", gib=4)
    ahead, before = placement(one, state=State.RESIDENT), placement(slow)
    late = host("h1", before, ahead, reports=[reported(before, Report.LOADING)])
    stuck = host("h2", full, reports=[], pod=Pod.STARTING, trouble="0/3 nodes are available")
    of = fleet(one, slow, full, late, stuck, held=["a/one"], pools=[pool(max_hosts=3)])
    slowly = Notes(learned=Learned({"a/slow": Habit(load_seconds=1000.0)}))

    assert [p.state for p in after(decide(of, notes=slowly))] == [State.LOADED, State.LOADED]


def test_beside_a_drain_room_is_kept_for_whom_all_of_the_host_is_just_enough():
    large, small = service("a/large", gib=4), service("a/small")
    drains = host("h1", placement(service("a/leaves", gib=3), state=State.DRAINING))
    first = fleet(large, small, drains, held=["a/large"], pools=[pool(max_hosts=1)])
    notes = observe(NOTHING_NOTED, first, NOW - 1)

    assert not wake(replace(first, gateways=fleet(held=["a/large", "a/small"]).gateways), notes, NOW)


def test_the_room_that_is_kept_for_another_try_is_where_it_fits():
    tried, worthy, other = service("a/tried", gib=2), service("a/worthy"), service("a/other", gib=3)
    hosts = host("h1", other), host("h2", service("a/rest", gib=2))
    of = fleet(tried, worthy, other, service("a/rest", gib=2), *hosts, held=["a/tried"])
    known = Learned({"a/worthy": Habit(silent_since=NOW - 60)})

    decided = decide(of, notes=replace(failing("a/tried"), learned=known))

    assert [p.service for p in after(decided, "h1")] == ["a/other", "a/worthy"]
    assert after(decided, "h2") is None


def test_what_a_new_revision_takes_says_nothing_of_the_old_one():
    old, new = service(revision="old", gib=3), service(revision="new", gib=None, measured_bytes=GIB)
    there = host("h1", placement(old))

    left = after(decide(fleet(replace(new, min_replicas=1), there))) or there.placements

    assert [p.memory_bytes for p in left if p.model.revision == "old"] == [3 * GIB]


def test_a_model_moves_to_where_it_just_fits():
    one, two = service("a/one"), service("a/two")
    tight = fleet(one, two, host("h1", one), host("h2", two), pools=[pool(gib=2)])

    assert [c.host for c in decide(tight, seen_at=NOW - 1800).changes if isinstance(c, Vacate)] == ["h1"]


def test_what_is_fetched_within_its_reservation_stays_though_a_neighbour_grew():
    fetched, grew = placement(service("a/fetched", gib=3)), placement(service("a/grew"))
    said = [
        reported(fetched, Report.FETCHING, memory_bytes=3 * GIB),
        reported(grew, memory_bytes=2 * GIB),
    ]
    of = fleet(service("a/fetched", gib=3), service("a/grew"), host("h1", fetched, grew, reports=said))

    assert after(decide(of)) is None


def test_a_vacated_host_is_not_used_again_for_a_namesake_of_who_is_on_it():
    here, held = service("a/here", name="same"), service("a/held", name="same")
    taken = service("a/taken", gib=4)
    emptied = host("h1", here, cordoned=True, vacated=True)
    moved = host("h2", placement(here, id_="moved"), placement(taken))
    of = fleet(here, held, taken, emptied, moved, held=["a/held"])

    assert not [c for c in decide(of, seen_at=NOW - 10).changes if isinstance(c, Vacate)]


def test_when_the_clock_goes_back_nothing_began_in_the_future():
    of = fleet(service(), host("h1", service()), held=["a/one"])

    back = observe(observe(NOTHING_NOTED, of, NOW), of, NOW - 500)

    assert max(back.since.values()) == NOW - 500


@pytest.mark.parametrize("leaves", [{"pod": Pod.TERMINATING}, {"pod": Pod.UNREADY}, {"cordoned": True}])
def test_a_replica_whose_host_leaves_still_counts_for_how_many_there_were(leaves):
    one = service(max_replicas=3)
    two = [host(f"h{n}", placement(one, id_=f"p{n}")) for n in range(2)]
    notes = observe(NOTHING_NOTED, fleet(one, *two), NOW)
    coming = host("h2", placement(one, id_="p2"))
    moving = fleet(one, two[0], replace(two[1], **leaves), coming)

    assert observe(notes, moving, NOW + 1).replicas == {"a/one": 2}


def test_when_the_clock_goes_back_it_is_still_known_how_many_replicas_there_were():
    one = service(max_replicas=2)
    hosts = [host(f"h{n}", placement(one, id_=f"p{n}")) for n in range(2)]
    notes = observe(NOTHING_NOTED, fleet(one, *hosts), NOW)
    moving = fleet(one, hosts[0], replace(hosts[1], cordoned=True))

    assert notes.replicas == observe(notes, moving, NOW - 500).replicas == {"a/one": 2}


def test_what_unloads_is_charged_as_reserved_or_assumed_whatever_its_agent_says_or_not():
    rider, gone = placement(service("a/rider", gib=2), state=State.RESIDENT), placement(service("a/gone"))
    said = [reported(rider, memory_bytes=GIB), reported(gone, Report.UNLOADING)]
    draft = Draft(fleet(host("h1", rider, reports=said)), NOTHING_NOTED, NOW)
    assert charged_bytes(draft, draft.hosts["h1"]) == 3 * GIB

    draft.remove(draft.hosts["h1"], rider)

    assert charged_bytes(draft, draft.hosts["h1"]) == 3 * GIB


def test_a_load_that_hangs_stays_in_the_list_as_it_is_while_its_neighbour_serves():
    serves, culprit = service("a/serves", min_replicas=1), service("a/culprit")
    hung = placement(culprit)
    said = [reported(placement(serves)), reported(hung, Report.FAILED, reason="LoadTimeout")]
    there = host("h1", placement(serves), hung, reports=said)

    changed = after(decide(fleet(serves, culprit, there))) or there.placements

    assert [p.state for p in changed if p.service == "a/culprit"] == [State.LOADED]


def test_a_model_that_asks_for_more_while_its_pool_is_gone_is_left_alone():
    fetched = placement(service())
    asks = host("h1", fetched, reports=[reported(fetched, Report.FETCHING, memory_bytes=3 * GIB)])

    assert after(decide(fleet(service(min_replicas=1), asks, pools=[]))) is None


def test_a_model_that_asks_for_all_that_there_is_gets_it():
    fetched = placement(service(gib=3))
    asks = host("h1", fetched, reports=[reported(fetched, Report.FETCHING, memory_bytes=4 * GIB)])

    (granted,) = after(decide(fleet(service(gib=3), asks, held=["a/one"])))

    assert granted.memory_bytes == 4 * GIB


def test_of_replicas_that_are_too_many_the_idle_one_goes():
    one = service(min_replicas=1, max_replicas=2)
    works, idle = placement(one, id_="a-works"), placement(one, id_="b-idle")
    of = fleet(
        one,
        host("h1", works, reports=[reported(works)]),
        host("h2", idle, reports=[reported(idle, idle=True)]),
    )

    decided = decide(of, seen_at=NOW - 400)

    assert [p.state for p in after(decided, "h2") or ()] == [State.DRAINING]
    assert after(decided, "h1") is None


def test_a_model_that_grew_past_all_riders_has_every_one_of_them_go():
    grew, riders = placement(service("a/grew")), [service("a/r1"), service("a/r2")]
    asleep = [placement(r, state=State.RESIDENT) for r in riders]
    said = [reported(grew, memory_bytes=6 * GIB), *(reported(p) for p in asleep)]

    left = after(
        decide(fleet(service("a/grew"), *riders, host("h1", grew, *asleep, reports=said), held=["a/grew"]))
    )

    assert left == (grew,)


DRAINS = placement(service(), state=State.DRAINING)


@pytest.mark.parametrize(
    ("of", "seconds"),
    [
        (fleet(service(), host("h1", DRAINS)), 60.0),
        (fleet(host("h1", DRAINS)), 300.0),
        (fleet(service(suspend=True, drain_deadline_seconds=77.0), host("h1", DRAINS)), 77.0),
        (fleet(service(min_replicas=1), host("h1", service(), pod=Pod.UNREADY)), 10.0),
        (fleet(service(min_replicas=1), host("h1", service(), pod=Pod.STARTING, trouble="no node")), 30.0),
        (fleet(host("h1")), 60.0),
        (fleet(host("h1", pod=Pod.TERMINATING)), 60.0),
    ],
    ids=[
        "a drain to sleep is given up",
        "an orphan's drain is cut off",
        "a drain is cut off",
        "an unready host ails",
        "a host is stuck",
        "a bare host goes",
        "a host that ends is lost",
    ],
)
def test_the_plan_comes_back_at_the_moment_that_is_promised(of, seconds):
    assert decide(of).next_at == NOW + seconds


def test_a_host_that_has_ailed_is_given_up_after_a_minute():
    unready = fleet(
        service(min_replicas=1), host("h1", service(), pod=Pod.UNREADY), pools=[pool(max_hosts=1)]
    )

    assert decide(unready, seen_at=NOW - 10).next_at == NOW + 50
    assert deleted(decide(unready, seen_at=NOW - 60)) == ["h1"]


def test_two_busy_models_fit_one_host_up_to_the_target():
    one, two = service("a/one"), service("a/two")
    hosts = [telling(f"h{n}", s, busy=0.4) for n, s in enumerate((one, two))]

    changes = decide(fleet(one, two, *hosts), seen_at=NOW - 2000).changes

    assert [c.host for c in changes if isinstance(c, Vacate)] == ["h0"]


def test_a_host_on_which_a_load_would_be_lost_is_raided_last():
    held = service("a/held", gib=4)
    riders = {name: service(f"a/{name}", gib=2) for name in ("loading", "cheap", "dear", "dearer")}
    hosts = [
        host(f"h{n}", *(placement(riders[name], state=State.RESIDENT) for name in pair))
        for n, pair in enumerate((("loading", "cheap"), ("dear", "dearer")))
    ]
    loads = hosts[0].placements[0]
    hosts[0] = replace(hosts[0], reports={**hosts[0].reports, loads.id: reported(loads, Report.LOADING)})
    worth = Learned({key: Habit(silent_since=NOW - 60) for key in ("a/dear", "a/dearer")})
    of = fleet(held, *riders.values(), *hosts, held=["a/held"])

    (change,) = wake(of, Notes(learned=worth), NOW)

    assert (change.host, change.after) == ("h1", ())


def test_who_is_woken_goes_to_a_host_that_runs_though_another_is_fuller():
    held, full, fuller = service("a/held"), service("a/full"), service("a/fuller", gib=3)
    hosts = host("h1", full), host("h2", fuller, pod=Pod.STARTING)

    (change,) = wake(fleet(held, full, fuller, *hosts, held=["a/held"]), NOTHING_NOTED, NOW)

    assert change.host == "h1"


RUNS = service("a/runs")
LOADS = placement(service("a/loads"))


@pytest.mark.parametrize(
    ("there", "facts"),
    [
        (host("h1"), {"Opened", "Empty"}),
        (host("h1", RUNS), {"Opened", "Loaded"}),
        (host("h1", placement(RUNS, state=State.RESIDENT)), {"Opened", "Empty", "Resident"}),
        (host("h1", placement(RUNS, state=State.DRAINING)), {"Opened", "Draining"}),
        (host("h1", LOADS, reports=[reported(LOADS, Report.LOADING)]), {"Opened", "Loaded", "Loading"}),
        (host("h1", LOADS, reports=[reported(LOADS, Report.FAILED)]), {"Opened", "Loaded", "Empty"}),
        (host("h1", reports=[reported(LOADS, Report.UNLOADING)]), {"Opened", "Empty", "Leaving"}),
        (host("h1", cordoned=True), {"Empty"}),
        (host("h1", pod=Pod.STARTING), {"Opened", "Empty", "Starting"}),
        (host("h1", pod=Pod.MISSING), {"Opened", "Empty", "Starting"}),
        (host("h1", pod=Pod.STARTING, trouble="no node"), {"Opened", "Empty", "Troubled"}),
        (host("h1", pod=Pod.UNREADY), {"Opened", "Empty", "Unready"}),
        (host("h1", pod=Pod.TERMINATING), {"Opened", "Ending"}),
    ],
)
def test_so_much_is_noted_of_a_host_and_no_more(there, facts):
    noted = observe(NOTHING_NOTED, fleet(there), NOW).since

    assert {kind for kind, _ in noted} - {"Begun", "Renewed now"} == facts | {"Kept"}
    assert not observe(observe(NOTHING_NOTED, fleet(there), NOW), fleet(), NOW).since.keys() & {
        (kind, "h1") for kind in facts
    }


def test_who_moved_to_another_pool_is_not_woken_in_the_old_one():
    moved, other = service(pool="other"), replace(pool(), name="other")
    asleep = host("h1", placement(service(), state=State.RESIDENT))

    (change,) = wake(fleet(moved, asleep, held=["a/one"], pools=[pool(), other]), NOTHING_NOTED, NOW)

    assert isinstance(change, CreateHost)
    assert change.pool == "other"


def test_each_failure_doubles_the_wait_for_the_next_try():
    waits = [Failure(1, "r1", "LoadFailed", "it broke", 0.0, count).retry_at for count in (1, 2, 3, 100)]

    assert waits[1:3] == [2 * waits[0], 4 * waits[0]]
    assert waits[3] == LONGEST_RETRY_SECONDS


def test_who_is_awake_stays_so_for_twice_the_coldest_wake_before_its_window():
    one = service(schedule=(Window("0 * * * *", "UTC", 600.0),))
    of = fleet(one, host("h1", one))

    assert opening_hours(Draft(of, NOTHING_NOTED, NOW), one).changes_at == 3600.0 - 2 * 1.25 * (30.0 + 20.0)


def test_what_nobody_can_ask_for_is_worth_nothing():
    there = host("h1", service("a/gone"))

    assert kept_worth(Draft(fleet(there), NOTHING_NOTED, NOW), there.placements) == 0.0


def test_nothing_is_remembered_of_the_replicas_of_who_is_gone_however_looks_are_cut():
    many, others = service("z/many", max_replicas=2), [service(f"a/s{n}") for n in range(3)]
    hosts = [host(f"h{n}", placement(many, id_=f"p{n}")) for n in range(2)]
    notes = observe(NOTHING_NOTED, fleet(many, *others, *hosts), NOW)
    assert [kind for kind, key in notes.since if key == "z/many"] == ["Enough 1"]

    gone = fleet(*(replace(s, generation=2) for s in others), *hosts)
    while notes.seen is not gone:
        notes = observe(notes, gone, NOW + 1, most=1)

    assert "z/many" not in {key for _, key in notes.since}


@pytest.mark.parametrize(("told_gib", "room_gib"), [(None, 4), (3, 3), (9, 4)])
def test_a_host_has_no_more_room_than_its_accelerator_says_and_its_pool_allows(told_gib, room_gib):
    told = told_gib and told_gib * GIB + HOST_OVERHEAD_BYTES
    draft = Draft(fleet(host("h1", capacity_bytes=told)), NOTHING_NOTED, NOW)

    assert room_bytes(draft, draft.hosts["h1"]) == room_gib * GIB


def test_a_host_that_runs_and_loads_nothing_is_not_waited_for():
    draft = Draft(fleet(host("h1", service())), NOTHING_NOTED, NOW)

    assert wait_seconds(draft, draft.hosts["h1"]) == 0.0


def test_free_riders_and_drains_are_no_replicas():
    one = service(max_replicas=3)
    states = enumerate((State.LOADED, State.RESIDENT, State.DRAINING))
    hosts = [host(f"h{n}", placement(one, id_=f"p{n}", state=state)) for n, state in states]

    assert not observe(NOTHING_NOTED, fleet(one, *hosts), NOW).replicas


def test_a_load_that_takes_long_is_no_silence():
    loads = placement(service())
    of = fleet(service(), host("h1", loads, reports=[reported(loads, Report.LOADING)]))
    later = fleet(service(generation=2), *of.hosts.values())

    notes = observe(observe(NOTHING_NOTED, of, NOW - 9000), later, NOW)

    assert notes.learned.habits["a/one"].silent_since is None


def test_a_host_makes_way_for_one_and_the_next_one_gets_another():
    riders, held = [service("a/r1"), service("a/r2")], [service(f"b/h{n}", dedicated=True) for n in range(2)]
    hosts = [host(f"h{n}", placement(r, state=State.RESIDENT)) for n, r in enumerate(riders)]

    assert sorted(deleted(decide(fleet(*riders, *held, *hosts, held=["b/h0", "b/h1"])))) == ["h0", "h1"]
