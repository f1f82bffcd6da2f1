"""`lull evaluate` on a real API server: which revision it asks, what it prints, and what it writes there."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from lull.api.names import ANNOTATION_EVALUATED, CONTROLLER_FIELD_MANAGER
from lull.cli import app
from lull.kube import MODELSERVICES, Kube
from unit.runtime.classifier import Gateway, running

OLD, NEW = "r-old", "r-new"
TOLD = np.array([0] * 30 + [1] * 8 + [0] * 2)  # the last two of class 1 are told wrong
DIGEST = f"sha256:{'0' * 64}"


def scores(rows: np.ndarray) -> np.ndarray:
    """The first feature is the class that is told."""
    return np.eye(3, dtype=np.float32)[rows[:, 0].astype(int)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("set") / "set.npz"
    np.savez(path, x=np.stack([TOLD, TOLD], axis=1).astype(np.float32), y=[0] * 30 + [1] * 10)
    return path


@contextmanager
def answering(gateway: Gateway) -> Iterator[str]:
    """Serve it from a thread of its own, for the command has a loop of its own."""
    loop, ready, urls = asyncio.new_event_loop(), threading.Event(), []
    stop = asyncio.Event()

    async def serve() -> None:
        async with running(gateway) as url:
            urls.append(url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


async def seed(url: str, phase: str | None) -> None:
    """A service that answers at `url`, and whose newest revision is being rolled out, or not."""
    metadata = {"name": "digits", "namespace": "demo"}
    status = {
        "url": url,
        "observedGeneration": 1,
        "conditions": [],
        "revisions": [{"name": name, "percent": 0, "ready": True} for name in (NEW, OLD)],
    }
    if phase:
        status["rollout"] = {"stable": OLD, "candidate": NEW, "phase": phase}
    async with await Kube.connect() as kube:
        await kube.delete(MODELSERVICES, "digits", "demo")
        spec = {"model": {"uri": "https://models.example/d.tar", "digest": DIGEST}}
        await kube.apply(MODELSERVICES, {"metadata": metadata, "spec": spec}, field_manager="test")
        told = {"metadata": metadata, "status": status}
        await kube.apply(MODELSERVICES, told, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status")


@pytest.fixture
def digits(api_server, data, monkeypatch):
    """Evaluate the service, in a phase of its rollout; returns what the command came to."""
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))

    def evaluate(gateway: Gateway, *arguments: object, phase: str | None = None):
        with answering(gateway) as url:
            asyncio.run(seed(url, phase))
            command = ["evaluate", "digits", "-n", "demo", "--data", str(data), *map(str, arguments)]
            return CliRunner().invoke(app, command)

    return evaluate


def noted(api_server) -> str | None:
    (item,) = api_server.get("modelservices", "-n", "demo")["items"]
    return item["metadata"].get("annotations", {}).get(ANNOTATION_EVALUATED)


def by_pin(asked) -> str:
    return asked.revision or OLD


def test_it_prints_what_was_found_and_writes_it_where_it_is_told(digits, tmp_path):
    files = ("--json", tmp_path / "found.json", "--plot", tmp_path / "found.png")
    done = digits(Gateway(scores, revision=by_pin), *files)
    assert done.exit_code == 0, done.output
    assert "demo/digits: r-old" in done.stdout
    assert "accuracy 95.0% (38 of 40 rows)" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["accuracy_percent"] == 95.0
    assert found["quality"]["confusion"] == [[30, 0], [2, 8]]
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")


def test_below_the_accuracy_asked_for_it_fails_for_pipelines(digits):
    assert digits(Gateway(scores), "--min-accuracy", 95).exit_code == 0
    below = digits(Gateway(scores), "--min-accuracy", 95.1, "-o", "json")
    assert below.exit_code == 1
    assert json.loads(below.stdout)["quality"]["correct"] == 38
    assert "its accuracy is 95.0%, and --min-accuracy asks for 95.1%" in below.stderr


def test_a_record_is_of_the_candidate_and_lies_on_the_service(digits, api_server):
    gateway = Gateway(scores, revision=by_pin)
    done = digits(gateway, "--record", phase="Validating")
    assert done.exit_code == 0, done.output
    assert {asked.revision for asked in gateway.asked} == {NEW}
    assert noted(api_server) == "r-new 95.0"


def test_without_a_rollout_nothing_is_recorded_unless_a_revision_is_named(digits, api_server):
    refused = digits(Gateway(scores, revision=by_pin), "--record", phase="Promoted")
    assert refused.exit_code == 1
    assert "no rollout of it is running" in refused.stderr
    assert noted(api_server) is None
    assert digits(Gateway(scores, revision=by_pin), "--record", "--revision", OLD).exit_code == 0
    assert noted(api_server) == "r-old 95.0"


def test_a_revision_that_nobody_knows_is_refused_before_anything_is_asked(digits):
    gateway = Gateway(scores)
    refused = digits(gateway, "--revision", "r-typo")
    assert refused.exit_code == 1
    assert "its status knows no revision r-typo, but r-new, r-old" in refused.stderr
    assert gateway.asked == []


def test_nothing_is_recorded_where_requests_failed(digits, api_server):
    gateway = Gateway(scores, revision=by_pin)
    gateway.refuse = lambda asked: (500, "broke") if len(gateway.asked) == 2 else None
    done = digits(gateway, "--record", "--batch", 8, phase="Stepping")
    assert done.exit_code == 1
    assert "failed: 1 requests: HTTP 500: broke" in done.stdout
    assert "nothing is recorded" in done.stderr
    assert noted(api_server) is None


def test_who_may_read_but_not_write_is_told_what_to_have_said(digits, api_server, tmp_path, monkeypatch):
    manifests = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "looker", "namespace": "demo"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "looker", "namespace": "demo"},
            "rules": [{"apiGroups": ["lull.dev"], "resources": ["modelservices"], "verbs": ["get"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "looker", "namespace": "demo"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "looker"},
            "subjects": [{"kind": "ServiceAccount", "name": "looker", "namespace": "demo"}],
        },
    ]
    api_server.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(manifests))
    config = yaml.safe_load(api_server.kubeconfig.read_text())
    token = api_server.kubectl("create", "token", "looker", "-n", "demo").strip()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    gateway = Gateway(scores, revision=by_pin)
    with answering(gateway) as url:
        asyncio.run(seed(url, "Validating"))
        monkeypatch.setenv("KUBECONFIG", str(path))
        rows = tmp_path / "set.npz"
        np.savez(rows, x=np.zeros((3, 2), np.float32), y=[0, 0, 0])
        done = CliRunner().invoke(app, ["evaluate", "digits", "-n", "demo", "--data", str(rows), "--record"])
    assert done.exit_code == 1
    assert "you may not patch modelservices in demo" in done.stderr
    assert f"kubectl annotate modelservice digits -n demo '{ANNOTATION_EVALUATED}={NEW} 100.0'" in done.stderr


def test_a_service_or_a_set_that_is_not_there_is_one_line(digits, data, api_server, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    for name, path, words in (
        ("nobody", data, "there is no modelservice nobody in demo"),
        ("digits", tmp_path / "no.npz", "does not hold rows x and their classes y"),
    ):
        done = CliRunner().invoke(app, ["evaluate", name, "-n", "demo", "--data", str(path)])
        assert done.exit_code == 1
        assert done.stderr.startswith("Error: ")
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
