"""The node program: registers the cluster's nodes, keeps them alive and runs their Pods."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import shutil
import signal
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lull.kube import LEASES, NODES, PODS, ApiError, Kube, Reflector
from lull.local.address import API_SERVER_PORT, KUBELET_PORT, control_plane_address, pod_address
from lull.local.node.environment import Object
from lull.local.node.pod import ENDED_PHASES, FIELD_MANAGER, Host, PodWorker
from lull.local.node.server import serve_logs
from lull.local.processes import MARK, Record, stop

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10
LEASE_SECONDS = 40
STOP_GRACE_SECONDS = 5.0
LEFT_BEHIND_GRACE_SECONDS = 1.0
LOG_LIMIT_BYTES = 64 * 2**20
LOGS_KEPT = 200  # folders of logs of Pods, the newest
LABEL = "node.lull.local/process"
NODE_LEASES = "kube-node-lease"
GPU = "nvidia.com/gpu"
LEAST_CORES = 16  # nothing is limited, so the scheduler is not to be stingy on a small machine
PODS_PER_NODE = 250


class NodeProgram:
    """All process nodes of the cluster in `folder`."""

    def __init__(self, folder: Path) -> None:
        state = json.loads((folder / "cluster.json").read_text())
        self._folder = folder
        self._range: int = state["range"]
        self._nodes = _names(state["nodes"])
        self._table = state["nodes"]["images"]
        self._address = control_plane_address(self._range)
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._uids: dict[tuple[str, str], str] = {}
        self._since = _now()
        self._stopping = False

    async def run(self) -> None:
        """Runs until SIGTERM or SIGINT; then ends the processes of all Pods."""
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        self._clean_up()
        logs = await serve_logs(self._address, self._folder / "pki", self._find_log)
        async with await Kube.connect() as kube:
            self._host = self._make_host(kube)
            await self._register(kube)
            pods = Reflector(kube, PODS, on_change=self._pod_changed)
            tasks = [asyncio.create_task(pods.run()), asyncio.create_task(self._beat(kube))]
            # A task of ours that ends has failed: then the whole program ends, to be started anew.
            tasks.append(asyncio.create_task(_wait(ended)))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await self._stop_pods()
            await logs.cleanup()
            for task in done:
                task.result()

    def _clean_up(self) -> None:
        """Ends what an earlier node program has left running: its Pods are started anew."""
        records = [Record.load(path) for path in (self._folder / "pods").glob("*/*.json")]
        stop([record for record in records if record is not None], LEFT_BEHIND_GRACE_SECONDS)
        shutil.rmtree(self._folder / "pods", ignore_errors=True)

    def _make_host(self, kube: Kube) -> Host:
        kept = {name: os.environ[name] for name in ("LANG", "TZ", "USER") if name in os.environ}
        return Host(
            kube=kube,
            pods=self._folder / "pods",
            logs=self._folder / "logs",
            server=f"https://{self._address}:{API_SERVER_PORT}",
            authority=self._folder / "pki" / "ca.crt",
            address=self._address,
            table=self._table,
            allocatable=_capacity(0),
            new_address=self._new_address,
            variables={**kept, MARK: str(self._folder)},
        )

    def _new_address(self) -> str:
        """The next Pod address. The serial number is kept, so that none comes back soon."""
        path = self._folder / "pod-serial"
        serial = int(path.read_text()) if path.exists() else 0
        path.write_text(str(serial + 1))
        return pod_address(self._range, serial)

    async def _register(self, kube: Kube) -> None:
        items, _ = await kube.list(NODES, label_selector=LABEL)
        for name in {item["metadata"]["name"] for item in items} - self._nodes.keys():
            await kube.delete(NODES, name)
        for name, gpus in self._nodes.items():
            await kube.apply(NODES, _node(name, gpus), field_manager=FIELD_MANAGER)
            await self._report(kube, name, gpus)

    async def _report(self, kube: Kube, name: str, gpus: int) -> None:
        """Writes the node's status and its Lease: it is alive."""
        await kube.apply(
            NODES,
            {"metadata": {"name": name}, "status": _node_status(name, gpus, self._address, self._since)},
            field_manager=FIELD_MANAGER,
            subresource="status",
        )
        lease = {
            "metadata": {"name": name, "namespace": NODE_LEASES},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
        await kube.apply(LEASES, lease, field_manager=FIELD_MANAGER)

    async def _beat(self, kube: Kube) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            for name, gpus in self._nodes.items():
                try:
                    await self._report(kube, name, gpus)
                except ApiError as error:
                    log.warning("heartbeat of %s: %s", name, error)
            with suppress(OSError):  # a log may go while it is looked at
                self._bound_logs()

    def _bound_logs(self) -> None:
        """Empties logs that grow too long and removes those of Pods long gone."""
        folders = sorted((self._folder / "logs").glob("*"), key=lambda path: path.stat().st_mtime)
        live = {uid[:8] for uid in self._workers}
        for folder in folders[:-LOGS_KEPT]:
            if folder.name.rsplit("_", 1)[1] not in live:
                shutil.rmtree(folder, ignore_errors=True)
        for path in (self._folder / "logs").glob("*/*/*.log"):
            if path.stat().st_size > LOG_LIMIT_BYTES:
                os.truncate(path, 0)

    def _pod_changed(self, key: tuple[str, str], pod: Object | None) -> None:
        """One change of a Pod in the API, of any node. One bad Pod never harms another."""
        try:
            self._follow(key, pod)
        except Exception:
            log.exception("Pod %s/%s", *key)

    def _follow(self, key: tuple[str, str], pod: Object | None) -> None:
        """Starts, updates or ends the worker of a Pod that has changed."""
        uid = pod["metadata"]["uid"] if pod else None
        before = self._uids.get(key)
        if before is not None and before != uid:
            del self._uids[key]
            self._workers[before].vanish()
        if pod is None or uid is None or pod["spec"].get("nodeName") not in self._nodes or self._stopping:
            return
        if uid not in self._workers:
            leaves = pod["metadata"].get("deletionTimestamp")
            if pod.get("status", {}).get("phase") in ENDED_PHASES and not leaves:
                return  # it has run already; there is nothing to do until it is deleted
            self._start(key, uid, pod)
        self._workers[uid].update(pod)

    def _start(self, key: tuple[str, str], uid: str, pod: Object) -> None:
        worker = PodWorker(pod, self._host)
        self._workers[uid], self._uids[key] = worker, uid
        task = asyncio.create_task(worker.run())
        self._tasks[uid] = task

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()):
                log.error("Pod %s/%s: %r", *key, error)
            del self._workers[uid], self._tasks[uid]
            if self._uids.get(key) == uid:
                del self._uids[key]

        task.add_done_callback(ended)

    async def _stop_pods(self) -> None:
        self._stopping = True
        for worker in self._workers.values():
            worker.vanish(STOP_GRACE_SECONDS)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _find_log(self, namespace: str, pod: str, container: str, previous: bool) -> Path | None:
        uid = self._uids.get((namespace, pod))
        return self._workers[uid].log(container, previous=previous) if uid else None


def _names(nodes: dict[str, Any]) -> dict[str, int]:
    """The nodes' names, with how many GPUs each has."""
    cpu = {f"cpu-{index}": 0 for index in range(nodes["cpu"])}
    return cpu | {f"gpu-{index}": nodes["gpus_per_node"] for index in range(nodes["gpu"])}


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def _capacity(gpus: int) -> dict[str, str]:
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = {
        "cpu": str(max(LEAST_CORES, os.cpu_count() or 1)),
        "memory": f"{memory_bytes // 2**20}Mi",
        "ephemeral-storage": "100Gi",
        "pods": str(PODS_PER_NODE),
    }
    return found | ({GPU: str(gpus)} if gpus else {})


def _node(name: str, gpus: int) -> Object:
    labels = {
        LABEL: "true",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "unknown"),
    }
    if gpus:
        labels |= {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": "Simulated"}
    return {"metadata": {"name": name, "labels": labels}}


def _node_status(name: str, gpus: int, address: str, since: str) -> Object:
    return {
        "capacity": _capacity(gpus),
        "allocatable": _capacity(gpus),
        "addresses": [
            {"type": "InternalIP", "address": address},
            {"type": "Hostname", "address": name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "ProcessNode",
                "message": "containers run as local processes; GPUs are simulated",
                "lastHeartbeatTime": _now(),
                "lastTransitionTime": since,
            }
        ],
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
