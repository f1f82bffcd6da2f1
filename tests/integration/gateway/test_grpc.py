"""What gRPC clients meet: Triton's own client, held and refused alike, and no way to a neighbour's model."""

import asyncio
import struct

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from tritonclient.grpc import service_pb2

from integration.gateway.harness import DOMAIN, until
from unit.gateway.objects import placement

HOST = f"digits.demo.{DOMAIN}"
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
async def shared(gateway, upstream):
    """Two services awake on one Triton."""
    gateway.service("digits")
    gateway.service("review")
    gateway.host(upstream.address, placement("digits-1", "demo/digits"), placement("review-1", "demo/review"))
    await gateway.routed("demo/digits")
    await gateway.routed("demo/review")
    return gateway


@pytest.fixture
async def stub(gateway):
    stub, channel = gateway.stub(HOST)
    async with channel:
        yield stub


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


async def test_tritonclient_is_held_and_answered(gateway, upstream):
    gateway.service("digits")
    options = [("grpc.default_authority", HOST)]
    async with triton.InferenceServerClient(gateway.target, channel_args=options) as client:
        tensor = triton.InferInput("IMAGE", [1, 1, 32, 32], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 1, 32, 32), np.float32))
        request = asyncio.create_task(client.infer("digits", [tensor], request_id="7"))
        await until(lambda: gateway.pilot.holding, "held")
        gateway.host(upstream.address, placement("digits-1", "demo/digits"))
        assert (await request).get_response().id == "7"
        await gateway.routed("demo/digits")
        assert (await client.infer("digits", [tensor], request_id="8")).get_response().id == "8"
        assert await client.is_model_ready("digits")
        assert await client.is_server_live()
        assert (await client.get_model_metadata("digits")).name == "digits"


@pytest.mark.parametrize("size_bytes", [0, 10, 65_000, 5_000_000])
async def test_messages_of_any_size_pass_unharmed(shared, upstream, stub, size_bytes):
    message = service_pb2.ModelInferRequest(
        model_name="digits", id="a", raw_input_contents=[b"x" * size_bytes] * 2
    )
    message.inputs.add(name="IN", datatype="UINT8", shape=[size_bytes])
    message.parameters["priority"].int64_param = -5
    assert (await stub.ModelInfer(message)).id == "a"
    assert upstream.seen == [("grpc", "digits", message.ByteSize())]


async def test_a_message_that_names_a_neighbour_does_not_reach_it(shared, upstream, stub):
    error = await refusal(stub.ModelInfer(service_pb2.ModelInferRequest(model_name="review", id="a")))
    assert "serves another model" in error.details()
    error = await refusal(stub.ModelReady(service_pb2.ModelReadyRequest(name="review")))
    assert "serves another model" in error.details()
    await refusal(stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="review")))
    assert not any(model == "review" for _, model, _ in upstream.seen)


async def test_a_held_message_that_names_a_neighbour_does_not_reach_it(gateway, upstream, stub):
    gateway.service("digits")
    call = asyncio.create_task(
        refusal(
            stub.ModelInfer(
                service_pb2.ModelInferRequest(model_name="review", raw_input_contents=[b"x" * 10])
            )
        )
    )
    await until(lambda: gateway.pilot.holding, "held")
    gateway.host(upstream.address, placement("digits-1", "demo/digits"), placement("review-1", "demo/review"))
    assert "serves another model" in (await call).details()
    assert not any(model == "review" for _, model, _ in upstream.seen)


def field(number, kind, value):
    def varint(n):
        out = b""
        while n > 127:
            out += bytes([n % 128 + 128])
            n //= 128
        return out + bytes([n])

    head = varint(number * 8 + kind)
    return head + (varint(len(value)) + value if kind == 2 else value)


OWN, OTHER = field(1, 2, b"digits"), field(1, 2, b"review")
CRAFTED = {
    "a second name wins": OWN + field(7, 2, b"x" * 100) + OTHER,
    "the name comes late": field(7, 2, b"x" * 200_000) + OTHER,
    "the name in a longer tag": OWN + b"\x8a\x00" + b"\x06review",
    "the name in a tag with lost high bits": OWN + b"\x8a\x80\x80\x80\x10" + b"\x06review",
    "the name within a group": OWN + b"\x0b" + OTHER + b"\x0c" + OTHER,
    "the name after a varint": OWN + field(15, 0, b"\x01") + OTHER,
    "the name after fixed numbers": OWN + field(15, 1, b"x" * 8) + field(15, 5, b"x" * 4) + OTHER,
    "a length longer than the message": OWN + b"\x3a\xff\x7f" + OTHER,
    "a name length in a longer varint": OWN + b"\x0a\x86\x00" + b"review",
    "no name at all": b"",
}


@pytest.mark.parametrize("body", CRAFTED.values(), ids=CRAFTED.keys())
async def test_no_encoding_gets_around_the_guard(shared, upstream, body):
    _stub, channel = shared.stub(HOST)
    async with channel:
        call = channel.unary_unary(INFER)  # bytes in, bytes out
        await refusal(call(body))
    assert not any(model == "review" for _, model, _ in upstream.seen)


def frame(message):
    return b"\0" + struct.pack(">I", len(message)) + message


class RawHttp2:
    """One gRPC request over hand-made HTTP/2, its bytes in DATA frames of any size."""

    def __init__(self, target, path):
        self.address, self.port = target.split(":")
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": HOST,
            "content-type": "application/grpc",
            "te": "trailers",
        }
        literal = [
            b"\0" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode() for k, v in headers.items()
        ]
        self.head = b"".join(literal)

    @staticmethod
    def _frame(kind, flags, stream, payload=b""):
        return (
            struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
        )

    async def send(self, data, chunk_bytes):
        """Return once the answer to the request has ended."""
        reader, writer = await asyncio.open_connection(self.address, self.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self._frame(4, 0, 0))
        writer.write(self._frame(1, 4, 1, self.head))
        for start in range(0, len(data), chunk_bytes):
            writer.write(self._frame(0, 0, 1, data[start : start + chunk_bytes]))
            await writer.drain()
            await asyncio.sleep(0.001)
        writer.write(self._frame(0, 1, 1))
        async with asyncio.timeout(10):
            while True:
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3], "big"))
                ended = head[3] in (0, 1) and head[4] & 1
                if int.from_bytes(head[5:], "big") == 1 and (ended or head[3] == 3):
                    writer.close()
                    return


@pytest.mark.parametrize("chunk_bytes", [1, 3, 7, 1000])
async def test_the_guard_reads_frames_however_they_are_cut(shared, upstream, chunk_bytes):
    request = RawHttp2(shared.target, INFER)
    good = OWN + field(7, 2, b"x" * 50)
    await request.send(frame(good), chunk_bytes)
    assert upstream.seen == [("grpc", "digits", len(good))]
    for bad in (frame(OTHER), frame(good + OTHER), frame(OWN) + frame(OTHER)):
        await request.send(bad, chunk_bytes)
    assert not any(model == "review" for _, model, _ in upstream.seen)


async def test_streams_pass_and_each_message_is_checked(shared, upstream, stub):
    def message(name, id_):
        return service_pb2.ModelInferRequest(model_name=name, id=id_, raw_input_contents=[b"y" * 100_000])

    call = stub.ModelStreamInfer()
    for i in range(3):
        await call.write(message("digits", str(i)))
        assert (await call.read()).infer_response.id == str(i)
    await call.write(message("review", "evil"))
    with pytest.raises(grpc.aio.AioRpcError):
        await call.read()
    assert not any(model == "review" for _, model, _ in upstream.seen)


async def test_compressed_messages_are_refused_with_what_to_do(shared, upstream, stub):
    message = service_pb2.ModelInferRequest(model_name="digits", raw_input_contents=[b"x" * 10_000])
    error = await refusal(stub.ModelInfer(message, compression=grpc.Compression.Gzip))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "without compression" in error.details()
    assert not upstream.seen


@pytest.mark.parametrize("asleep", [False, True])
async def test_a_dedicated_service_is_guarded_too_as_neighbours_may_not_have_left_yet(
    gateway, upstream, stub, asleep
):
    gateway.service("digits", isolation="Dedicated")
    placements = placement("digits-1", "demo/digits"), placement("review-1", "demo/review")
    if not asleep:
        gateway.host(upstream.address, *placements)
        await gateway.routed("demo/digits")
    request = service_pb2.ModelInferRequest(model_name="review")
    call = asyncio.create_task(refusal(stub.ModelInfer(request)))
    if asleep:
        await until(lambda: gateway.pilot.holding, "held")
        gateway.host(upstream.address, *placements)
    assert "serves another model" in (await call).details()
    assert not any(model == "review" for _, model, _ in upstream.seen)


@pytest.mark.parametrize("asleep", [False, True])
@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("RepositoryIndex", service_pb2.RepositoryIndexRequest()),
        ("RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest(model_name="digits")),
        ("ModelConfig", service_pb2.ModelConfigRequest(name="digits")),
        ("ModelStatistics", service_pb2.ModelStatisticsRequest(name="digits")),
        ("SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest()),
        ("CudaSharedMemoryStatus", service_pb2.CudaSharedMemoryStatusRequest()),
        ("TraceSetting", service_pb2.TraceSettingRequest()),
        ("LogSettings", service_pb2.LogSettingsRequest()),
    ],
)
async def test_what_steers_triton_is_refused(shared, upstream, method, request_, asleep):
    shared.service("tiny")
    stub, channel = shared.stub(f"tiny.demo.{DOMAIN}" if asleep else HOST)
    async with channel:
        error = await refusal(getattr(stub, method)(request_))
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "refused" in error.details()
    assert not upstream.seen
    assert not set(shared.pilot.held())


async def test_an_unknown_service_is_not_found(gateway):
    stub, channel = gateway.stub(f"nobody.demo.{DOMAIN}")
    async with channel:
        error = await refusal(stub.ModelInfer(service_pb2.ModelInferRequest(model_name="nobody")))
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert "no service" in error.details()


async def test_asleep_is_healthy_and_asking_wakes_nothing(gateway):
    gateway.service("digits")
    options = [("grpc.default_authority", HOST)]
    async with triton.InferenceServerClient(gateway.target, channel_args=options) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("digits")
    stub, channel = gateway.stub(HOST)
    async with channel:
        error = await refusal(stub.ModelReady(service_pb2.ModelReadyRequest(name="review")))
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert not gateway.journal.urgent_at


async def test_a_stalled_service_says_unavailable_and_why(gateway, stub):
    item = {
        "metadata": {"name": "digits", "generation": 2},
        "spec": {"model": {"uri": "x"}},
        "status": {
            "conditions": [
                {
                    "type": "Stalled",
                    "status": "True",
                    "reason": "DigestMismatch",
                    "message": "expected sha256:aa",
                    "observedGeneration": 2,
                }
            ]
        },
    }
    gateway.pilot.on_service(("demo", "digits"), item)
    error = await refusal(stub.ModelInfer(service_pb2.ModelInferRequest(model_name="digits")))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "DigestMismatch" in error.details()
    assert set(gateway.pilot.held()) == {"demo/digits"}
