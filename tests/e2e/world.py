"""Lull on a real local cluster, as its admin, a user and a client see it: what tests and benches stand on."""

import asyncio
import glob
import hashlib
import io
import json
import os
import shutil
import signal
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from e2e.load import Target
from lull.api.names import ANNOTATION_DRAIN, HOSTS_NAMESPACE, SYSTEM_NAMESPACE
from lull.cli import stack
from lull.kube import MODELGATEWAYS, MODELHOSTS, MODELPOOLS, MODELSERVICES, PODS, Kube
from lull.local import processes
from lull.local.cluster import Cluster

Object = dict[str, Any]

NAMESPACE = "demo"
FIELD_MANAGER = "e2e"
REPOSITORY = Path(__file__).parents[1] / "data" / "repository" / "identity"
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Published:
    """A model in the files folder of the cluster."""

    uri: str
    digest: str


class NotSoError(AssertionError):
    """What was waited for did not come; it says what was there instead."""


@contextmanager
def lull_cluster(
    home: Path, *, gateways: int = 2, name: str = "e2e", cpu_nodes: int = 1
) -> Iterator[Cluster]:
    """Bring a cluster up with Lull in it, end it afterwards, and keep its logs in build/logs."""
    cluster, before = Cluster(name, home=home), os.environ.get("KUBECONFIG")
    try:
        stack.up(cluster, cpu_nodes=cpu_nodes, gpu_nodes=0)
        replicas = f"--replicas={gateways}"
        cluster.kubectl("scale", "deployment/lull-gateway", "-n", SYSTEM_NAMESPACE, replicas)
        stack.wait_for(lambda: len(stack.gateways(cluster)) == gateways, "the gateways are not ready", 60)
        cluster.kubectl("create", "namespace", NAMESPACE)
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        yield cluster
    finally:
        if before is not None:  # another cluster's, whose tests go on
            os.environ["KUBECONFIG"] = before
        _keep_logs(cluster)
        cluster.down()


@asynccontextmanager
async def world(cluster: Cluster) -> AsyncIterator["World"]:
    """Connect to a cluster with Lull in it; what is made in it is removed afterwards."""
    async with await Kube.connect(timeout_seconds=20.0) as kube:
        it = World(cluster, kube)
        try:
            yield it
        finally:
            await it.tidy()


class World:
    """What a test does and sees."""

    def __init__(self, cluster: Cluster, kube: Kube) -> None:
        self.cluster = cluster
        self.kube = kube
        self._services: dict[tuple[str, str], None] = {}
        self._pools: list[str] = []

    # What an admin does.

    async def pool(self, name: str, **spec: Any) -> None:
        """Apply a CPU pool, like the local cluster's own where `spec` does not say otherwise."""
        whole: Object = {
            "hosts": {"max": 1},
            "memory": "2Gi",
            "cpu": "100m",
            "allow": {"uris": ["file:///", "http://127.0.0.1:"], "code": True},
            "template": {
                "spec": {"volumes": [{"name": "files", "persistentVolumeClaim": {"claimName": "lull-files"}}]}
            },
        }
        self._pools.append(name)
        body = {"metadata": {"name": name}, "spec": whole | spec}
        await self.kube.apply(MODELPOOLS, body, field_manager=FIELD_MANAGER)

    async def drain(self, host: str, *, wanted: bool = True) -> None:
        """Ask that a host be emptied, or take that back."""
        body = {"metadata": {"annotations": {ANNOTATION_DRAIN: "true" if wanted else None}}}
        await self.kube.merge_patch(MODELHOSTS, host, HOSTS_NAMESPACE, body)

    # What a user does.

    def publish(
        self,
        name: str = "identity.tar",
        source: Path = REPOSITORY,
        instead: Mapping[str, str] = MappingProxyType({}),
    ) -> Published:
        """Put a Triton model directory into the files folder as a tar; it is served under any name.

        Args:
            instead: files of the directory that have another content in the tar.
        """
        return self.put(name, _packed(source, instead))

    def put(self, name: str, content: bytes) -> Published:
        """Put a file into the files folder."""
        path = stack.files(self.cluster) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return Published(f"file:///{name}", "sha256:" + hashlib.sha256(content).hexdigest())

    async def service(
        self, name: str, model: Published, *, namespace: str = NAMESPACE, **spec: Any
    ) -> "Service":
        """Apply a ModelService."""
        whole: Object = {
            "model": {"uri": model.uri, "digest": model.digest},
            "resources": {"memory": "128Mi"},
        }
        self._services[namespace, name] = None
        body = {"metadata": {"name": name, "namespace": namespace}, "spec": whole | spec}
        await self.kube.apply(MODELSERVICES, body, field_manager=FIELD_MANAGER)
        return Service(self, name, namespace)

    # What everybody sees.

    def gateways(self) -> list[str]:
        """Return the `address:port` of each ready gateway."""
        return stack.gateways(self.cluster)

    @cached_property
    def gateway(self) -> str:
        """One gateway, looked up once."""
        return self.gateways()[0]

    async def hosts(self, pool: str | None = None) -> list[Object]:
        """Return the ModelHosts, of one pool or of all, by name."""
        items, _ = await self.kube.list(MODELHOSTS, HOSTS_NAMESPACE)
        found = [item for item in items if pool in (None, item["spec"]["pool"])]
        return sorted(found, key=lambda item: str(item["metadata"]["name"]))

    async def pods(self, namespace: str, label: str = "") -> list[Object]:
        """Return the Pods of a namespace that are not on their way out."""
        items, _ = await self.kube.list(PODS, namespace, label_selector=label or None)
        return [item for item in items if "deletionTimestamp" not in item["metadata"]]

    async def until(
        self, condition: Callable[[], Awaitable[Any]], what: str, timeout_seconds: float = 60.0
    ) -> Any:
        """Wait until `condition()` returns something true, and return that.

        Raises:
            NotSoError: it did not come in time; the message shows what there is.
        """
        deadline = time.monotonic() + timeout_seconds
        while not (found := await condition()):
            if time.monotonic() > deadline:
                raise NotSoError(f"{what}: not within {timeout_seconds:.0f} s\n{await self.picture()}")
            await asyncio.sleep(POLL_SECONDS)
        return found

    async def picture(self) -> str:
        """Return what there is, for a person who asks why."""
        lines = []
        for kind in (MODELSERVICES, MODELHOSTS, MODELGATEWAYS):
            for item in (await self.kube.list(kind))[0]:
                shown = {"spec": item.get("spec"), "status": item.get("status")}
                lines.append(f"{kind.kind} {item['metadata']['name']}: {json.dumps(shown)}")
        return "\n".join(lines)

    async def tidy(self) -> None:
        """Remove what this world made, and wait until its hosts are gone."""
        for namespace, name in self._services:
            await self.kube.delete(MODELSERVICES, name, namespace)
        for name in self._pools:
            await self.kube.merge_patch(
                MODELPOOLS, name, None, {"spec": {"emptyAfter": "0s", "hosts": {"min": 0}}}
            )

        async def gone() -> bool:
            return not [host for pool in self._pools for host in await self.hosts(pool)]

        try:
            await self.until(gone, f"hosts of {', '.join(self._pools)} are let go", 60)
        finally:
            for name in self._pools:
                await self.kube.delete(MODELPOOLS, name)

    # What breaks.

    def kill(self, pod_address: str, program: str) -> float:
        """Kill -9 the one process of `program` in the Pod with this address; return when."""
        (record,) = self.running(pod_address, program)
        os.kill(record, signal.SIGKILL)
        return time.monotonic()

    def running(self, pod_address: str, program: str) -> list[int]:
        """Return the ids of this cluster's processes of a Pod whose command names `program`."""
        found = []
        for record in processes.strays(self.cluster.folder):
            process = Path("/proc") / str(record.pid)
            try:
                environment = (process / "environ").read_bytes().split(b"\0")
                command = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            named = any(Path(os.fsdecode(word)).name == program for word in command[:2])
            if named and f"POD_IP={pod_address}".encode() in environment:
                found.append(record.pid)
        return found


@dataclass(frozen=True)
class Service:
    """One ModelService and its way through the gateways."""

    world: World
    name: str
    namespace: str = NAMESPACE

    def target(self, gateway: str, model: str = "") -> Target:
        """Return it as a client of one gateway sees it."""
        return Target(gateway, self.namespace, self.name, model or self.name)

    def targets(self) -> list[Target]:
        """Return it as seen through each ready gateway."""
        return [self.target(gateway) for gateway in self.world.gateways()]

    async def get(self) -> Object:
        """Return the ModelService."""
        found = await self.world.kube.get(MODELSERVICES, self.name, self.namespace)
        assert found is not None
        return found

    async def conditions(self) -> Mapping[str, Object]:
        """Return its conditions by type, those of its newest generation only."""
        item = await self.get()
        found = item.get("status", {}).get("conditions", [])
        generation = item["metadata"]["generation"]
        return {c["type"]: c for c in found if c.get("observedGeneration") == generation}

    async def placements(self) -> list[tuple[Object, Object, Object]]:
        """Return (host, entry of its spec, entry of its status or {}) of each placement."""
        key = f"{self.namespace}/{self.name}"
        return [
            (host, entry, _said(host, entry["id"]))
            for host in await self.world.hosts()
            for entry in host["spec"].get("models", [])
            if entry["service"] == key
        ]

    async def wait(self, state: str, timeout_seconds: float = 60.0) -> None:
        """Wait until its state (the reason of Active) is this one."""

        async def so() -> bool:
            return (await self.conditions()).get("Active", {}).get("reason") == state

        await self.world.until(so, f"{self.name} is {state}", timeout_seconds)

    async def wait_gone(self, timeout_seconds: float = 30.0) -> None:
        """Wait until no host holds it."""

        async def so() -> bool:
            return not await self.placements()

        await self.world.until(so, f"no host holds {self.name}", timeout_seconds)

    async def wait_stalled(self, reason: str, timeout_seconds: float = 60.0) -> str:
        """Wait until it says that it cannot serve for this reason, and return the message."""

        async def so() -> bool:
            stalled = (await self.conditions()).get("Stalled", {})
            return stalled.get("status") == "True" and stalled.get("reason") == reason

        await self.world.until(so, f"{self.name} is Stalled: {reason}", timeout_seconds)
        return str((await self.conditions())["Stalled"]["message"])

    async def patch(self, **spec: Any) -> None:
        """Change its spec."""
        await self.world.kube.merge_patch(MODELSERVICES, self.name, self.namespace, {"spec": spec})

    async def delete(self) -> None:
        """Delete it."""
        await self.world.kube.delete(MODELSERVICES, self.name, self.namespace)


def _said(host: Object, placement: str) -> Object:
    models: list[Object] = host.get("status", {}).get("models", [])
    return next((model for model in models if model["id"] == placement), {})


def _packed(source: Path, instead: Mapping[str, str]) -> bytes:
    """Return a model directory as a tar, without the name in its configuration: it is served under any."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(source.rglob("*")):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            content = instead.get(path.name, "").encode() or path.read_bytes()
            if path.name == "config.pbtxt":
                lines = content.splitlines(keepends=True)
                content = b"".join(line for line in lines if not line.startswith(b"name:"))
            entry = tarfile.TarInfo(str(path.relative_to(source)))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _keep_logs(cluster: Cluster) -> None:
    """Copy every log of the cluster to build/logs/<name>: they say why a test failed."""
    kept = stack.ROOT / "build" / "logs" / cluster.name
    shutil.rmtree(kept, ignore_errors=True)
    # Pods end meanwhile, and their folders with them: unlike a Path, `glob` takes that as it comes.
    for log in glob.iglob("**/*.log", root_dir=cluster.folder, recursive=True):
        (kept / log).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            shutil.copyfile(cluster.folder / log, kept / log)
