"""Lull on a real local cluster, once a session, with two gateways."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from e2e import report
from e2e.world import World, lull_cluster, world
from lull.local.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(home: Path) -> Iterator[Cluster]:
    with lull_cluster(home) as it:
        yield it


@pytest.fixture
async def lull(cluster: Cluster) -> AsyncIterator[World]:
    async with world(cluster) as it:
        yield it


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether storms run in their long form."""
    return bool(request.config.getoption("--soak"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if report.LINES:
        terminalreporter.section("figures")
        for line in report.LINES:
            terminalreporter.write_line(line)
