"""The ways in which operators usually break, each on the real controller over an API in memory."""

import asyncio

import pytest

from lull.kube import MODELGATEWAYS, MODELHOSTS, MODELPOOLS, MODELSERVICES, PODS, ApiError

from .world import World, pool, service, unready


@pytest.fixture
async def world():
    async with World() as world:
        world.api.put(MODELPOOLS, pool())
        world.api.put(MODELSERVICES, service())
        yield world


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    """Retries wait as often, and hardly as long."""

    async def soon(attempt, **_):
        await asyncio.sleep(0.001)

    monkeypatch.setattr("lull.controller.execute.backoff", soon)
    monkeypatch.setattr("lull.kube.reflector.backoff", soon)
    monkeypatch.setattr("lull.controller.status.RETRY_SECONDS", 0.01)


def once(error, *, verb, kind):
    """Return a hook that raises once, at the first such call."""
    left = [error]

    def hook(seen_verb, seen_kind, _name):
        if left and (seen_verb, seen_kind) == (verb, kind):
            raise left.pop()

    return hook


async def sleeping_resident(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    world.idle.add("demo/digits")
    await world.rest()
    await world.advance(400)
    await world.until(lambda: world.state() == ["Resident"])
    await world.rest()


@pytest.mark.parametrize("kind", ["modelhosts", "pods"])
async def test_an_applied_write_whose_answer_was_lost_is_not_done_twice(world, kind):
    world.api.after = once(ApiError(0, "Unreachable", "no answer"), verb="create", kind=kind)
    world.hold()
    await world.until(world.routed)
    await world.rest()
    assert len(world.hosts()) == len(world.api.all(PODS)) == 1


@pytest.mark.parametrize("status", [0, 409, 422, 429, 500, 503])
@pytest.mark.parametrize(
    ("verb", "kind"), [("create", "modelhosts"), ("create", "pods"), ("apply", "modelservices")]
)
async def test_a_refused_write_is_made_good(world, status, verb, kind):
    world.api.before = once(ApiError(status, "Refused", "not now"), verb=verb, kind=kind)
    world.hold()

    async def later():
        while not world.routed():
            await asyncio.sleep(0.02)
            await world.advance(6)

    advancing = asyncio.create_task(later())
    await world.until(world.routed)
    await advancing
    world.release()
    await world.until(lambda: world.condition("Active").get("reason") == "Serving")


@pytest.mark.parametrize("status", [0, 409, 422, 429, 500])
async def test_a_refused_turn_is_decided_again(world, status):
    await sleeping_resident(world)
    world.api.before = once(ApiError(status, "Refused", "not now"), verb="patch", kind="modelhosts")
    world.hold()

    async def later():
        await asyncio.sleep(0.05)
        await world.advance(6)

    advancing = asyncio.create_task(later())
    await world.until(lambda: world.state() == ["Loaded"])
    await advancing


@pytest.mark.parametrize("writes", range(4))
async def test_a_crash_between_any_two_writes_is_recovered_from(world, writes):
    done = []

    class Crash(BaseException):
        pass

    def crash(verb, kind, _name):
        if verb in ("create", "patch", "delete") and kind in ("modelhosts", "pods"):
            if len(done) >= writes:
                raise ApiError(403, "Forbidden", "this controller is dead")
            done.append(verb)

    world.api.before = crash
    world.hold()
    for _ in range(20):
        world.step()
        await asyncio.sleep(0.005)
    await world.stop()
    world.api.before = lambda *_: None
    await world.start()
    await world.until(world.routed)
    await world.rest()
    assert len(world.hosts()) == len(world.api.all(PODS)) == 1


async def test_a_fence_that_the_fresh_list_does_not_show_is_not_crossed(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    world.idle.add("demo/digits")
    world.silent = {"gw-b"}
    await world.rest()
    await world.advance(400)
    await world.until(lambda: world.state() == ["Draining"])
    for _ in range(20):
        world.step()
        await asyncio.sleep(0.005)
    assert world.state() == ["Draining"]
    world.silent = set()
    await world.until(lambda: world.state() == ["Resident"])


async def test_a_gateway_unknown_to_the_cache_holds_the_fence(world):
    """A stale cache of gateways is not believed: the list before the write is."""
    await world.until(world.asleep)
    world.hold()
    await world.until(world.routed)
    world.release()
    world.idle.add("demo/digits")
    await world.rest()
    seen = world.parts.planner.see

    def blind(kind, key, item):
        if not (kind is MODELGATEWAYS and key == "gw-new"):
            seen(kind, key, item)

    world.parts.planner.see = blind
    real_offer = world.parts.view.offer
    world.parts.view.offer = lambda kind, item: (
        False if item["metadata"]["name"] == "gw-new" else real_offer(kind, item)
    )
    world.api.put(MODELGATEWAYS, {"metadata": {"name": "gw-new", "namespace": "lull-system"}, "spec": {}})
    await world.advance(400)
    await world.until(lambda: world.state() == ["Draining"])
    for _ in range(20):
        world.step()
        await asyncio.sleep(0.005)
    assert world.state() == ["Draining"]
    world.api.remove("modelgateways", "lull-system", "gw-new")
    await world.advance(1)
    await world.until(lambda: world.state() == ["Resident"])


async def test_what_was_deleted_while_the_watch_was_down_is_forgotten(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    await world.rest()
    (host,) = world.hosts()
    world.api.break_watches(expired=True)
    world.api.remove("modelhosts", "lull-hosts", host["metadata"]["name"])
    world.hold()
    await world.until(
        lambda: world.routed() and world.hosts()[0]["metadata"]["uid"] != host["metadata"]["uid"]
    )


def change_beneath(world, kind, body):
    """Let somebody change an object just before the next write of its status: the answer says both."""
    changed = []

    def before(verb, plural, name):
        if not changed and (verb, plural, name) == ("apply", kind.plural, body["metadata"]["name"]):
            changed.append(world.api.put(kind, body))

    world.api.before = before
    return changed


async def test_a_service_that_is_changed_as_its_status_is_written_is_decided_on_at_once(world):
    await world.until(world.asleep)
    await world.rest()
    changed = change_beneath(world, MODELSERVICES, service(idleAfter="20s"))
    world.api.put(MODELSERVICES, service(idleAfter="10s"))
    await world.until(lambda: changed)
    generation = changed[0]["metadata"]["generation"]
    await world.until(lambda: world.status()["observedGeneration"] == generation)


async def test_a_pool_that_is_changed_as_its_status_is_written_ends_the_rest_of_what_was_refused(world):
    await world.until(world.asleep)
    await world.rest()
    changed = change_beneath(world, MODELPOOLS, pool(emptyAfter="30s"))
    change, refused = world.api.before, []

    def refuse(verb, plural, name):
        change(verb, plural, name)
        if not changed and (verb, plural) == ("create", "modelhosts"):
            refused.append(name)
            raise ApiError(403, "Forbidden", "exceeded quota: gpus")

    world.api.before = refuse
    world.hold()
    await world.until(lambda: refused)
    world.api.put(MODELPOOLS, pool(emptyAfter="40s"))
    await world.until(lambda: changed)
    await world.until(world.routed)


async def test_a_status_of_ours_that_is_written_makes_no_plan(world):
    await world.until(world.asleep)
    await world.rest()
    plans, plan_once = [], world.parts.planner.plan_once
    world.parts.planner.plan_once = lambda: plans.append(plan_once())
    world.api.set_status(MODELPOOLS, "default", None, {"conditions": []})
    world.api.set_status(MODELSERVICES, "digits", "demo", {"conditions": []})
    await world.until(
        lambda: world.parts.view.raw[MODELSERVICES]["demo/digits"]["status"] == {"conditions": []}
    )
    await world.rest()
    assert not plans


async def test_duplicated_events_and_broken_watches_change_nothing(world):
    world.api.duplicate_events = True
    world.hold()
    for _ in range(5):
        world.step()
        world.api.break_watches()
        await asyncio.sleep(0.005)
    await world.until(world.routed)
    await world.rest()
    assert len(world.hosts()) == 1


async def test_the_same_name_with_a_new_uid_is_another_service(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    await world.rest()
    world.api.remove("modelservices", "demo", "digits")
    world.api.put(MODELSERVICES, service(uri="file:///other.tar"))
    world.hold()
    await world.until(
        lambda: [m["uri"] for m in world.models()] == ["file:///other.tar"] and world.routed(),
        "the new model",
    )
    await world.until(lambda: world.condition("Active").get("reason") == "Serving")


async def test_a_deleted_service_is_drained_and_removed(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    await world.rest()
    world.api.remove("modelservices", "demo", "digits")
    await world.until(lambda: not world.models())
    await world.rest()
    await world.advance(70)
    await world.until(lambda: not world.hosts())


async def test_a_bad_spec_stalls_alone_and_the_good_one_again_serves(world):
    world.api.put(MODELSERVICES, service("other"))
    world.outcome["demo/digits"] = ("Failed", "DigestMismatch", "the digest is another; publish it again")
    world.hold()
    world.hold("demo/other")
    await world.until(lambda: world.condition("Stalled").get("status") == "True")
    await world.until(lambda: world.routed("demo/other"))
    assert world.condition("Stalled")["reason"] == "DigestMismatch"
    assert world.condition("Ready")["status"] == "False"
    del world.outcome["demo/digits"]
    world.api.put(MODELSERVICES, service(uri="file:///good.tar"))
    await world.until(world.routed)
    await world.until(lambda: world.condition("Stalled").get("status") == "False")


async def test_a_failing_model_is_retried_with_backoff_only(world):
    world.outcome["demo/digits"] = ("Failed", "LoadFailed", "no")
    world.hold()
    await world.until(lambda: world.condition("Stalled").get("status") == "True")
    await world.until(lambda: not world.models())
    await world.rest()
    writes = world.api.writes["patch", "modelhosts"]
    await world.advance(1)
    await world.rest()
    assert world.api.writes["patch", "modelhosts"] == writes
    await world.advance(5)
    await world.until(lambda: world.api.writes["patch", "modelhosts"] > writes)


async def test_an_object_that_cannot_be_read_harms_no_other(world):
    broken = service("broken")
    broken["spec"]["replicas"] = {"min": "many"}
    world.api.put(MODELSERVICES, broken)
    world.hold()
    await world.until(world.routed)
    await world.until(lambda: world.condition("Stalled", "broken").get("reason") == "Invalid")


async def test_two_leaders_at_once_never_unload_what_one_did_not_see(world):
    await world.until(world.asleep)
    other = World()
    other.api = world.api
    await other.start()
    try:
        world.hold()
        await world.until(world.routed)
        await world.rest()
        models = [m["id"] for m in world.models()]
        assert len(models) == len(set(models))
        assert "Loaded" in world.state()
    finally:
        await other.stop()


async def test_a_clock_that_stands_still_or_leaps_does_no_harm(world):
    world.hold()
    await world.until(world.routed)
    await world.advance(-5000)
    await world.rest()
    assert world.routed()
    await world.advance(10_000)
    await world.until(world.routed)


async def test_somebody_else_s_change_of_a_host_is_not_overwritten_blindly(world):
    await sleeping_resident(world)
    (host,) = world.hosts()
    foreign = {"id": "foreign-1", **{k: v for k, v in host["spec"]["models"][0].items() if k != "id"}}
    foreign |= {"service": "demo/other", "name": "other"}
    world.api.put(MODELSERVICES, service("other"))
    patched = []

    def race(verb, kind, _name):
        if (verb, kind) == ("patch", "modelhosts") and not patched:
            patched.append(True)
            spec = host["spec"] | {"models": [*host["spec"]["models"], foreign]}
            world.api.put(MODELHOSTS, host | {"spec": spec})

    world.api.before = race
    world.hold()
    await world.until(lambda: "Loaded" in world.state())
    assert [m["id"] for m in world.models("demo/other")] == ["foreign-1"]


async def test_an_unschedulable_host_is_said_and_not_multiplied(world):
    world.unschedulable = True
    world.hold()
    await world.until(lambda: len(world.api.all(PODS)) == 1)
    await world.rest()
    for _ in range(3):
        await world.advance(12)
        await world.rest()
    await world.until(lambda: world.condition("Stalled").get("reason") == "HostUnschedulable")
    assert "0/1 nodes" in world.condition("Stalled")["message"]
    assert len(world.hosts()) == 1


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_lost_host_s_service_wakes_elsewhere(world, restarted):
    world.hold()
    await world.until(world.routed)
    world.release()
    await world.rest()
    (host,) = world.hosts()
    name = host["metadata"]["name"]
    world.api.set_status(PODS, name, "lull-hosts", unready(since="00:00:09", initialized="00:00:01"))
    if restarted:
        await world.stop()
        await world.start()
    await world.rest()
    await world.advance(11)
    await world.until(
        lambda: [h["metadata"]["name"] for h in world.hosts() if h["spec"]["models"]] not in ([], [name])
    )
    await world.rest()
    await world.advance(51)
    await world.until(lambda: name not in [h["metadata"]["name"] for h in world.hosts()])


async def test_a_pod_that_went_takes_its_host_along(world):
    world.hold()
    await world.until(world.routed)
    await world.rest()
    (host,) = world.hosts()
    world.api.remove("pods", "lull-hosts", host["metadata"]["name"])
    await world.until(
        lambda: world.routed() and world.hosts()[0]["metadata"]["uid"] != host["metadata"]["uid"]
    )


async def test_a_load_that_never_returns_recycles_its_host(world):
    world.outcome["demo/digits"] = ("Failed", "LoadTimeout", "it did not load in 120 s")
    world.hold()
    await world.until(lambda: world.condition("Stalled").get("reason") == "LoadTimeout")
    await world.until(lambda: not world.hosts())
    del world.outcome["demo/digits"]
    await world.advance(6)
    await world.until(world.routed)


async def test_suspend_lets_go_and_resuming_serves_again(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    world.api.put(MODELSERVICES, service(suspend=True))
    await world.until(lambda: world.condition("Active").get("reason") == "Suspended" and not world.models())
    assert world.condition("Ready") | {} == world.condition("Ready")
    world.api.put(MODELSERVICES, service(suspend=False))
    world.hold()
    await world.until(world.routed)


async def test_where_a_model_could_not_be_placed_is_no_failure_after_a_restart(world):
    world.unschedulable = True
    world.hold()
    await world.until(lambda: len(world.api.all(PODS)) == 1)
    await world.rest()
    for _ in range(3):
        await world.advance(12)
        await world.rest()
    await world.until(lambda: world.condition("Stalled").get("reason") == "HostUnschedulable")
    await world.stop()
    (pod,) = world.api.all(PODS)
    world.unschedulable = False
    world.api.remove("pods", "lull-hosts", pod["metadata"]["name"])
    world.api.remove("modelhosts", "lull-hosts", pod["metadata"]["name"])
    await world.start()
    await world.until(world.routed)


async def test_a_long_word_of_the_server_is_cut_and_a_refused_status_blocks_no_other(world, monkeypatch):
    monkeypatch.setattr("lull.controller.status.RETRY_SECONDS", 600)
    for number in range(12):
        world.api.put(MODELSERVICES, service(f"other{number}"))

    def refuse(verb, kind, name):
        if (verb, kind) == ("create", "pods"):
            raise ApiError(403, "Forbidden", "x" * 5000)
        if (verb, kind) == ("apply", "modelservices") and name.startswith("other"):
            raise ApiError(422, "Invalid", "always")

    world.api.before = refuse
    world.hold()
    await world.until(lambda: len(world.hosts()) == 1)
    await world.rest()
    await world.advance(31)
    await world.until(lambda: world.condition("Stalled").get("reason") == "HostUnschedulable")
    item = world.api.objects["modelservices", "demo", "digits"]
    assert len(item["status"]["next"]["reason"]) == len(world.condition("Stalled")["message"]) == 1024


async def test_a_refused_pod_is_said_with_the_server_s_words(world):
    def refuse(verb, kind, _name):
        if (verb, kind) == ("create", "pods"):
            raise ApiError(403, "Forbidden", "exceeded quota")

    world.api.before = refuse
    world.hold()
    await world.until(lambda: len(world.hosts()) == 1)
    await world.rest()
    await world.advance(31)
    await world.until(lambda: world.condition("Stalled").get("reason") == "HostUnschedulable")
    assert "exceeded quota" in world.condition("Stalled")["message"]
    world.api.before = lambda *_: None
    world.api.put(MODELPOOLS, pool(most=4))
    await world.until(world.routed)


async def test_a_new_revision_is_ready_before_the_old_one_goes(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    await world.rest()
    world.api.put(MODELSERVICES, service(uri="file:///second.tar"))
    gaps = []

    def done():
        gaps.append(world.routed())
        return [m["uri"] for m in world.models()] == ["file:///second.tar"]

    await world.until(done, "the new revision")
    assert all(gaps)


async def test_a_new_revision_that_does_not_pass_its_validation_leaves_the_old_one_serving(world):
    why = "golden case 1: output[0, 3] is 0.2 here and was 0.9 when it was published"
    world.outcome["file:///second.tar"] = ("Failed", "GoldenMismatch", why)
    world.hold()
    await world.until(world.routed)
    world.release()
    await world.rest()
    world.api.put(MODELSERVICES, service(uri="file:///second.tar", objective={"latency": "50ms"}))
    gaps, tried = [], set()

    def rejected():
        gaps.append(world.routed())
        tried.update((m["id"], m["uri"], m.get("latency")) for m in world.models())
        return world.condition("Stalled").get("reason") == "Rejected"

    for _ in range(4):
        await world.until(rejected, "the reason")
        await world.advance(30)
    await world.until(lambda: rejected() and [m["uri"] for m in world.models()] == ["file:///digits.tar"])
    assert all(gaps)
    new = [latency for _, uri, latency in tried if uri == "file:///second.tar"]
    assert new == ["50ms"], "its agent was told what it has to keep, and it was tried once"
    assert why in world.condition("Stalled")["message"]
    assert world.condition("Ready")["status"] == "True", "somebody still answers its requests"


async def test_a_host_that_is_refused_for_good_is_tried_rarely(world):
    tries = []

    def refuse(verb, kind, _name):
        if (verb, kind) == ("create", "modelhosts"):
            tries.append(world.time)
            raise ApiError(403, "Forbidden", "exceeded quota")

    world.api.before = refuse
    world.hold()
    await world.until(lambda: tries)
    await world.rest()
    assert len(tries) == 1
    for _ in range(6):
        await world.advance(5)
        await world.rest()
    assert len(tries) == 3, "5 s, then 10 s, then 20 s"
    assert "a new host" in world.condition("Active")["message"]
    world.api.before = lambda *_: None
    world.api.put(MODELPOOLS, pool(most=4))
    await world.until(world.routed)


async def test_an_outage_of_the_api_is_forgotten_within_a_second(world):
    down = [True]

    def refuse(verb, kind, _name):
        if down and (verb, kind) == ("create", "modelhosts"):
            raise ApiError(503, "ServiceUnavailable", "etcd is away")

    world.api.before = refuse
    world.hold()
    for _ in range(8):
        await world.advance(2)
        await world.rest()
    down.clear()
    await world.advance(1)
    await world.until(world.routed)


async def test_a_template_that_no_pod_can_be_built_from_is_said_and_tried_rarely(world):
    world.api.put(MODELPOOLS, pool(template={"metadata": "not a map"}))
    world.hold()
    await world.until(lambda: len(world.hosts()) == 1)
    await world.rest()
    await world.advance(31)
    await world.until(lambda: world.condition("Stalled").get("reason") == "HostUnschedulable")
    assert "spec.template" in world.condition("Stalled")["message"]
    world.api.put(MODELPOOLS, pool())
    await world.until(world.routed)


def gateway_pod(name, phase):
    labels = {"app.kubernetes.io/name": "lull-gateway"}
    return {
        "metadata": {"name": name, "namespace": "lull-system", "labels": labels},
        "status": {"phase": phase},
    }


async def test_an_evicted_gateway_blocks_no_fence_and_a_silent_one_does(world):
    evicted = world.api.put(PODS, gateway_pod("gw-old", "Running"))
    owner = {"uid": evicted["metadata"]["uid"]}
    metadata = {"name": "gw-old", "namespace": "lull-system", "ownerReferences": [owner]}
    world.api.put(MODELGATEWAYS, {"metadata": metadata, "spec": {}})
    world.hold()
    await world.until(world.routed)
    world.release()
    world.idle.add("demo/digits")
    await world.rest()
    await world.advance(400)
    await world.until(lambda: world.state() == ["Draining"])
    await world.rest()
    assert world.state() == ["Draining"]
    world.api.set_status(PODS, "gw-old", "lull-system", {"phase": "Failed", "reason": "Evicted"})
    await world.until(lambda: world.state() == ["Resident"])


async def test_a_gateway_that_deletion_races_with_the_fresh_list_is_no_ghost(world):
    world.hold()
    await world.until(world.routed)
    world.release()
    world.idle.add("demo/digits")
    await world.rest()
    listed = world.api.list
    gone = {"metadata": {"name": "gw-gone", "namespace": "lull-system", "resourceVersion": "1"}}

    async def late(kind, *args, **fields):
        items, version = await listed(kind, *args, **fields)
        drained = world.api.objects["modelgateways", "lull-system", "gw-a"]["status"]["drained"]
        return [*items, gone | {"status": {"drained": drained}}] if kind is MODELGATEWAYS else items, version

    world.api.list = late
    await world.advance(400)
    await world.until(lambda: world.state() == ["Resident"])
    assert set(world.parts.view.gateways) == {"gw-a", "gw-b"}


async def test_a_held_request_is_served_when_its_silent_gateway_beats_again(world):
    world.hold()
    world.silent = {"gw-a", "gw-b"}
    await world.until(world.asleep)
    name = "gw-a"
    stale = {"renewTime": "old", "held": ["demo/digits"]}
    down = [True]

    def refuse(verb, kind, _name):
        if down and (verb, kind) == ("create", "modelhosts"):
            raise ApiError(503, "ServiceUnavailable", "etcd is away")

    world.api.before = refuse
    world.api.set_status(MODELGATEWAYS, name, "lull-system", stale)
    await world.rest()
    await world.advance(25)
    await world.rest()
    down.clear()
    await world.advance(25)
    await world.rest()
    assert not world.hosts()
    world.api.set_status(MODELGATEWAYS, name, "lull-system", stale | {"renewTime": "new"})
    await world.until(world.routed)
