"""Lull on a local cluster: the demo, the tests and the benchmarks all stand on this one."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from sysconfig import get_path

from lull.api.names import GATEWAY_PORT, SYSTEM_NAMESPACE
from lull.local.cluster import Cluster, Nodes
from lull.local.errors import LocalClusterError
from lull.local.node.images import Table, read_table

ROOT = Path(__file__).parents[3]
OVERLAY = ROOT / "manifests" / "overlays" / "local"
READY_TIMEOUT_SECONDS = 90


class NotInTimeError(LocalClusterError):
    """Something that was waited for did not come; the message says what, and where to look."""


def up(cluster: Cluster, *, cpu_nodes: int = 1, gpu_nodes: int = 1) -> None:
    """Bring a local cluster up with Lull in it, and wait until controller and gateway are ready.

    Raises:
        LocalClusterError: the cluster did not come up, or they were not ready within 90 s.
    """
    cluster.up(Nodes(cpu=cpu_nodes, gpu=gpu_nodes, images=image_table()))
    cluster.apply(ROOT / "crds")
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    cluster.apply(OVERLAY)
    folders = {"FILES": files(cluster), "STAGING": cluster.folder / "staging"}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    volumes = Template((OVERLAY / "volumes.yaml").read_text()).substitute(folders)
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=volumes)
    for name in ("lull-controller", "lull-gateway"):
        cluster.kubectl(
            *("rollout", "status", f"deployment/{name}", "-n", SYSTEM_NAMESPACE),
            f"--timeout={READY_TIMEOUT_SECONDS}s",
            timeout_seconds=READY_TIMEOUT_SECONDS + 5,
        )


def image_table() -> Table:
    """Return what a process node runs for each image, with this machine's places filled in."""
    import envoy

    from lull_runtime.backend.install import install

    triton = install()
    places = {"VENV": str(Path(get_path("scripts")).parent), "ENVOY": f"{next(iter(envoy.__path__))}/_bin"}
    table = read_table(OVERLAY / "images.yaml", places)
    table["lull/runtime"]["env"] = triton
    return table


def gateways(cluster: Cluster) -> list[str]:
    """Return `address:port` of each ready gateway."""
    pods = cluster.get("pods", "-n", SYSTEM_NAMESPACE, "-l", "app.kubernetes.io/name=lull-gateway")["items"]
    ready = [pod for pod in pods if _pod_ready(pod) and "deletionTimestamp" not in pod["metadata"]]
    return [f"{pod['status']['podIP']}:{GATEWAY_PORT}" for pod in ready]


def files(cluster: Cluster) -> Path:
    """Return the folder that `file:` URIs name on this cluster."""
    return cluster.folder / "files"


def wait_for(condition: Callable[[], bool], what: str, timeout_seconds: float) -> None:
    """Wait until `condition()` holds, asking four times a second.

    Raises:
        NotInTimeError: it did not hold in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotInTimeError(f"{what} (waited {timeout_seconds:.0f} s)")
        time.sleep(0.25)


def _pod_ready(pod: Mapping[str, dict[str, list[dict[str, str]]]]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
