"""Hosts are told what to keep ready, and seldom something else, through the real controller."""

from itertools import pairwise

import pytest

from lull.controller import planner
from lull.controller.planner import STAGE_SECONDS
from lull.kube import MODELPOOLS, MODELSERVICES
from lull.policy import Stage

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


async def test_many_hosts_are_told_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(planner, "STAGE_AT_ONCE", 1)
    async with World() as world:
        world.api.put(MODELPOOLS, pool(staging=STAGING, hosts={"min": 3, "max": 3}))
        world.api.put(MODELSERVICES, service())
        await world.until(lambda: len(world.hosts()) == 3)
        await world.rest()
        plans, making = [], world.parts.planner
        submit = making._executor.submit

        def noted(change):
            if isinstance(change, Stage):
                plans.append(making._last)
            submit(change)

        monkeypatch.setattr(making._executor, "submit", noted)
        await world.advance(STAGE_SECONDS)
        await world.until(lambda: all(host["spec"].get("stage") for host in world.hosts()))
        assert len(plans) == 3
        assert all(plan is not other for plan, other in pairwise(plans)), "each in a plan of its own"
