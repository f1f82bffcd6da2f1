"""What was learned goes along with other writes of statuses, costs none of its own, and outlives restarts."""

import pytest

from lull.api import ModelPoolStatus, ModelServiceStatus
from lull.controller.memory import pool_memory, recalled, service_memory
from lull.controller.view import View
from lull.kube import MODELPOOLS, MODELSERVICES
from lull.policy.habits import NO_GAPS, Crowd, Habit, with_silence
from lull.policy.learning import Learned
from lull.policy.prices import Price, known_price

from .world import World, pool, service

GAPS = with_silence(with_silence(NO_GAPS, 60.0), 4000.0)


@pytest.fixture
async def world():
    async with World() as world:
        world.api.put(MODELPOOLS, pool(emptyAfter="60s"))
        world.api.put(MODELSERVICES, service(idleAfter="60s"))
        yield world


def learned():
    return Learned(
        {"demo/digits": Habit(GAPS, load_seconds=12.34)},
        {"default": Crowd(start_seconds=31.4)},
        {("default", 5): Price(2345.6), ("default", 20): Price(7.0)},
    )


def shown(kind, item, status):
    view = View()
    for each in (pool(), service()):
        held = {**each, "metadata": each["metadata"] | {"resourceVersion": "1", "generation": 1}}
        ours = MODELSERVICES if "namespace" in each["metadata"] else MODELPOOLS
        view.offer(ours, held | ({"status": status} if ours is kind else {}))
    return view


def test_a_service_s_habit_reads_back_as_it_was_written():
    status = service_memory(learned(), "demo/digits")
    assert ModelServiceStatus.model_validate({"conditions": []} | status)
    view = shown(MODELSERVICES, service(), status)
    habit = recalled(view).habits["demo/digits"]
    assert habit.gaps == GAPS
    assert habit.load_seconds == 12.0
    assert habit.hazards
    assert habit.count is None, "what was counted before is no news"


def test_a_pool_s_price_and_start_time_read_back_as_they_were_written():
    status = pool_memory(learned(), "default")
    assert ModelPoolStatus.model_validate({"conditions": []} | status)
    again = recalled(shown(MODELPOOLS, pool(), status))
    assert again.prices == {("default", 5): known_price(2300.0)}
    assert again.crowds["default"].start_seconds == 31.0


def test_of_what_nothing_was_learned_nothing_is_kept():
    assert (
        service_memory(Learned(), "demo/digits")
        == service_memory(Learned({"demo/digits": Habit()}), "demo/digits")
        == {}
    )
    assert pool_memory(Learned(crowds={"default": Crowd()}), "default") == {}
    assert recalled(shown(MODELPOOLS, pool(), {})).prices == {}


async def until_asleep(world):
    world.release()
    world.idle.add("demo/digits")
    await world.rest()
    await world.advance(100)
    await world.until(world.asleep)
    await world.rest()


async def woken(world):
    world.idle.clear()
    world.hold()
    await world.until(world.routed)
    await world.rest()


async def test_a_habit_outlives_a_restart(world):
    await woken(world)
    await until_asleep(world)
    await world.advance(1000)
    await woken(world)
    await until_asleep(world)
    gaps = world.status()["habit"]["gaps"]
    assert sum(gaps) == 1
    await world.stop()
    await world.start()
    await world.until(lambda: world.parts.planner.started)
    await woken(world)
    await until_asleep(world)
    again = world.status()["habit"]["gaps"]
    assert all(new >= old for new, old in zip(again, gaps, strict=False))
    assert len(again) >= len(gaps)


async def test_what_is_learned_alone_is_not_written(world):
    await woken(world)
    await until_asleep(world)
    writes = world.api.writes["apply", "modelservices"], world.api.writes["apply", "modelpools"]
    statuses = world.parts.planner._statuses
    statuses.learned = learned()
    for _ in range(5):
        world.parts.ledger.changed[MODELSERVICES].add("demo/digits")
        world.parts.ledger.changed[MODELPOOLS].add("default")
        world.time += 100
        await statuses.refresh()
    assert statuses.pending == 0
    assert (world.api.writes["apply", "modelservices"], world.api.writes["apply", "modelpools"]) == writes


def habit(world):
    return world.parts.planner._notes.learned.habits.get("demo/digits")


async def test_a_service_that_cannot_be_read_for_a_moment_keeps_its_habit(world):
    await world.rest()
    await world.stop()
    world.api.set_status(MODELSERVICES, "digits", "demo", world.status() | {"habit": {"gaps": [0, 5, 9]}})
    await world.start()
    await world.until(lambda: habit(world))
    await world.rest()
    gaps = habit(world).gaps
    assert gaps[:3] == (0, 5, 9)
    world.api.put(MODELSERVICES, service(idleAfter="nonsense"))
    await world.until(lambda: habit(world) is None)
    world.api.put(MODELSERVICES, service(idleAfter="60s"))
    await world.until(lambda: habit(world))
    assert habit(world).gaps == gaps
    assert habit(world).hazards


async def test_what_was_answered_while_no_controller_was_here_moves_no_price(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    await world.draw(60)
    await world.rest()
    await world.stop()
    for meter in world.meters.values():
        meter[2] += 1000
    world.step()
    await world.start()
    await world.until(lambda: world.parts.view.counts)
    asked = world.parts.view.counts["demo/digits"].requests
    assert asked > 1000
    world.parts.planner.done()
    await world.until(lambda: habit(world).count)
    assert habit(world).count.requests == asked
    assert world.parts.planner._notes.learned.prices == {}
