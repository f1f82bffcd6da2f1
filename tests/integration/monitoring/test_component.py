"""The monitoring component on the base: what is scraped exists, and Prometheus alone may reach it."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from lull.controller.hostpod import host_pod
from lull.local.toolchain import binaries

MANIFESTS = Path(__file__).parents[3] / "manifests"
RENAME = """\
- target: {kind: NetworkPolicy, name: metrics-.*}
  patch: |
    - op: replace
      path: /spec/ingress/0/from/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name
      value: observability
"""

SELECTED = """\
- target: {group: monitoring.coreos.com}
  patch: '[{"op": "add", "path": "/metadata/labels/release", "value": "kube-prometheus-stack"}]'
"""


def kustomize(folder, *, component=True, patches="[]"):
    """Return what an overlay of the base makes, by kind, namespace and name."""
    base, monitoring = (
        os.path.relpath(MANIFESTS / name, folder) for name in ("base", "components/monitoring")
    )
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [base],
        "components": [monitoring] if component else [],
        "patches": yaml.safe_load(patches),
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    command = [str(binaries()["kubectl"]), "kustomize", str(folder)]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    items = [item for item in yaml.safe_load_all(text) if item]
    return {
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item
        for item in items
    }


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    return kustomize(tmp_path_factory.mktemp("overlay"))


def pods(items):
    """Yield every Pod that Lull runs, by its namespace."""
    for (kind, namespace, _), item in items.items():
        if kind == "Deployment":
            yield namespace, item["spec"]["template"]
    host = {"metadata": {"name": "h", "uid": "u"}, "spec": {"pool": "p", "podName": "h", "models": []}}
    pool = {"metadata": {"name": "p"}, "spec": {"hosts": {"max": 1}, "memory": "1Gi"}}
    yield "lull-hosts", host_pod(host, pool, "image")


def matches(selector, pod):
    return selector["matchLabels"].items() <= pod["metadata"]["labels"].items()


def scraped(items):
    """Yield namespace, Pod and number of each port that a PodMonitor names."""
    for (kind, namespace, name), item in items.items():
        if kind != "PodMonitor":
            continue
        namespaces = item["spec"].get("namespaceSelector", {}).get("matchNames", [namespace])
        for endpoint in item["spec"]["podMetricsEndpoints"]:
            found = [
                (in_namespace, pod, port["containerPort"])
                for in_namespace, pod in pods(items)
                if in_namespace in namespaces and matches(item["spec"]["selector"], pod)
                for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
                for port in container.get("ports", [])
                if port.get("name") == endpoint["port"]
            ]
            assert len(found) == 1, f"{name} scrapes the port {endpoint['port']}, which {len(found)} have"
            yield found[0]


def test_every_program_is_scraped(items):
    assert sorted(port for _, _, port in scraped(items)) == [8080, 8080, 8081, 8082]


def test_prometheus_may_reach_what_it_scrapes_and_nothing_more(items):
    admitted = {
        (item["metadata"]["namespace"], port["port"])
        for (kind, _, name), item in items.items()
        if kind == "NetworkPolicy" and name.startswith("metrics-")
        for rule in item["spec"]["ingress"]
        for port in rule["ports"]
        if rule["from"]
        == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    }
    assert admitted == {(namespace, port) for namespace, _, port in scraped(items)}
    for namespace, pod, port in scraped(items):
        assert any(
            matches(item["spec"]["podSelector"], pod)
            and port in [entry["port"] for rule in item["spec"]["ingress"] for entry in rule["ports"]]
            for (kind, of, name), item in items.items()
            if kind == "NetworkPolicy" and of == namespace and name.startswith("metrics-")
        )


def test_without_the_component_nobody_may_read_figures_and_with_it_the_base_is_as_it_was(items, tmp_path):
    base = kustomize(tmp_path, component=False)
    assert base.items() <= items.items()
    for _, _, port in scraped(items):
        for (kind, _, name), item in base.items():
            if kind == "NetworkPolicy" and name != "gateway":
                assert port not in [
                    e["port"] for rule in item["spec"]["ingress"] for e in rule.get("ports", [])
                ]
    gateway = base["NetworkPolicy", "lull-system", "gateway"]
    assert gateway["spec"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8080}]}]  # Envoy's own


def test_the_namespace_of_prometheus_is_one_patch_away(tmp_path):
    patched = kustomize(tmp_path, patches=RENAME)
    policies = [
        item for (kind, _, name), item in patched.items() if kind == "NetworkPolicy" and "metrics-" in name
    ]
    assert len(policies) == 3
    for policy in policies:
        (peer,) = policy["spec"]["ingress"][0]["from"]
        assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "observability"}


def test_the_label_that_prometheus_selects_by_is_one_patch_away_for_all_of_it(tmp_path):
    patched = kustomize(tmp_path, patches=SELECTED)
    selected = sorted(
        kind
        for (kind, _, _), item in patched.items()
        if (item["metadata"].get("labels") or {}).get("release") == "kube-prometheus-stack"
    )
    assert selected == ["PodMonitor", "PodMonitor", "PodMonitor", "PrometheusRule"]
