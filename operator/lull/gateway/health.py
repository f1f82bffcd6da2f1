"""Answers gRPC health calls of services that sleep: asleep is healthy, and asking must not wake."""

import grpc

from lull.gateway.gate import GRPC_SERVICE
from lull.gateway.routes import MODEL_HEADER

_TRUE = b"\x08\x01"  # field 1 (`live` or `ready`), true


async def _true(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    return _TRUE


async def _model_ready(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    metadata = dict(context.invocation_metadata() or ())
    name = str(metadata.get(MODEL_HEADER, "")).encode()
    # ModelReadyRequest has the name as field 1; every serializer writes it first.
    if not request.startswith(b"\x0a" + bytes([len(name)]) + name):
        await context.abort(
            grpc.StatusCode.NOT_FOUND, f"this host serves the model {name.decode()!r} and no other"
        )
    return _TRUE


def handler() -> grpc.GenericRpcHandler:
    """Return the handler of ServerLive, ServerReady and ModelReady, on undecoded messages."""
    methods = {"ServerLive": _true, "ServerReady": _true, "ModelReady": _model_ready}
    return grpc.method_handlers_generic_handler(
        GRPC_SERVICE, {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
    )
