"""What kube-state-metrics is told to show of our kinds is there to be shown."""

import re
from pathlib import Path

import pytest
import yaml

from lull.api.names import GROUP, VERSION

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "manifests" / "components" / "monitoring" / "kube-state-metrics"
RESOURCES = yaml.safe_load((FOLDER / "config.yaml").read_text())["spec"]["resources"]
METRICS = [(resource, metric) for resource in RESOURCES for metric in resource["metrics"]]
METADATA = {"name": "string", "namespace": "string", "generation": "integer", "creationTimestamp": "string"}


def _crds():
    found = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("lull.dev_*.yaml")]
    return {crd["spec"]["names"]["kind"]: crd["spec"] for crd in found}


CRDS = _crds()


def _at(schema, path):
    """Return the schema of what kube-state-metrics finds at this path."""
    for step in path:
        if chosen := re.fullmatch(r"\[(\w+)=\w+\]", step):
            schema = schema["items"]
            assert chosen[1] in schema["properties"], path
        else:
            if schema["type"] == "array":  # each of its items is shown
                schema = schema["items"]
            assert step in schema["properties"], path
            schema = schema["properties"][step]
    return schema


def _schema(kind):
    version = CRDS[kind]["versions"][0]
    metadata = {"type": "object", "properties": {name: {"type": it} for name, it in METADATA.items()}}
    whole = version["schema"]["openAPIV3Schema"]
    return whole | {"properties": whole["properties"] | {"metadata": metadata}}


def test_each_of_our_kinds_is_shown_and_may_be_read():
    kinds = [resource["groupVersionKind"] for resource in RESOURCES]
    assert [kind["kind"] for kind in kinds] == ["ModelService", "ModelPool", "ModelHost", "ModelGateway"]
    assert all((kind["group"], kind["version"]) == (GROUP, VERSION) for kind in kinds)
    role, _ = yaml.safe_load_all((FOLDER / "role.yaml").read_text())
    assert {CRDS[kind["kind"]]["names"]["plural"] for kind in kinds} == set(role["rules"][0]["resources"])


@pytest.mark.parametrize(
    ("resource", "metric"),
    METRICS,
    ids=[f"{resource['metricNamePrefix']}_{metric['name']}" for resource, metric in METRICS],
)
def test_a_metric_stands_on_fields_that_the_crd_has(resource, metric):
    schema = _schema(resource["groupVersionKind"]["kind"])
    each = metric["each"]
    shown = each[each["type"][0].lower() + each["type"][1:]]
    for path in resource["labelsFromPath"].values():
        assert _at(schema, path)["type"] == "string"
    root = _at(schema, shown.get("path", []))
    for path in shown.get("labelsFromPath", {}).values():
        assert _at(root, path)["type"] == "string" or root["items"]["type"] == "string"
    if each["type"] == "Gauge":
        assert _at(root, shown.get("valueFrom", []))["type"] in {"integer", "string", "boolean"}
    if each["type"] == "StateSet":
        assert root["type"] == "string"
