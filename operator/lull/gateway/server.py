"""The pilot's gRPC server for Envoy: xDS, `Check` and health, on one Unix socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from envoy.service.auth.v3 import external_auth_pb2_grpc
from envoy.service.discovery.v3 import ads_pb2_grpc

from lull.gateway import health
from lull.gateway.check import Checker
from lull.gateway.proto import Message
from lull.gateway.settings import HOLD_LIMIT_TOTAL
from lull.gateway.xds import Ads

# An Envoy that reconnects names all its resources in its first message.
_LONGEST_MESSAGE_BYTES = 64 * 2**20

_MOST_PENDING = 2 * HOLD_LIMIT_TOTAL


class _Discovery(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]  # generated, untyped
    def __init__(self, ads: Ads) -> None:
        self._ads = ads

    async def DeltaAggregatedResources(  # noqa: N802  (the protocol's name)
        self, requests: AsyncIterator[Message], context: grpc.aio.ServicerContext
    ) -> None:
        await self._ads.serve(requests, context)


class _Authorization(external_auth_pb2_grpc.AuthorizationServicer):  # type: ignore[misc]  # generated, untyped
    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    async def Check(  # noqa: N802  (the protocol's name)
        self, request: Message, context: grpc.aio.ServicerContext
    ) -> Message:
        return await self._checker.check(request, context)


async def serve(socket: Path, ads: Ads, checker: Checker) -> grpc.aio.Server:
    """Serve Envoy on a Unix socket; what an earlier pilot left there is replaced."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", _LONGEST_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _LONGEST_MESSAGE_BYTES),
            ("grpc.max_concurrent_streams", 2**31 - 1),
            # A burst of held requests comes at once; by default gRPC refuses some of it above 1,000.
            ("grpc.server.max_pending_requests", _MOST_PENDING),
            ("grpc.server.max_pending_requests_hard_limit", 2 * _MOST_PENDING),
        ]
    )
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(_Discovery(ads), server)
    external_auth_pb2_grpc.add_AuthorizationServicer_to_server(_Authorization(checker), server)
    server.add_generic_rpc_handlers((health.handler(),))
    _clear(socket)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    return server


def _clear(socket: Path) -> None:
    socket.unlink(missing_ok=True)
