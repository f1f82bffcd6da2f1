"""What a local Prometheus is told, from the manifests that a cluster's Prometheus operator reads."""

from pathlib import Path

import pytest
import yaml

from lull.local.errors import LocalClusterError
from lull.local.pod_monitor import scrape_configs
from lull.local.prometheus import read_manifests, rule_file

MONITOR = {
    "kind": "PodMonitor",
    "metadata": {"name": "shop", "namespace": "monitoring"},
    "spec": {
        "namespaceSelector": {"matchNames": ["web"]},
        "selector": {"matchLabels": {"b": "2", "a": "1"}},
        "podMetricsEndpoints": [
            {"port": "till", "interval": "5s", "honorLabels": True},
            {"port": "proxy", "path": "/stats"},
        ],
    },
}


def test_each_endpoint_of_a_pod_monitor_is_scraped_as_it_says():
    till, proxy = scrape_configs(MONITOR, Path("/kubeconfig"))
    assert till["scrape_interval"] == "5s"
    assert till["honor_labels"]
    assert till["metrics_path"] == "/metrics"
    assert proxy["metrics_path"] == "/stats"
    assert not proxy["honor_labels"]
    assert "scrape_interval" not in proxy
    (discovery,) = till["kubernetes_sd_configs"]
    assert discovery["namespaces"] == {"names": ["web"]}
    assert discovery["selectors"] == [{"role": "pod", "label": "a=1,b=2"}]
    assert discovery["kubeconfig_file"] == "/kubeconfig"
    assert till["relabel_configs"][1]["regex"] == "till"


def test_a_pod_monitor_without_a_namespace_selector_means_its_own_namespace():
    spec = {key: value for key, value in MONITOR["spec"].items() if key != "namespaceSelector"}
    first, _ = scrape_configs(MONITOR | {"spec": spec}, Path("/kubeconfig"))
    assert first["kubernetes_sd_configs"][0]["namespaces"] == {"names": ["monitoring"]}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ((), "sampleLimit"),
        (("selector",), "matchExpressions"),
        (("namespaceSelector",), "any"),
        (("podMetricsEndpoints", 0), "relabelings"),
    ],
)
def test_a_field_that_would_not_be_heeded_is_refused_by_name(path, field):
    monitor = yaml.safe_load(yaml.safe_dump(MONITOR))
    place = monitor["spec"]
    for step in path:
        place = place[step]
    place[field] = True
    with pytest.raises(LocalClusterError, match=rf"monitoring/shop.*{field}"):
        scrape_configs(monitor, Path("/kubeconfig"))


def test_manifests_are_found_in_files_and_folders_among_others(tmp_path):
    rule = {"kind": "PrometheusRule", "spec": {"groups": [{"name": "g", "rules": []}]}}
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yaml").write_text(yaml.safe_dump_all([MONITOR, {"kind": "ConfigMap"}]))
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(rule))
    found = read_manifests([tmp_path / "b.yaml", tmp_path / "deep"])
    assert [it["kind"] for it in found] == ["PrometheusRule", "PodMonitor"]
    assert yaml.safe_load(rule_file(found)) == {"groups": [{"name": "g", "rules": []}]}


def test_a_folder_without_any_is_refused(tmp_path):
    with pytest.raises(LocalClusterError, match="no PodMonitor and no PrometheusRule"):
        read_manifests([tmp_path])
