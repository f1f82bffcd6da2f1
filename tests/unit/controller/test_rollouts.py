"""Rollouts through the real controller: pilots count what they route by statuses, agents say what loads."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from lull.api import ModelServiceStatus
from lull.controller import rollouts, status
from lull.controller.execute import Executor
from lull.controller.history import history_from
from lull.controller.traffic import Traffic
from lull.kube import EVENTS, MODELPOOLS, MODELSERVICES, ApiError
from lull.policy import SetModels
from lull.policy.fleet import CANDIDATE_MARK
from lull.policy.rollout import Phase, Rollout

from .world import World, pool, service

OLD, NEW, THIRD = "file:///digits.tar", "file:///second.tar", "file:///third.tar"
WRONG = ("Failed", "GoldenMismatch", "golden case 1: output[0] is 0.2 here and was 0.9")
ROLLING = {"demo/digits"}
CANARY = {"steps": [20, 50], "pause": "10s", "analysis": {"minRequests": 20}}


@pytest.fixture
async def world():
    async with World() as world:
        world.api.put(MODELPOOLS, pool())
        world.api.put(MODELSERVICES, service())
        yield world


async def awake(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    await world.rest()


def apply(world, uri=NEW, **rollout):
    world.api.put(MODELSERVICES, service(uri=uri, **({"rollout": rollout} if rollout else {})))


def rollout(world):
    return world.status().get("rollout") or {}


def phase(world):
    return rollout(world).get("phase")


def uris(world):
    return sorted(entry["uri"] for entry in world.models())


def named(world, uri):
    return next(r for r in world.status()["revisions"] if r["uri"] == uri)


def states(world):
    return [(r["uri"], r["state"]) for r in world.status()["revisions"]]


def say(world, verb, uri=NEW):
    annotations = {"lull.dev/rollout": f"{verb} {named(world, uri)['name']}"}
    world.api.annotate(MODELSERVICES, "digits", "demo", annotations)


def happened(world):
    posted = [
        item for _, type_, item in world.api.log if item["_plural"] == EVENTS.plural and type_ == "ADDED"
    ]
    return [event["reason"] for event in posted]


async def ended(world, *, requests=40, seconds=6, looks=40):
    """Ask and let time pass until the rollout is over. Returns what its percents were."""
    percents = []
    for _ in range(looks):
        world.ask(requests)
        await world.advance(seconds)
        await world.rest()
        percents.append(rollout(world).get("percent"))
        if phase(world) in ("Promoted", "Rejected", "Aborted"):
            return percents
    raise AssertionError(f"it goes on for ever: {rollout(world)}")


async def test_a_new_revision_takes_over_as_soon_as_it_is_ready_and_the_old_one_goes(world):
    await awake(world)
    apply(world)
    gaps = []
    await world.until(lambda: gaps.append(world.routed()) or phase(world) == "Promoted", "its end")
    await world.until(lambda: uris(world) == [NEW])
    await world.rest()
    assert all(gaps)
    assert states(world) == [(NEW, "Serving"), (OLD, "Superseded")]
    assert [named(world, uri)["percent"] for uri in (NEW, OLD)] == [100, 0]
    assert world.condition("RolledOut")["status"] == "True"
    assert world.condition("Reconciling")["status"] == "False"
    assert [r for r in happened(world) if r in ("RolloutStarted", "Promoted")] == [
        "RolloutStarted",
        "Promoted",
    ]


async def test_a_canary_goes_up_step_by_step_and_gets_no_more_than_its_share(world):
    await awake(world)
    apply(world, **CANARY)
    await world.rest()
    assert (phase(world), rollout(world)["percent"]) == ("Stepping", 20)
    assert uris(world) == [OLD, NEW]
    assert world.condition("Reconciling")["reason"] == "Stepping"
    percents = await ended(world)
    assert sorted(set(percents[:-1])) == [20, 50]
    assert phase(world) == "Promoted"
    assert [event for event in happened(world) if event == "RolloutStep"] == ["RolloutStep"] * 2, "20 and 50"
    await world.until(lambda: uris(world) == [NEW])
    assert world.answered[NEW] <= world.answered[OLD]


async def test_a_step_lasts_its_pause_however_good_the_candidate_is(world):
    await awake(world)
    apply(world, **CANARY | {"pause": "60s"})
    await world.rest()
    for _ in range(9):
        world.ask(1000)
        await world.advance(6)
        await world.rest()
        assert rollout(world)["percent"] == 20
    await world.advance(8)
    await world.rest()
    assert rollout(world)["percent"] == 50, "time alone takes it on"


async def test_each_step_is_judged_by_what_was_asked_during_it(world):
    await awake(world)
    apply(world, **CANARY | {"analysis": {"minRequests": 30}, "pause": "1s"})
    await world.rest()
    world.ask(150)
    await world.advance(6)
    await world.rest()
    assert rollout(world)["percent"] == 50
    assert [told["requests"] for told in rollout(world)["traffic"]] == [0, 0]
    for _ in range(3):
        await world.advance(6)
        await world.rest()
    assert rollout(world)["percent"] == 50, "nobody has asked it since"


async def test_a_revision_that_its_host_refuses_is_rejected_once_and_the_old_one_serves(world):
    world.outcome[NEW] = WRONG
    await awake(world)
    apply(world, **CANARY)
    ids = set()
    await world.until(lambda: ids.update(m["id"] for m in world.models()) or phase(world) == "Rejected")
    await world.until(lambda: uris(world) == [OLD])
    for _ in range(5):
        await world.advance(60)
        await world.rest()
        ids.update(m["id"] for m in world.models())
    assert len(ids) == 2, "it is not tried again"
    assert uris(world) == [OLD]
    assert states(world) == [(NEW, "Rejected"), (OLD, "Serving")]
    assert named(world, NEW)["reason"] == "GoldenMismatch"
    assert "was 0.9" in named(world, NEW)["message"]
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Stalled")["reason"] == "Rejected", "its user's tools see that it failed"
    assert world.condition("RolledOut")["status"] == "False"
    assert "Rejected" in happened(world)


async def test_a_first_revision_that_never_serves_is_not_said_to_be_rolled_out(world):
    world.outcome[OLD] = WRONG
    apply(world, OLD)
    world.hold()
    await world.until(lambda: world.condition("Stalled").get("status") == "True")
    assert world.condition("RolledOut")["status"] == "False"
    assert world.condition("RolledOut")["reason"] == "GoldenMismatch"


async def test_a_rejected_revision_is_tried_again_once_the_spec_asked_for_another(world):
    world.outcome[NEW] = WRONG
    await awake(world)
    apply(world)
    await world.until(lambda: phase(world) == "Rejected")
    await world.rest()
    apply(world, OLD)
    await world.rest()
    assert world.condition("RolledOut")["status"] == "True"
    assert world.condition("Stalled")["status"] == "False"
    world.outcome.clear()
    apply(world)
    await world.until(lambda: phase(world) == "Promoted")


async def test_a_candidate_that_fails_requests_is_taken_back_within_its_step(world):
    world.habits[NEW] = {"fails"}
    await awake(world)
    apply(world, **CANARY)
    await world.rest()
    percents = await ended(world)
    assert phase(world) == "Rejected"
    assert set(percents) == {0}, "one look at so many failures is enough"
    assert "requests failed" in rollout(world)["message"]
    await world.until(lambda: uris(world) == [OLD])
    await world.rest()
    assert world.answered[NEW] == 0
    assert "Moved" not in happened(world), "nothing moved: it was taken back"


async def test_a_candidate_that_is_slow_is_taken_back(world):
    world.habits[NEW] = {"slow"}
    await awake(world)
    apply(world, **CANARY)
    await world.rest()
    assert max(await ended(world)) <= 20
    assert phase(world) == "Rejected"


async def test_a_shadow_that_answers_otherwise_never_gets_a_request(world):
    world.habits[NEW] = {"differs"}
    await awake(world)
    apply(world, **CANARY | {"shadowPercent": 50})
    await world.rest()
    assert (phase(world), rollout(world)["shadowPercent"], rollout(world)["percent"]) == ("Shadowing", 50, 0)
    assert set(await ended(world)) == {0}
    assert phase(world) == "Rejected"
    assert world.answered[NEW] == 0
    assert happened(world).count("RolloutStep") == 1, "it is told that requests are copied"


async def test_an_accuracy_that_is_asked_for_is_waited_for(world):
    await awake(world)
    apply(world, **CANARY | {"analysis": {"minRequests": 20, "minAccuracyPercent": 95}})
    await world.rest()
    await world.advance(6)
    await world.rest()
    assert phase(world) == "Validating"
    assert "lull evaluate" in rollout(world)["message"]
    name = named(world, NEW)["name"]
    world.api.annotate(MODELSERVICES, "digits", "demo", {"lull.dev/evaluated": f"{name} 97.9"})
    await world.until(lambda: phase(world) == "Stepping")


async def test_what_may_pass_is_tried_again(world):
    world.outcome[NEW] = ("Failed", "Unreachable", "connection refused")
    await awake(world)
    apply(world)
    await world.rest()
    await world.advance(6)
    await world.rest()
    assert phase(world) == "Validating"
    assert "connection refused" in rollout(world)["message"]
    assert world.condition("Stalled")["status"] == "False"
    world.outcome.clear()
    for _ in range(4):
        await world.advance(20)
        await world.rest()
    assert phase(world) == "Promoted"


async def test_its_user_promotes_and_aborts_it_by_a_word(world):
    await awake(world)
    apply(world, **CANARY)
    await world.rest()
    say(world, "abort")
    await world.until(lambda: phase(world) == "Aborted")
    await world.until(lambda: uris(world) == [OLD])
    await world.rest()
    assert world.condition("Stalled")["reason"] == "Aborted"
    assert "RolloutAborted" in happened(world)
    say(world, "promote")
    await world.until(lambda: phase(world) == "Promoted")
    await world.until(lambda: uris(world) == [NEW])


async def test_a_word_that_stands_there_for_ever_skips_no_later_canary_of_that_revision(world):
    await awake(world)
    apply(world, **CANARY)
    await world.until(lambda: phase(world) == "Stepping")
    say(world, "promote")
    await world.until(lambda: phase(world) == "Promoted")
    apply(world, OLD)
    await world.until(
        lambda: phase(world) == "Promoted" and rollout(world)["candidate"] == named(world, OLD)["name"]
    )
    apply(world, **CANARY)
    await world.until(lambda: phase(world) == "Stepping")
    await world.rest()
    assert rollout(world)["percent"] == 20
    await world.stop()
    await world.start()
    await world.until(lambda: world.parts.planner.started)
    await world.rest()
    assert (phase(world), rollout(world)["percent"]) == ("Stepping", 20), "whoever takes over knows it too"
    word = f"promote {named(world, NEW)['name']} again"
    world.api.annotate(MODELSERVICES, "digits", "demo", {"lull.dev/rollout": word})
    await world.until(lambda: phase(world) == "Promoted")


async def test_a_spec_that_goes_back_aborts_it_and_one_that_goes_on_replaces_it(world):
    await awake(world)
    apply(world, **CANARY)
    await world.rest()
    apply(world, THIRD, **CANARY)
    await world.until(lambda: uris(world) == [OLD, THIRD])
    await world.rest()
    assert states(world) == [(THIRD, "Candidate"), (NEW, "Aborted"), (OLD, "Serving")]
    apply(world, OLD, **CANARY)
    await world.until(lambda: uris(world) == [OLD])
    await world.rest()
    assert phase(world) == "Aborted"
    assert world.condition("RolledOut")["status"] == "True"
    assert world.condition("Stalled")["status"] == "False"


@pytest.fixture
async def cramped():
    async with World() as world:
        world.api.put(MODELPOOLS, pool(most=1))
        world.api.put(MODELSERVICES, service())
        yield world


async def without_room(world):
    await awake(world)
    apply(world)
    await world.rest()
    await world.advance(6)
    await world.rest()
    assert phase(world) == "Validating"
    assert "no room" in rollout(world)["message"]
    await world.advance(31)


async def test_without_room_for_both_the_old_one_goes_first(cramped):
    await without_room(cramped)
    await cramped.until(lambda: phase(cramped) == "Swapping")
    cramped.hold()
    await cramped.until(lambda: cramped.routed() and uris(cramped) == [NEW])
    cramped.release()
    await cramped.until(lambda: phase(cramped) == "Promoted")


async def test_without_room_for_both_the_old_one_comes_back_if_the_new_one_fails(cramped):
    cramped.outcome[NEW] = WRONG
    await without_room(cramped)
    await cramped.until(lambda: phase(cramped) == "Swapping")
    cramped.hold()
    await cramped.until(lambda: phase(cramped) == "Rejected", "its end")
    await cramped.until(lambda: cramped.routed() and uris(cramped) == [OLD])
    cramped.release()
    await cramped.rest()
    assert states(cramped) == [(NEW, "Rejected"), (OLD, "Serving")]
    assert cramped.condition("Ready")["status"] == "True"


async def sleeping(world):
    await awake(world)
    world.idle.add("demo/digits")
    await world.advance(400)
    await world.until(world.asleep)
    await world.rest()
    await world.advance(70)
    await world.until(lambda: not world.hosts())
    await world.rest()


async def test_a_service_that_sleeps_wakes_as_the_new_revision(world):
    await sleeping(world)
    apply(world)
    await world.rest()
    assert phase(world) == "Swapping"
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Reconciling")["status"] == "False", "no tool waits for a request to come"
    world.idle.clear()
    world.hold()
    await world.until(lambda: world.routed() and uris(world) == [NEW])
    world.release()
    await world.until(lambda: phase(world) == "Promoted")


async def test_a_service_that_sleeps_wakes_as_the_old_one_if_the_new_one_fails(world):
    world.outcome[NEW] = WRONG
    await sleeping(world)
    apply(world)
    await world.rest()
    world.idle.clear()
    world.hold()
    refused = []

    def served():
        stalled = world.condition("Stalled")
        refused.append(stalled["status"] == "True" and stalled["reason"] != "Rejected")
        return world.routed() and uris(world) == [OLD]

    await world.until(served, "the old one")
    assert not any(refused), "its gateways would have turned the request away"
    world.release()
    await world.until(lambda: phase(world) == "Rejected")


@pytest.mark.parametrize("asleep", [True, False], ids=["asleep", "held"])
async def test_a_canary_is_the_way_out_where_the_old_one_loads_no_more(world, asleep):
    await sleeping(world)
    world.idle.clear()
    world.outcome[OLD] = WRONG
    world.hold()
    await world.until(lambda: world.condition("Stalled")["status"] == "True")
    if asleep:
        world.release()
        await world.rest()
    apply(world, **CANARY)
    await world.rest()
    world.hold()
    await world.until(lambda: phase(world) == "Promoted" and world.routed(), "it serves")
    await world.until(lambda: world.condition("Stalled")["status"] == "False", "gateways let requests in")


async def test_another_name_on_the_wire_and_a_predecessor_that_never_was_ready_are_replaced_at_once(world):
    apply(world, NEW)
    await world.rest()
    assert states(world) == [(NEW, "Serving")], "the first one has never been ready"
    assert not rollout(world)
    await awake(world)
    assert uris(world) == [NEW]
    item = service(uri=THIRD)
    item["spec"]["model"]["name"] = "other"
    world.api.put(MODELSERVICES, item)
    await world.until(lambda: uris(world) == [THIRD])
    await world.rest()
    assert states(world) == [(THIRD, "Serving"), (NEW, "Superseded")]
    assert not rollout(world)


async def test_the_history_is_bounded_and_the_newest_come_first(world):
    await awake(world)
    for number in range(5):
        apply(world, f"file:///{number}.tar", history=2)
        await world.until(lambda n=number: uris(world) == [f"file:///{n}.tar"])
        await world.rest()
    kept = ["file:///4.tar", "file:///3.tar", "file:///2.tar"]
    assert [uri for uri, _ in states(world)] == kept


PHASES = ["Validating", "Shadowing", "Stepping", "Promoting", "Promoted"]


@pytest.mark.parametrize("killed_in", PHASES)
@pytest.mark.parametrize("bad", [False, True])
async def test_a_controller_that_is_killed_at_any_point_goes_on(world, killed_in, bad):
    if bad:
        world.habits[NEW] = {"fails"}
    await awake(world)
    world.outcome[NEW] = ("Loading", "", "")
    plan = CANARY | {"shadowPercent": 50}
    apply(world, **plan)
    await world.until(lambda: phase(world))
    killed = False
    for _ in range(40):
        if phase(world) == killed_in and not killed:
            killed = True
            await world.stop()
            await world.start()
            await world.until(lambda: world.parts.planner.started)
        elif phase(world) in ("Promoted", "Rejected"):
            break
        world.outcome.clear()
        await world.rest()
        if phase(world) not in ("Promoted", "Rejected"):
            world.ask(60)
            await world.advance(6)
    assert phase(world) == ("Rejected" if bad else "Promoted")
    await world.until(lambda: uris(world) == [OLD if bad else NEW])
    assert killed or bad or killed_in == "Promoting"
    assert bool(world.answered[NEW]) != bad


@pytest.mark.parametrize("bad", [False, True])
async def test_a_controller_that_is_killed_while_a_service_sleeps_knows_what_it_was_to_wake_as(world, bad):
    await sleeping(world)
    apply(world)
    await world.until(lambda: phase(world) == "Swapping")
    await world.stop()
    if bad:
        world.outcome[NEW] = WRONG
    await world.start()
    world.idle.clear()
    world.hold()
    await world.until(lambda: phase(world) == ("Rejected" if bad else "Promoted"))
    await world.until(lambda: world.routed() and uris(world) == [OLD if bad else NEW])


async def test_a_service_that_is_deleted_in_a_rollout_leaves_nothing_behind(world):
    await awake(world)
    apply(world, **CANARY)
    await world.rest()
    world.api.remove("modelservices", "demo", "digits")
    await world.until(lambda: not world.models())
    await world.rest()
    assert not world.parts.view.services
    assert not world.parts.view.rolling


async def test_a_status_that_another_version_wrote_stops_nobody(world):
    await awake(world)
    apply(world, **CANARY)
    await world.rest()
    odd = world.status() | {"rollout": rollout(world) | {"phase": "Pondering"}}
    await world.stop()
    world.api.set_status(MODELSERVICES, "digits", "demo", odd)
    await world.start()
    await world.until(lambda: uris(world) == [NEW])


async def test_a_controller_that_dies_before_its_decision_is_written_decides_again(world):
    await awake(world)

    def refuse(verb, kind, _name):
        if (verb, kind) == ("apply", "modelservices"):
            raise ApiError(503, "Unavailable", "no leader")

    world.api.before = refuse
    apply(world)
    await world.until(lambda: world.parts.planner._rollouts._decided)
    assert uris(world) == [OLD], "no gateway could know what it is"
    await world.stop()
    world.api.before = lambda *_: None
    await world.start()
    await world.until(lambda: phase(world) == "Promoted")


async def test_a_step_that_cannot_be_written_is_not_looked_at_without_end(world):
    await awake(world)
    apply(world, **CANARY | {"analysis": {"minRequests": 0}})
    await world.rest()

    def refuse(verb, kind, _name):
        if (verb, kind) == ("apply", "modelservices"):
            raise ApiError(503, "Unavailable", "no leader")

    world.api.before = refuse
    await world.advance(12)
    rolling = world.parts.planner._rollouts
    await world.until(lambda: rolling._decided)
    await world.advance(12)
    await world.until(lambda: (rolling.next_at() or world.time + 1) > world.time, "it waits for the write")
    world.api.before = lambda *_: None


def written(world):
    return [entry for entry in world.api.log if entry[2]["_plural"] != "modelgateways"]


def walked(value):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from walked(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walked(inner)
    else:
        yield value


def assert_whole(told):
    """Whether a status is what the API takes, and nothing of it is lost there."""
    kept = ModelServiceStatus.model_validate({"conditions": []} | told).wire()
    pairs = list(zip(kept.get("revisions", ()), told.get("revisions", ()), strict=True))
    pairs += [(kept["rollout"], told["rollout"])] if "rollout" in told else []
    assert all(ours | said == ours for ours, said in pairs)


async def test_nothing_that_is_ever_written_has_a_candidate_s_key(world):
    world.api.put(MODELPOOLS, pool(most=2))
    world.metered = True
    await awake(world)
    apply(world, **CANARY | {"shadowPercent": 50})
    await world.rest()
    for _ in range(40):
        world.ask(60)
        await world.draw(6)
        await world.rest()
        if phase(world) == "Promoted":
            break
    world.outcome[THIRD] = WRONG
    apply(world, THIRD, **CANARY)
    await world.until(lambda: phase(world) == "Rejected")
    await world.rest()
    assert len(written(world)) > 50
    for _, _, item in written(world):
        if item["_plural"] == MODELSERVICES.plural:
            assert_whole(item.get("status", {}))
    marked = [word for _, _, item in written(world) for word in walked(item) if CANDIDATE_MARK in str(word)]
    assert not marked
    assert {key for key, _ in world.parts.ledger.services()} == {"demo/digits"}


async def test_requests_and_energy_of_a_candidate_are_its_service_s(world):
    await awake(world)
    await world.draw(10)
    apply(world, **CANARY)
    await world.rest()
    await world.draw(60)
    await world.rest()
    world.parts.ledger.changed[MODELSERVICES].add("demo/digits")
    asked = {entry["id"]: meter[2] for entry in world.models() for meter in [world.meters[entry["id"]]]}
    assert len(asked) == 2
    assert world.parts.ledger.close_service("demo/digits").account.requests == sum(asked.values())
    assert world.status()["replicas"] == {"desired": 2, "ready": 2}
    assert len(world.status()["placements"]) == 2


async def test_both_revisions_memory_is_remembered(world):
    await awake(world)
    apply(world, **CANARY)
    await world.rest()
    assert [named(world, uri)["memory"] for uri in (OLD, NEW)] == ["112Mi", "112Mi"]
    apply(world, OLD)
    await world.until(lambda: phase(world) == "Aborted")
    await world.rest()
    assert named(world, NEW)["memory"] == "112Mi"


async def test_what_each_revision_took_to_train_is_remembered(world):
    await awake(world)
    apply(world, **CANARY)
    await world.rest()
    assert [named(world, uri)["trainingWattHours"] for uri in (OLD, NEW)] == ["3.500", "3.500"]
    apply(world, OLD)
    await world.until(lambda: phase(world) == "Aborted")
    assert named(world, NEW)["trainingWattHours"] == "3.500"


async def test_a_rollout_that_waits_writes_nothing(world):
    await awake(world)
    apply(world, **CANARY)
    await world.rest()
    writes = dict(world.api.writes)
    for _ in range(5):
        await world.advance(7)
        await world.rest()
    assert dict(world.api.writes) == writes


async def test_what_it_was_asked_is_told_every_few_seconds_at_most(world):
    await awake(world)
    apply(world, **CANARY | {"analysis": {"minRequests": 100_000}})
    await world.rest()
    before = world.api.writes["apply", "modelservices"]
    for _ in range(20):
        world.ask(10)
        await world.advance(1)
        await world.rest()
    old, new = rollout(world)["traffic"]
    assert (old["revision"], new["revision"]) == (rollout(world)["stable"], rollout(world)["candidate"])
    assert 20 <= new["requests"] <= 40
    assert new["p95"]
    assert world.api.writes["apply", "modelservices"] - before <= 20 / rollouts.TELLING_SECONDS + 1


async def test_what_gateways_go_by_is_written_before_other_statuses(world, monkeypatch):
    monkeypatch.setattr(status, "CONCURRENT_WRITES", 1)
    monkeypatch.setattr(status, "LONGEST_WAY_SECONDS", 1000.0)
    await awake(world)
    statuses = world.parts.planner._statuses
    monkeypatch.setattr(status, "WAY_SECONDS", 1000.0)
    statuses.give_way()
    for number in range(5):
        world.api.put(MODELSERVICES, service(f"other-{number}"))
    await world.until(lambda: statuses.pending >= 5)
    apply(world)
    await world.until(lambda: phase(world))
    assert sum(bool(world.status(f"other-{n}")) for n in range(5)) == 0, "a wake has the way before those"


async def test_a_host_is_written_though_whose_its_models_are_has_changed_since(world):
    await awake(world)
    apply(world, **CANARY)
    await world.rest()
    await world.stop()
    view = world.parts.view
    host = next(h for h in view.hosts.values() for p in h.placements if CANDIDATE_MARK in p.service)
    decided = SetModels(host.name, host.placements, ())
    view.raw[MODELSERVICES]["demo/digits"]["status"]["rollout"]["phase"] = "Promoted"
    view.on_news = lambda *_: None
    view._read_service("demo/digits")
    assert not any(CANDIDATE_MARK in p.service for p in view.hosts[host.name].placements)
    executor = Executor(world.api, view, image="", clock=world.clock, on_done=lambda: None)
    await executor._apply(decided)
    assert world.api.objects["modelhosts", "lull-hosts", host.name]["spec"]["models"] == []


async def test_services_without_a_rollout_are_not_looked_at(world, monkeypatch):
    looked = []
    monkeypatch.setattr(rollouts.Rollouts, "_look", lambda _self, key, *_: looked.append(key) or False)
    for number in range(50):
        world.api.put(MODELSERVICES, service(f"other-{number}"))
    await awake(world)
    assert not looked
    assert not world.parts.view.rolling


async def test_many_rollouts_are_looked_at_some_at_a_time(world, monkeypatch):
    monkeypatch.setattr(rollouts, "AT_ONCE", 3)
    looks = []
    look = rollouts.Rollouts._look
    monkeypatch.setattr(
        rollouts.Rollouts, "_look", lambda self, key, *rest: looks[-1].append(key) or look(self, key, *rest)
    )
    follow = rollouts.Rollouts.follow
    monkeypatch.setattr(
        rollouts.Rollouts, "follow", lambda self, *rest: looks.append([]) or follow(self, *rest)
    )
    names = [f"s{number}" for number in range(10)]
    for name in names:
        world.api.put(MODELSERVICES, service(name))
        world.hold(f"demo/{name}")
    await world.until(lambda: all(world.routed(f"demo/{name}") for name in names))
    for name in names:
        world.release(f"demo/{name}")
    await world.rest()
    for name in names:
        world.api.put(MODELSERVICES, service(name, uri=NEW))
    await world.until(
        lambda: all(world.status(n).get("rollout", {}).get("phase") == "Promoted" for n in names)
    )
    assert max(map(len, looks)) <= 3


def test_those_that_one_look_leaves_are_looked_at_by_the_next_at_once(monkeypatch):
    monkeypatch.setattr(rollouts, "AT_ONCE", 2)
    looked = []
    monkeypatch.setattr(rollouts.Rollouts, "_look", lambda _self, key, *_: looked.append(key) or False)
    keys = [f"demo/{name}" for name in "abcde"]
    view = SimpleNamespace(rolling=dict.fromkeys(keys))
    several = rollouts.Rollouts(view, lambda: 7.0, None)
    several.follow(None, planned(keys, looked_at=keys))
    for at in (7.0, 7.0, None):
        assert several.next_at() == at
        several.follow(None, planned(keys))
    assert looked == keys


@pytest.mark.parametrize(
    "late", [{"left": ("host-1", "demo/a")}, {"left": ("demo/a~r2",)}, {"kept_back": {"demo/a": 1.0}}]
)
def test_nothing_is_decided_by_what_was_said_of_the_revision_before(monkeypatch, late):
    looked = []
    monkeypatch.setattr(rollouts.Rollouts, "_look", lambda _self, key, *_: looked.append(key) or False)
    keys = ["demo/a", "demo/b"]
    several = rollouts.Rollouts(SimpleNamespace(rolling=dict.fromkeys(keys)), lambda: 7.0, None)
    several._stirred = set(keys)
    several.follow(None, planned(keys, **late))
    assert looked == ["demo/b"]
    assert several.next_at() is None, "the plan says when it goes on"
    several.follow(None, planned(keys))
    assert looked == ["demo/b", "demo/a"]


def planned(keys, looked_at=(), left=(), kept_back=()):
    seen = SimpleNamespace(left=left, kept_back=kept_back)
    return SimpleNamespace(looked_at=looked_at, services=dict.fromkeys(keys), seen=seen)


def gateway(uid="u1", **traffic):
    counts = {"requests": 0, "failures": 0, "latency": [], "compared": 0, "differed": 0}
    told = {f"demo/digits@{revision}": counts | said for revision, said in traffic.items()}
    return {"metadata": {"uid": uid, "name": "gw"}, "status": {"traffic": told}}


def test_traffic_sums_up_what_gateways_count_since_they_were_met():
    traffic = Traffic()
    traffic.meet(gateway(a={"requests": 100}))
    assert traffic.see(gateway(a={"requests": 100}), ROLLING) == set()
    assert traffic.see(gateway(a={"requests": 130, "latency": [0, 30]}), ROLLING) == {"demo/digits"}
    traffic.see(gateway("u2", a={"requests": 5, "failures": 1}), ROLLING)
    assert traffic.sample("demo/digits", "a").requests == 35
    assert traffic.sample("demo/digits", "a").failures == 1
    assert traffic.sample("demo/digits", "a").latency == (0, 30)
    assert traffic.see(gateway(a={"requests": 999}), set()) == set(), "of no rollout of ours"


def test_a_gateway_whose_totals_fell_began_anew():
    traffic = Traffic()
    traffic.see(gateway(a={"requests": 100, "failures": 4}), ROLLING)
    traffic.see(gateway(a={"requests": 7, "failures": 5}), ROLLING)
    assert traffic.sample("demo/digits", "a").requests == 107
    traffic.forget_gateways(set())
    traffic.see(gateway(a={"requests": 8}), ROLLING)
    assert traffic.sample("demo/digits", "a").requests == 115


@pytest.mark.parametrize(
    "next_", [{"step": 2}, {"candidate": "c"}, {"since": 8.0}, {"phase": Phase.PROMOTING}]
)
def test_what_was_seen_at_a_step_is_not_the_next_one_s_though_both_begin_in_one_second(next_):
    several = rollouts.Rollouts(SimpleNamespace(rolling=ROLLING), lambda: 7.0, None)
    several._traffic.see(gateway(a={"requests": 100}), ROLLING)
    before = Rollout("a", "b", Phase.STEPPING, step=1, percent=20, since=7.0)
    item = {"metadata": {"uid": "u"}}
    several._decide("demo/digits", item, before, replace(before, message="waits"), 7.0)
    assert several._traffic.sample("demo/digits", "a").requests == 100
    several._decide("demo/digits", item, before, replace(before, **next_), 7.0)
    assert several._traffic.sample("demo/digits", "a").requests == 0


def test_a_step_begins_anew():
    traffic = Traffic()
    traffic.see(gateway(a={"requests": 100}, b={"requests": 20}), ROLLING)
    traffic.restart("demo/digits")
    traffic.see(gateway(a={"requests": 101}, b={"requests": 20}), ROLLING)
    assert traffic.sample("demo/digits", "a").requests == 1
    assert traffic.sample("demo/digits", "b").requests == 0


def test_a_status_of_before_there_were_rollouts_is_no_history_to_go_back_to():
    known = history_from({"revisions": [{"name": "abc", "percent": 100, "ready": True, "memory": "1Gi"}]})
    assert known.rollout is None
    assert known.known("abc").memory == "1Gi"
