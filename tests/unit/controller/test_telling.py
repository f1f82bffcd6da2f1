"""What users read: expected wakes, schedules, and the Events of moves and of more or fewer replicas."""

import pytest

from lull.api.quantities import format_duration, parse_duration_seconds
from lull.controller.wire import reported_from, service_from, two_digits
from lull.kube import EVENTS, MODELHOSTS, MODELPOOLS, MODELSERVICES
from lull.policy import Vacate
from lull.policy.expect import HOP_SECONDS
from lull.policy.fleet import Window

from .world import World, pool, service

DEMO = "demo/digits"


@pytest.fixture
async def world():
    async with World() as world:
        world.api.put(MODELPOOLS, pool())
        yield world


def notes(world, reason):
    return [event["note"] for event in world.api.all(EVENTS) if event["reason"] == reason]


async def served(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    await world.rest()


async def test_a_service_says_how_long_a_wake_would_take_and_forgets_no_last_one(world):
    world.api.put(MODELSERVICES, service())
    await world.until(world.asleep)
    await world.rest()
    cold = parse_duration_seconds(world.status()["wake"]["expected"])
    await served(world)
    awake = world.status()["wake"]
    assert (awake["expected"], awake["from"]) == ("0ms", "NewHost")
    world.idle.add(DEMO)
    await world.advance(400)
    await world.until(lambda: world.state() == ["Resident"])
    resident = format_duration(two_digits(HOP_SECONDS))
    await world.until(lambda: world.status()["wake"]["expected"] == resident)
    assert world.status()["wake"]["last"] == awake["last"]
    assert cold > 1


async def test_one_service_s_nap_writes_nothing_of_those_that_sleep_on(world):
    names = [f"sleeper-{n}" for n in range(3)]
    for name in ("digits", *names):
        world.api.put(MODELSERVICES, service(name))
    await world.until(lambda: all(world.asleep(name) for name in ("digits", *names)))
    await world.rest()
    written = []
    world.api.before = lambda verb, _kind, name: verb == "apply" and written.append(name)
    await served(world)
    world.idle.add(DEMO)
    await world.rest()
    for _ in range(5):
        await world.advance(200)
        await world.rest()
    assert not world.hosts()
    assert "digits" in written
    assert not set(written) & set(names)
    cold = parse_duration_seconds(world.status()["wake"]["expected"])
    assert cold > 1, "whose host went is told what a wake takes without"


async def test_a_schedule_that_cannot_be_kept_is_told_while_the_service_stays_ready(world):
    window = {"cron": "0 8 * * 5-1", "duration": "1h"}
    world.api.put(MODELSERVICES, service(schedule=[window]))
    stalled = await world.until(lambda: world.condition("Stalled"))
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSchedule")
    assert "spec.schedule[0] has a cron that cannot be read: '0 8 * * 5-1'" in stalled["message"]
    assert world.condition("Ready")["status"] == "True"
    await served(world)


async def test_more_and_fewer_replicas_are_told_with_the_reason(world):
    world.api.put(MODELSERVICES, service(replicas={"min": 0, "max": 3}, resources={"memory": "3Gi"}))
    await served(world)
    world.busy_percent = 90
    await world.draw(60)
    await world.until(lambda: len(world.models()) == 2)
    await world.until(lambda: notes(world, "Scaled"))
    assert notes(world, "Scaled") == [
        "from 1 to 2 replicas: busy 90% of one replica, of which each takes 80%"
    ]
    world.busy_percent = 10
    await world.draw(60)
    await world.rest()
    assert world.state() == ["Loaded", "Loaded"]
    await world.draw(301)
    await world.until(lambda: world.state() != ["Loaded", "Loaded"])
    await world.until(lambda: len(notes(world, "Scaled")) == 2)
    (fewer,) = (note for note in notes(world, "Scaled") if note.startswith("from 2 to 1 replicas: busy "))
    assert fewer.endswith("fewer replicas have been enough for 5m")


async def test_a_host_that_is_emptied_and_whoever_moves_for_that_are_told_why(world):
    world.api.put(MODELSERVICES, service(idleAfter="1h"))
    await served(world)
    (host,) = (host["metadata"]["name"] for host in world.hosts())
    world.api.put(MODELPOOLS, pool(hosts={"max": 3, "min": 2}))
    await world.until(lambda: len(world.hosts()) == 2)
    await world.rest()
    world.parts.planner._executor.submit(Vacate(host, "all its models fit on others"))
    await world.until(lambda: notes(world, "Moved"))
    assert "being emptied, to be let go: all its models fit on others" in notes(world, "Vacating")[0]
    (moved,) = notes(world, "Moved")
    assert moved.startswith(f"from {host} to default-")
    assert moved.endswith("the host is emptied so that it can go: all its models fit on others")


async def test_when_a_host_goes_is_told_once_though_it_is_an_estimate(world):
    world.api.put(MODELSERVICES, service(idleAfter="60s"))
    await served(world)
    world.idle.add(DEMO)
    await world.advance(100)
    await world.until(lambda: world.state() == ["Resident"])
    await world.rest()
    told = world.status()["next"]
    assert told["action"] == "Unload"
    await world.advance(20)
    await world.rest()
    assert world.status()["next"] == told


def test_schedule_and_objective_are_read():
    spec = {
        "schedule": [{"cron": "0 8 * * 1-5", "timeZone": "Europe/Berlin", "duration": "10h", "min": 2}],
        "objective": {"latency": "250ms", "percentile": 95, "delayedPercent": 1},
    }
    read = service_from(service(**spec))
    assert read.schedule == (Window("0 8 * * 1-5", "Europe/Berlin", 36_000.0, 2),)
    assert (read.latency_seconds, read.percentile, read.delayed_percent) == (0.25, 95, 1)
    plain = service_from(service())
    assert (plain.schedule, plain.latency_seconds, plain.delayed_percent) == ((), None, None)


def test_figures_are_read_in_steps_so_that_their_jitter_is_no_news():
    entry = {
        "id": "a",
        "service": DEMO,
        "state": "Ready",
        "loadSeconds": "1.234",
        "utilization": {"window": "60s", "busyPercent": 32, "queueMilliseconds": 1234, "latencyP99": "1.57s"},
    }
    read = reported_from(entry, "digits")
    assert (read.busy, read.queue_seconds, read.latency_seconds, read.load_seconds) == (0.3, 1.2, 1.6, 1.234)
    bare = reported_from({"id": "a", "service": DEMO, "state": "Ready"}, "digits")
    assert (bare.busy, bare.queue_seconds, bare.latency_seconds, bare.load_seconds) == (0.0, 0.0, None, None)


async def test_what_hosts_said_counts_as_soon_as_a_service_may_have_replicas(world):
    world.api.put(MODELSERVICES, service(replicas={"min": 0, "max": 1}))
    await served(world)
    await world.draw(60)
    (name,) = (host["metadata"]["name"] for host in world.hosts())

    def queues():
        return [report.queue_seconds for report in world.parts.view.hosts[name].reports.values()]

    await world.rest()
    assert queues() == [0.0]
    world.api.put(MODELSERVICES, service(replicas={"min": 0, "max": 2}))
    await world.until(lambda: world.parts.view.services[DEMO].max_replicas == 2)
    assert queues() == [0.002]


async def test_figures_that_decide_nothing_make_no_plan(world):
    world.api.put(MODELSERVICES, service())
    await served(world)
    world.metered = True
    await world.draw(1)
    await world.rest()
    plans = []
    world.parts.planner._on_planned = plans.append
    (host,) = world.hosts()
    name = host["metadata"]["name"]
    status = {**host["status"]}
    (entry,) = status["models"]
    seen = world.parts.view.raw[MODELHOSTS]
    for queue, latency in ((3, "41ms"), (9, "55ms")):
        use = entry["utilization"] | {"queueMilliseconds": queue, "latencyP99": latency, "busyPercent": 31}
        world.api.set_status(
            MODELHOSTS, name, "lull-hosts", status | {"models": [entry | {"utilization": use}]}
        )
        await world.until(lambda told=world.api.now: int(seen[name]["metadata"]["resourceVersion"]) >= told)
    assert world.parts.planner.resting
    assert not plans
