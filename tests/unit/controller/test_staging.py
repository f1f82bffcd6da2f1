"""Hosts are told what to keep ready, and seldom something else, through the real controller."""

import pytest

from lull.controller.planner import STAGE_SECONDS
from lull.kube import MODELPOOLS, MODELSERVICES

from .world import World, pool, service

STAGING = {"claimName": "lull-staging", "size": "8Gi"}
OTHER = "sha256:" + "1" * 64


@pytest.fixture
async def world():
    async with World() as world:
        world.api.put(MODELPOOLS, pool(staging=STAGING))
        for name, digest in (("digits", "0" * 64), ("faces", "1" * 64)):
            model = {"uri": f"file:///{name}.tar", "digest": f"sha256:{digest}"}
            world.api.put(MODELSERVICES, service(name, model=model))
        await world.until(world.asleep)
        world.hold()
        await world.until(world.routed)
        await world.rest()
        yield world


def listed(world):
    """What the one host is told to keep ready."""
    (host,) = world.hosts()
    return {entry["service"]: entry["digest"] for entry in host["spec"].get("stage", [])}


async def test_a_host_is_told_once_it_runs_and_then_not_again(world: World):
    await world.advance(STAGE_SECONDS)
    await world.until(lambda: listed(world).get("demo/faces") == OTHER)
    assert listed(world).keys() == {"demo/digits", "demo/faces"}
    assert len(world.models()) == 1, "what it serves is as it was"
    await world.rest()
    (before,) = world.hosts()
    await world.advance(STAGE_SECONDS)
    await world.rest()
    (after,) = world.hosts()
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


async def test_a_pool_that_stages_no_more_has_its_hosts_stage_nothing(world: World):
    await world.advance(STAGE_SECONDS)
    await world.until(lambda: listed(world))
    world.api.put(MODELPOOLS, pool())
    await world.advance(STAGE_SECONDS)
    await world.until(lambda: not listed(world))
