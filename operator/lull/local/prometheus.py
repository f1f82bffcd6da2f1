"""A Prometheus over a local cluster: it scrapes what PodMonitors name, by the rules of PrometheusRules.

It is one process on the cluster's loopback address. What it stores lies in the cluster's folder, and
it ends with the cluster. It knows no receiver for alerts: look at them in its pages or its API.
"""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from lull.local import processes
from lull.local.cluster import Cluster
from lull.local.errors import LocalClusterError
from lull.local.pod_monitor import scrape_configs
from lull.local.toolchain import Progress, prometheus_binaries, to_stderr

Manifest = dict[str, Any]

PORT = 9090
READY_TIMEOUT_SECONDS = 60
STOP_GRACE_SECONDS = 5
POLL_SECONDS = 0.05
EVALUATION_INTERVAL = "15s"
KEPT = ("--storage.tsdb.retention.time=7d", "--storage.tsdb.retention.size=1GB")
_KINDS = ("PodMonitor", "PrometheusRule")


def read_manifests(paths: Iterable[Path]) -> list[Manifest]:
    """Return the PodMonitors and PrometheusRules in YAML files, or in all those of folders.

    Raises:
        LocalClusterError: there is none.
    """
    paths = list(paths)
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.yaml")))]
    documents = (document for file in files for document in yaml.safe_load_all(file.read_text()))
    found = [it for it in documents if isinstance(it, dict) and it.get("kind") in _KINDS]
    if not found:
        named = ", ".join(map(str, paths))
        raise LocalClusterError(
            f"There is no {' and no '.join(_KINDS)} in {named}. Name a folder that has some."
        )
    return found


def start(cluster: Cluster, manifests: Sequence[Manifest], progress: Progress = to_stderr) -> str:
    """Start the cluster's Prometheus, or start it anew with these manifests, and return its URL.

    What an earlier one stored is kept.

    Raises:
        LocalClusterError: the cluster does not run, a manifest is not understood, or Prometheus was
            not ready within 60 s; with the end of its log.
    """
    url = f"http://{cluster.address}:{PORT}"
    program = prometheus_binaries(progress)["prometheus"]
    configuration = _write_configuration(cluster, manifests)
    record = _record(cluster)
    stop(cluster)
    progress(f"starting Prometheus at {url}")
    processes.start(
        record,
        [
            program,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={configuration.parent / 'data'}",
            *KEPT,
            f"--web.listen-address={cluster.address}:{PORT}",
            "--log.level=warn",
        ],
        _log(cluster),
        mark=cluster.folder,
        environment=os.environ,
    )
    _wait_ready(cluster, url)
    return url


def stop(cluster: Cluster) -> None:
    """End the cluster's Prometheus. None there is fine; `lull local down` ends it too."""
    if record := processes.Record.load(_record(cluster)):
        processes.stop([record], STOP_GRACE_SECONDS)
        _record(cluster).unlink(missing_ok=True)


def _write_configuration(cluster: Cluster, manifests: Sequence[Manifest]) -> Path:
    folder = cluster.folder / "prometheus"
    folder.mkdir(exist_ok=True)
    rules = folder / "rules.yaml"
    rules.write_text(rule_file(manifests))
    path = folder / "prometheus.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "global": {"evaluation_interval": EVALUATION_INTERVAL},
                "rule_files": [str(rules)],
                "scrape_configs": list(_scrape_configs(manifests, cluster.kubeconfig)),
            },
            sort_keys=False,
        )
    )
    return path


def rule_file(manifests: Iterable[Manifest]) -> str:
    """Return the groups of the PrometheusRules among the manifests as a rule file of Prometheus."""
    rules = (it for it in manifests if it["kind"] == "PrometheusRule")
    return yaml.safe_dump({"groups": [group for it in rules for group in it["spec"]["groups"]]})


def _scrape_configs(manifests: Iterable[Manifest], kubeconfig: Path) -> Iterator[dict[str, Any]]:
    for manifest in manifests:
        if manifest["kind"] == "PodMonitor":
            yield from scrape_configs(manifest, kubeconfig)


def _wait_ready(cluster: Cluster, url: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    record = processes.Record.load(_record(cluster))
    while not _ready(url):
        ended = record is None or not record.alive()
        if ended or time.monotonic() > deadline:
            tail = "\n".join(_log(cluster).read_text(errors="replace").splitlines()[-15:])
            what = "ended" if ended else f"was not ready after {READY_TIMEOUT_SECONDS} s"
            raise LocalClusterError(f"Prometheus {what}. The end of {_log(cluster)}:\n{tail}")
        time.sleep(POLL_SECONDS)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _record(cluster: Cluster) -> Path:
    return cluster.folder / "run" / "prometheus.json"


def _log(cluster: Cluster) -> Path:
    return cluster.folder / "log" / "prometheus.log"
