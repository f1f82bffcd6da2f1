"""Serves Envoy its clusters and its route table: incremental xDS over one aggregated stream.

Only what changed travels, and one response a type is in flight at a time, so that changes in between
coalesce. The server knows at any moment what its Envoy may be using: what was acknowledged, and what was sent
and not yet acknowledged. The fence stands on that knowledge.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from lull.gateway.proto import Message

log = logging.getLogger(__name__)

CLUSTER_TYPE = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ROUTE_TYPE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
_TYPES = (CLUSTER_TYPE, ROUTE_TYPE)  # clusters first: a route must not name one that is not there

ABSENT = ""
"""The version of a resource that is not there."""


class Resource(NamedTuple):
    """A serialized resource and the hash of its content."""

    version: str
    body: bytes


@dataclass
class _Flight:
    """A response on its way: what it sets each name to."""

    nonce: str
    versions: Mapping[str, str]


@dataclass
class _Subscription:
    """What one Envoy stream holds of one type."""

    held: dict[str, str]
    dirty: set[str]
    greet: bool
    flight: _Flight | None = None
    rejected: dict[str, str] = field(default_factory=dict)  # name -> version that Envoy refused
    alone: set[str] = field(default_factory=set)  # to be sent each by itself after a refusal of many

    def take(self) -> set[str]:
        """Return the names to send next, and count them as sent."""
        self.greet = False
        names = self.dirty - self.alone
        if not names and self.alone:
            names = {self.alone.pop()}
        self.dirty -= names
        return names


class _Stream:
    """One connection of Envoy."""

    def __init__(self) -> None:
        self.types: dict[str, _Subscription] = {}
        self.wake = asyncio.Event()
        self.nonces = 0


class Ads:
    """The one Envoy's resources: what it should have, and what it may have.

    Attributes:
        on_change: called after every acknowledgement, connection and disconnection.
        on_reject: called when Envoy refused a response.
        stream: the number of the newest connection.
        kept: clusters that Envoy brought along and nobody here wants; they stay until they are dropped.
    """

    def __init__(self, node_id: str, on_change: Callable[[], None], on_reject: Callable[[], None]) -> None:
        self.on_change = on_change
        self.on_reject = on_reject
        self._node_id = node_id
        self._wanted: dict[str, dict[str, Resource]] = {type_: {} for type_ in _TYPES}
        self.stream = 0
        self.kept: set[str] = set()
        self._stream: _Stream | None = None

    # What should be.

    def put(self, type_: str, name: str, body: bytes) -> str:
        """Set a resource and return its version."""
        version = hashlib.blake2b(body, digest_size=12).hexdigest()
        if self._wanted[type_].get(name, (None,))[0] != version:
            self._wanted[type_][name] = Resource(version, body)
            self._touch(type_, name)
        return version

    def drop(self, type_: str, name: str) -> None:
        """Remove a resource."""
        known = self._wanted[type_].pop(name, None)
        if known or name in self.kept:
            self.kept.discard(name)
            self._touch(type_, name)

    # What is.

    @property
    def connected(self) -> bool:
        """Whether Envoy is connected and has told what it holds of every type."""
        return self._stream is not None and all(type_ in self._stream.types for type_ in _TYPES)

    def possible(self, type_: str, name: str) -> frozenset[str] | None:
        """Return the versions that Envoy may be using, `ABSENT` among them; None while that is unknown."""
        subscription = self._subscription(type_)
        if subscription is None:
            return None
        versions = {subscription.held.get(name, ABSENT)}
        if subscription.flight:
            versions.add(subscription.flight.versions.get(name, subscription.held.get(name, ABSENT)))
        if name in subscription.rejected:
            versions.add(subscription.rejected[name])
        return frozenset(versions)

    def has(self, type_: str, name: str) -> bool:
        """Return whether Envoy has acknowledged the wanted version of this resource."""
        wanted = self._wanted[type_].get(name)
        return wanted is not None and self.possible(type_, name) == frozenset([wanted.version])

    def gone(self, type_: str, name: str) -> bool:
        """Return whether a dropped resource is certainly not in Envoy's hands."""
        dropped = name not in self._wanted[type_] and name not in self.kept
        return dropped and self.possible(type_, name) == frozenset([ABSENT])

    # The stream.

    async def serve(self, requests: AsyncIterator[Message], context: grpc.aio.ServicerContext) -> None:
        """Serve `DeltaAggregatedResources`. A second stream of the same Envoy takes the first one's place."""
        stream = _Stream()
        reader = asyncio.create_task(self._read(stream, requests, context))
        reader.add_done_callback(lambda _: stream.wake.set())
        try:
            while not reader.done():
                await stream.wake.wait()
                stream.wake.clear()
                for type_ in _TYPES:
                    response = self._due(stream, type_)
                    if response is not None:
                        await context.write(response)
        finally:
            reader.cancel()
            if self._stream is stream:
                self._stream = None
                log.warning("Envoy disconnected")
                self.on_change()
        if not reader.cancelled():
            reader.result()

    async def _read(
        self, stream: _Stream, requests: AsyncIterator[Message], context: grpc.aio.ServicerContext
    ) -> None:
        first = True
        async for request in requests:
            if first and request.node.id != self._node_id:
                await context.abort(
                    grpc.StatusCode.PERMISSION_DENIED, f"this pilot serves {self._node_id} alone"
                )
            if first:
                self._stream, first = stream, False
                self.stream += 1
                log.info("Envoy connected")
            if request.type_url not in self._wanted:
                continue
            if request.type_url not in stream.types:
                stream.types[request.type_url] = self._subscribe(request)
            elif request.response_nonce:
                self._settle(stream, request)
            stream.wake.set()
            if self._stream is stream:
                self.on_change()

    def _subscribe(self, request: Message) -> _Subscription:
        """Start from what Envoy says it holds.

        What nobody here wants stays until it is dropped: an earlier pilot may have sent requests there.
        """
        held = dict(request.initial_resource_versions)
        wanted = self._wanted[request.type_url]
        if request.type_url == CLUSTER_TYPE:
            self.kept |= held.keys() - wanted.keys()
        stale = {name for name, resource in wanted.items() if held.get(name) != resource.version}
        # Envoy waits for an answer about clusters, even that there are none, before it asks for more.
        return _Subscription(held=held, dirty=stale, greet=request.type_url == CLUSTER_TYPE)

    def _settle(self, stream: _Stream, request: Message) -> None:
        subscription = stream.types[request.type_url]
        flight = subscription.flight
        if flight is None or flight.nonce != request.response_nonce:
            return
        subscription.flight = None
        if request.HasField("error_detail"):
            self._refused(subscription, flight, request.error_detail.message)
            return
        for name, version in flight.versions.items():
            subscription.rejected.pop(name, None)
            if version == ABSENT:
                subscription.held.pop(name, None)
            else:
                subscription.held[name] = version

    def _refused(self, subscription: _Subscription, flight: _Flight, message: str) -> None:
        """Note a refusal. One bad resource must not hold back those that were sent with it."""
        self.on_reject()
        log.error("Envoy refused %s: %s", ", ".join(sorted(flight.versions))[:200], message)
        subscription.rejected.update(flight.versions)
        if len(flight.versions) > 1:
            subscription.alone |= flight.versions.keys()
            subscription.dirty |= flight.versions.keys()

    def _due(self, stream: _Stream, type_: str) -> Message | None:
        """Return the response that brings Envoy up to date, or None where none is due or one is in flight."""
        subscription = stream.types.get(type_)
        if subscription is None or subscription.flight or self._stream is not stream:
            return None
        if not subscription.dirty and not subscription.greet:
            return None
        names = subscription.take()
        stream.nonces += 1
        response = discovery_pb2.DeltaDiscoveryResponse(type_url=type_, nonce=str(stream.nonces))
        versions: dict[str, str] = {}
        for name in names:
            resource = self._wanted[type_].get(name)
            if resource is None:
                versions[name] = ABSENT
                response.removed_resources.append(name)
                continue
            versions[name] = resource.version
            added = response.resources.add(name=name, version=resource.version)
            added.resource.type_url = type_
            added.resource.value = resource.body
        subscription.flight = _Flight(response.nonce, versions)
        return response

    def _touch(self, type_: str, name: str) -> None:
        if self._stream and type_ in self._stream.types:
            self._stream.types[type_].dirty.add(name)
            self._stream.wake.set()

    def _subscription(self, type_: str) -> _Subscription | None:
        return self._stream.types.get(type_) if self._stream else None
