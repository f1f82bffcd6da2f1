"""The parts behind the figures: sums, shares of delayed requests, pace, objectives and carbon."""

import base64
import json

import pytest

from lull.api.pool import PoolLedger
from lull.api.service import Ledger
from lull.controller import carbon as carbon_module
from lull.controller.books import account_from, account_to, pool_account_from, pool_account_to
from lull.controller.carbon import Carbon, forecasts_from
from lull.controller.delays import Delays, percent_up
from lull.controller.hostpod import host_pod
from lull.controller.pace import Pace
from lull.controller.reports import Reports
from lull.controller.use import objective_met, pool_use, utilization
from lull.controller.view import View
from lull.kube import EVENTS, MODELHOSTS, MODELPOOLS, MODELSERVICES, ApiError
from lull.policy.energy import Account, PoolAccount, Share

from .fake_api import FakeApi
from .world import World, pool, service

KEY = "demo/digits"


def said(**figures):
    return {"utilization": {"window": "60s", "requestsPerMinute": 60} | figures}


def gateway(delayed):
    return {"metadata": {"name": "g", "uid": "g"}, "status": {"delayed": {KEY: delayed}}}


class Time:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


# Utilization.


def test_replicas_add_up_and_the_slowest_gives_the_latency():
    entries = [
        said(busyPercent=40, queueMilliseconds=10, latencyP99="90ms", batchSize="4.0"),
        said(busyPercent=20, queueMilliseconds=2, latencyP99="1.2s", batchSize="2.0", requestsPerMinute=180),
    ]
    told = utilization(entries, 100 * 2**20, 0.021)
    assert told == {
        "window": "60s",
        "requestsPerMinute": 240,
        "busyPercent": 60,
        "busy": "60%",
        "queueMilliseconds": 4,
        "batchSize": "2.3",
        "latencyP99": "1.2s",
        "failedPercent": 0,
        "delayedPercent": 3,
        "memory": "100Mi",
    }


def test_without_requests_there_is_no_latency_to_tell():
    told = utilization([said(requestsPerMinute=0, latencyP99="90ms")], None, None)
    assert told == {"window": "60s", "requestsPerMinute": 0, "busyPercent": 0, "busy": "0%"}


def test_one_failure_in_many_is_not_rounded_away():
    told = utilization([said(requestsPerMinute=999, failuresPerMinute=1)], None, None)
    assert told["failedPercent"] == 1


def test_a_pool_with_silent_hosts_says_nothing_of_their_draw():
    assert pool_use([{"spec": {}, "status": {}}]).milliwatts is None


# The objective.


@pytest.mark.parametrize(
    ("objective", "figures", "status"),
    [
        (None, {"latencyP99": "1ms"}, "Unknown"),
        ({"latency": "30ms"}, {}, "Unknown"),
        ({"latency": "30ms"}, {"latencyP99": "30ms"}, "True"),
        ({"latency": "30ms"}, {"latencyP99": "31ms"}, "False"),
        ({"latency": "30ms", "percentile": 90}, {"latencyP95": "20ms", "latencyP99": "90ms"}, "True"),
        ({"latency": "30ms", "percentile": 50}, {"latencyP50": "40ms"}, "False"),
        ({"latency": "30ms"}, {"latencyP99": "3ms", "delayedPercent": 6}, "False"),
        ({"delayedPercent": 10}, {"delayedPercent": 10}, "True"),
    ],
)
def test_an_objective_is_met_if_all_that_is_measured_is(objective, figures, status):
    assert objective_met({"objective": objective} if objective else {}, figures)[0] == status


# Delayed requests.


def test_the_delayed_share_is_of_the_last_hour():
    clock = Time()
    delays = Delays(clock)
    delays.see(gateway(0))
    delays.answered(KEY, 100)
    assert delays.see(gateway(2)) == {KEY: 2}
    assert delays.ratio(KEY) == pytest.approx(0.02)
    clock.now += 3700
    assert delays.ratio(KEY) is None
    delays.answered(KEY, 10)
    assert delays.ratio(KEY) == 0


def test_what_a_gateway_counted_before_the_controller_came_is_no_news():
    delays = Delays(Time())
    delays.meet(gateway(7))
    assert not delays.see(gateway(7))
    assert delays.see(gateway(9)) == {KEY: 2}


def test_a_gateway_that_comes_later_counts_whole_and_one_that_restarts_anew():
    delays = Delays(Time())
    assert delays.see(gateway(3)) == {KEY: 3}
    assert delays.see(gateway(1)) == {KEY: 1}


def test_what_a_gateway_dropped_for_a_while_starts_anew():
    delays = Delays(Time())
    delays.meet(gateway(50))
    delays.see({"metadata": {"uid": "g"}})
    assert delays.see(gateway(2)) == {KEY: 2}


def test_more_delayed_than_answered_is_all_of_them():
    delays = Delays(Time())
    delays.see(gateway(3))
    assert delays.ratio(KEY) is None
    delays.answered(KEY, 1)
    assert delays.ratio(KEY) == 1
    delays.keep({KEY})
    assert delays.ratio(KEY) == 1
    delays.keep(set())
    assert delays.ratio(KEY) is None


def test_shares_are_rounded_up_but_exact_ones_stay():
    assert [percent_up(share) for share in (0, 0.0001, 0.05, 0.07, 1.0, 1.5)] == [0, 1, 5, 7, 100, 100]


# Pace.


def test_a_thousand_objects_are_spread_over_the_30_seconds():
    pace = Pace()
    uids = [f"uid-{n}" for n in range(1000)]
    written = []
    for second in range(61):
        due = [uid for uid in uids if pace.due(uid, 100.0 + second)]
        for uid in due:
            pace.wrote(uid, 100.0 + second)
        written.append(len(due))
    assert sum(written) >= 2000
    assert max(written) < 80


# Carbon.


def intensities(*entries, form="binaryData"):
    text = json.dumps([{"timestamp": at, "duration": 60, "value": value} for at, value in entries])
    value = base64.b64encode(text.encode()).decode() if form == "binaryData" else text
    return {"metadata": {"name": "carbon"}, form: {"data": value}}


@pytest.mark.parametrize("form", ["binaryData", "data"])
def test_intensities_are_read_in_the_form_of_the_carbon_aware_keda_operator(form):
    (found,) = forecasts_from(intensities(("2026-11-22T07:00:00Z", 412.5), form=form))
    assert found.grams_per_kilowatt_hour == 412.5
    assert found.end - found.begin == 3600


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (None, "no such ConfigMap"),
        ({}, "it lacks 'data'"),
        ({"binaryData": {"data": "%%"}}, "cannot be read"),
        ({"data": {"data": "{}"}}, "holds no list"),
        ({"data": {"data": "[1]"}}, "cannot be read"),
        ({"data": {"data": '[{"timestamp": "2026-11-22T07:00:00Z"}]'}}, "it lacks 'duration'"),
        (
            {"data": {"data": '[{"timestamp": "2026-11-22T07:00:00", "duration": 5, "value": 1}]'}},
            "time zone",
        ),
        (
            {"data": {"data": '[{"timestamp": "2026-11-22T07:00:00Z", "duration": 5, "value": -1}]'}},
            "no minutes",
        ),
        ({"data": {"data": '[{"timestamp": "soon", "duration": 5, "value": 1}]'}}, "cannot be read"),
        ({"data": "x"}, "cannot be read"),
        ({"data": {"data": "[" * 200_000}}, "cannot be read"),
    ],
)
def test_a_broken_configmap_is_told_in_words(item, words):
    assert words in forecasts_from(item)


async def test_the_hours_number_is_taken_and_else_the_pools_own():
    api, view, clock = FakeApi(), View(), Time()
    item = api.put(MODELPOOLS, pool(carbon={"configMapName": "carbon", "gramsPerKilowattHour": 360}))
    view.offer(MODELPOOLS, item)
    carbon = Carbon(api, view, clock)
    assert "not read yet" in carbon.of(item).trouble[1]
    clock.now = 1_795_330_800.0 + 60  # 2026-11-22T07:00:00Z and a minute
    configured = intensities(("2026-11-22T07:00:00Z", 720))
    configured["metadata"]["namespace"] = "lull-system"
    api.objects["configmaps", "lull-system", "carbon"] = configured
    await carbon.read()
    assert carbon.of(item).trouble is None
    assert carbon.of(item).milligrams_per_joule == pytest.approx(0.2)
    clock.now += 3600
    assert carbon.of(item).milligrams_per_joule == pytest.approx(0.1)
    reason, message = carbon.of(item).trouble
    assert reason == "ConfigMapNotUsable"
    assert "no entry for the present time" in message
    assert "360 g/kWh of spec.carbon is taken" in message


async def test_the_entry_that_began_last_is_taken_in_whatever_order_they_come():
    api, view, clock = FakeApi(), View(), Time()
    item = api.put(MODELPOOLS, pool(carbon={"configMapName": "carbon"}))
    view.offer(MODELPOOLS, item)
    carbon = Carbon(api, view, clock)
    configured = intensities(*((f"2026-11-22T{hour:02}:00:00Z", 360 * hour) for hour in (9, 7, 8)))
    configured["metadata"]["namespace"] = "lull-system"
    api.objects["configmaps", "lull-system", "carbon"] = configured
    await carbon.read()
    for hour in (7, 8, 9):
        clock.now = 1_795_330_800.0 + 3600 * (hour - 7)
        assert carbon.of(item).milligrams_per_joule == pytest.approx(0.1 * hour)
    clock.now = 1_795_330_800.0 - 1
    assert carbon.of(item).milligrams_per_joule is None


async def test_what_was_read_stays_while_the_api_server_does_not_answer():
    api, view, clock = FakeApi(), View(), Time()
    item = api.put(MODELPOOLS, pool(carbon={"configMapName": "carbon"}))
    view.offer(MODELPOOLS, item)
    carbon = Carbon(api, view, clock)

    def refuse(*_):
        raise ApiError(0, "Unreachable", "no answer")

    api.before = refuse
    await carbon.read()
    assert "no answer" in carbon.of(item).trouble[1]
    api.before = lambda *_: None
    await carbon.read()
    assert "no such ConfigMap" in carbon.of(item).trouble[1]
    assert "carbon is not counted meanwhile" in carbon.of(item).trouble[1]


async def test_no_pool_with_a_configmap_no_question():
    api, view = FakeApi(), View()
    view.offer(MODELPOOLS, api.put(MODELPOOLS, pool(carbon={"gramsPerKilowattHour": 360})))
    asked = []
    api.before = lambda verb, *_: asked.append(verb)
    await Carbon(api, view, Time()).read()
    assert not asked
    assert carbon_module.POLL_SECONDS >= 60


async def test_a_pool_says_why_its_carbon_is_not_known_and_goes_on():
    async with World() as world:
        world.api.put(MODELPOOLS, pool(carbon={"configMapName": "carbon"}))
        world.api.put(MODELSERVICES, service())
        await world.until(world.asleep)
        await world.rest()
        conditions = {c["type"]: c for c in world.pool_status()["conditions"]}
        assert conditions["CarbonKnown"]["status"] == "False"
        assert "ConfigMap carbon: there is no such ConfigMap" in conditions["CarbonKnown"]["message"]
        assert conditions["Ready"]["status"] == "True"


# What agents are told.


def power_of(**spec):
    item = pool(**spec)
    host = {"metadata": {"name": "h", "uid": "u"}}
    (agent,) = host_pod(host, item, "image")["spec"]["initContainers"]
    return next((json.loads(e["value"]) for e in agent["env"] if e["name"] == "LULL_POWER"), None)


def test_the_agent_is_told_the_products_power_and_the_pools_settings_before_it():
    accelerator = {"memory": "80Gi", "product": "NVIDIA-H100-80GB-HBM3"}
    node = {"nodeWatts": 400, "hostsPerNode": 8, "idleWatts": 70}
    told = power_of(accelerator=accelerator, power=node)
    assert told == {"idle": 70.0, "context": 50.0, "max": 700.0, "node": 50.0}


def test_the_agent_is_told_nothing_where_nothing_is_known():
    assert power_of() is None


# Events.


def notes(world, reason):
    return [e["note"] for e in world.api.all(EVENTS) if e["reason"] == reason]


async def test_events_say_how_a_service_woke_fell_asleep_and_lost_its_place():
    async with World() as world:
        world.api.put(MODELPOOLS, pool(emptyAfter="60s"))
        world.api.put(MODELSERVICES, service())
        await world.until(world.asleep)
        world.hold()
        await world.until(world.routed)
        world.release()
        await world.until(lambda: notes(world, "Woke"))
        (host,) = (h["metadata"]["name"] for h in world.hosts())
        assert notes(world, "Woke")[0].endswith(f"on {host}; it was loaded on a new host")
        world.idle.add(KEY)
        await world.rest()
        await world.advance(400)
        await world.until(lambda: notes(world, "FellAsleep"))
        (note,) = notes(world, "FellAsleep")
        assert note.startswith(f"asleep, still in memory on {host}")
        assert note.endswith("; a request wakes it")
        await world.rest()
        await world.advance(70)
        await world.until(lambda: notes(world, "Evicted"))
        assert f"unloaded from {host} while asleep, as the host was let go" in notes(world, "Evicted")[0]


async def test_an_eviction_names_for_whom_room_was_made():
    async with World() as world:
        world.api.put(MODELPOOLS, pool(most=1, memory="2Gi"))
        world.api.put(MODELSERVICES, service(resources={"memory": "1Gi"}))
        world.api.put(MODELSERVICES, service("other", resources={"memory": "1Gi"}))
        world.hold()
        await world.until(world.routed)
        world.release()
        world.idle.add(KEY)
        await world.rest()
        await world.advance(400)
        await world.until(lambda: world.state() == ["Resident"])
        world.hold("demo/other")
        await world.until(lambda: world.routed("demo/other"))
        world.release("demo/other")
        await world.until(lambda: notes(world, "Evicted"))
        assert "to make room for demo/other; the next request loads it again" in notes(world, "Evicted")[0]


async def test_a_sleeper_that_failed_is_not_said_to_have_made_room():
    async with World() as world:
        world.api.put(MODELPOOLS, pool())
        world.api.put(MODELSERVICES, service())
        world.hold()
        await world.until(world.routed)
        world.release()
        world.idle.add(KEY)
        await world.rest()
        await world.advance(400)
        await world.until(lambda: world.state() == ["Resident"])
        world.outcome[KEY] = ("Failed", "Unsigned", "nobody signed it")
        await world.until(lambda: world.state() == [])
        await world.rest()
        assert not notes(world, "Evicted")


async def test_a_move_says_from_where_to_where_and_why():
    async with World() as world:
        world.api.put(MODELPOOLS, pool())
        world.api.put(MODELSERVICES, service())
        world.hold()
        await world.until(world.routed)
        world.release()
        await world.rest()
        (host,) = world.hosts()
        name = host["metadata"]["name"]
        host["metadata"]["annotations"] = {"lull.dev/drain": "true"}
        world.api._store(("modelhosts", "lull-hosts", name), dict(host), "MODIFIED")
        await world.until(lambda: notes(world, "Moved"))
        (note,) = notes(world, "Moved")
        assert note.startswith(f"from {name} to default-")
        assert note.endswith("the host is being drained")
        assert len(notes(world, "Woke")) == 1


def test_a_host_that_is_being_deleted_gives_no_figures_but_its_totals():
    view = View()
    entry = {"id": "a", "service": KEY, "energy": {"idleMilliwatts": 20_000}}
    metadata = {"name": "h", "resourceVersion": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    host = {"metadata": metadata, "spec": {"pool": "p", "models": [entry]}, "status": {"models": [entry]}}
    view.raw[MODELHOSTS]["h"] = host
    reports = Reports(view)
    reports.take("h")
    assert reports.kept(KEY) == []
    assert list(reports.of(KEY)) == [(host, entry)]
    assert reports.present(KEY) == {"a"}


def test_years_of_a_large_pool_fit_the_integers_of_the_api_and_read_back_exactly():
    many = 700_000 * 3600 * 24 * 365 * 5 * 10**6 + 123_456
    pool_account = PoolAccount(1_000_000_000_001, baseline_microjoules=many)
    account = Account(baseline=Share(0, many), overhead=Share(0, many + 1))
    of_pool, of_service = pool_account_to(pool_account), account_to(account, "p", 1_000_000.0)
    for told in (of_pool, of_service):
        assert max(value for value in told.values() if isinstance(value, int)) < 2**63
    assert PoolLedger.model_validate(of_pool).baseline_microjoules == 123_456
    assert Ledger.model_validate(of_service).overhead_microjoules == 123_457
    assert pool_account_from(of_pool) == pool_account
    assert account_from(of_service) == account
