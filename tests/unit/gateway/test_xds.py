"""Incremental xDS: what Envoy may hold is known at every moment, and one bad resource holds back no other."""

import asyncio

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from lull.gateway.xds import ABSENT, CLUSTER_TYPE, ROUTE_TYPE, Ads


class Context:
    """The server's side of a stream, as far as `Ads` uses it."""

    def __init__(self):
        self.sent = asyncio.Queue()

    async def write(self, response):
        await self.sent.put(response)

    async def abort(self, code, details):
        raise PermissionError(f"{code} {details}")


class Envoy:
    """A client that answers when the test says so."""

    def __init__(self, ads, node_id="gateway-1"):
        self.requests, self.context = asyncio.Queue(), Context()
        self.node_id = node_id
        self.task = asyncio.create_task(ads.serve(self._requests(), self.context))

    async def _requests(self):
        while (request := await self.requests.get()) is not None:
            yield request

    def subscribe(self, type_=CLUSTER_TYPE, held=None, names=()):
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_, initial_resource_versions=held or {}, resource_names_subscribe=names
        )
        request.node.id = self.node_id
        self.requests.put_nowait(request)

    async def receive(self):
        return await asyncio.wait_for(self.context.sent.get(), 5)

    async def answer(self, response, error=None):
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=response.type_url, response_nonce=response.nonce
        )
        if error:
            request.error_detail.code, request.error_detail.message = 3, error
        self.requests.put_nowait(request)
        for _ in range(10):
            await asyncio.sleep(0)

    async def leave(self):
        self.requests.put_nowait(None)
        await asyncio.wait_for(asyncio.gather(self.task, return_exceptions=True), 5)

    def silent(self):
        return self.context.sent.empty()


@pytest.fixture
def rejections():
    return []


@pytest.fixture
async def ads(rejections):
    return Ads("gateway-1", lambda: None, lambda: rejections.append(1))


@pytest.fixture
async def envoy(ads):
    client = Envoy(ads)
    yield client
    client.task.cancel()
    await asyncio.gather(client.task, return_exceptions=True)


def names(response):
    return {resource.name for resource in response.resources}


async def test_the_first_answer_comes_even_when_there_is_nothing(ads, envoy):
    envoy.subscribe()
    response = await envoy.receive()
    assert (names(response), list(response.removed_resources)) == (set(), [])


async def test_only_what_changed_travels(ads, envoy):
    ads.put(CLUSTER_TYPE, "a", b"1")
    ads.put(CLUSTER_TYPE, "b", b"1")
    envoy.subscribe()
    response = await envoy.receive()
    assert names(response) == {"a", "b"}
    assert not ads.has(CLUSTER_TYPE, "a")
    await envoy.answer(response)
    assert ads.has(CLUSTER_TYPE, "a")
    ads.put(CLUSTER_TYPE, "a", b"1")  # the same again
    ads.put(CLUSTER_TYPE, "b", b"2")
    response = await envoy.receive()
    assert names(response) == {"b"}
    ads.drop(CLUSTER_TYPE, "a")
    assert envoy.silent(), "one response a type is in flight at a time"
    await envoy.answer(response)
    response = await envoy.receive()
    assert list(response.removed_resources) == ["a"]
    assert not ads.gone(CLUSTER_TYPE, "a")
    await envoy.answer(response)
    assert ads.gone(CLUSTER_TYPE, "a")


async def test_what_is_in_flight_is_possible_beside_what_was_acknowledged(ads, envoy):
    first = ads.put(CLUSTER_TYPE, "a", b"1")
    assert ads.possible(CLUSTER_TYPE, "a") is None
    envoy.subscribe()
    response = await envoy.receive()
    assert ads.possible(CLUSTER_TYPE, "a") == {ABSENT, first}
    await envoy.answer(response)
    assert ads.possible(CLUSTER_TYPE, "a") == {first}
    second = ads.put(CLUSTER_TYPE, "a", b"2")
    response = await envoy.receive()
    assert ads.possible(CLUSTER_TYPE, "a") == {first, second}
    assert not ads.has(CLUSTER_TYPE, "a")
    await envoy.answer(response)
    assert ads.possible(CLUSTER_TYPE, "a") == {second}


async def test_a_reconnecting_envoy_is_sent_only_what_it_lacks_and_keeps_the_rest(ads, envoy):
    version = ads.put(CLUSTER_TYPE, "a", b"1")
    ads.put(CLUSTER_TYPE, "b", b"2")
    envoy.subscribe(held={"a": version, "b": "old", "earlier": "x"})
    response = await envoy.receive()
    assert names(response) == {"b"}
    assert list(response.removed_resources) == [], "requests may be on their way to it"
    assert ads.kept == {"earlier"}
    assert not ads.gone(CLUSTER_TYPE, "earlier")
    await envoy.answer(response)
    ads.drop(CLUSTER_TYPE, "earlier")
    response = await envoy.receive()
    assert list(response.removed_resources) == ["earlier"]
    await envoy.answer(response)
    assert ads.gone(CLUSTER_TYPE, "earlier")


async def test_after_a_refusal_each_resource_is_tried_alone(ads, envoy, rejections):
    for name in ("good", "bad", "fine"):
        ads.put(CLUSTER_TYPE, name, name.encode())
    envoy.subscribe()
    await envoy.answer(await envoy.receive(), "bad is malformed")
    tried = set()
    for _ in range(3):
        response = await envoy.receive()
        (name,) = names(response)
        tried.add(name)
        await envoy.answer(response, "bad is malformed" if name == "bad" else None)
    assert tried == {"good", "bad", "fine"}
    assert ads.has(CLUSTER_TYPE, "good")
    assert ads.has(CLUSTER_TYPE, "fine")
    assert not ads.has(CLUSTER_TYPE, "bad")
    assert len(rejections) == 2
    assert envoy.silent(), "a refused version is not sent again"
    ads.put(CLUSTER_TYPE, "bad", b"better")
    response = await envoy.receive()
    await envoy.answer(response)
    assert ads.has(CLUSTER_TYPE, "bad")


async def test_a_stale_nonce_acknowledges_nothing(ads, envoy):
    ads.put(CLUSTER_TYPE, "a", b"1")
    envoy.subscribe()
    response = await envoy.receive()
    response.nonce = "another"
    await envoy.answer(response)
    assert not ads.has(CLUSTER_TYPE, "a")


async def test_only_this_pods_envoy_is_served(ads):
    stranger = Envoy(ads, node_id="gateway-2")
    stranger.subscribe()
    with pytest.raises(PermissionError):
        await asyncio.wait_for(stranger.task, 5)
    assert not ads.connected


async def test_connected_means_that_every_type_is_known_and_ends_with_the_stream(ads, envoy):
    envoy.subscribe()
    await envoy.receive()
    assert not ads.connected
    envoy.subscribe(ROUTE_TYPE, names=["lull"])
    await asyncio.sleep(0.01)
    assert ads.connected
    await envoy.leave()
    assert not ads.connected
    assert ads.possible(CLUSTER_TYPE, "a") is None


async def test_a_newer_stream_takes_the_place_of_the_older(ads, envoy):
    ads.put(CLUSTER_TYPE, "a", b"1")
    envoy.subscribe()
    old = await envoy.receive()
    newer = Envoy(ads)
    newer.subscribe()
    response = await newer.receive()
    await envoy.answer(old)
    assert not ads.has(CLUSTER_TYPE, "a"), "the old stream's word counts no more"
    await newer.answer(response)
    assert ads.has(CLUSTER_TYPE, "a")
    await newer.leave()
