"""Zero loss: whatever drains under traffic, the clients themselves count no failed request.

Every load is open-loop, over HTTP by path, HTTP by host name and gRPC, through two gateways, one request in
ten a slow upload. They fail when the fence is taken out, so they do look where the losses would be.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from e2e.drains import Drains, watched
from e2e.load import Client, GrpcClient, HttpClient, Load, Tally, drive_all
from e2e.report import note
from e2e.world import NAMESPACE, Service, World
from lull.api.names import HOSTS_NAMESPACE
from lull.kube import PODS

LONGEST_SECONDS = 1500.0


def loads(services: list[Service], rate: float) -> list[tuple[Client, Load]]:
    """Return a load of `rate` requests a second on each service, over every kind of client."""
    clients: list[Callable[[], Client]] = [HttpClient, lambda: HttpClient(by_host=True), GrpcClient]
    return [
        (client(), Load(service.targets(), rate / len(clients), LONGEST_SECONDS, seed=seed))
        for seed, (service, client) in enumerate((s, c) for s in services for c in clients)
    ]


async def drained_under(
    lull: World,
    services: list[Service],
    rate: float,
    wanted: int,
    drive_drains: Callable[[Drains], Awaitable[None]] | None = None,
    timeout_seconds: float = 240.0,
) -> tuple[Drains, list[Tally]]:
    """Load services until `wanted` drains were seen, and return them and what became of the requests."""
    stop = asyncio.Event()
    async with watched(lull.kube, {f"{NAMESPACE}/{s.name}" for s in services}) as drains:
        traffic = asyncio.create_task(drive_all(loads(services, rate), stop))
        began = time.monotonic()
        try:
            while drains.count < wanted and not traffic.done():
                if time.monotonic() > began + timeout_seconds:
                    break
                if drive_drains:
                    await drive_drains(drains)
                await asyncio.sleep(0.05)
        finally:
            stop.set()
            tallies = await traffic
    sent = f"{sum(t.total for t in tallies)} requests ({sum(t.slow for t in tallies)} slow uploads)"
    failed = sum(t.failed for t in tallies)
    what = ", ".join(service.name for service in services)
    note(f"{what}: {failed} of {sent} failed in {drains.count} drains, {drains.unloads} unloads")
    return drains, tallies


def assert_none_lost(tallies: list[Tally]) -> None:
    assert all(tally.total for tally in tallies)
    assert not [tally for tally in tallies if tally.failed], "\n".join(map(str, tallies))


@pytest.mark.timeout(1800)
async def test_none_is_lost_when_models_move_to_the_other_host(lull: World, soak: bool) -> None:
    """An admin drains the host that serves, again and again; each move unloads the models behind it."""
    wanted = 200 if soak else 20
    await lull.pool("moves", hosts={"min": 2, "max": 2}, emptyAfter="120s")
    model = lull.publish()
    services = [await lull.service(f"mover-{n}", model, pool="moves", idleAfter="60s") for n in range(4)]
    for service in services:
        await _first_answer(service)

    async def move(drains: Drains) -> None:
        """Once all have arrived, empty the host where they are."""
        hosts = {host["metadata"]["name"] for host in await lull.hosts("moves")}
        found = [placement for service in services for placement in await service.placements()]
        here = {host["metadata"]["name"] for host, _, _ in found}
        arrived = all(said.get("state") == "Ready" for _, _, said in found)
        if len(hosts) == 2 and len(found) == len(services) and arrived:
            for host in hosts:
                await lull.drain(host, wanted=host == min(here))

    timeout_seconds = 1200 if soak else 150
    drains, tallies = await drained_under(lull, services, 8, wanted, move, timeout_seconds)
    assert_none_lost(tallies)
    assert drains.count >= wanted
    assert drains.unloads >= wanted - len(services)


@pytest.mark.timeout(1800)
async def test_none_is_lost_when_services_sleep_and_make_room_for_each_other(lull: World, soak: bool) -> None:
    """Idle times of 150 ms, and a host with room for half of the services: sleeps end in unloads."""
    wanted = 200 if soak else 30
    await lull.pool("tight", hosts={"min": 1, "max": 1}, memory="1536Mi", emptyAfter="120s")
    model = lull.publish()
    services = [
        await lull.service(
            f"napper-{n}", model, pool="tight", idleAfter="150ms", resources={"memory": "300Mi"}
        )
        for n in range(6)
    ]
    drains, tallies = await drained_under(lull, services, 0.6, wanted, timeout_seconds=1200 if soak else 150)
    assert_none_lost(tallies)
    assert drains.count >= wanted
    assert drains.unloads >= wanted // 4


@pytest.mark.timeout(1800)
async def test_none_is_lost_when_services_idle_for_a_second(lull: World, soak: bool) -> None:
    """Real idling: gaps of a second and more between requests, so that many arrive as the drain begins."""
    wanted = 300 if soak else 10
    await lull.pool("idling", hosts={"min": 1, "max": 1}, memory="4Gi", emptyAfter="120s")
    model = lull.publish()
    count = 4
    services = [await lull.service(f"idler-{n}", model, pool="idling", idleAfter="1s") for n in range(count)]
    drains, tallies = await drained_under(lull, services, 0.9, wanted, timeout_seconds=1200 if soak else 120)
    assert_none_lost(tallies)
    assert drains.count >= wanted


@pytest.mark.timeout(1800)
async def test_none_is_lost_when_pods_of_hosts_are_deleted(lull: World, soak: bool) -> None:
    """As a node drain does: a Pod goes on serving until its models are elsewhere and gateways let go."""
    wanted = 40 if soak else 4
    await lull.pool("evicted", hosts={"max": 2}, emptyAfter="120s")
    model = lull.publish()
    services = [await lull.service(f"evictee-{n}", model, pool="evicted", idleAfter="60s") for n in range(2)]
    for service in services:
        await _first_answer(service)

    async def evict(drains: Drains) -> None:
        """Once all have arrived, delete the Pod of the host where the first is."""
        hosts = await lull.hosts("evicted")
        found = [placement for service in services for placement in await service.placements()]
        arrived = all(said.get("state") == "Ready" for _, _, said in found)
        if len(hosts) == 1 and len(found) == len(services) and arrived:
            await lull.kube.delete(PODS, hosts[0]["metadata"]["name"], HOSTS_NAMESPACE)

    timeout_seconds = 600 if soak else 120
    drains, tallies = await drained_under(lull, services, 8, wanted, evict, timeout_seconds)
    assert_none_lost(tallies)
    assert drains.count >= wanted


async def _first_answer(service: Service) -> None:
    async with HttpClient() as client:
        answer = await client.infer(service.targets()[0], 1.0)
    assert answer.outcome == "ok", answer
