"""What the controller's own account may do to hosts and Nodes on a real API server, and what budgets keep."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lull.api.names import ANNOTATION_EMPTY_SINCE, ANNOTATION_USED, HOSTS_NAMESPACE
from lull.controller.execute import Executor
from lull.controller.nodes import Nodes
from lull.controller.view import View
from lull.kube import MODELHOSTS, MODELPOOLS, NODES, PODS, ApiError, Kube
from lull.local.cluster import Cluster
from lull.policy import Vacate

Object = dict[str, Any]
BUDGET = "keep-one"
DEADLINE_SECONDS = 30.0
LOCKED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := await condition()):
        assert time.monotonic() < deadline, "it did not come in time"
        await asyncio.sleep(0.05)
    return found


@pytest.fixture
async def kube(api_server: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Kube]:
    """The API server as the controller's account sees it."""
    token = api_server.kubectl("create", "token", "lull-controller", "-n", "lull-system").strip()
    mine = yaml.safe_load(api_server.kubeconfig.read_text())
    mine["users"] = [{"name": mine["contexts"][0]["context"]["user"], "user": {"token": token}}]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(mine))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    async with await Kube.connect() as kube:
        yield kube


@pytest.fixture
async def host(api_server: Cluster, kube: Kube) -> AsyncIterator[str]:
    """A ModelHost whose Pod is ready."""
    name = "vacated"
    body = {
        "apiVersion": MODELHOSTS.api_version,
        "kind": MODELHOSTS.kind,
        "metadata": {"name": name, "namespace": HOSTS_NAMESPACE},
        "spec": {"pool": "default", "podName": name, "models": []},
    }
    owner = await kube.create(MODELHOSTS, body)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": HOSTS_NAMESPACE,
            "labels": {"test": name},
            "ownerReferences": [
                {
                    "apiVersion": MODELHOSTS.api_version,
                    "kind": MODELHOSTS.kind,
                    "name": name,
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "triton", "image": "lull/runtime", "securityContext": LOCKED}],
        },
    }
    api_server.kubectl("create", "-f", "-", stdin=json.dumps(pod))
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    patch = ("patch", "pod", name, "-n", HOSTS_NAMESPACE, "--subresource=status", "--type=merge", "-p")
    api_server.kubectl(*patch, json.dumps(ready))
    yield name
    api_server.kubectl("delete", "modelhost", name, "-n", HOSTS_NAMESPACE, "--ignore-not-found")
    api_server.kubectl("delete", "pod", name, "-n", HOSTS_NAMESPACE, "--force", "--ignore-not-found")


@pytest.fixture
def budget(api_server: Cluster, host: str) -> Iterator[None]:
    """A PodDisruptionBudget that wants the host's Pod to stay, as the cluster's controller has seen it."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": BUDGET, "namespace": HOSTS_NAMESPACE},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"test": host}}},
    }
    api_server.kubectl("create", "-f", "-", stdin=json.dumps(body))
    seen = ("wait", "--for=jsonpath={.status.currentHealthy}=1", f"pdb/{BUDGET}", "-n", HOSTS_NAMESPACE)
    api_server.kubectl(*seen, "--timeout=30s")
    yield
    api_server.kubectl("delete", "pdb", BUDGET, "-n", HOSTS_NAMESPACE, "--ignore-not-found")


async def shown(kube: Kube, name: str) -> View:
    view = View()
    for kind in (MODELHOSTS, PODS):
        found = await kube.get(kind, name, HOSTS_NAMESPACE)
        assert found is not None
        view.offer(kind, found)
    pool = {"metadata": {"name": "default", "resourceVersion": "1"}, "spec": {}}
    view.offer(MODELPOOLS, pool)  # hosts of a pool that is gone go without a question
    return view


async def test_a_budget_keeps_a_host_and_without_it_the_host_is_vacated(
    api_server: Cluster, kube: Kube, host: str, budget: None
) -> None:
    refused: list[tuple[str, str]] = []
    seconds = [0.0]
    view = await shown(kube, host)
    executor = Executor(
        kube,
        view,
        image="lull/runtime",
        clock=lambda: seconds[0],
        on_done=lambda: None,
        on_forbidden=lambda name, why: refused.append((name, why)),
    )

    async def settled() -> bool:
        return not executor.pending

    executor.submit(Vacate(host, "its models fit elsewhere"))
    await until(settled)
    ((name, why),) = refused
    assert name == host
    assert BUDGET in why
    assert "vacate" not in view.raw[MODELHOSTS][host]["spec"]

    api_server.kubectl("delete", "pdb", BUDGET, "-n", HOSTS_NAMESPACE)
    seconds[0] += 1000
    executor.submit(Vacate(host, "its models fit elsewhere"))
    await until(settled)
    assert len(refused) == 1
    assert view.raw[MODELHOSTS][host]["spec"]["vacate"] == "its models fit elsewhere"
    assert view.hosts[host].cordoned
    pod = api_server.get("pod", host, "-n", HOSTS_NAMESPACE)
    assert "deletionTimestamp" not in pod["metadata"], "it was only asked about"


async def test_the_controller_may_ask_about_an_eviction_and_evict_nobody(kube: Kube, host: str) -> None:
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": host, "namespace": HOSTS_NAMESPACE},
    }
    await kube.create(PODS, eviction, "eviction", dry_run=True)
    with pytest.raises(ApiError, match="only ask whether a Pod might be evicted"):
        await kube.create(PODS, eviction, "eviction")


@pytest.fixture
def node(api_server: Cluster) -> Iterator[str]:
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "marked", "annotations": {"example.com/owner": "somebody"}},
    }
    api_server.kubectl("create", "-f", "-", stdin=json.dumps(body))
    yield "marked"
    api_server.kubectl("delete", "node", "marked")


async def test_a_node_is_marked_when_its_last_host_has_gone(kube: Kube, node: str) -> None:
    view = View()
    nodes = Nodes(kube, view, time.time, lambda: None)
    pod = {"metadata": {"name": "h", "resourceVersion": "1"}, "spec": {"nodeName": node}}
    view.offer(PODS, pod)

    async def annotations() -> Object:
        found = await kube.get(NODES, node)
        assert found is not None
        nodes.see(node, found)
        await nodes.mark()
        marked = await kube.get(NODES, node)
        assert marked is not None
        kept = marked["metadata"]["annotations"].items()  # Kubernetes' own controllers write some too
        return {name: value for name, value in kept if "kubernetes.io" not in name}

    others = {"example.com/owner": "somebody"}
    assert await annotations() == others | {ANNOTATION_USED: "true"}
    view.forget(PODS, "h")
    assert (await annotations()).keys() == others.keys() | {ANNOTATION_USED, ANNOTATION_EMPTY_SINCE}
    view.offer(PODS, pod)
    assert await annotations() == others | {ANNOTATION_USED: "true"}


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"unschedulable": True}},
        {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}},
        {"metadata": {"labels": {"tier": "gold"}}},
        {"metadata": {"annotations": {"example.com/owner": "me"}}},
        {"metadata": {"annotations": {"example.com/owner": None}}},
        {"metadata": {"annotations": {"example.com/other": "me"}}},
        {"metadata": {"finalizers": ["example.com/keep"]}},
    ],
)
async def test_the_controller_changes_nothing_else_of_a_node(kube: Kube, node: str, patch: Object) -> None:
    with pytest.raises(ApiError, match="only annotations of its own"):
        await kube.merge_patch(NODES, node, None, patch)
