"""Fixtures that more than one kind of test stands on: real control planes, and Lull on one."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lull.local.cluster import Cluster, Nodes


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run storms in their long form")


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A short folder for clusters: paths of Unix sockets end at 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="lull-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def api_server(home: Path) -> Iterator[Cluster]:
    """A real control plane with Lull's base applied, and no node: what the API server itself says."""
    cluster = Cluster("api", home=home)
    try:
        cluster.up(Nodes(cpu=0, gpu=0))
        root = Path(__file__).parents[1]
        cluster.apply(root / "crds")
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        cluster.apply(root / "manifests" / "base")
        cluster.kubectl("create", "namespace", "demo")
        yield cluster
    finally:
        cluster.down()
