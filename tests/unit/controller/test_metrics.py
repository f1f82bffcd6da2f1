"""What the controller tells Prometheus of its own deeds is what happened."""

import asyncio
import copy
import math
import time

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from lull.api.names import ANNOTATION_DRAIN
from lull.controller import events as events_module
from lull.controller import planner as planner_module
from lull.controller.delays import Delays
from lull.controller.metrics import observe_call
from lull.controller.wakes import Wakes
from lull.kube import MODELHOSTS, MODELPOOLS, MODELSERVICES, ApiError, Kube
from lull.policy import CreateHost, Host, Model, Placement, Pod, Report, Reported, SetModels, State

from .world import World, pool, service


class Count:
    """How far a series has grown since."""

    def __init__(self, name, **labels):
        self.name, self.labels = name, labels
        self.start = self.value

    @property
    def value(self):
        return REGISTRY.get_sample_value(self.name, self.labels) or 0.0

    @property
    def grown(self):
        return self.value - self.start


@pytest.fixture
async def world():
    async with World() as world:
        world.api.put(MODELPOOLS, pool(most=1))
        world.api.put(MODELSERVICES, service())
        yield world


async def awake(world, key="demo/digits"):
    world.hold(key)
    await world.until(lambda: world.routed(key))
    world.release(key)
    await world.rest()


async def asleep(world, key="demo/digits"):
    world.idle.add(key)
    await world.advance(400)
    await world.until(lambda: world.state(key) == ["Resident"])
    await world.rest()


# Wakes.

PLACEMENT = Placement("p", "demo/digits", Model("r", "digits", "file:///m"), 1, 60.0)


class Wake:
    """One wake, told step by step at times of the test's choosing."""

    def __init__(self):
        self.now = 100.0
        self.woken = []
        self.wakes = Wakes(lambda: self.now, lambda _service, woken: self.woken.append(woken))

    def at(self, seconds):
        self.now = 100.0 + seconds
        return self

    def report(self, state, *, pod=Pod.RUNNING, load_seconds=None, reason=""):
        reports = {"p": Reported("p", "demo/digits", "digits", state, reason=reason)} if state else {}
        item = {"status": {"models": [{"id": "p", "loadSeconds": load_seconds}]}}
        self.wakes.look(Host("h", "default", (PLACEMENT,), reports, pod), item)


def test_a_further_replica_of_what_serves_is_no_wake():
    wake = Wake()
    wake.at(0).wakes.began([CreateHost("h2", "default", (PLACEMENT,))], {"demo/digits"})
    wake.at(0.01).report(Report.READY, load_seconds="0.1")
    assert wake.woken == []


def test_the_parts_of_a_wake_on_a_new_host_are_told_apart_and_add_up():
    wake = Wake()
    create = CreateHost("h", "default", (PLACEMENT,))
    wake.at(0).wakes.began([create])
    wake.at(0.5).wakes.written(create)
    wake.at(1.0).report(Report.FETCHING, pod=Pod.STARTING)  # the agent is up before Triton
    wake.at(4.0).report(Report.FETCHING)
    wake.at(6.0).report(Report.LOADING)
    wake.at(9.0).report(Report.READY, load_seconds="2.5")
    (woken,) = wake.woken
    assert woken.source == "NewHost"
    assert woken.parts == {"write": 0.5, "host": 3.5, "fetch": 2.0, "load": 2.5, "report": 0.5}
    assert math.isclose(sum(woken.parts.values()), woken.seconds)


def test_a_model_that_serves_before_its_pod_is_called_ready_leaves_the_rest_to_the_host():
    wake = Wake()
    create = CreateHost("h", "default", (PLACEMENT,))
    wake.at(0).wakes.began([create])
    wake.at(0.5).wakes.written(create)
    wake.at(2).report(Report.READY, pod=Pod.STARTING, load_seconds="0.25")
    (woken,) = wake.woken
    assert woken.parts == {"write": 0.5, "fetch": 0.0, "load": 0.25, "host": 1.25, "report": 0.0}


def test_what_was_loaded_before_is_no_part_of_waking_a_resident():
    wake = Wake()
    resident = Placement("p", "demo/digits", PLACEMENT.model, 1, 60.0, State.RESIDENT)
    turn = SetModels("h", (resident,), (PLACEMENT,))
    wake.at(0).wakes.began([turn])
    wake.at(0.25).wakes.written(turn)
    wake.at(0.5).report(Report.READY, load_seconds="30")
    (woken,) = wake.woken
    assert (woken.source, woken.parts) == ("Loaded", {"write": 0.25, "report": 0.25})


@pytest.mark.parametrize("load_seconds", [None, "0.1", "1000"])
def test_no_part_is_negative_whatever_the_agent_says_and_however_late_it_is_seen(load_seconds):
    wake = Wake()
    place = SetModels("h", (), (PLACEMENT,))
    wake.at(0).wakes.began([place])
    wake.at(1).report(Report.READY, load_seconds=load_seconds)  # seen before the answer of the write
    (woken,) = wake.woken
    assert all(seconds >= 0 for seconds in woken.parts.values())
    assert math.isclose(sum(woken.parts.values()), 1.0)


def test_a_failed_wake_is_counted_by_its_reason_and_the_next_one_starts_anew():
    wake, failed = Wake(), Count("lull_wake_failures_total", reason="LoadFailed")
    other = Count("lull_wake_failures_total", reason="Other")
    place = SetModels("h", (), (PLACEMENT,))
    wake.at(0).wakes.began([place])
    wake.at(1).report(Report.FAILED, reason="LoadFailed")
    wake.at(2).report(Report.FAILED, reason="LoadFailed")
    assert failed.grown == 1
    wake.at(3600).wakes.began([place])
    wake.at(3601).report(Report.READY)
    assert [woken.seconds for woken in wake.woken] == [1.0]
    wake.at(4000).wakes.began([place])
    wake.at(4001).report(Report.FAILED, reason="whatever an agent invents")
    assert other.grown == 1


async def test_a_wake_is_told_with_its_parts_and_one_without_a_place_as_a_failure(world):
    wakes, parts = Count("lull_wake_seconds_sum", source="NewHost"), {}
    for part in ("write", "host", "fetch", "load", "report"):
        parts[part] = Count("lull_wake_part_seconds_sum", part=part)
    unplaced = Count("lull_wake_failures_total", reason="NoSuchPool")
    await awake(world)
    assert math.isclose(sum(count.grown for count in parts.values()), wakes.grown, abs_tol=1e-6)
    world.api.put(MODELSERVICES, service("lost", pool="nowhere"))
    world.hold("demo/lost")
    await world.until(lambda: unplaced.grown == 1)
    await world.rest()
    assert unplaced.grown == 1


# Fences, moves, evictions, sleeps.


async def test_a_service_that_falls_asleep_passes_its_fence(world):
    passed, sleeps = Count("lull_fences_total", outcome="passed"), Count("lull_sleeps_total")
    seconds = Count("lull_fence_seconds_count")
    await awake(world)
    await asleep(world)
    assert (passed.grown, sleeps.grown, seconds.grown) == (1, 1, 1)
    assert REGISTRY.get_sample_value("lull_fences_open") == 0


async def test_a_fence_that_stands_is_open_and_grows_old_and_a_request_ends_it(world):
    given_up = Count("lull_fences_total", outcome="given_up")
    await awake(world)
    world._pilot = lambda _name: None  # the gateways say nothing any more
    world.idle.add("demo/digits")
    await world.advance(400)
    await world.until(lambda: world.state() == ["Draining"])
    await world.until(lambda: REGISTRY.get_sample_value("lull_fences_open") == 1)
    await world.advance(30)
    await world.until(lambda: REGISTRY.get_sample_value("lull_fence_oldest_seconds") >= 30)
    del world._pilot
    world.silent = {"gw-b"}  # it never lets go
    world.hold()
    await world.until(lambda: given_up.grown == 1)
    assert REGISTRY.get_sample_value("lull_fences_open") == 0


async def test_a_drain_that_runs_into_its_deadline_is_cut(world):
    cut, passed = Count("lull_fences_total", outcome="cut"), Count("lull_fences_total", outcome="passed")
    await awake(world)
    world._pilot = lambda _name: None
    world.api.put(MODELSERVICES, service(suspend=True, drainDeadline="20s"))
    await world.until(lambda: world.state() == ["Draining"])
    await world.rest()
    await world.advance(30)
    await world.until(lambda: not world.state())
    await world.until(lambda: cut.grown == 1)
    assert passed.grown == 0


async def test_who_makes_room_for_another_is_evicted_for_room(world):
    evicted = Count("lull_evictions_total", reason="Room")
    world.api.put(MODELSERVICES, service("large", resources={"memory": "3500Mi"}))
    await awake(world)
    await asleep(world)
    await awake(world, "demo/large")
    assert evicted.grown == 1


async def test_a_host_that_is_emptied_moves_what_is_in_use(world):
    moved = Count("lull_moves_total", reason="HostDrained")
    world.api.put(MODELPOOLS, pool(most=2))
    await awake(world)
    (host,) = world.hosts()
    drained = copy.deepcopy(host)
    drained["metadata"]["annotations"] = {ANNOTATION_DRAIN: "true"}
    key = (MODELHOSTS.plural, "lull-hosts", host["metadata"]["name"])
    world.api._update(key, world.api.objects[key], drained)
    await world.until(lambda: moved.grown == 1)
    await world.until(lambda: host["metadata"]["name"] not in [h["metadata"]["name"] for h in world.hosts()])
    assert world.state() == ["Loaded"]


# The planner, the API, Events.


async def test_it_plans_without_any_news_and_writes_nothing_for_it(world, monkeypatch):
    await world.until(world.asleep)
    await world.rest()
    writes, plans = dict(world.api.writes), Count("lull_plan_seconds_count")
    monkeypatch.setattr(planner_module, "LONGEST_SILENCE_SECONDS", 0.02)
    world.parts.planner.done()
    before = time.time()
    await world.until(lambda: plans.grown >= 5)
    assert REGISTRY.get_sample_value("lull_plan_timestamp_seconds") >= before
    assert dict(world.api.writes) == writes


async def test_every_call_of_the_api_is_counted_by_verb_kind_and_code(unused_tcp_port):
    async def answer(request):
        if request.query.get("watch"):
            return web.json_response({"code": 410, "reason": "Expired", "message": "old"}, status=410)
        return web.json_response({"code": 404, "message": "none"}, status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.9", unused_tcp_port).start()
    counts = {
        code: Count("lull_api_requests_total", verb=verb, kind="ModelPool", code=code)
        for verb, code in (("get", "404"), ("watch", "410"), ("patch", "0"))
    }
    async with aiohttp.ClientSession() as session:
        kube = Kube(f"http://127.0.0.9:{unused_tcp_port}", session, 1.0, observe_call)
        kube._authorization_until = math.inf
        assert await kube.get(MODELPOOLS, "p") is None
        with pytest.raises(ApiError):
            await anext(kube.watch(MODELPOOLS, None, "1"))
        await runner.cleanup()
        with pytest.raises(ApiError):
            await kube.merge_patch(MODELPOOLS, "p", None, {})
    assert {code: count.grown for code, count in counts.items()} == {"404": 1, "410": 1, "0": 1}


async def test_events_that_are_dropped_are_counted(monkeypatch):
    dropped = Count("lull_events_dropped_total")
    poster = events_module.EventPoster(None, None, "test")
    for _ in range(events_module.QUEUE_LENGTH + 3):
        poster.cut("demo/digits")
    assert dropped.grown == 3
    await asyncio.sleep(0)


def test_a_gateway_s_delays_count_once_also_of_a_service_that_it_had_forgotten():
    now = 0.0
    delays = Delays(lambda: now)

    def gateway(**totals):
        return {"metadata": {"uid": "g"}, "status": {"delayed": {f"demo/{k}": v for k, v in totals.items()}}}

    delays.meet(gateway(a=5))
    assert delays.see(gateway(a=5)) == {}
    assert delays.see(gateway(a=7, b=1)) == {"demo/a": 2, "demo/b": 1}
    assert delays.see(gateway(b=1)) == {}
    assert delays.see(gateway(a=3, b=1)) == {"demo/a": 3}
