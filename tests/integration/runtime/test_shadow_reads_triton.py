"""What a real Triton answers is what shadow traffic compares, in every form that it answers in."""

import json

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from lull.gateway import ask, tensors
from lull.gateway.agree import agree
from lull.gateway.ask import HEADER_BYTES, NoAnswerError, Question
from lull.gateway.view import GRPC, HTTP, Lease, Placement

from .conftest import IDENTITY, Bench, model

VALUES = np.array([[0.5, -1.25, 3.0]], np.float32)
INPUT = {"name": "input", "shape": VALUES.shape, "datatype": "FP32"}


def of_json():
    return Question(HTTP, json.dumps({"inputs": [{**INPUT, "data": VALUES.tolist()}]}).encode())


def of_binary():
    tensor = {**INPUT, "parameters": {"binary_data_size": VALUES.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return Question(HTTP, head + VALUES.tobytes(), {HEADER_BYTES: str(len(head))})


def of_grpc():
    request = service_pb2.ModelInferRequest(model_name="identity", raw_input_contents=[VALUES.tobytes()])
    request.inputs.add(**INPUT)
    return Question(GRPC, request.SerializeToString())


async def test_every_form_of_a_real_answer_is_read(bench: Bench):
    digest = bench.put("identity.tar", IDENTITY)
    bench.host.set_desired([model("identity", digest)])
    await bench.until("identity-1", "Ready")
    address = bench.triton.address
    placement = Placement(Lease("identity-1", 1), "demo/identity", "identity", address, True, False, "r1")
    read = []
    async with ask.session() as session:
        for question in (of_json(), of_binary(), of_grpc()):
            answer = await ask.ask(session, placement, question, 10_000, 10.0)
            read.append(
                tensors.from_grpc(answer.body)
                if question.protocol == GRPC
                else tensors.from_http(answer.body, answer.header_bytes)
            )
        for question in (Question(HTTP, b"{}"), Question(GRPC, b"")):
            with pytest.raises(NoAnswerError):
                await ask.ask(session, placement, question, 10_000, 10.0)
        with pytest.raises(NoAnswerError):
            await ask.ask(session, placement, of_grpc(), 10, 10.0)
    for one in read:
        (output,) = one.values()
        np.testing.assert_array_equal(output.values, VALUES)
        assert agree(one, read[0])
