"""The basic path: asleep is Ready, a request wakes it, unused it sleeps again, and its host is let go."""

import asyncio

import aiohttp
import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from e2e.load import OK, GrpcClient, HttpClient
from e2e.world import NAMESPACE, Service, World


@pytest.fixture
async def sleeper(lull: World) -> Service:
    """A service that sleeps after a second, in a pool of its own, whose host is let go after two."""
    await lull.pool("basic", emptyAfter="2s")
    service = await lull.service("sleeper", lull.publish(), pool="basic", idleAfter="1s")
    await service.wait("Asleep")
    return service


async def test_asleep_is_ready(lull: World, sleeper: Service) -> None:
    arguments = ("--for=condition=Ready", "modelservice/sleeper", "-n", NAMESPACE, "--timeout=10s")
    assert "condition met" in await asyncio.to_thread(lull.cluster.kubectl, "wait", *arguments)
    item = await sleeper.get()
    assert item["status"]["replicas"] == {"desired": 0, "ready": 0}
    assert item["status"]["url"]
    assert not await lull.hosts("basic")


@pytest.mark.parametrize(
    "client", [HttpClient(), HttpClient(by_host=True), GrpcClient()], ids=["path", "host", "grpc"]
)
async def test_a_request_wakes_it_and_unused_it_sleeps_again(
    lull: World, sleeper: Service, client: HttpClient | GrpcClient
) -> None:
    async with client:
        first = await client.infer(sleeper.targets()[0], 1.0)
        assert first.outcome == OK, first
        second = await client.infer(sleeper.targets()[1], 2.0)
        assert second.outcome == OK, second
    assert second.seconds < first.seconds
    await sleeper.wait("Serving", 5)
    await sleeper.wait("Asleep")

    async def let_go() -> bool:
        return not await lull.hosts("basic")

    await lull.until(let_go, "the empty host is let go", 30)
    assert (await sleeper.conditions())["Ready"]["status"] == "True"


async def test_probes_and_readiness_wake_nothing(lull: World, sleeper: Service) -> None:
    target = sleeper.targets()[0]
    base = target.url.removesuffix("/models/sleeper/infer")
    async with aiohttp.ClientSession() as session:
        for path in ("/health/live", "/health/ready", "/models/sleeper/ready"):
            async with session.get(base + path) as response:
                assert response.status == 200, (path, await response.text())
    channel = grpc.aio.insecure_channel(target.address, options=[("grpc.default_authority", target.host)])
    async with channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert (await stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=5)).live
        assert (await stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=5)).ready
        assert (await stub.ModelReady(service_pb2.ModelReadyRequest(name="sleeper"), timeout=5)).ready
    await asyncio.sleep(0.5)  # what would be woken now would have a placement by then
    assert not await sleeper.placements()
    assert not await lull.hosts("basic")


async def test_a_neighbour_shares_its_host_and_its_reach_ends_at_its_own_model(
    lull: World, sleeper: Service
) -> None:
    neighbour = await lull.service("neighbour", lull.publish(), pool="basic", idleAfter="10s")
    async with HttpClient() as client:
        answers = await asyncio.gather(
            client.infer(sleeper.targets()[0], 1.0), client.infer(neighbour.targets()[1], 2.0)
        )
        assert [a.outcome for a in answers] == [OK, OK], answers
        assert len(await lull.hosts("basic")) == 1
        stray = await client.infer(sleeper.target(lull.gateways()[0], model="neighbour"), 3.0)
        assert stray.outcome == "404"


async def test_a_deleted_service_leaves_nothing(lull: World, sleeper: Service) -> None:
    async with HttpClient() as client:
        target = sleeper.targets()[0]
        assert (await client.infer(target, 1.0)).outcome == OK
        await sleeper.delete()
        await sleeper.wait_gone()
        assert (await client.infer(target, 2.0)).outcome == "404"


async def test_suspended_it_answers_503_and_wakes_again_when_it_is_not(lull: World, sleeper: Service) -> None:
    async with HttpClient() as client:
        target = sleeper.targets()[0]
        assert (await client.infer(target, 1.0)).outcome == OK
        await sleeper.patch(suspend=True)
        await sleeper.wait("Suspended")
        refused = await client.infer(target, 2.0)
        assert refused.outcome == "503"
        assert "Suspended" in refused.detail
        assert int(refused.headers["Retry-After"]) > 0
        await sleeper.wait_gone()
        await sleeper.patch(suspend=False)
        await sleeper.wait("Asleep")
        assert (await client.infer(target, 3.0)).outcome == OK


async def test_a_drained_host_hands_its_models_over(lull: World) -> None:
    await lull.pool("two", hosts={"min": 2, "max": 2}, emptyAfter="60s")
    service = await lull.service("mover", lull.publish(), pool="two", idleAfter="60s")
    async with HttpClient() as client:
        assert (await client.infer(service.targets()[0], 1.0)).outcome == OK
        ((before, _, _),) = await service.placements()
        await lull.drain(before["metadata"]["name"])

        async def moved() -> bool:
            found = await service.placements()
            return [h["metadata"]["name"] for h, _, _ in found] not in ([], [before["metadata"]["name"]])

        await lull.until(moved, "it is on the other host alone")
        assert (await client.infer(service.targets()[1], 2.0)).outcome == OK
