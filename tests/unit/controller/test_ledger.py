"""What services and pools use, draw and save, through the real controller: exact, and seldom written."""

import itertools

import pytest

from lull.controller import planner, status
from lull.kube import MODELGATEWAYS, MODELHOSTS, MODELPOOLS, MODELSERVICES

from .world import World, pool, service

POWER = {"idleWatts": 16, "contextWatts": 21, "maxWatts": 72}
WRITES = ("apply", "modelservices")
POOL_WRITES = ("apply", "modelpools")


@pytest.fixture
async def world(monkeypatch):
    monkeypatch.setattr(status, "REFRESH_SECONDS", 0.003)
    async with World() as world:
        world.api.put(MODELPOOLS, pool(power=POWER))
        world.api.put(MODELSERVICES, service())
        yield world


async def serve(world, name="digits"):
    world.hold(f"demo/{name}")
    await world.until(lambda: world.routed(f"demo/{name}"))
    world.release(f"demo/{name}")
    await world.rest()


async def rest_asleep(world):
    """Let everything fall asleep; its models stay in memory as long as its hosts are kept."""
    world.idle |= {
        f"{s['metadata']['namespace']}/{s['metadata']['name']}" for s in world.api.all(MODELSERVICES)
    }
    await world.rest()
    await world.advance(400)
    await world.until(world.asleep)
    await world.rest()


def joules(world, name="digits"):
    ledger = world.status(name)["ledger"]
    return ledger["idleJoules"] + ledger["dynamicJoules"]


def figures_of(world, name="digits"):
    return dict(world.parts.ledger.services())[f"demo/{name}"]


async def refreshed(world):
    """Let the status writer look at what changed."""
    await world.rest()


async def test_a_serving_service_says_what_it_does_and_draws(world):
    await serve(world)
    await world.draw(60)
    await refreshed(world)
    told = world.status()
    assert told["utilization"] == {
        "window": "60s",
        "requestsPerMinute": 120,
        "busyPercent": 30,
        "busy": "30%",
        "queueMilliseconds": 2,
        "latencyP99": "40ms",
        "failedPercent": 0,
        "delayedPercent": 0,
        "memory": "112Mi",
    }
    energy = told["energy"]
    assert energy["watts"] == "25"
    assert energy["wattHours"] == "0.417"
    assert energy["dynamicWattHours"] == "0.0833"
    assert (energy["milliwatts"], energy["idleMilliwatts"]) == (25_000, 20_000)
    assert told["ledger"]["requests"] == 120
    assert energy["basis"] == "Modelled"


async def test_figures_alone_are_written_at_most_once_in_30_seconds(world):
    await serve(world)
    writes = world.api.writes[WRITES]
    pool_writes = world.api.writes[POOL_WRITES]
    for _ in range(120):
        await world.draw(1)
        await refreshed(world)
    assert 3 <= world.api.writes[WRITES] - writes <= 5
    assert 3 <= world.api.writes[POOL_WRITES] - pool_writes <= 5


async def test_a_write_that_was_slow_keeps_the_next_one_30_seconds_away(world):
    await serve(world)
    landed = []

    def slowly(verb, kind, _):
        if (verb, kind) == WRITES:
            world.time += 0 if landed else 20
            landed.append(world.time)

    world.api.after = slowly
    for _ in range(40):
        await world.draw(2)
        await refreshed(world)
    assert len(landed) > 1
    assert min(later - before for before, later in itertools.pairwise(landed)) >= 30


async def test_figures_alone_make_no_plan(world, monkeypatch):
    await serve(world)
    await world.draw(30)
    await refreshed(world)
    plans = []
    plan = planner.plan
    monkeypatch.setattr(planner, "plan", lambda *given: plans.append(1) or plan(*given))
    for meter in world.meters.values():
        meter[0] += 100
    world.step()
    await refreshed(world)
    assert not plans
    assert not world.parts.planner._changed.is_set()


async def test_figures_that_stand_still_cost_no_writes(world):
    await serve(world)
    await world.draw(60)
    await refreshed(world)
    await world.advance(31)
    await refreshed(world)
    writes = dict(world.api.writes)
    for _ in range(5):
        await world.advance(31)
        await refreshed(world)
    assert dict(world.api.writes) == writes


async def test_a_sleeping_service_costs_no_writes_though_it_is_in_memory_and_draws(world):
    await serve(world)
    await world.draw(60)
    await rest_asleep(world)
    assert world.state() == ["Resident"]
    writes = world.api.writes[WRITES]
    for _ in range(5):
        await world.draw(7)
        await refreshed(world)
    assert world.api.writes[WRITES] == writes


async def test_what_falls_asleep_reads_zero_and_remembers_its_size(world):
    await serve(world)
    await world.draw(60)
    await rest_asleep(world)
    told = world.status()
    assert told["utilization"]["busy"] == "0%"
    assert told["utilization"]["requestsPerMinute"] == 0
    assert told["utilization"]["memory"] == "0"
    assert told["revisions"][0]["memory"] == "112Mi"
    await world.advance(70)
    await world.until(lambda: not world.hosts())
    await refreshed(world)
    await world.advance(31)
    await refreshed(world)
    assert world.status()["energy"]["watts"] == "0"
    assert world.pool_status()["energy"]["watts"] == "0"


async def test_what_was_drawn_on_a_host_that_went_is_written_once_more_and_then_nothing(world):
    await serve(world)
    await world.draw(60)
    await rest_asleep(world)
    await world.draw(10)
    await world.advance(70)
    await world.until(lambda: not world.hosts())
    for _ in range(2):
        await world.advance(31)
        await refreshed(world)
    assert world.status()["ledger"]["counted"] == []
    assert world.pool_status()["ledger"]["counted"] == []
    assert joules(world) == 25 * 60 + 20 * 10
    writes = dict(world.api.writes)
    for _ in range(4):
        await world.advance(31)
        await refreshed(world)
    assert dict(world.api.writes) == writes


async def test_what_a_host_draws_while_its_pod_ends_is_charged_too(world):
    await serve(world)
    await world.draw(60)
    await rest_asleep(world)
    world.api.collects = False
    await world.advance(70)
    (host,) = await world.until(lambda: [h for h in world.hosts() if "deletionTimestamp" in h["metadata"]])
    await world.draw(10)
    await world.until(lambda: not world.parts.view.hosts)
    world.api.remove("modelhosts", "lull-hosts", host["metadata"]["name"])
    for _ in range(2):
        await world.advance(31)
        await refreshed(world)
    assert joules(world) == 25 * 60 + 20 * 10
    assert world.pool_status()["ledger"]["joules"] == 42 * 60 + 37 * 10
    assert world.pool_status()["hosts"] == {"total": 0, "ready": 0}


async def test_the_saved_energy_of_what_sleeps_grows_unwritten(world):
    await serve(world)
    await world.draw(60)
    await rest_asleep(world)
    await world.advance(70)
    await world.until(lambda: not world.hosts())
    before = figures_of(world)
    await world.advance(1000)
    after = figures_of(world)
    assert after.baseline_joules - before.baseline_joules == pytest.approx(37_000, rel=1e-3)
    assert after.idle_joules == before.idle_joules
    await world.stop()
    await world.start()
    await world.until(lambda: list(world.parts.ledger.services()))
    again = figures_of(world)
    assert again.baseline_joules == pytest.approx(after.baseline_joules, abs=0.1)
    assert again.baseline_joules >= after.baseline_joules - 0.01


async def test_a_controller_that_dies_at_any_write_loses_and_doubles_nothing(world):
    await serve(world)
    seen = 0
    for round_ in range(12):
        die_at, count = round_, 0
        dead = []

        def after(verb, plural, name, die_at=die_at, dead=dead):
            nonlocal count
            if verb == "apply":
                count += 1
                if count > die_at % 3:
                    dead.append(name)

        world.api.after = after
        await world.draw(31)
        await refreshed(world)
        if dead:
            await world.stop()
            world.api.after = lambda *_: None
            await world.draw(11)
            await world.start()
            await world.until(lambda: list(world.parts.ledger.services()))
            await world.rest()
        world.api.after = lambda *_: None
        figures = figures_of(world)
        truth = [sum(meter[part] for meter in world.meters.values()) for part in range(3)]
        assert [figures.idle_joules, figures.dynamic_joules, figures.requests] == truth
        assert dict(world.parts.ledger.pools())["default"].joules == sum(
            joules for joules, *_ in world.host_joules.values()
        )
        assert figures.baseline_joules >= seen
        seen = figures.baseline_joules


async def test_an_older_state_of_a_host_is_charged_to_nobody(world):
    await serve(world)
    await world.draw(60)
    await refreshed(world)
    (host,) = world.hosts()
    old = dict(host) | {"metadata": host["metadata"] | {"resourceVersion": "1"}}
    old["status"] = {"models": []}
    world.parts.planner.see(MODELHOSTS, host["metadata"]["name"], old)
    assert figures_of(world).idle_joules == 1200


async def test_a_new_service_of_an_old_name_pays_nothing_of_the_old_ones(world):
    await serve(world)
    await world.draw(60)
    await refreshed(world)
    world.api.remove("modelservices", "demo", "digits")
    world.api.put(MODELSERVICES, service())
    await world.rest()
    figures = figures_of(world)
    assert (figures.idle_joules, figures.requests) == (0, 0)
    await world.draw(10)
    await refreshed(world)
    figures = figures_of(world)
    assert (figures.idle_joules, figures.requests) == (200, 20)


async def test_two_services_share_the_baseline_by_memory(world):
    world.api.put(MODELSERVICES, service("large", resources={"memory": "336Mi"}))
    await serve(world)
    await serve(world, "large")
    await world.draw(60)
    await refreshed(world)
    small, large = (world.status(name)["energy"]["baselineMilliwatts"] for name in ("digits", "large"))
    assert small - 5_000 == pytest.approx(37_000 * 112 / 448, abs=20)
    assert large - 5_000 == pytest.approx(37_000 * 336 / 448, abs=20)
    assert small + large - 10_000 <= 37_000


async def test_services_owe_by_memory_what_hosts_draw_for_nobody_also_asleep_and_over_restarts(world):
    world.api.put(MODELSERVICES, service("large", resources={"memory": "336Mi"}))
    await serve(world)
    await serve(world, "large")
    await rest_asleep(world)
    await world.stop()
    await world.draw(100)
    await world.start()
    await world.until(lambda: list(world.parts.ledger.services()))
    await world.draw(100)
    await refreshed(world)
    drawn = sum(unallocated for *_, unallocated in world.host_joules.values())
    small, large = figures_of(world), figures_of(world, "large")
    assert drawn >= 200 * 17
    assert small.overhead_joules == pytest.approx(drawn * 112 / 448, abs=1)
    assert large.overhead_joules == pytest.approx(drawn * 336 / 448, abs=1)
    pool_figures = world.parts.ledger.pools()["default"]
    saved = [f.baseline_joules - f.idle_joules - f.dynamic_joules - f.overhead_joules for f in (small, large)]
    assert sum(saved) <= pool_figures.baseline_joules - pool_figures.joules
    assert sum(saved) == pytest.approx(pool_figures.baseline_joules - pool_figures.joules, abs=1)


async def test_a_service_says_at_what_rate_it_saves(world):
    await serve(world)
    await world.draw(60)
    await rest_asleep(world)
    told = world.status()["energy"]
    assert told["savingMilliwatts"] == told["baselineMilliwatts"] - told["milliwatts"] - 17_000
    told = world.pool_status()["energy"]
    assert told["savingMilliwatts"] == told["baselineMilliwatts"] - told["milliwatts"]


async def test_a_pool_says_why_nobody_knows_its_energy(world):
    world.api.put(MODELPOOLS, pool("dark"))
    world.api.put(MODELSERVICES, service("moth", pool="dark"))
    await world.rest()

    def known(name):
        conditions = world.pool_status(name)["conditions"]
        return next((c for c in conditions if c["type"] == "EnergyKnown"), None)

    assert known("default") is None
    assert (known("dark")["status"], known("dark")["reason"]) == ("False", "NoPowerProfile")
    assert "set idleWatts, contextWatts and maxWatts in spec.power" in known("dark")["message"]


async def test_without_known_power_nothing_is_said_of_energy(world):
    world.api.put(MODELPOOLS, pool("dark"))
    world.api.put(MODELSERVICES, service("moth", pool="dark"))
    await serve(world, "moth")
    assert "energy" not in world.status("moth")
    assert "energy" not in world.pool_status("dark")
    figures = figures_of(world, "moth")
    assert figures.watts is None
    assert figures.baseline_joules is None


async def test_a_service_that_cannot_be_read_keeps_its_account(world):
    await serve(world)
    await world.draw(60)
    await refreshed(world)
    drawn = joules(world)
    broken = service(idleAfter="soon")
    world.api.put(MODELSERVICES, broken)
    await world.until(lambda: world.condition("Stalled").get("reason") == "Invalid")
    await world.rest()
    assert joules(world) == drawn
    world.api.put(MODELSERVICES, service())
    await world.until(lambda: world.condition("Stalled").get("reason") == "Fine")
    await world.rest()
    assert joules(world) >= drawn
    assert figures_of(world).idle_joules == 1200


async def test_the_pool_says_what_its_hosts_use_draw_and_emit(world):
    carbon = {"gramsPerKilowattHour": 360, "puePercent": 200}
    world.api.put(MODELPOOLS, pool(power=POWER, carbon=carbon))
    await serve(world)
    await world.draw(60)
    await refreshed(world)
    told = world.pool_status()
    assert told["busy"] == {"supplyPercent": 100, "usedPercent": 30}
    assert told["busyPercent"] == 30
    energy = told["energy"]
    assert energy["watts"] == "42"
    assert told["ledger"]["joules"] == 42 * 60
    assert energy["gramsCO2e"] == "0.504"
    # 42 W at 2 requests a second; packed perfectly the one host draws 37 W and 5 W for computing.
    assert energy["gramsCO2ePerRequest"] == "0.0042"
    assert energy["gramsCO2ePerRequestPacked"] == "0.0042"
    assert world.status()["energy"]["gramsCO2e"] == "0.3"


async def test_the_objective_is_judged_by_figures_and_stands_until_the_next(world):
    world.api.put(MODELSERVICES, service(objective={"latency": "30ms"}))
    await serve(world)
    assert world.condition("ObjectiveMet")["status"] == "Unknown"
    await world.draw(60)
    await refreshed(world)
    assert world.condition("ObjectiveMet")["status"] == "False"
    assert "latency is 40ms at p99, above 30ms" in world.condition("ObjectiveMet")["message"]
    await rest_asleep(world)
    assert world.condition("ObjectiveMet")["status"] == "False"


async def test_an_objective_that_comes_later_waits_for_figures(world):
    await serve(world)
    world.api.put(MODELSERVICES, service(objective={"latency": "50ms"}))
    await world.until(lambda: world.condition("ObjectiveMet").get("observedGeneration") == 2)
    await world.rest()
    assert world.condition("ObjectiveMet")["message"] == "no request was answered lately"
    await world.draw(60)
    await refreshed(world)
    assert world.condition("ObjectiveMet")["status"] == "True"


# What must hold when pools are made anew, specs turn invalid, power is unknown and controllers die.


async def serve_in_the_dark(world):
    world.api.put(MODELPOOLS, pool("dark"))
    world.api.put(MODELSERVICES, service("moth", pool="dark"))
    await serve(world, "moth")
    world.knows_power = False
    await world.draw(60)
    for _ in range(2):
        await world.advance(31)
        await world.rest()


async def test_a_pool_without_known_power_costs_no_writes_while_nothing_changes(world):
    await serve_in_the_dark(world)
    writes = dict(world.api.writes)
    for _ in range(10):
        world.parts.planner.plan_once()
        await world.rest()
    assert dict(world.api.writes) == writes


async def restarted(world):
    await world.stop()
    await world.start()
    await world.until(lambda: list(world.parts.ledger.services()))
    await world.rest()


async def test_requests_are_counted_over_restarts_where_power_is_not_known(world):
    await serve_in_the_dark(world)
    world.idle.add("demo/moth")
    await rest_asleep(world)
    await world.advance(70)
    await world.until(lambda: not world.hosts())
    for _ in range(2):
        await world.advance(31)
        await world.rest()
    assert figures_of(world, "moth").requests == 120
    await restarted(world)
    assert figures_of(world, "moth").requests == 120
    assert "energy" not in world.status("moth")


def delay(world, total):
    gateway = world.api.objects["modelgateways", "lull-system", "gw-a"]
    told = (gateway.get("status") or {}) | {"delayed": {"demo/digits": total}}
    item = dict(gateway) | {"metadata": gateway["metadata"] | {"resourceVersion": str(10**9 + total)}}
    world.parts.planner.see(MODELGATEWAYS, "gw-a", item | {"status": told})


async def test_delayed_requests_are_counted_over_restarts_and_a_shown_total_never_falls(world):
    await serve(world)
    delay(world, 7)
    shown = figures_of(world).delayed
    await restarted(world)
    assert figures_of(world).delayed >= shown
    delay(world, 3)
    for _ in range(2):
        await world.advance(31)
        await world.rest()
    shown = figures_of(world).delayed
    assert shown >= 3
    await restarted(world)
    assert figures_of(world).delayed == shown


async def test_a_pool_made_anew_under_its_old_name_pays_nothing_of_the_old_ones(world):
    await serve(world)
    await world.draw(60)
    await world.rest()
    drawn = world.parts.ledger.pools()["default"].joules
    assert drawn == 42 * 60
    world.parts.planner.see(MODELPOOLS, "default", None)
    world.api.remove("modelpools", "", "default")
    world.api.put(MODELPOOLS, pool(power=POWER))
    await world.rest()
    assert world.parts.ledger.pools()["default"].joules == 0
    assert (
        world.status()["ledger"]["meter"]
        <= world.parts.ledger.pool("default").account.until(world.time).meters.baseline
    ), "read back, a reading of the old meter would owe no present"
    await world.draw(10)
    assert world.parts.ledger.pools()["default"].joules == 42 * 10


async def test_totals_stand_while_a_spec_cannot_be_read_and_after(world):
    await serve(world)
    await world.draw(60)
    await world.rest()
    for broken, sound in ((service(idleAfter="soon"), service()), (pool(power=POWER, memory="much"), None)):
        kind = MODELSERVICES if sound else MODELPOOLS
        before = figures_of(world), world.parts.ledger.pools()["default"]
        for item in (broken, sound or pool(power=POWER)):
            world.api.put(kind, item)
            await world.rest()
            figures, of_pool = figures_of(world), world.parts.ledger.pools()["default"]
            assert figures.idle_joules >= before[0].idle_joules
            assert figures.requests >= before[0].requests
            assert figures.baseline_joules >= before[0].baseline_joules
            assert of_pool.joules >= before[1].joules
            assert of_pool.baseline_joules >= before[1].baseline_joules
            before = figures, of_pool


async def test_what_cannot_be_read_is_kept_on_by_no_baseline_meanwhile(world):
    await serve(world)
    await world.draw(60)
    await world.rest()
    world.api.put(MODELSERVICES, service(idleAfter="soon"))
    await world.until(lambda: world.condition("Stalled").get("reason") == "Invalid")
    await world.rest()
    before = figures_of(world)
    assert before.stalled == "Invalid"
    await world.advance(100)
    assert figures_of(world).baseline_joules == before.baseline_joules
    assert world.status()["ledger"]["mebibytes"] == 0


async def test_what_was_drawn_for_nobody_meanwhile_is_shared_by_what_was_in_the_pool_then(world):
    await serve(world)
    await world.draw(60)
    await world.rest()
    await world.stop()
    world.api.put(MODELSERVICES, service("large", resources={"memory": "336Mi"}))
    await world.draw(100)
    await world.start()
    await world.until(lambda: "demo/large" in dict(world.parts.ledger.services()))
    drawn = sum(unallocated for *_, unallocated in world.host_joules.values())
    assert figures_of(world).overhead_joules == pytest.approx(drawn, abs=1)
    assert figures_of(world, "large").overhead_joules == 0


async def test_a_restart_in_slices_charges_nothing_twice(world, monkeypatch):
    names = [f"digits-{n}" for n in range(4)]
    for name in names:
        world.api.put(MODELSERVICES, service(name))
        await serve(world, name)
    await world.draw(60)
    await refreshed(world)
    await world.advance(40)
    await refreshed(world)
    before = [joules(world, name) for name in names]
    assert min(before) > 0
    await world.stop()
    for name in names:  # so that all statuses are new, and written before the last slice
        world.api.put(MODELSERVICES, service(name, drainDeadline="77s"))
    monkeypatch.setattr(planner, "SERVICES_AT_ONCE", 1)
    await world.start()
    await world.until(lambda: all(world.status(name)["observedGeneration"] == 2 for name in names))
    await world.rest()
    await world.advance(40)
    await refreshed(world)
    assert [joules(world, name) for name in names] == before
