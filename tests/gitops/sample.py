"""The repository that manifests/samples/gitops shows."""

from pathlib import Path
from typing import Any

import yaml

from lull.local.cluster import Cluster

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "manifests" / "samples" / "gitops"


def objects(path: str) -> list[Object]:
    """Return the objects of one file of the sample."""
    return [item for item in yaml.safe_load_all((SAMPLE / path).read_text()) if item]


def built(cluster: Cluster, folder: Path) -> list[Object]:
    """Return what kustomize makes of a folder."""
    return [item for item in yaml.safe_load_all(cluster.kubectl("kustomize", str(folder))) if item]
