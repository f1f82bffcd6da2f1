"""The controller's parts one by one."""

import asyncio
import json
import time
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import pytest
from prometheus_client import REGISTRY

from lull.api import HostModel
from lull.controller import health as health_module
from lull.controller import lease as lease_module
from lull.controller.health import Health, serve_health
from lull.controller.hostpod import host_pod
from lull.controller.lease import Lease, LeaseLostError
from lull.controller.main import Settings
from lull.controller.planner import Planner
from lull.controller.pods import pod_state, pod_trouble
from lull.controller.rollouts import Rollouts
from lull.controller.shell import UserKinds
from lull.controller.status import StatusWriter
from lull.controller.view import View
from lull.controller.wakes import Wakes
from lull.controller.wire import exact_duration, placement_from, placement_to, pool_from, service_from
from lull.exposition import Exposition
from lull.kube import LEASES, MODELGATEWAYS, MODELHOSTS, MODELPOOLS, MODELSERVICES, PODS, ApiError
from lull.local.node.environment import replace_mounts
from lull.local.node.volumes import mounts
from lull.policy import Placement, Pod, State

from .fake_api import FakeApi
from .world import World, pool, service, unready

HOST = {"metadata": {"name": "h", "uid": "u1"}, "spec": {"pool": "default", "models": []}}


def pod(status=None, **metadata):
    return {"metadata": {"name": "h", "ownerReferences": [{"uid": "u1"}]} | metadata, "status": status or {}}


@pytest.mark.parametrize("seconds", [0.25, 1.0, 1.5, 12.345, 300.0])
def test_a_placement_reads_back_as_it_was_written(seconds):
    entry = placement_to(
        placement_from(
            {
                "id": "digits-1",
                "service": "demo/digits",
                "name": "digits",
                "revision": "r",
                "uri": "file:///d",
                "memory": "1234567",
                "idleAfter": exact_duration(seconds),
                "epoch": 3,
                "state": "Draining",
            }
        ),
        None,
    )
    assert HostModel.model_validate(entry)
    assert placement_from(entry).idle_after_seconds == seconds
    assert placement_to(placement_from(entry), None) == entry


def test_a_placement_is_written_with_the_latency_that_its_service_promises():
    promising = service_from(service(objective={"latency": "250ms"}))
    loaded = Placement("digits-1", promising.key, promising.model, 2**20, 300.0)
    entry = placement_to(loaded, promising)
    assert HostModel.model_validate(entry).latency == "250ms"
    assert "latency" not in placement_to(loaded, service_from(service()))
    assert placement_from(entry) == loaded


def test_an_accelerator_pool_offers_the_memory_of_all_its_accelerators():
    item = pool(accelerator={"memory": "10Gi", "count": 2}, headroomPercent=10)
    assert pool_from(item).capacity_bytes == 18 * 2**30


def test_a_revision_changes_with_the_model_and_with_nothing_else():
    first = service_from(service(idleAfter="5s"))
    assert first.model.revision == service_from(service(suspend=True)).model.revision
    assert first.model.revision != service_from(service(uri="file:///other")).model.revision


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (None, Pod.MISSING),
        (pod(), Pod.STARTING),
        (pod(unready(since="00:00:01", initialized=None)), Pod.STARTING),
        (pod(unready(since="00:00:01", initialized="00:00:03")), Pod.STARTING),
        (pod(unready(since="00:00:09", initialized="00:00:03")), Pod.UNREADY),
        (pod({"conditions": [{"type": "Ready", "status": "True"}]}), Pod.RUNNING),
        (pod({"phase": "Failed"}), Pod.GONE),
        (pod(deletionTimestamp="now"), Pod.TERMINATING),
        (pod(ownerReferences=[{"uid": "older"}]), Pod.TERMINATING),
    ],
)
def test_a_pod_s_state_is_read(found, state):
    assert pod_state(HOST, found) is state


def test_a_missing_pod_that_has_run_is_gone():
    assert pod_state(HOST | {"status": {"address": "127.0.0.1"}}, None) is Pod.GONE


def test_what_keeps_a_pod_from_starting_is_said():
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    assert "no such image" in pod_trouble(pod({"containerStatuses": [{"name": "triton", "state": waiting}]}))
    assert pod_trouble(pod({"containerStatuses": [{"name": "triton", "state": {"running": {}}}]})) == ""


def test_host_pods_gather_on_nodes_in_use_and_no_autoscaler_moves_them():
    built = host_pod(HOST, pool(), "image")
    terms = built["spec"]["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    labels = built["metadata"]["labels"]
    for term in terms:
        assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
        assert term["podAffinityTerm"]["labelSelector"]["matchLabels"].items() <= labels.items()
    assert terms[0]["weight"] > terms[1]["weight"]
    assert terms[0]["podAffinityTerm"]["labelSelector"]["matchLabels"] == {"lull.dev/pool": "default"}
    assert built["metadata"]["annotations"] == {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }


def test_a_pool_s_template_has_the_last_word_on_where_its_hosts_are():
    template = {
        "metadata": {"annotations": {"karpenter.sh/do-not-disrupt": "false"}},
        "spec": {"affinity": {"podAffinity": None, "nodeAffinity": {"some": "terms"}}},
    }
    built = host_pod(HOST, pool(template=template), "image")
    assert built["spec"]["affinity"] == {"podAffinity": None, "nodeAffinity": {"some": "terms"}}
    assert built["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "false"
    assert built["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def test_the_wish_to_be_near_other_hosts_is_switched_off_as_the_readme_says():
    nowhere = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    built = host_pod(HOST, pool(template={"spec": {"affinity": nowhere}}), "image")
    assert built["spec"]["affinity"] == nowhere


def test_the_agent_alone_sees_what_a_pool_shows_its_stores():
    spec = {"credentials": {"secretName": "keys"}, "allow": {"uris": ["pvc://models/a/", "pvc://models/b/"]}}
    built = host_pod(HOST, pool(**spec), "image")["spec"]
    (agent,), (triton,) = built["initContainers"], built["containers"]
    volumes = {volume["name"]: volume for volume in built["volumes"]}
    assert volumes["credentials"]["secret"]["secretName"] == "keys"
    assert volumes["credentials"]["secret"]["optional"], "models of open stores are served without it"
    assert volumes["claim-0"]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    secret = {m["mountPath"]: m for m in agent["volumeMounts"] if m["name"] in ("credentials", "claim-0")}
    env = {entry["name"]: entry.get("value") for entry in agent["env"]}
    assert secret.keys() == {env["LULL_CREDENTIALS"], json.loads(env["LULL_CLAIMS"])["models"]}
    folders = mounts(agent, built["volumes"], Path("/node"))
    told = replace_mounts(env["LULL_CLAIMS"], folders)
    assert json.loads(told) == {"models": "/node/claim-0"}, "as process nodes tell it"
    assert all(mount["readOnly"] for mount in secret.values())
    assert {mount["name"] for mount in triton["volumeMounts"]} == {"store", "control", "shm", "tmp"}


def test_nothing_that_triton_writes_is_where_the_agent_reads():
    built = host_pod(HOST, pool(), "image")["spec"]
    written = {m["name"] for m in built["containers"][0]["volumeMounts"] if not m["readOnly"]}
    read = {m["name"] for m in _agent_of(pool())["volumeMounts"]}
    assert written == {"shm", "tmp"}
    assert not written & read, (
        "code that a pool allows could replace the key that a signature is verified with"
    )
    assert written | read == {volume["name"] for volume in built["volumes"]}


def test_an_agent_is_told_which_pool_says_what_it_may_run():
    told = {entry["name"]: entry.get("value") for entry in _agent_of(pool())["env"]}
    assert told["LULL_POOL"] == pool()["metadata"]["name"]


def _agent_of(item):
    return host_pod(HOST, item, "image")["spec"]["initContainers"][0]


def test_a_host_pod_meets_the_restricted_standard():
    built = host_pod(HOST, pool(), "image")
    spec = built["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["automountServiceAccountToken"]
    for container in [*spec["initContainers"], *spec["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
    mounts = {
        c["name"]: [m["name"] for m in c["volumeMounts"]]
        for c in [*spec["initContainers"], *spec["containers"]]
    }
    assert "token" in mounts["agent"]
    assert "token" not in mounts["triton"]
    assert built["metadata"]["ownerReferences"][0]["uid"] == "u1"


def test_models_are_on_one_bounded_volume_of_which_triton_reads_its_repository(tmp_path):
    spec = host_pod(HOST, pool(), "image")["spec"]
    (agent,), (triton,) = spec["initContainers"], spec["containers"]
    variables = {entry["name"]: entry.get("value") for entry in agent["env"]}
    [store] = [volume for volume in spec["volumes"] if volume["name"] == "store"]
    assert int(store["emptyDir"]["sizeLimit"]) > int(variables["LULL_ARTIFACTS_BYTES"])
    [mount] = [mount for mount in triton["volumeMounts"] if mount["name"] == "store"]
    assert mount["readOnly"]

    # As process nodes do it: every path lies beneath a mount of its own container, and all agree.
    found = []
    for container in (agent, triton):
        folders = mounts(container, spec["volumes"], tmp_path)
        paths = {e["name"]: e["value"] for e in container["env"] if e.get("value", "").startswith("/")}
        for path in paths.values():
            assert any(Path(path).is_relative_to(mount) for mount in folders), path
        path = paths.get("LULL_REPOSITORY") or f"{paths['LULL_ARTIFACTS']}/hosts/h/repository"
        [mount] = [m for m in folders if Path(path).is_relative_to(m)]
        found.append(path.replace(mount, folders[mount]))
    assert found == [str(tmp_path / "store" / "hosts" / "h" / "repository")] * 2


def test_a_pool_that_stages_has_its_models_on_the_node_s_volume_of_which_triton_sees_its_own_host_s():
    staging = {"claimName": "lull-staging", "size": "200Gi"}
    spec = host_pod(HOST, pool(staging=staging), "image")["spec"]
    (agent,), (triton,) = spec["initContainers"], spec["containers"]
    [store] = [volume for volume in spec["volumes"] if volume["name"] == "store"]
    assert store == {"name": "store", "persistentVolumeClaim": {"claimName": "lull-staging"}}
    variables = {entry["name"]: entry.get("value") for entry in agent["env"]}
    assert variables["LULL_ARTIFACTS_BYTES"] == str(200 << 30)
    [mount] = [mount for mount in triton["volumeMounts"] if mount["name"] == "store"]
    assert (mount["readOnly"], mount["subPath"]) == (True, "hosts/h/repository")


def test_an_accelerator_pool_asks_for_accelerators_and_may_let_clocks_idle():
    spec = {"hosts": {"max": 1}, "accelerator": {"memory": "10Gi"}, "idleClocks": "Low", "cpu": "2"}
    built = host_pod(HOST, {"metadata": {"name": "gpu"}, "spec": spec}, "image")
    (triton,) = built["spec"]["containers"]
    assert triton["resources"] == {"requests": {"cpu": "2"}, "limits": {"nvidia.com/gpu": "1"}}
    assert {"name": "CUDA_DISABLE_PERF_BOOST", "value": "1"} in triton["env"]


def test_a_pool_s_template_is_merged_over_the_host_pod():
    template = {
        "metadata": {"labels": {"team": "a", "lull.dev/host": "spoofed"}, "name": "spoofed"},
        "spec": {
            "nodeSelector": {"gpu": "yes"},
            "containers": [{"name": "triton", "image": "other", "env": [{"name": "X", "value": "1"}]}],
            "volumes": [{"name": "files", "hostPath": {"path": "/models"}}],
        },
    }
    built = host_pod(HOST, pool(template=template), "image")
    assert built["metadata"]["name"] == "h"
    assert built["metadata"]["labels"]["team"] == "a"
    assert built["metadata"]["labels"]["lull.dev/host"] == "h"
    (triton,) = built["spec"]["containers"]
    assert triton["image"] == "other"
    assert triton["command"] == ["lull-triton"]
    assert {"name": "X", "value": "1"} in triton["env"]
    assert [v for v in built["spec"]["volumes"] if v["name"] == "files"] == template["spec"]["volumes"]
    assert built["spec"]["nodeSelector"] == {"gpu": "yes"}


def test_an_older_state_never_replaces_a_newer_one():
    view = View()
    new = service(suspend=True)
    new["metadata"] |= {"resourceVersion": "10", "generation": 2}
    old = service()
    old["metadata"] |= {"resourceVersion": "9", "generation": 1}
    assert view.offer(MODELSERVICES, new)
    assert not view.offer(MODELSERVICES, old)
    assert view.services["demo/digits"].suspend


def test_what_was_measured_is_remembered_over_a_restart():
    view = View()
    item = service()
    revision = service_from(item).model.revision
    item["metadata"]["resourceVersion"] = "1"
    item["status"] = {"revisions": [{"name": revision, "memory": "160Mi"}]}
    view.offer(MODELSERVICES, item)
    assert view.services["demo/digits"].measured_bytes == 160 * 2**20


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("POD_IP", "127.0.0.7")
    monkeypatch.setenv("POD_NAME", "me")
    monkeypatch.setenv("LULL_URL", "http://gw:8080/{namespace}/{name}")
    settings = Settings.from_environment()
    assert settings.url_of("demo/digits", []) == "http://gw:8080/demo/digits"
    monkeypatch.delenv("POD_IP")
    with pytest.raises(SystemExit, match="POD_IP"):
        Settings.from_environment()


@pytest.fixture
def _quick_lease(monkeypatch):
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 0.02)
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.15)
    monkeypatch.setattr(lease_module, "GIVE_UP_SECONDS", 0.06)


@pytest.mark.usefixtures("_quick_lease")
async def test_one_controller_acts_at_a_time():
    api = FakeApi()
    first, second = Lease(api, "first"), Lease(api, "second")
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    keeping.cancel()
    await asyncio.wait_for(waiting, 5)
    assert api.all(LEASES)[0]["spec"]["holderIdentity"] == "second"
    with pytest.raises(LeaseLostError):
        await asyncio.wait_for(first.keep(), 5)


@pytest.mark.usefixtures("_quick_lease")
async def test_a_released_lease_is_free_at_once():
    api = FakeApi()
    first, second = Lease(api, "first"), Lease(api, "second")
    await first.acquire()
    await first.release()
    await asyncio.wait_for(second.acquire(), 5)


@pytest.mark.usefixtures("_quick_lease")
async def test_a_holder_that_cannot_renew_stops():
    api = FakeApi()
    lease = Lease(api, "first")
    await lease.acquire()

    def down(*_):
        raise ApiError(0, "Unreachable", "no answer")

    api.before = down
    with pytest.raises(LeaseLostError):
        await asyncio.wait_for(lease.keep(), 5)


async def test_health_is_served_on_the_pod_s_address_alone(monkeypatch):
    monkeypatch.setattr(health_module, "PORT", 18080)
    health = Health()
    async with serve_health("127.0.0.8", health, Exposition(REGISTRY)), aiohttp.ClientSession() as client:
        base = "http://127.0.0.8:18080"
        assert (await client.get(f"{base}/healthz")).status == 200
        assert (await client.get(f"{base}/readyz")).status == 503
        health.ready = True
        assert (await client.get(f"{base}/readyz")).status == 200
        assert "lull_wake_seconds" in await (await client.get(f"{base}/metrics")).text()
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get("http://127.0.0.1:18080/healthz")


class Seen:
    """Stands for the planner and remembers what it was shown."""

    def __init__(self):
        self.objects = {}

    def see(self, kind, key, item):
        if item is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = item


async def test_a_list_drops_what_vanished_unseen_and_nothing_newer():
    api, seen = FakeApi(), Seen()
    kinds = UserKinds(api, seen)
    api.put(MODELSERVICES, service("old"))
    api.put(MODELPOOLS, pool())
    await kinds.list()
    assert set(seen.objects) == {"demo/old", "default"}
    api.remove("modelservices", "demo", "old")
    await kinds.list()
    assert set(seen.objects) == {"default"}
    newer = service("newer")
    newer["metadata"] |= {"resourceVersion": "999"}
    await kinds._event(event={"type": "ADDED", "object": newer}, param=MODELSERVICES)
    await kinds.list()
    assert "demo/newer" in seen.objects
    await kinds._event(event={"type": "DELETED", "object": newer}, param=MODELSERVICES)
    assert "demo/newer" not in seen.objects


class Submitted(list):
    """Stands for the executor and remembers what it was given."""

    submit = list.append


async def test_a_wake_is_issued_in_the_event_of_its_held_request_and_statuses_give_way():
    view, submitted = View(), Submitted()
    for number in range(2000):
        _offer(view, MODELSERVICES, service(f"s{number}"))
    _offer(view, MODELPOOLS, pool(most=1000))
    for number in range(200):
        entries = [_resident(f"s{number * 5 + one}") for one in range(5)]
        metadata = {"name": f"h{number}", "namespace": "lull-hosts", "uid": "u"}
        _offer(view, MODELHOSTS, {"metadata": metadata, "spec": {"pool": "default", "models": entries}})
    statuses = Mock(StatusWriter)
    rollouts = Rollouts(view, time.time, print)
    planner = Planner(view, submitted, statuses, None, Wakes(time.time, print), rollouts, time.time)
    view.on_news = planner.hear
    planner._started = True
    for number in range(10):
        held = {"renewTime": f"t{number}", "held": [f"demo/s{number}"]}
        metadata = {"name": "gw", "uid": "u", "resourceVersion": str(10**9 + number)}
        gateway = {"metadata": metadata, "status": held}
        planner.see(MODELGATEWAYS, "gw", gateway)
        assert len(submitted) == number + 1
        assert statuses.give_way.call_count == number + 1


def _offer(view, kind, item):
    item["metadata"]["resourceVersion"] = "1"
    view.offer(kind, item)


def _resident(name):
    item = service(name)
    item["metadata"]["generation"] = 1
    loaded = Placement(f"{name}-1", f"demo/{name}", service_from(item).model, 2**20, 300.0, State.RESIDENT)
    return placement_to(loaded, None)


def test_the_kinds_that_the_view_knows_are_those_it_is_shown():
    assert {kind.kind for kind in View().raw} == {
        "ModelService",
        "ModelPool",
        MODELHOSTS.kind,
        "ModelGateway",
        PODS.kind,
        "PriorityClass",
    }


def test_an_answer_of_ours_brings_nothing_back_that_went_meanwhile():
    view = View()
    gateway = {"metadata": {"name": "gw", "namespace": "lull-system", "resourceVersion": "1"}}
    view.offer(MODELGATEWAYS, gateway)
    newer = {"metadata": gateway["metadata"] | {"resourceVersion": "2"}, "status": {"renewTime": "later"}}
    view.update(MODELGATEWAYS, newer)
    assert view.gateways["gw"].renewed == "later"
    view.forget(MODELGATEWAYS, "gw")
    view.update(MODELGATEWAYS, newer)
    assert not view.gateways


async def test_a_planner_that_is_told_to_stop_stops_even_when_something_changes_just_then():
    async with World() as world:
        world.api.put(MODELPOOLS, pool())
        world.api.put(MODELSERVICES, service())
        await world.until(world.asleep)
        await world.rest()
        world.parts.planner.done()
        await asyncio.wait_for(world.stop(), 5)
