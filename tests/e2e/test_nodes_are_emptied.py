"""Several nodes: hosts gather on few of them, and a cordoned one is emptied without a failed request."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from e2e.load import OK, HttpClient, Load, drive_all
from e2e.report import note
from e2e.world import World, lull_cluster, world
from lull.api.names import ANNOTATION_EMPTY_SINCE, HOSTS_NAMESPACE
from lull.kube import NODES
from lull.local.cluster import Cluster

NODES_OF_CLUSTER = 3
LONGEST_SECONDS = 300.0


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[Cluster]:
    with lull_cluster(home, gateways=1, name="nodes", cpu_nodes=NODES_OF_CLUSTER) as it:
        yield it


@pytest.fixture
async def lull(cluster: Cluster) -> AsyncIterator[World]:
    async with world(cluster) as it:
        yield it


async def nodes_of(lull: World, pool: str) -> dict[str, str]:
    """The node of each host's Pod, of those that are on one."""
    found = {pod["metadata"]["name"]: pod["spec"].get("nodeName") for pod in await lull.pods(HOSTS_NAMESPACE)}
    names = [host["metadata"]["name"] for host in await lull.hosts(pool)]
    return {name: found[name] for name in names if found.get(name)}


async def test_hosts_gather_on_the_node_that_has_some_already(lull: World) -> None:
    await lull.pool("packed", hosts={"min": NODES_OF_CLUSTER, "max": NODES_OF_CLUSTER})

    async def bound() -> dict[str, str]:
        nodes = await nodes_of(lull, "packed")
        return nodes if len(nodes) == NODES_OF_CLUSTER else {}

    assert len(set((await lull.until(bound, "all hosts are on nodes")).values())) == 1


@pytest.mark.timeout(300)
async def test_a_cordoned_node_is_emptied_without_a_failed_request(lull: World) -> None:
    await lull.pool("moves", hosts={"max": 2}, emptyAfter="1s")
    services = [
        await lull.service(f"leaver-{n}", lull.publish(), pool="moves", idleAfter="60s") for n in range(2)
    ]
    async with HttpClient() as client:
        for service in services:
            assert (await client.infer(service.targets()[0], 1.0)).outcome == OK
    ((host, node),) = (await nodes_of(lull, "moves")).items()
    stop = asyncio.Event()
    loads = [(HttpClient(), Load(service.targets(), 8.0, LONGEST_SECONDS)) for service in services]
    traffic = asyncio.create_task(drive_all(loads, stop))

    async def left() -> bool:
        assert not traffic.done(), traffic.result()
        nodes = await nodes_of(lull, "moves")
        return bool(nodes) and host not in nodes and node not in nodes.values()

    async def marked() -> bool:
        found = await lull.kube.get(NODES, node)
        return found is not None and ANNOTATION_EMPTY_SINCE in found["metadata"]["annotations"]

    try:
        await asyncio.to_thread(lull.cluster.kubectl, "cordon", node)
        await lull.until(left, f"no host is on {node}", 120)
        await lull.until(marked, f"{node} is marked as empty", 60)
    finally:
        stop.set()
        tallies = await traffic
        await asyncio.to_thread(lull.cluster.kubectl, "uncordon", node)
    failed, sent = sum(t.failed for t in tallies), sum(t.total for t in tallies)
    note(f"{node} was cordoned and emptied: {failed} of {sent} requests failed")
    assert all(tally.total for tally in tallies)
    assert not [tally for tally in tallies if tally.failed], "\n".join(map(str, tallies))
