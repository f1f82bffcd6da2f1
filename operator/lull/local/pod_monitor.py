"""From a PodMonitor to Prometheus' own scrape configuration, with the labels that its operator gives.

Only the fields that are named here are known. Any other is refused: a local cluster must not be
scraped otherwise than a cluster with the Prometheus operator would be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lull.local.errors import LocalClusterError

Object = Mapping[str, Any]

_SPEC = frozenset({"namespaceSelector", "selector", "podMetricsEndpoints"})
_NAMESPACES = frozenset({"matchNames"})
_SELECTOR = frozenset({"matchLabels"})
_ENDPOINT = frozenset({"port", "path", "interval", "honorLabels"})

# Labels of a target, from what Kubernetes says of its Pod.
_TARGET_LABELS = {
    "namespace": "__meta_kubernetes_namespace",
    "pod": "__meta_kubernetes_pod_name",
    "container": "__meta_kubernetes_pod_container_name",
}


def scrape_configs(monitor: Object, kubeconfig: Path) -> list[dict[str, Any]]:
    """Return a scrape configuration for each endpoint of a PodMonitor.

    Targets are found by asking the API server for Pods, as the user of `kubeconfig`.

    Raises:
        LocalClusterError: the PodMonitor has a field that is not known here.
    """
    name = f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}"
    spec = monitor["spec"]
    _refuse_unknown(name, "spec", spec, _SPEC)
    _refuse_unknown(name, "spec.selector", spec["selector"], _SELECTOR)
    discovery = {
        "role": "pod",
        "kubeconfig_file": str(kubeconfig),
        "namespaces": {"names": _namespaces(name, monitor)},
        "selectors": [{"role": "pod", "label": _label_selector(spec["selector"]["matchLabels"])}],
    }
    configs = []
    for index, endpoint in enumerate(spec["podMetricsEndpoints"]):
        _refuse_unknown(name, "spec.podMetricsEndpoints", endpoint, _ENDPOINT)
        configs.append(
            {
                "job_name": f"podMonitor/{name}/{index}",
                "metrics_path": endpoint.get("path", "/metrics"),
                "honor_labels": endpoint.get("honorLabels", False),
                "kubernetes_sd_configs": [discovery],
                "relabel_configs": _relabelings(name, endpoint["port"]),
                **({"scrape_interval": endpoint["interval"]} if "interval" in endpoint else {}),
            }
        )
    return configs


def _namespaces(name: str, monitor: Object) -> list[str]:
    selector = monitor["spec"].get("namespaceSelector", {})
    _refuse_unknown(name, "spec.namespaceSelector", selector, _NAMESPACES)
    return list(selector.get("matchNames", [monitor["metadata"]["namespace"]]))


def _label_selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _relabelings(job: str, port: str) -> list[dict[str, Any]]:
    """Keep the containers, init containers too, that have the port; drop Pods that have ended."""
    return [
        {"action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Failed|Succeeded"},
        {"action": "keep", "source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": port},
        *({"source_labels": [source], "target_label": to} for to, source in _TARGET_LABELS.items()),
        {"target_label": "job", "replacement": job},
        {"target_label": "endpoint", "replacement": port},
    ]


def _refuse_unknown(name: str, where: str, given: Object, known: Collection[str]) -> None:
    if unknown := sorted(given.keys() - known):
        raise LocalClusterError(
            f"PodMonitor {name}: {where} has {', '.join(unknown)}, which a local Prometheus cannot heed. "
            f"It knows {', '.join(sorted(known))}: leave the rest out, or add it to lull.local.pod_monitor."
        )
