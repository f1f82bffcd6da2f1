"""Hosts and nodes that are emptied: by an admin, by the cluster, by Lull itself; and what budgets forbid."""

import asyncio

import pytest

from lull.controller import nodes as nodes_module
from lull.controller.nodes import cordoned
from lull.kube import EVENTS, MODELHOSTS, MODELPOOLS, MODELSERVICES, NODES, PODS, PRIORITYCLASSES
from lull.policy import Pod, Vacate

from .world import DEADLINE_SECONDS, World, pool, service, unready

POLL_SECONDS = 0.01


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    async def soon(attempt, **_):
        await asyncio.sleep(0.001)

    monkeypatch.setattr("lull.controller.execute.backoff", soon)
    monkeypatch.setattr(nodes_module, "LOOK_SECONDS", POLL_SECONDS)


@pytest.fixture
async def world():
    async with World() as world:
        world.api.put(MODELPOOLS, pool(emptyAfter="60s"))
        world.api.put(MODELSERVICES, service(idleAfter="60s"))
        yield world


@pytest.fixture
def looked(world, monkeypatch):
    """Waits until the Nodes were looked at three times more."""
    looks, mark = [], nodes_module.Nodes.mark

    async def counted(self):
        await mark(self)
        looks.append(1)

    async def looked():
        enough = len(looks) + 3
        await world.until(lambda: len(looks) >= enough)

    monkeypatch.setattr(nodes_module.Nodes, "mark", counted)
    return looked


def node(name, **spec):
    return {"metadata": {"name": name}, "spec": spec}


def marks(world, name):
    return world.api.objects["nodes", "", name]["metadata"].get("annotations", {})


def host_of(world, key="demo/digits"):
    """The names of the hosts where a service is."""
    return [
        host["metadata"]["name"]
        for host in world.hosts()
        if any(entry["service"] == key for entry in host["spec"]["models"])
    ]


def bind(world, to):
    """Bind Pods without a node to one, as the scheduler does."""
    for pod in world.api.all(PODS):
        if not pod["spec"].get("nodeName"):
            world.api.put(PODS, pod | {"spec": pod["spec"] | {"nodeName": to}})


async def served_on(world, name):
    """Wake the service on a host that is on this node."""
    world.api.put(NODES, node(name))
    world.hold()
    await world.until(lambda: bind(world, name) or world.routed())
    world.release()
    await world.rest()
    (host,) = host_of(world)
    return host


def never_unserved(world):
    """Return a condition that fails as soon as no gateway would route to the service."""

    def check():
        assert world.routed(), world.summary()

    return check


async def test_a_cordoned_node_hands_its_models_over_and_its_host_goes(world):
    before = await served_on(world, "old")
    world.api.put(NODES, node("new"))
    world.api.put(NODES, node("old", unschedulable=True))
    check = never_unserved(world)
    await world.until(lambda: bind(world, "new") or check() or len(host_of(world)) > 1)
    await world.until(lambda: check() or (host_of(world) and before not in host_of(world)))


async def test_a_node_that_is_uncordoned_in_time_keeps_its_models(world):
    before = await served_on(world, "old")
    world.api.put(NODES, node("old", unschedulable=True))
    await world.until(lambda: world.parts.view.hosts[before].cordoned)
    world.api.put(NODES, node("old"))
    await world.until(lambda: not world.parts.view.hosts[before].cordoned)
    await world.rest()
    assert before in host_of(world)


@pytest.mark.parametrize(
    ("spec", "emptied"),
    [
        ({}, False),
        ({"unschedulable": True}, True),
        ({"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}, True),
        ({"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]}, True),
        ({"taints": [{"key": "karpenter.sh/disruption", "effect": "NoExecute"}]}, True),
        ({"taints": [{"key": "DeletionCandidateOfClusterAutoscaler", "effect": "PreferNoSchedule"}]}, False),
        ({"taints": [{"key": "karpenter.sh/disrupted", "effect": "PreferNoSchedule"}]}, False),
        ({"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]}, False),
    ],
)
def test_a_node_that_is_to_go_is_known_by_its_cordon_or_its_taint(spec, emptied):
    assert bool(cordoned(node("n", **spec))) is emptied


def test_a_node_that_is_gone_is_not_cordoned():
    assert cordoned(None) == ""


async def test_the_heartbeats_of_nodes_and_the_cordon_of_one_without_hosts_make_no_plan(world):
    await served_on(world, "used")
    planned, plan_once = [], world.parts.planner.plan_once
    world.parts.planner.plan_once = lambda: planned.append(1) or plan_once()
    for beat in range(3):
        world.api.set_status(NODES, "used", "", {"beat": beat})
    world.api.put(NODES, node("other", unschedulable=True))
    await world.until(lambda: "other" in world.parts.view.cordons)
    await world.rest()
    assert planned == []


async def test_a_node_is_marked_once_when_its_first_host_comes_and_once_when_its_last_goes(world, looked):
    world.api.put(NODES, node("never"))
    await served_on(world, "used")
    await world.until(lambda: marks(world, "used") == {"lull.dev/used": "true"})
    await looked()
    assert world.api.writes["patch", "nodes"] == 1
    world.idle.add("demo/digits")
    await world.rest()

    async def time_passes():
        while world.hosts():
            await world.advance(400)

    passing = asyncio.create_task(time_passes())
    await world.until(lambda: "lull.dev/empty-since" in marks(world, "used"))
    await passing
    await looked()
    assert world.api.writes["patch", "nodes"] == 2
    assert marks(world, "never") == {}
    world.idle.clear()
    await served_on(world, "used")
    await world.until(lambda: marks(world, "used") == {"lull.dev/used": "true"})


async def test_a_host_that_went_while_no_controller_was_here_leaves_its_node_marked_all_the_same(world):
    host = await served_on(world, "used")
    await world.until(lambda: marks(world, "used") == {"lull.dev/used": "true"})
    await world.stop()
    world.api.remove("modelhosts", "lull-hosts", host)
    await world.start()
    await world.until(lambda: "lull.dev/empty-since" in marks(world, "used"))


async def test_a_node_whose_mark_is_refused_is_tried_rarely(world, looked):
    tries = []

    def refuse(verb, kind, _name):
        if (verb, kind) == ("patch", "nodes"):
            tries.append(1)
            raise nodes_module.ApiError(403, "Forbidden", "no")

    world.api.before = refuse
    await served_on(world, "used")
    await world.until(lambda: tries)
    await looked()
    assert len(tries) == 1
    await world.advance(61)
    await world.until(lambda: len(tries) == 2)


async def test_a_server_that_lists_no_nodes_keeps_nobody_asleep():
    world = World()

    def refuse(verb, kind, _name):
        if (verb, kind) == ("list", "nodes"):
            raise nodes_module.ApiError(403, "Forbidden", "no")

    world.api.before = refuse
    world.api.put(MODELPOOLS, pool())
    world.api.put(MODELSERVICES, service())
    async with world:
        world.hold()
        await world.until(world.routed)


def test_of_a_node_no_more_is_kept_than_what_is_read():
    used = {"lull.dev/used": "true", "lull.dev/empty-since": "then"}
    node = {
        "metadata": {
            "name": "n",
            "resourceVersion": "7",
            "labels": {"a": "b"},
            "annotations": used | {"other": "x" * 1000},
        },
        "spec": {"unschedulable": True, "taints": [], "podCIDR": "10.0.0.0/24"},
        "status": {"images": [{"names": ["x" * 1000]}]},
    }
    assert nodes_module.trimmed(node) == {
        "metadata": {"name": "n", "resourceVersion": "7", "annotations": used},
        "spec": {"unschedulable": True, "taints": []},
    }
    bare = {"metadata": {"name": "n", "resourceVersion": "7"}}
    assert nodes_module.trimmed(bare)["spec"] == {}


async def test_a_node_s_event_that_is_older_than_our_mark_is_not_believed(world):
    await served_on(world, "used")
    old = world.api.objects["nodes", "", "used"]
    await world.until(lambda: marks(world, "used") == {"lull.dev/used": "true"})
    before = {"metadata": {"name": "used", "resourceVersion": "1"}, "spec": {}}
    nodes = nodes_module.Nodes(world.api, world.parts.view, world.clock, lambda: None)
    nodes.see("used", before)
    await nodes.mark()
    nodes.see("used", before)
    writes = world.api.writes["patch", "nodes"]
    await nodes.mark()
    assert world.api.writes["patch", "nodes"] == writes
    nodes.see("used", old | {"metadata": old["metadata"] | {"annotations": {}, "resourceVersion": "999999"}})
    await nodes.mark()
    assert world.api.writes["patch", "nodes"] == writes + 1


async def test_a_node_whose_host_came_while_another_was_marked_is_not_called_empty(world):
    await served_on(world, "used")
    view = world.parts.view
    nodes = nodes_module.Nodes(world.api, view, world.clock, lambda: None)
    annotations = {"lull.dev/used": "true"}
    for name in ("first", "second"):
        world.api.put(NODES, node(name))
        nodes.see(name, {"metadata": {"name": name, "resourceVersion": "1", "annotations": annotations}})

    def comes(verb, kind, name):
        if (verb, kind, name) == ("patch", "nodes", "first"):
            view.raw[PODS]["new"] = {"spec": {"nodeName": "second"}}

    world.api.before = comes
    await nodes.mark()
    del view.raw[PODS]["new"]
    assert "lull.dev/empty-since" in marks(world, "first")
    assert "lull.dev/empty-since" not in marks(world, "second")


async def vacate(world, host):
    world.parts.planner._executor.submit(Vacate(host, "its models fit elsewhere"))


def why_vacated(world, host):
    return next(h["spec"].get("vacate") for h in world.hosts() if h["metadata"]["name"] == host)


async def have_another(world):
    """Have a host beside the one that serves, as none is made for a move that is to save one."""
    world.api.put(MODELPOOLS, pool(hosts={"max": 3, "min": 2}))
    await world.until(lambda: [h.pod for h in world.parts.view.hosts.values()] == [Pod.RUNNING] * 2)


async def test_a_vacated_host_says_why_and_its_models_move_before_it_goes(world):
    before = await served_on(world, "old")
    await have_another(world)
    check = never_unserved(world)
    await vacate(world, before)
    await world.until(lambda: why_vacated(world, before) == "its models fit elsewhere")
    await world.until(lambda: check() or (host_of(world) and before not in host_of(world)))


async def test_a_host_whose_models_could_only_move_to_a_new_one_is_used_again_and_an_event_says_so(world):
    host = await served_on(world, "old")
    world.api.budgets[host] = "asked only for a host that is to go"
    view, item = world.parts.view, world.api.objects["modelhosts", "lull-hosts", host]
    world.api.put(MODELHOSTS, item | {"spec": item["spec"] | {"vacate": "its models fit elsewhere"}})
    await world.until(lambda: events(world, "UsedAgain"))
    await world.rest()
    assert [item["metadata"]["name"] for item in world.hosts()] == [host]
    assert "vacate" not in world.hosts()[0]["spec"]
    shown = view.hosts[host]
    assert (shown.cordoned, shown.vacated) == (False, False)
    assert not events(world, "DisruptionForbidden")


async def test_a_host_that_an_admin_drains_too_is_not_used_again(world):
    host = await served_on(world, "old")
    item = world.api.objects["modelhosts", "lull-hosts", host]
    item["metadata"]["annotations"] = {"lull.dev/drain": "true"}
    world.api.put(MODELHOSTS, item | {"spec": item["spec"] | {"vacate": "its models fit elsewhere"}})
    await world.until(lambda: host_of(world) and host not in host_of(world))


async def test_a_vacated_host_stays_so_over_a_restart(world):
    before = await served_on(world, "old")
    await have_another(world)
    item = world.api.objects["modelhosts", "lull-hosts", before]
    await world.stop()
    world.api.put(MODELHOSTS, item | {"spec": item["spec"] | {"vacate": "decided before"}})
    await world.start()
    await world.until(lambda: host_of(world) and before not in host_of(world))


def events(world, reason):
    return [event for event in world.api.all(EVENTS) if event["reason"] == reason]


async def test_a_host_that_a_budget_keeps_is_neither_vacated_nor_let_go_and_an_event_says_so(world):
    host = await served_on(world, "old")
    world.api.budgets[host] = "The disruption budget keep needs 1 healthy pods and has 1 currently"
    await vacate(world, host)
    told = await world.until(lambda: events(world, "DisruptionForbidden"))
    assert "disruption budget keep" in told[0]["note"]
    assert told[0]["regarding"]["kind"] == "ModelHost"
    world.idle.add("demo/digits")
    for _ in range(20):
        await world.advance(100)
    await world.rest()
    assert [item["metadata"]["name"] for item in world.hosts()] == [host]
    assert "vacate" not in world.hosts()[0]["spec"]
    assert len(events(world, "DisruptionForbidden")) == 1


async def test_a_vacated_host_that_a_budget_keeps_after_all_is_used_again(world):
    host = await served_on(world, "old")
    world.idle.add("demo/digits")
    await world.rest()
    await vacate(world, host)
    await world.until(lambda: "vacate" in world.hosts()[0]["spec"])
    world.api.budgets[host] = "budget keep"

    def used_again():
        return [h["metadata"]["name"] for h in world.hosts()] == [host] and "vacate" not in world.hosts()[0][
            "spec"
        ]

    for _ in range(5):
        await world.advance(400)
        await world.rest()
    await world.until(used_again)
    world.hold()
    await world.until(lambda: host_of(world) == [host] and world.routed())


async def test_a_host_that_a_budget_keeps_still_wakes_models(world):
    host = await served_on(world, "old")
    world.api.budgets[host] = "budget keep"
    world.idle.add("demo/digits")
    await world.rest()
    for _ in range(5):
        await world.advance(400)
    await world.until(lambda: world.state() == ["Resident"])
    asked = len(world.api.all(EVENTS))
    assert asked
    world.hold()
    await world.until(lambda: world.state() == ["Loaded"])


async def test_a_host_whose_budget_gives_way_goes(world):
    host = await served_on(world, "old")
    world.api.budgets[host] = "budget keep"
    world.idle.add("demo/digits")
    for _ in range(5):
        await world.advance(400)
        await world.rest()
    assert world.hosts()
    world.api.budgets.clear()
    await world.advance(301)
    await world.until(lambda: not world.hosts())


async def test_no_budget_keeps_a_host_whose_pod_is_gone(world):
    host = await served_on(world, "old")
    world.api.budgets[host] = "budget keep"
    world.api.remove("pods", "lull-hosts", host)
    await world.until(lambda: host not in [item["metadata"]["name"] for item in world.hosts()])


async def test_no_budget_keeps_a_host_that_has_not_been_ready_for_long(world):
    host = await served_on(world, "old")
    world.api.budgets[host] = "budget keep"
    status = unready(since="00:00:09", initialized="00:00:03")
    world.api.set_status(PODS, host, "lull-hosts", status)
    await world.until(lambda: world.parts.view.hosts[host].pod is Pod.UNREADY)
    await world.rest()
    await world.advance(400)
    await world.until(lambda: host not in [item["metadata"]["name"] for item in world.hosts()])
    assert not events(world, "DisruptionForbidden")


async def test_nothing_wakes_on_a_host_from_the_moment_that_it_may_go(world):
    host = await served_on(world, "old")
    seen = []

    def look(verb, kind, _name):
        if (verb, kind) in (("eviction", "pods"), ("delete", "modelhosts")):
            seen.append((verb, host in world.parts.view.hosts))

    world.api.before = look
    world.idle.add("demo/digits")
    await world.rest()
    for _ in range(3):
        await world.advance(400)
        await world.rest()
    assert seen == [("eviction", True), ("delete", False)]


async def test_a_budget_is_asked_rarely(world):
    host = await served_on(world, "old")
    world.api.budgets[host] = "budget keep"
    asked = []
    world.api.before = lambda verb, _kind, name: verb == "eviction" and asked.append(name)
    for _ in range(5):
        await vacate(world, host)
        await world.rest()
    assert asked == [host]
    world.time += 6
    await vacate(world, host)
    await world.rest()
    assert asked == [host, host]


async def test_a_pod_with_two_budgets_is_kept_as_the_server_cannot_tell(world):
    host = await served_on(world, "old")

    def refuse(verb, _kind, _name):
        if verb == "eviction":
            message = "This pod has more than one PodDisruptionBudget, which the eviction does not support."
            raise nodes_module.ApiError(500, "InternalError", message)

    world.api.before = refuse
    await vacate(world, host)
    told = await world.until(lambda: events(world, "DisruptionForbidden"))
    assert "more than one PodDisruptionBudget" in told[0]["note"]


async def unasked(world, until):
    """Let time pass in which nobody asks for anything."""
    world.idle.add("demo/digits")
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not until():
            await world.advance(20)


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "Forbidden"), (400, "BadRequest"), (500, "InternalError"), (0, "Timeout")]
)
async def test_a_host_of_which_nobody_can_tell_whether_it_may_go_is_kept_and_wakes_at_once(
    world, status, reason
):
    host, tries = await served_on(world, "old"), []

    def refuse(verb, _kind, _name):
        if verb == "eviction":
            tries.append(1)
            raise nodes_module.ApiError(status, reason, "the webhook says no")

    world.api.before = refuse
    await unasked(world, lambda: tries)
    told = await world.until(lambda: events(world, "DisruptionForbidden"))
    assert "the webhook says no" in told[0]["note"]
    await world.rest()
    assert len(tries) == 1
    world.idle.clear()
    world.hold()
    await world.until(lambda: host_of(world) == [host] and world.routed())  # no time passes


@pytest.mark.parametrize("by_choice", ["let go", "vacated"])
async def test_a_wake_while_the_budgets_are_asked_keeps_its_host(world, by_choice):
    host = await served_on(world, "old")
    await unasked(world, lambda: world.state() == ["Resident"])
    create, asked, answer = world.api.create, asyncio.Event(), asyncio.Event()

    async def slow(kind, body, subresource=None, *, dry_run=False):
        if subresource == "eviction":
            asked.set()
            await answer.wait()
        return await create(kind, body, subresource, dry_run=dry_run)

    world.api.create = slow
    if by_choice == "vacated":
        await vacate(world, host)
    await unasked(world, asked.is_set)
    world.hold()
    await world.until(lambda: "demo/digits" in world.parts.view.gateways["gw-a"].held)
    world.idle.clear()
    answer.set()
    await world.until(world.routed)
    assert host_of(world) == [host]
    assert "vacate" not in world.hosts()[0]["spec"]


async def test_who_sleeps_on_a_host_that_a_budget_keeps_is_told_that_it_is_there(world):
    host = await served_on(world, "old")
    world.api.budgets[host] = "budget keep"
    await unasked(world, lambda: events(world, "DisruptionForbidden"))
    await world.rest()
    assert f"still in memory on {host}" in world.condition("Active")["message"]
    assert world.pool_status()["hosts"] == {"total": 1, "ready": 1}
    writes = world.api.writes["apply", "modelservices"]
    for _ in range(3):
        await world.advance(301)
        await world.rest()
    assert world.api.writes["apply", "modelservices"] == writes


async def test_an_edit_of_a_pool_asks_no_budget_again(world):
    host = await served_on(world, "old")
    world.api.budgets[host] = "budget keep"
    await vacate(world, host)
    await world.until(lambda: events(world, "DisruptionForbidden"))
    asked = []
    world.api.before = lambda verb, _kind, name: verb == "eviction" and asked.append(name)
    world.api.put(MODELPOOLS, pool(emptyAfter="61s"))
    await world.until(lambda: world.parts.view.pools["default"].empty_after_seconds == 61)
    await vacate(world, host)
    await world.rest()
    assert asked == []
    assert len(events(world, "DisruptionForbidden")) == 1


async def test_no_budget_is_asked_about_a_host_whose_pool_is_deleted(world):
    host = await served_on(world, "old")
    world.api.budgets[host] = "budget keep"
    await unasked(world, lambda: world.state() == ["Resident"])
    world.api.remove("modelpools", "", "default")
    await unasked(world, lambda: not world.hosts())


def class_(name, value, **more):
    return {"metadata": {"name": name}, "value": value} | more


def priority(world):
    found = world.parts.view.services.get("demo/digits")
    return found and found.priority


async def test_a_service_has_the_priority_of_its_class(world):
    world.api.put(PRIORITYCLASSES, class_("gold", 1000))
    world.api.put(MODELSERVICES, service(priorityClassName="gold", idleAfter="60s"))
    await world.until(lambda: priority(world) == 1000)
    world.api.remove("priorityclasses", "", "gold")
    await world.until(lambda: priority(world) == 0)
    await world.until(lambda: "no PriorityClass gold" in world.condition("Ready").get("message", ""))


async def test_a_class_of_no_priority_is_known_all_the_same(world):
    world.api.put(MODELSERVICES, service(priorityClassName="none", idleAfter="60s"))
    await world.until(lambda: "no PriorityClass none" in world.condition("Ready").get("message", ""))
    await world.rest()
    world.api.put(PRIORITYCLASSES, class_("none", 0))
    await world.until(lambda: "PriorityClass" not in world.condition("Ready").get("message", ""))


async def test_a_service_without_a_class_has_the_default_one_s_priority(world):
    world.api.put(PRIORITYCLASSES, class_("usual", 7, globalDefault=True))
    await world.until(lambda: priority(world) == 7)
    world.api.put(PRIORITYCLASSES, class_("other", 9, globalDefault=True))
    world.api.put(PRIORITYCLASSES, class_("lowest", 5, globalDefault=True))
    await world.until(lambda: priority(world) == 5)


async def test_requests_are_counted_for_the_policy_over_restarts(world):
    await served_on(world, "old")
    await world.draw(60)
    await world.until(lambda: world.parts.view.counts.get("demo/digits"))
    first = world.parts.view.counts["demo/digits"].requests
    assert first > 0
    assert world.parts.view.fleet("").counts == world.parts.view.counts
    await world.rest()
    await world.stop()
    await world.start()
    await world.until(lambda: world.parts.view.counts.get("demo/digits"))
    assert world.parts.view.counts["demo/digits"].requests >= first
    world.api.remove("modelservices", "demo", "digits")
    await world.until(lambda: "demo/digits" not in world.parts.view.counts)
