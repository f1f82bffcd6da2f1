"""What more than one kind of test stands on: real control planes, Lull on one, and patience with examples."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lull.local.cluster import Cluster, Nodes

# No test's answer hangs on how fast a busy machine makes up or tries examples.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run storms in their long form")
    parser.addoption("--fuzz-seconds", default=0, help="go on with each fuzzer for so long, with new inputs")


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
