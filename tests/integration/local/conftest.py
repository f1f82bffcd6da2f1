"""A local cluster with one plain node and one with two simulated GPUs, and Pods of small programs."""

import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lull.local.cluster import Cluster, Nodes

Object = dict[str, Any]
READY_SECONDS = 30.0


@pytest.fixture(scope="session")
def cluster(home: Path) -> Iterator[Cluster]:
    cluster = Cluster("nodes", home=home)
    kubectl = str(cluster.binaries["kubectl"].parent)
    image = {"path": [str(Path(sys.executable).parent), kubectl], "env": {"FROM_IMAGE": "yes"}}
    try:
        cluster.up(Nodes(cpu=1, gpu=1, gpus_per_node=2, images={"test/python": image}))
        yield cluster
    finally:
        cluster.down()


class Space:
    """A namespace of its own for one test, and what to do in it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", self.name)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.name, *arguments, stdin=stdin)

    def create(self, kind: str, name: str, body: Object, api_version: str = "v1") -> None:
        manifest = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **body}
        self.kubectl("create", "-f", "-", stdin=json.dumps(manifest))

    def pod(self, name: str, *containers: Object, **spec: Any) -> None:
        self.create("Pod", name, {"spec": {"containers": list(containers), **spec}})

    def get(self, name: str) -> Object:
        return self.cluster.get("-n", self.name, "pod", name)

    def status(self, name: str, container: str = "main") -> Object:
        """The status of one container, empty while it has none."""
        found = self.get(name)["status"]
        statuses = [*found.get("initContainerStatuses", []), *found.get("containerStatuses", [])]
        return next((status for status in statuses if status["name"] == container), {})

    def waiting(self, name: str) -> Object:
        return self.status(name).get("state", {}).get("waiting", {})

    def wait(self, name: str, what: str, timeout_seconds: float = READY_SECONDS) -> None:
        """`kubectl wait --for=…`"""
        self.kubectl("wait", f"--for={what}", f"pod/{name}", f"--timeout={timeout_seconds:.0f}s")

    def run(self, name: str, container: Object, **spec: Any) -> str:
        """Runs a Pod to its end and returns its log."""
        self.pod(name, container, restartPolicy="Never", **spec)
        self.wait(name, "jsonpath={.status.phase}=Succeeded")
        return self.kubectl("logs", name)


@pytest.fixture
def space(cluster: Cluster) -> Iterator[Space]:
    space = Space(cluster)
    yield space
    space.kubectl("delete", "pods", "--all", "--grace-period=1", "--wait=false")
    cluster.kubectl("delete", "namespace", space.name, "--wait=false")


def _container(script: str, name: str = "main", **more: Any) -> Object:
    return {"name": name, "image": "test/python:1", "command": ["python", "-uc", script], **more}


@pytest.fixture(scope="session")
def container() -> Callable[..., Object]:
    """Makes a container that runs a Python script."""
    return _container


def _eventually(condition: Callable[[], Any], timeout_seconds: float = READY_SECONDS) -> Any:
    deadline = time.monotonic() + timeout_seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """Waits until a condition holds, and returns what it found."""
    return _eventually
