"""The status writer alone: what it writes, in which order, and what stays as it was told."""

import asyncio
import copy
import time
from itertools import pairwise

import pytest

from lull.controller import status as status_module
from lull.controller.carbon import Carbon
from lull.controller.ledger import Ledger
from lull.controller.rollouts import Rollouts
from lull.controller.status import StatusWriter
from lull.controller.view import View
from lull.kube import MODELPOOLS, MODELSERVICES

from .world import World, pool, service


class Slow:
    """An API server whose writes land in the order in which `release` lets them."""

    def __init__(self):
        self.asked, self.landed = [], []

    async def apply(self, kind, body, **_):
        done = asyncio.Event()
        self.asked.append((kind, body["status"], done))
        await done.wait()
        self.landed.append(body["status"])
        return body


def known(kind, item, name):
    return copy.deepcopy(item) | {
        "metadata": item["metadata"] | {"uid": f"uid-{name}", "resourceVersion": "1", "generation": 1}
    }


@pytest.fixture
async def writer():
    view, kube = View(), Slow()
    view.raw[MODELSERVICES]["demo/digits"] = known(MODELSERVICES, service(), "s")
    view.raw[MODELPOOLS]["default"] = known(MODELPOOLS, pool(), "p")
    view.update = lambda *_: None

    def clock():
        return 1_000_000.0

    ledger = Ledger(view, clock, Carbon(kube, view, clock))
    rollouts = Rollouts(view, clock, lambda *_: None)
    statuses = StatusWriter(kube, view, ledger, rollouts, clock, lambda _: None)
    running = asyncio.create_task(statuses.run())
    yield statuses, view, kube
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def test_of_one_object_no_two_writes_are_under_way_so_that_the_newest_lands_last(writer):
    statuses, view, kube = writer
    item = view.raw[MODELSERVICES]["demo/digits"]
    statuses._want(MODELSERVICES, "demo/digits", item, {"state": "Waking"})
    await until(lambda: len(kube.asked) == 1)
    statuses._want(MODELSERVICES, "demo/digits", item, {"state": "Serving"})
    statuses._want(MODELPOOLS, "default", view.raw[MODELPOOLS]["default"], {"busyPercent": 1})
    await until(lambda: len(kube.asked) == 2)
    assert kube.asked[1][0] is MODELPOOLS
    assert statuses.pending == 3
    kube.asked[0][2].set()
    await until(lambda: len(kube.asked) == 3)
    kube.asked[2][2].set()
    kube.asked[1][2].set()
    await until(lambda: not statuses.pending)
    states = [told["state"] for told in kube.landed if "state" in told]
    assert states == ["Waking", "Serving"]


async def test_figures_leave_conditions_at_the_generation_that_a_plan_saw(writer):
    statuses, view, _ = writer
    item = view.raw[MODELSERVICES]["demo/digits"]
    ready = {"type": "Ready", "status": "True", "observedGeneration": 1, "lastTransitionTime": "t"}
    objective = ready | {"type": "ObjectiveMet", "status": "Unknown"}
    item["metadata"]["generation"] = 2
    told = {"observedGeneration": 1, "conditions": [ready, objective]}
    asked_of = {"requestsPerMinute": 60, "latencyP99": "1ms"}
    first, second = statuses._with_objective(item, told, asked_of)
    assert first == ready
    assert (second["type"], second["observedGeneration"]) == ("ObjectiveMet", 2)


async def test_pools_are_written_before_the_services_that_owe_by_their_meters(monkeypatch):
    monkeypatch.setattr(status_module, "CONCURRENT_WRITES", 1)
    world, written = World(), []
    world.api.before = lambda verb, kind, _: verb == "apply" and written.append(kind)
    world.api.put(MODELSERVICES, service())
    world.api.put(MODELPOOLS, pool())
    async with world:
        await world.until(world.asleep)
    of_users = [getattr(kind, "plural", kind) for kind in written]
    first = {plural: of_users.index(plural) for plural in ("modelpools", "modelservices")}
    assert first["modelpools"] < first["modelservices"]


async def test_figures_of_a_large_fleet_leave_the_loop_its_turns():
    view = View()
    ledger = Ledger(view, time.time, Carbon(Slow(), view, time.time))
    rollouts = Rollouts(view, time.time, lambda *_: None)
    writer = StatusWriter(Slow(), view, ledger, rollouts, time.time, lambda _: "")
    gone = ledger.changed[MODELSERVICES]
    gone |= {f"demo/{n}" for n in range(5 * status_module.LOOKED_AT_ONCE)}
    left = [len(gone)]
    refreshing = asyncio.create_task(writer.refresh())
    while not refreshing.done():
        await asyncio.sleep(0)
        left.append(len(gone))
    told = [before - after for before, after in pairwise(left)]
    assert max(told) == status_module.REFRESHED_AT_ONCE
    assert sum(told) == 5 * status_module.REFRESHED_AT_ONCE, "the larger the fleet, the more of it at a time"
