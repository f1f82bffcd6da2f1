"""`lull top` against a real API server: what it lists, what it may not, and what it says then."""

import asyncio
import json
import subprocess

import pytest
import yaml
from kubernetes.aio.config import ConfigException
from textual.widgets import DataTable
from typer.testing import CliRunner

from lull.api.names import CONTROLLER_FIELD_MANAGER, HOSTS_NAMESPACE
from lull.cli import app
from lull.cli.cluster import connect
from lull.cli.top.app import Top
from lull.cli.top.source import Source
from lull.kube import MODELHOSTS, MODELPOOLS, MODELSERVICES, Kube
from unit.cli import golden

DEADLINE_SECONDS = 20
NAMESPACES = ("search", "vision", "speech", "fraud", "forecast", "demo")
READER = [
    {"apiGroups": ["lull.dev"], "resources": ["modelservices"], "verbs": ["get", "list", "watch"]},
]


async def seed() -> None:
    """Put the golden fleet on the API server, statuses as the controller writes them."""
    async with await Kube.connect() as kube:
        for resource, items in (
            (MODELPOOLS, golden.pools()),
            (MODELSERVICES, golden.services()),
            (MODELHOSTS, golden.hosts()),
        ):
            for item in items:
                body = {"metadata": item["metadata"], "spec": item["spec"]}
                await kube.apply(resource, body, field_manager="test")
                told = {"metadata": item["metadata"], "status": item["status"]}
                await kube.apply(resource, told, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status")


@pytest.fixture(scope="module")
def cluster(api_server):
    for kind in ("modelservices", "modelhosts", "modelpools"):  # which other tests left: the fleet is counted
        api_server.kubectl("delete", kind, "--all", "--all-namespaces")
    for name in NAMESPACES:
        manifest = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        api_server.kubectl("apply", "--server-side", "-f", "-", stdin=manifest)
    yield api_server
    items = [*golden.services(), *golden.hosts(), *golden.pools()]
    api_server.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump_all(items))


@pytest.fixture
async def fleet(cluster, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    await seed()
    return cluster


@pytest.fixture
def tenant(cluster, tmp_path):
    """Credentials that may read services of the namespace `vision`, and nothing else."""
    manifests = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": "vision"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "reader", "namespace": "vision"},
            "rules": READER,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "reader", "namespace": "vision"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "vision"}],
        },
    ]
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(manifests))
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("create", "token", "reader", "-n", "vision").strip()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def run(*arguments: str):
    return CliRunner().invoke(app, ["top", *arguments])


def test_it_lists_the_whole_fleet(fleet):
    told = json.loads(run("-o", "json").stdout)
    assert len(told["services"]) == 12
    assert [host["name"] for host in told["hosts"]] == ["h100-7xk2p", "h100-m4q9d", "l4-8zt5w"]
    assert told["totals"]["energy"]["power_watts"] == 453
    assert told["notes"] == []


def test_without_a_terminal_the_tables_are_printed_once(fleet):
    shown = run()
    assert shown.exit_code == 0, shown.output
    assert "embed-large" in shown.stdout


def test_one_namespace_is_shown_alone_with_its_own_sums(fleet):
    told = json.loads(run("-n", "vision", "-o", "json").stdout)
    assert {row["namespace"] for row in told["services"]} == {"vision"}
    assert told["totals"]["energy"]["power_watts"] == 52
    assert told["totals"]["hosts"] is None


def test_rights_on_one_namespace_are_enough_and_what_is_left_out_is_said(fleet, tenant, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tenant))
    shown = run("-n", "vision", "--once")
    assert shown.exit_code == 0, shown.output
    assert "defects" in shown.stdout
    assert "hosts are not shown" in shown.stdout
    assert "pools are not shown" in shown.stdout


def test_without_rights_on_all_namespaces_it_says_to_name_one(fleet, tenant, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tenant))
    shown = run("--once")
    assert shown.exit_code == 1
    assert shown.stderr.startswith("Error: you may not list modelservices in all namespaces")
    assert "-n NAMESPACE" in shown.stderr


def test_a_cluster_that_is_not_there_is_one_line_and_exit_code_1(fleet, tmp_path, monkeypatch):
    config = yaml.safe_load(fleet.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "gone").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "gone"))
    shown = run("--once")
    assert shown.exit_code == 1
    assert shown.stderr.startswith("Error: the cluster is not reachable")
    assert len(shown.stderr.splitlines()) == 1


def test_no_kubeconfig_is_told_with_what_to_set(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    shown = run("-o", "json")
    assert shown.exit_code == 1
    assert "Set KUBECONFIG" in shown.stderr
    assert not isinstance(shown.exception, ConfigException)


async def test_the_live_view_follows_what_changes(fleet):
    async with await connect() as kube:
        app_ = Top(await Source.open(kube, None), "namespace", 0.5)
        async with app_.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert app_.query_one("#services", DataTable).row_count == 12
            await kube.delete(MODELSERVICES, "digits", "demo")
            await kube.delete(MODELHOSTS, "l4-8zt5w", HOSTS_NAMESPACE)
            async with asyncio.timeout(DEADLINE_SECONDS):
                while len(app_._fleet.services) != 11 or len(app_._fleet.hosts) != 2:
                    await pilot.pause(0.05)
            await pilot.pause()
            assert app_.query_one("#services", DataTable).row_count == 11


def test_help_shows_examples_of_both_commands():
    for command, example in (("top", "lull top -n demo --once"), ("report", "lull report --prometheus")):
        done = subprocess.run(
            ["lull", command, "--help"], capture_output=True, text=True, timeout=60, check=True
        )
        assert example in done.stdout
