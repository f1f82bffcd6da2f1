"""What is committed applies to a real API server, and the accounts in it can do no more than they must."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from lull.local.cluster import Cluster
from lull.local.errors import LocalClusterError

OVERLAYS = Path(__file__).parents[3] / "manifests" / "overlays"


@pytest.mark.parametrize("overlay", ["local", "gpu"])
def test_the_overlay_is_taken_by_a_real_api_server(api_server: Cluster, overlay: str) -> None:
    applied = api_server.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", str(OVERLAYS / overlay)
    )
    assert "deployment.apps/lull-controller serverside-applied" in applied


def can(cluster: Cluster, account: str, verb: str, resource: str, namespace: str) -> bool:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{account}",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": {
                "verb": verb,
                "group": "lull.dev" if resource.startswith("model") else "",
                "resource": resource.split("/")[0],
                "subresource": resource.partition("/")[2],
                "namespace": namespace,
            },
        },
    }
    answer = cluster.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review))
    return bool(json.loads(answer)["status"]["allowed"])


@pytest.mark.parametrize(
    ("account", "verb", "resource", "namespace", "allowed"),
    [
        ("lull-hosts:lull-agent", "patch", "modelhosts/status", "lull-hosts", True),
        ("lull-hosts:lull-agent", "patch", "modelhosts", "lull-hosts", False),
        ("lull-hosts:lull-agent", "watch", "modelpools", "", True),
        ("lull-hosts:lull-agent", "patch", "modelpools", "", False),
        ("lull-hosts:lull-agent", "list", "pods", "lull-hosts", False),
        ("lull-hosts:lull-agent", "get", "secrets", "lull-hosts", False),
        ("lull-hosts:lull-agent", "list", "modelservices", "demo", False),
        ("lull-hosts:default", "list", "modelhosts", "lull-hosts", False),
        ("lull-system:lull-gateway", "list", "modelservices", "demo", True),
        ("lull-system:lull-gateway", "patch", "modelservices/status", "demo", False),
        ("lull-system:lull-gateway", "patch", "modelhosts", "lull-hosts", False),
        ("lull-system:lull-gateway", "get", "secrets", "lull-system", False),
        ("lull-system:lull-controller", "patch", "modelservices/status", "demo", True),
        ("lull-system:lull-controller", "patch", "modelservices", "demo", False),
        ("lull-system:lull-controller", "patch", "modelhosts/status", "lull-hosts", False),
        ("lull-system:lull-controller", "create", "pods", "demo", False),
        ("lull-system:lull-controller", "get", "secrets", "lull-system", False),
        ("lull-system:lull-controller", "create", "pods/eviction", "lull-hosts", True),
        ("lull-system:lull-controller", "create", "pods/eviction", "demo", False),
        ("lull-system:lull-controller", "watch", "nodes", "", True),
        ("lull-system:lull-controller", "delete", "nodes", "", False),
        ("lull-system:lull-controller", "patch", "nodes/status", "", False),
        ("demo:default", "list", "modelhosts", "lull-hosts", False),
    ],
)
def test_each_account_may_do_what_it_must_and_no_more(
    api_server: Cluster, account: str, verb: str, resource: str, namespace: str, allowed: bool
) -> None:
    assert can(api_server, account, verb, resource, namespace) is allowed


def test_a_host_pod_with_more_rights_than_restricted_is_refused(api_server: Cluster) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": "lull-hosts"},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    with pytest.raises(LocalClusterError, match="violates PodSecurity"):
        api_server.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def host_with_pod(cluster: Cluster, name: str) -> None:
    """A ModelHost and a Pod of the same name, as the controller makes them."""
    host = {
        "apiVersion": "lull.dev/v1alpha1",
        "kind": "ModelHost",
        "metadata": {"name": name, "namespace": "lull-hosts"},
        "spec": {"pool": "default", "podName": name, "models": []},
    }
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "lull-hosts"},
        "spec": {
            "serviceAccountName": "lull-agent",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "agent", "image": "lull/runtime", "securityContext": locked}],
        },
    }
    for body in (host, pod):
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(body))


def as_agent_of(cluster: Cluster, pod: str, *arguments: str) -> str:
    """kubectl with the token that the agent in `pod` has."""
    token = cluster.kubectl(
        "create",
        "token",
        "lull-agent",
        "-n",
        "lull-hosts",
        "--bound-object-kind=Pod",
        f"--bound-object-name={pod}",
    ).strip()
    admin = yaml.safe_load(cluster.kubeconfig.read_text())
    mine = cluster.folder / "agent.kubeconfig"
    admin["users"] = [{"name": admin["contexts"][0]["context"]["user"], "user": {"token": token}}]
    mine.write_text(yaml.safe_dump(admin))
    done = subprocess.run(
        [cluster.binaries["kubectl"], "--kubeconfig", mine, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr


def test_an_agent_writes_the_status_of_its_own_host_and_of_no_other(api_server: Cluster) -> None:
    host_with_pod(api_server, "mine")
    host_with_pod(api_server, "other")
    patch = ("patch", "modelhost", "-n", "lull-hosts", "--subresource=status", "--type=merge", "-p")
    body = '{"status": {"address": "127.0.9.9"}}'
    assert "patched" in as_agent_of(api_server, "mine", *patch, body, "mine")
    assert "only the status of the ModelHost that has its own Pod's name" in as_agent_of(
        api_server, "mine", *patch, body, "other"
    )
    assert api_server.get("modelhost", "other", "-n", "lull-hosts").get("status") is None
