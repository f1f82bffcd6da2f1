"""A local cluster in one folder: up, down, what runs, and kubectl on it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lull.local import processes
from lull.local.address import choose_range, control_plane_address
from lull.local.control_plane import PROGRAMS, ControlPlane
from lull.local.errors import LocalClusterError
from lull.local.node.images import Table
from lull.local.toolchain import Progress, binaries, to_stderr

KUBECTL_TIMEOUT_SECONDS = 60
NODES_READY_TIMEOUT_SECONDS = 60
NODES_STOP_GRACE_SECONDS = 60
STRAYS_GRACE_SECONDS = 5
POLL_SECONDS = 0.1
# A Unix socket's path ends at 107 bytes, of which a volume's path below the folder takes some 40.
LONGEST_FOLDER_BYTES = 60


@dataclass(frozen=True)
class Nodes:
    """The process nodes of a cluster: `cpu` plain ones, and `gpu` ones with simulated GPUs.

    `images` says what each image is on them (`lull.local.node.images.read_table`).
    """

    cpu: int = 1
    gpu: int = 0
    gpus_per_node: int = 1
    images: Table = field(default_factory=dict)


class Cluster:
    """The cluster called `name`, whose folder is `<home>/<name>`."""

    def __init__(self, name: str = "lull", home: Path | None = None, progress: Progress = to_stderr) -> None:
        """`home` defaults to `$LULL_HOME`, else `lull` in the user's state folder."""
        if not name.replace("-", "").isalnum():
            raise LocalClusterError(f"{name!r} is no name for a cluster: use letters, digits and '-'.")
        self.name = name
        self.folder = (home or _default_home()).resolve() / name
        self._progress = progress
        if len(os.fsencode(self.folder)) > LONGEST_FOLDER_BYTES:
            raise LocalClusterError(
                f"{self.folder} is longer than {LONGEST_FOLDER_BYTES} bytes, too long for the Unix sockets "
                "in it. Set LULL_HOME to a shorter folder."
            )

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; it exists while the cluster does."""
        return self.folder / "kubeconfig"

    @property
    def exists(self) -> bool:
        """Whether the cluster has been brought up and not been ended."""
        return self._state_file.exists()

    @property
    def address(self) -> str:
        """The loopback address of the control plane and the nodes."""
        return control_plane_address(self._state()["range"])

    @cached_property
    def binaries(self) -> dict[str, Path]:
        """etcd, the control plane's programs and kubectl by name; builds them if need be."""
        return binaries(self._progress)

    def up(self, nodes: Nodes | None = None) -> None:
        """Starts whatever of the cluster does not run, and waits until all of it is ready.

        `nodes` given changes the process nodes; None keeps those of the last time.
        """
        _ = self.binaries  # built before the lock is taken: it may take minutes
        with self._lock():
            self._settle(nodes)
            self._control_plane().start(self._progress)
            self._start_nodes()
        self._wait_usable()

    def down(self) -> None:
        """Ends every process of the cluster and removes its folder. Nothing to do is fine.

        Raises:
            LocalClusterError: some did not end; the folder stays, so that `down` finds them again.
        """
        with self._lock():
            if not self.exists:
                return
            if record := processes.Record.load(self._node_record):
                self._progress("ending the nodes and their pods")
                processes.stop([record], NODES_STOP_GRACE_SECONDS)
            self._progress("ending the control plane")
            self._control_plane().stop()
            processes.stop(list(processes.strays(self.folder)), STRAYS_GRACE_SECONDS)
            if left := [str(record.pid) for record in processes.strays(self.folder)]:
                raise LocalClusterError(
                    f"Processes {', '.join(left)} did not end. Try again, or end them yourself."
                )
            shutil.rmtree(self.folder)

    def apply(self, folder: Path) -> None:
        """Applies a kustomization, server-side."""
        self.kubectl("apply", "--server-side", "-k", str(folder))

    def kubectl(
        self, *arguments: str, stdin: str | None = None, timeout_seconds: float = KUBECTL_TIMEOUT_SECONDS
    ) -> str:
        """Runs kubectl as the administrator and returns what it printed.

        Raises:
            LocalClusterError: it failed, with what it said, or did not end in time.
        """
        try:
            done = subprocess.run(
                [self.binaries["kubectl"], "--kubeconfig", self.kubeconfig, *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            said = f"kubectl {' '.join(arguments)} took longer than {timeout_seconds:.0f} s."
            raise LocalClusterError(f"{said} See `lull local status`.") from error
        if done.returncode:
            raise LocalClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get … -o json`, parsed."""
        answer: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return answer

    def log(self, program: str) -> Path:
        """The log file of one of the cluster's own programs."""
        path = self.folder / "log" / f"{program}.log"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in path.parent.glob("*.log")))
            raise LocalClusterError(f"There is no log of {program!r}. There is: {known or 'none'}.")
        return path

    def status(self) -> dict[str, Any]:
        """What runs: `{name, folder, kubeconfig, ready, programs: {…}, nodes: […]}`."""
        if not self.exists:
            return {
                "name": self.name,
                "folder": str(self.folder),
                "ready": False,
                "programs": {},
                "nodes": [],
            }
        control_plane = self._control_plane()
        running = self._running()
        healthy = {name: control_plane.healthy(name) for name in PROGRAMS}
        nodes = self._node_rows() if healthy["kube-apiserver"] else []
        wanted = self._state()["nodes"]
        healthy["nodes"] = sum(node["ready"] for node in nodes) >= wanted["cpu"] + wanted["gpu"]
        programs = {name: _state(runs, healthy[name]) for name, runs in running.items()}
        return {
            "name": self.name,
            "folder": str(self.folder),
            "kubeconfig": str(self.kubeconfig),
            "server": control_plane.server,
            "ready": set(programs.values()) == {"ready"},
            "programs": programs,
            "nodes": nodes,
        }

    # What follows is how.

    @property
    def _state_file(self) -> Path:
        return self.folder / "cluster.json"

    @property
    def _node_record(self) -> Path:
        return self.folder / "run" / "nodes.json"

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Holds off other commands on this cluster; outside its folder, which `down` removes."""
        self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder.parent / f".{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _state(self) -> dict[str, Any]:
        if not self.exists:
            raise LocalClusterError(f"There is no cluster {self.name!r}. Start it with `lull local up`.")
        state: dict[str, Any] = json.loads(self._state_file.read_text())
        return state

    def _settle(self, nodes: Nodes | None) -> None:
        """Decides what the cluster is to be and remembers it. Running parts stay where they are."""
        old = self._state() if self.exists else {}
        if old and any(self._running().values()):
            chosen = old["range"]
        else:
            chosen = choose_range(self.folder, old.get("range"))
        wanted = asdict(nodes) if nodes else old.get("nodes", asdict(Nodes()))
        if old and wanted != old["nodes"] and (record := processes.Record.load(self._node_record)):
            self._progress("the nodes change: ending the old ones and their pods")
            processes.stop([record], NODES_STOP_GRACE_SECONDS)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._state_file.write_text(json.dumps({"range": chosen, "nodes": wanted}))

    def _control_plane(self) -> ControlPlane:
        # Ending a cluster must not have to build anything.
        found = self.__dict__.get("binaries", {})
        return ControlPlane(self.folder, self._state()["range"], found)

    def _running(self) -> dict[str, bool]:
        record = processes.Record.load(self._node_record)
        return self._control_plane().running() | {"nodes": record is not None and record.alive()}

    def _start_nodes(self) -> None:
        if self._running()["nodes"]:
            return
        self._progress("starting the nodes")
        processes.start(
            self._node_record,
            [sys.executable, "-m", "lull.local.node", str(self.folder)],
            self.folder / "log" / "nodes.log",
            mark=self.folder,
            environment={**os.environ, "KUBECONFIG": str(self.folder / "pki" / "node.kubeconfig")},
        )

    def _wait_usable(self) -> None:
        """Waits until Pods can be created and scheduled: nodes ready, default account there."""
        deadline = time.monotonic() + NODES_READY_TIMEOUT_SECONDS
        nodes = self._state()["nodes"]
        while (
            sum(row["ready"] for row in self._node_rows()) < nodes["cpu"] + nodes["gpu"]
            or not self.get("serviceaccounts", "--namespace=default")["items"]
        ):
            log = self.folder / "log" / "nodes.log"
            if not self._running()["nodes"] or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise LocalClusterError(f"The nodes did not become ready. The end of {log}:\n{tail}")
            time.sleep(POLL_SECONDS)

    def _node_rows(self) -> list[dict[str, Any]]:
        return [_node_row(node) for node in self.get("nodes")["items"]]


def _default_home() -> Path:
    if own := os.environ.get("LULL_HOME"):
        return Path(own)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "lull"


def _state(runs: bool, healthy: bool) -> str:
    if not runs:
        return "not running"
    return "ready" if healthy else "starting"


def _node_row(node: dict[str, Any]) -> dict[str, Any]:
    conditions = {c["type"]: c["status"] for c in node["status"].get("conditions", [])}
    untainted = not node["spec"].get("taints")
    return {
        "name": node["metadata"]["name"],
        "ready": conditions.get("Ready") == "True" and untainted,
        "simulated_gpus": int(node["status"].get("capacity", {}).get("nvidia.com/gpu", 0)),
    }
