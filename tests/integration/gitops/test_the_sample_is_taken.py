"""The GitOps sample on a real API server: it is taken, nothing of it drifts, and nothing is done too soon."""

import json
import os
import shutil
from pathlib import Path

import pytest

from gitops.health import ARGOCD, KINDS, script
from gitops.sample import ROOT, SAMPLE, built, objects
from gitops.tools import ask
from lull.local.cluster import Cluster

MANAGER = "--field-manager=argocd-controller"


@pytest.fixture(scope="module")
def applied(api_server: Cluster):
    """Apply the sample's own objects, and return the cluster and their manifests."""
    manifests = [item for part in ("pools", "apps/shop") for item in built(api_server, SAMPLE / part)]
    for item in manifests:
        api_server.kubectl("apply", "--server-side", MANAGER, "-f", "-", stdin=json.dumps(item))
    ours = [item for item in manifests if item["apiVersion"].startswith("lull.dev/")]
    yield api_server, ours
    for item in ours:
        api_server.kubectl("delete", "-f", "-", stdin=json.dumps(item))


def live(cluster, item):
    namespace = item["metadata"].get("namespace", "")
    return cluster.get(item["kind"], item["metadata"]["name"], *(["-n", namespace] if namespace else []))


def test_nothing_that_the_api_server_adds_is_a_difference(applied):
    cluster, manifests = applied
    assert len(manifests) == 4
    for item in manifests:
        found = live(cluster, item)
        assert found["spec"] != item["spec"], "there are defaults to be told from a change"
        assert ask(found, manifest=item).drift == {}
        cluster.kubectl("diff", "--server-side", MANAGER, "-f", "-", stdin=json.dumps(item))


def test_applying_it_again_changes_nothing(applied):
    cluster, manifests = applied
    for item in manifests:
        versions = []
        for _ in range(3):
            cluster.kubectl("apply", "--server-side", MANAGER, "-f", "-", stdin=json.dumps(item))
            metadata = live(cluster, item)["metadata"]
            versions.append((metadata["generation"], metadata["resourceVersion"]))
        assert {generation for generation, _ in versions} == {1}
        # The first may store the status that the API server answered with from the start.
        assert versions[1] == versions[2]


def test_what_lull_has_not_looked_at_is_not_done(applied):
    cluster, manifests = applied
    for item in manifests:
        said = ask(live(cluster, item))
        assert (said.kstatus, said.health[0]) == ("InProgress", "Progressing")


def test_a_list_that_says_less_than_it_could_does_not_drift(api_server):
    item = built(api_server, SAMPLE / "apps" / "shop")
    (search,) = [found for found in item if found["metadata"]["name"] == "search"]
    search["metadata"] |= {"name": "sparse", "namespace": "demo"}
    search["spec"]["schedule"] = [{"cron": "0 8 * * 1-5", "duration": "10h"}]
    text = json.dumps(search)
    api_server.kubectl("apply", "--server-side", MANAGER, "-f", "-", stdin=text)
    found = live(api_server, search)
    api_server.kubectl("delete", "-f", "-", stdin=text)
    assert ask(found, manifest=search).drift == {}


def test_argo_cds_configuration_gets_a_script_for_each_kind(api_server: Cluster, tmp_path: Path):
    shutil.copytree(ARGOCD, tmp_path / "argocd")
    own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm"}, "data": {"url": "u"}}
    (tmp_path / "cm.yaml").write_text(json.dumps(own))
    (tmp_path / "kustomization.yaml").write_text(
        "namespace: argocd\nresources: [cm.yaml]\ncomponents: [argocd]\n"
    )
    (merged,) = built(api_server, tmp_path)
    scripts = {f"resource.customizations.health.lull.dev_{kind}": script(kind) for kind in KINDS}
    assert merged["metadata"]["name"] == "argocd-cm"
    assert merged["data"] == {"url": "u"} | scripts


def test_removing_lull_takes_neither_crds_nor_namespaces_along(api_server: Cluster, tmp_path: Path):
    argo = objects("clusters/argocd/applications.yaml")[0]["spec"]["source"]
    flux = objects("clusters/flux/kustomizations.yaml")[0]["spec"]
    kept = {
        ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"): (argo["path"], argo["kustomize"]),
        ("kustomize.toolkit.fluxcd.io/prune", "disabled"): (flux["path"], flux),
    }
    for mark, (path, with_patches) in kept.items():
        overlay = {"resources": [os.path.relpath(ROOT / path, tmp_path)], "patches": with_patches["patches"]}
        (tmp_path / "kustomization.yaml").write_text(json.dumps(overlay))
        marked = [
            item["kind"]
            for item in built(api_server, tmp_path)
            if mark in (item["metadata"].get("annotations") or {}).items()
        ]
        assert sorted(marked) == ["CustomResourceDefinition"] * 4 + ["Namespace"] * 2


def test_what_the_clusters_point_at_is_there():
    argo = [item["spec"]["source"] for item in objects("clusters/argocd/applications.yaml")]
    flux = [item["spec"] for item in objects("clusters/flux/kustomizations.yaml")]
    sources = {item["metadata"]["name"]: item for item in objects("clusters/flux/sources.yaml")}
    pointers = [(source["repoURL"], source["path"]) for source in argo]
    pointers += [(sources[spec["sourceRef"]["name"]]["spec"]["url"], spec["path"]) for spec in flux]
    assert len(pointers) == 6
    for url, path in pointers:
        root = ROOT if url.endswith("/lull.git") else SAMPLE
        assert (root / path / "kustomization.yaml").is_file(), path
