"""Real agents of two hosts of one node share its folder: each artifact comes once, before it is needed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lull.api.names import API_VERSION, HOSTS_NAMESPACE
from lull_runtime.artifact.pack import pack_repository
from slow_store import SlowStore

from .conftest import IDENTITY, eventually, model
from .triton import TritonProcess

POOL, HOSTS = "staging", ("staging-1", "staging-2")
BALLAST_BYTES = 4 << 20
FAST, SLOW = 64 << 20, 2 << 20
"""Bytes a second: a moment and 2 s for an artifact."""


class Neighbour:
    """A `lull-agent` of one host, beside its Triton where that is started."""

    def __init__(self, cluster, name: str, node: Path, folder: Path) -> None:
        folder.mkdir()
        self.name, self.cluster = name, cluster
        self.own = node / "hosts" / name
        self.triton = TritonProcess.within(folder)
        self.triton.environment["LULL_REPOSITORY"] = str(self.own / "repository")
        self.environment = self.triton.environment | {
            "KUBECONFIG": str(cluster.kubeconfig),
            "POD_NAME": name,
            "POD_NAMESPACE": HOSTS_NAMESPACE,
            "LULL_POOL": POOL,
            "LULL_FILES": str(folder / "files"),
            "LULL_ARTIFACTS": str(node),
            "LULL_ARTIFACTS_BYTES": str(100 << 20),
            "LULL_MEMORY_BYTES": str(1 << 30),
        }
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        log = (self.triton.folder / "agent.log").open("ab")
        command = [sys.executable, "-m", "lull_runtime.agent.main"]
        self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def tell(self, **spec: object) -> None:
        patch = json.dumps({"spec": spec})
        where = ("modelhost", self.name, "-n", HOSTS_NAMESPACE, "--type=merge", "-p", patch)
        self.cluster.kubectl("patch", *where)

    def status(self) -> dict:
        return self.cluster.get("modelhost", self.name, "-n", HOSTS_NAMESPACE).get("status", {})

    async def until_staged(self, *digests: str) -> None:
        await eventually(
            lambda: self.status().get("staged") == list(digests),
            60,
            lambda: f"{self.name} is {self.status()}",
        )


class Node:
    """Two hosts, the folder that they share, and a store that counts downloads."""

    def __init__(self, cluster, folder: Path, store: SlowStore) -> None:
        self.store = store
        self.shared = folder / "node"
        self.shared.mkdir()
        self.hosts = [Neighbour(cluster, name, self.shared, folder / name) for name in HOSTS]

    def publish(self, name: str) -> dict[str, str]:
        """Make an artifact of some MiB, and return its entry in `spec.stage`."""
        source = self.store.folder / f"{name}-source"
        shutil.copytree(IDENTITY, source)
        (source / "1" / "ballast").write_bytes(os.urandom(BALLAST_BYTES))
        digest = pack_repository(self.store.folder / f"{name}.tar", source)
        return {"uri": self.store.uri(f"{name}.tar"), "digest": digest, "service": f"demo/{name}"}

    def part_bytes(self) -> int:
        return sum(part.stat().st_size for part in (self.shared / "part").glob("*"))


@pytest.fixture
def node(api_server, tmp_path: Path) -> Iterator[Node]:
    store_folder = tmp_path / "store"
    store_folder.mkdir()
    with SlowStore(store_folder, FAST) as store:
        allow = {"uris": [store.uri("")], "code": True}
        spec = {"hosts": {"max": 2}, "memory": "1Gi", "allow": allow}
        bodies = [{"kind": "ModelPool", "metadata": {"name": POOL}, "spec": spec}]
        for name in HOSTS:
            metadata = {"name": name, "namespace": HOSTS_NAMESPACE}
            spec = {"pool": POOL, "podName": name, "models": []}
            bodies.append({"kind": "ModelHost", "metadata": metadata, "spec": spec})
        items = [{"apiVersion": API_VERSION, **body} for body in bodies]
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        api_server.kubectl("create", "-f", "-", stdin=listed)
        node = Node(api_server, tmp_path, store)
        yield node
        for host in node.hosts:
            host.kill()
            host.triton.stop()
        api_server.kubectl("delete", "modelhost", *HOSTS, "-n", HOSTS_NAMESPACE)
        api_server.kubectl("delete", "modelpool", POOL)


async def test_two_agents_that_stage_the_same_at_once_download_each_artifact_once(node: Node):
    node.store.bytes_per_second = SLOW
    listed = [node.publish("a"), node.publish("b")]
    for host in node.hosts:
        host.tell(stage=listed)
        host.start()
    for host in node.hosts:
        await host.until_staged(*(entry["digest"] for entry in listed))
    assert sorted(node.store.asked) == [("a.tar", 0), ("b.tar", 0)]
    left = [path.name for name in ("part", "lock") for path in (node.shared / name).iterdir()]
    assert left == []


async def test_a_killed_agent_s_download_goes_on_at_its_neighbour_s_and_its_folder_goes(node: Node):
    node.store.bytes_per_second = SLOW
    killed, heir = node.hosts
    listed = [node.publish("a")]
    for host in node.hosts:
        host.tell(stage=listed)
    killed.start()
    await eventually(lambda: node.part_bytes() > BALLAST_BYTES // 4, 30)
    killed.kill()
    had_bytes = node.part_bytes()
    node.store.bytes_per_second = FAST
    heir.start()
    await heir.until_staged(listed[0]["digest"])
    assert node.store.asked == [("a.tar", 0), ("a.tar", had_bytes)]
    assert [folder.name for folder in (node.shared / "hosts").iterdir()] == [heir.name]


async def test_what_is_staged_is_served_on_another_host_of_the_node_though_the_store_is_down(node: Node):
    first, woken = node.hosts
    entry = node.publish("identity")
    first.tell(stage=[entry])
    first.start()
    await first.until_staged(entry["digest"])
    (node.store.folder / "identity.tar").unlink()
    (woken.own / "repository").mkdir(parents=True)
    woken.triton.start()
    woken.start()
    woken.tell(models=[model("identity", entry["digest"], uri=entry["uri"]).wire()])
    await eventually(
        lambda: [m["state"] for m in woken.status().get("models", [])] == ["Ready"],
        60,
        lambda: f"{woken.name} is {woken.status()}",
    )
    assert node.store.asked == [("identity.tar", 0)]
    note = node.shared / "sha256" / entry["digest"].removeprefix("sha256:") / "whole.json"
    assert note.stat().st_nlink == 2, "it stays while that host uses it"
    woken.tell(models=[])
    await eventually(lambda: note.stat().st_nlink == 1, 30)
