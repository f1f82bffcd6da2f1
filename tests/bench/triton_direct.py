"""Requests of an awake model through the whole gateway, beside the same requests to its Triton directly."""

import time

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bench.figures import Figure, percentile
from bench.wire import Connection
from e2e.load import DOMAIN, OK, HttpClient
from e2e.world import NAMESPACE, World
from lull.api.names import TRITON_GRPC_PORT, TRITON_HTTP_PORT

PAIRS = 3000
BODY = b'{"inputs":[{"name":"input","shape":[1,1],"datatype":"FP32","data":[1.0]}]}'


async def measure(lull: World) -> list[Figure]:
    """Return p50 and p99 over HTTP and gRPC, each beside Triton's own, in interleaved pairs."""
    await lull.pool("bench-direct", emptyAfter="300s")
    service = await lull.service("direct", lull.publish(), pool="bench-direct", idleAfter="300s")
    async with HttpClient() as client:
        assert (await client.infer(service.target(lull.gateway), 1.0)).outcome == OK
    ((host, _, _),) = await service.placements()
    return [*_http(lull.gateway, host["status"]["address"]), *_grpc(lull.gateway, host["status"]["address"])]


def _http(gateway: str, triton: str) -> list[Figure]:
    ip, port = gateway.split(":")
    name, path = f"direct.{NAMESPACE}.{DOMAIN}", "/v2/models/direct/infer"
    with (
        Connection((ip, int(port)), name, path, BODY) as ours,
        Connection((triton, TRITON_HTTP_PORT), name, path, BODY) as theirs,
    ):
        pairs = [(ours.ask(), theirs.ask()) for _ in range(PAIRS)]
    return _figures("HTTP", pairs)


def _grpc(gateway: str, triton: str) -> list[Figure]:
    authority = [("grpc.default_authority", f"direct.{NAMESPACE}.{DOMAIN}")]
    request = service_pb2.ModelInferRequest(model_name="direct")
    request.inputs.add(name="input", datatype="FP32", shape=[1, 1])
    request.raw_input_contents.append(b"\0\0\x80\x3f")
    with (
        grpc.insecure_channel(gateway, options=authority) as ours,
        grpc.insecure_channel(f"{triton}:{TRITON_GRPC_PORT}") as theirs,
    ):
        stubs = [service_pb2_grpc.GRPCInferenceServiceStub(channel) for channel in (ours, theirs)]
        pairs = [(_timed(stubs[0], request), _timed(stubs[1], request)) for _ in range(PAIRS)]
    return _figures("gRPC", pairs)


def _timed(stub: service_pb2_grpc.GRPCInferenceServiceStub, request: service_pb2.ModelInferRequest) -> float:
    began = time.perf_counter()
    stub.ModelInfer(request, timeout=10)
    return time.perf_counter() - began


def _figures(protocol: str, pairs: list[tuple[float, float]]) -> list[Figure]:
    ours, theirs = ([1000 * seconds for seconds in column] for column in zip(*pairs, strict=True))
    return [
        Figure(
            f"real model, {protocol}, p{p}",
            percentile(ours, p),
            "ms",
            "Triton directly",
            percentile(theirs, p),
        )
        for p in (50, 99)
    ]
