"""`lull local prometheus`: one process of the cluster, which takes new manifests and ends with it."""

import json
import urllib.request
from pathlib import Path

import pytest

from lull.local import processes, prometheus
from lull.local.cluster import Cluster, Nodes
from lull.local.errors import LocalClusterError


@pytest.fixture
def cluster(home: Path):
    cluster = Cluster("watched", home=home)
    try:
        cluster.up(Nodes(cpu=0))
        yield cluster
    finally:
        cluster.down()


def rule(name, expression="vector(1)"):
    groups = [{"name": "g", "interval": "1s", "rules": [{"record": name, "expr": expression}]}]
    return {"kind": "PrometheusRule", "spec": {"groups": groups}}


def rules(url):
    with urllib.request.urlopen(f"{url}/api/v1/rules", timeout=5) as answer:
        groups = json.load(answer)["data"]["groups"]
    return [it["name"] for group in groups for it in group["rules"]]


def test_it_takes_new_manifests_says_what_it_cannot_take_and_ends_with_the_cluster(cluster: Cluster):
    url = prometheus.start(cluster, [rule("a:b:c")])
    assert url.startswith(f"http://{cluster.address}:")
    assert rules(url) == ["a:b:c"]
    assert prometheus.start(cluster, [rule("d:e:f")]) == url
    assert rules(url) == ["d:e:f"]
    with pytest.raises(LocalClusterError, match=r"Prometheus ended[\s\S]*unclosed left parenthesis"):
        prometheus.start(cluster, [rule("g:h:i", "sum(")])
    prometheus.start(cluster, [rule("a:b:c")])
    cluster.down()
    assert not list(processes.strays(cluster.folder))
    with pytest.raises(OSError):
        rules(url)
