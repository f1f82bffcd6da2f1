"""A service and a pool in every state, as the controller's own code writes them."""

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lull.kube import MODELPOOLS, MODELSERVICES
from unit.controller.world import World, pool, service

Object = dict[str, Any]
KEY = "demo/digits"
UNSEEN = {"observedGeneration": -1}
"""The status that the API server gives a new object; see the CRDs."""


async def service_states() -> dict[str, Object]:
    """Return a ModelService by the name of the state that it is in."""
    states = {"Unseen": service() | {"metadata": service()["metadata"] | {"generation": 1}, "status": UNSEEN}}
    async with _world(service()) as world:
        states["Asleep"] = await _in_state(world, "Asleep")
        states["Waking"] = await _waking(world)
        world.outcome.clear()
        states["Serving"] = await _in_state(world, "Serving")
        world.api.put(MODELSERVICES, service(replicas={"min": 2, "max": 2}))
        states["Behind"] = _copy(world)
    async with _world(service(replicas={"min": 1, "max": 1})) as world:
        await _in_state(world, "Serving")
        world.silent = set(world.held)
        world.api.put(MODELSERVICES, service(suspend=True))
        states["Draining"] = await _in_state(world, "Draining")
        world.silent = set()
        states["Suspended"] = await _in_state(world, "Suspended")
    states["Resident"] = await _resident()
    states |= await _refused()
    states |= await _rolled_out()
    return states


async def pool_states() -> dict[str, Object]:
    """Return a ModelPool by the name of the state that it is in."""
    states = {"Unseen": pool() | {"metadata": {"name": "default", "generation": 1}, "status": UNSEEN}}
    async with _world(service()) as world:
        await _in_state(world, "Asleep")
        states["Empty"] = _copy_pool(world)
        world.hold()
        await _in_state(world, "Serving")
        await world.until(lambda: _copy_pool(world)["status"]["hosts"]["ready"], "a host is ready")
        states["Hosts"] = _copy_pool(world)
        world.api.put(MODELPOOLS, pool(memory="plenty"))
        states["Behind"] = _copy_pool(world)
        await world.until(lambda: _condition(_copy_pool(world), "Stalled"), "the pool is invalid")
        states["Invalid"] = _copy_pool(world)
    return states


async def _resident() -> Object:
    async with _world(service()) as world:
        world.hold()
        await _in_state(world, "Serving")
        world.release()
        world.idle.add(KEY)
        await world.rest()
        await world.advance(400)
        await world.until(lambda: world.state() == ["Resident"], "it is Resident")
        return await _in_state(world, "Asleep")


async def _refused() -> dict[str, Object]:
    states = {}
    async with _world(service()) as world:
        world.outcome[KEY] = ("Failed", "DigestMismatch", "the digest is another; publish it again")
        world.hold()
        states["Failed"] = await _stalled(world)
        world.release()
        world.api.put(MODELSERVICES, service(suspend=True))
        states["FailedAndSuspended"] = await _in_state(world, "Suspended")
        world.api.put(MODELSERVICES, service(pool="nowhere"))
        await world.until(lambda: world.condition("Stalled").get("reason") == "NoSuchPool", "it is refused")
        states["NoSuchPool"] = _copy(world)
        world.api.put(MODELSERVICES, service(idleAfter="soon"))
        await world.until(lambda: world.condition("Stalled").get("reason") == "Invalid", "it is invalid")
        states["Invalid"] = _copy(world)
    return states


async def _rolled_out() -> dict[str, Object]:
    states = {}
    async with _world(service(replicas={"min": 1, "max": 1})) as world:
        await _in_state(world, "Serving")
        world.api.put(MODELSERVICES, service(uri="file:///new.tar", rollout={"steps": [20]}))
        await world.until(lambda: _phase(world) == "Stepping", "it gets its share")
        states["RollingOut"] = _copy(world)
        world.outcome["file:///bad.tar"] = ("Failed", "GoldenMismatch", "golden case 1: 0.2, not 0.9")
        world.api.put(MODELSERVICES, service(uri="file:///bad.tar"))
        await world.until(lambda: _phase(world) == "Rejected", "it is rejected")
        states["Rejected"] = await _in_state(world, "Serving")
    async with _world(service()) as world:
        world.hold()
        await _in_state(world, "Serving")
        world.release()
        world.idle.add(KEY)
        await world.rest()
        await world.advance(400)
        await _in_state(world, "Asleep")
        world.api.put(MODELSERVICES, service(uri="file:///new.tar"))
        await world.until(lambda: _phase(world) == "Swapping", "it wakes as the new one")
        states["RolledOutAsleep"] = await _in_state(world, "Asleep")
    return states


def _phase(world: World) -> str:
    return (world.status().get("rollout") or {}).get("phase", "")


@asynccontextmanager
async def _world(item: Object) -> AsyncIterator[World]:
    world = World()
    world.api.put(MODELPOOLS, pool())
    world.api.put(MODELSERVICES, item)
    async with world:
        yield world


async def _waking(world: World) -> Object:
    world.outcome[KEY] = ("Loading", None, None)
    world.hold()
    return await _in_state(world, "Waking")


async def _in_state(world: World, state: str) -> Object:
    def so() -> bool:
        item = _copy(world)
        seen = (item.get("status") or {}).get("observedGeneration") == item["metadata"]["generation"]
        return seen and world.condition("Active").get("reason") == state

    await world.until(so, f"it is {state}")
    return _copy(world)


async def _stalled(world: World) -> Object:
    await world.until(lambda: world.condition("Stalled").get("status") == "True", "it is stalled")
    return _copy(world)


def _condition(item: Object, type_: str) -> bool:
    conditions = item["status"]["conditions"]
    return any(c["type"] == type_ and c["status"] == "True" for c in conditions)


def _copy(world: World) -> Object:
    return copy.deepcopy(world.api.objects["modelservices", "demo", "digits"])


def _copy_pool(world: World) -> Object:
    return copy.deepcopy(world.api.objects["modelpools", "", "default"])
