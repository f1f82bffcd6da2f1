"""A service's whole life through the real controller, over an API in memory."""

import pytest

from lull.controller import status
from lull.kube import MODELPOOLS, MODELSERVICES, PODS

from .world import World, pool, service


@pytest.fixture
async def world():
    async with World() as world:
        world.api.put(MODELPOOLS, pool())
        world.api.put(MODELSERVICES, service())
        yield world


async def test_a_new_service_sleeps_and_is_ready(world):
    await world.until(world.asleep)
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Active") | {"lastTransitionTime": ""} == {
        "type": "Active",
        "status": "False",
        "reason": "Asleep",
        "message": "not loaded anywhere",
        "observedGeneration": 1,
        "lastTransitionTime": "",
    }
    assert not world.hosts()


async def test_a_held_request_wakes_it_on_a_new_host(world):
    await world.until(world.asleep)
    world.hold()
    await world.until(world.routed)
    world.release()
    await world.until(lambda: world.condition("Active").get("reason") == "Serving")
    (item,) = world.api.all(MODELSERVICES)
    assert item["status"]["wake"]["from"] == "NewHost"
    assert item["status"]["readyReplicas"] == "1/1"
    assert item["status"]["url"] == "http://digits.demo.lull.localhost"


async def test_an_idle_service_sleeps_and_its_host_goes(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    world.idle.add("demo/digits")
    await world.rest()
    await world.advance(400)
    await world.until(lambda: world.state() == ["Resident"])
    await world.until(world.asleep)
    await world.rest()
    await world.advance(70)
    await world.until(lambda: not world.hosts())
    assert not world.api.all(PODS)


async def test_a_resident_model_wakes_without_a_load(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    world.idle.add("demo/digits")
    await world.rest()
    await world.advance(400)
    await world.until(lambda: world.state() == ["Resident"])
    (before,) = world.models()
    world.hold()
    await world.until(lambda: world.state() == ["Loaded"])
    (after,) = world.models()
    assert after["id"] == before["id"]
    assert after["epoch"] == before["epoch"] + 1


async def test_a_wake_that_is_soon_over_is_written_as_one_change(world, monkeypatch):
    monkeypatch.setattr(status, "WAY_SECONDS", 0.4)
    await world.rest()
    before = world.api.writes["apply", "modelservices"]
    world.outcome["demo/digits"] = ("Loading", None, None)
    world.hold()
    await world.until(lambda: world.parts.ledger.service("demo/digits").told.state == "Waking")
    await world.advance(0)
    world.outcome.clear()
    await world.until(world.routed)
    world.release()
    await world.rest()
    assert world.condition("Active")["reason"] == "Serving"
    assert world.api.writes["apply", "modelservices"] == before + 1


async def test_stable_input_means_zero_writes(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    await world.rest()
    writes = dict(world.api.writes)
    for _ in range(5):
        await world.advance(7)
        await world.rest()
    assert dict(world.api.writes) == writes
