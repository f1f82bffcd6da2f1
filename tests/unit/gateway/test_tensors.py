"""What a model answered is read the same over HTTP, in JSON or binary, and over gRPC, raw or typed."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import service_pb2
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

from lull.gateway import tensors
from lull.gateway.tensors import UnreadableError

TYPED = tensors._CONTENTS
DTYPES = tuple(np.dtype(code).type for code in "?bhiqBHIQfd")
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(
        dtype,
        arrays.array_shapes(min_dims=1, max_dims=3, max_side=4),
        # JSON has no word for what is no number.
        elements=arrays.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False),
    )
)
STRINGS = arrays.arrays(np.object_, arrays.array_shapes(max_dims=2, max_side=4), elements=st.text(max_size=5))


def http_json(**outputs):
    return json.dumps(
        {
            "outputs": [
                {
                    "name": name,
                    "datatype": np_to_triton_dtype(values.dtype),
                    "shape": values.shape,
                    "data": values.reshape(-1).tolist(),
                }
                for name, values in outputs.items()
            ]
        }
    ).encode()


def http_binary(**outputs):
    """Return a body in the binary extension, and how long its JSON is."""
    blobs = [raw(values) for values in outputs.values()]
    header = json.dumps(
        {
            "outputs": [
                {
                    "name": name,
                    "datatype": np_to_triton_dtype(values.dtype),
                    "shape": values.shape,
                    "parameters": {"binary_data_size": len(blob)},
                }
                for (name, values), blob in zip(outputs.items(), blobs, strict=True)
            ]
        }
    ).encode()
    return header + b"".join(blobs), len(header)


def grpc_message(*, typed=False, **outputs):
    answer = service_pb2.ModelInferResponse()
    for name, values in outputs.items():
        datatype = np_to_triton_dtype(values.dtype)
        output = answer.outputs.add(name=name, datatype=datatype, shape=values.shape)
        if typed:
            flat = values.reshape(-1).tolist()
            flat = [value.encode() for value in flat] if datatype == "BYTES" else flat
            getattr(output.contents, TYPED[datatype]).extend(flat)
        else:
            answer.raw_output_contents.append(raw(values))
    return answer.SerializeToString()


def raw(values):
    if values.dtype == np.object_:
        words = np.array([value.encode() for value in values.reshape(-1)], np.object_)
        return serialize_byte_tensor(words).item()
    return values.tobytes()


def assert_reads(tensor, values):
    assert tensor.datatype == np_to_triton_dtype(values.dtype)
    assert tensor.values.shape == values.shape
    read = [
        value.decode() if isinstance(value, bytes) else value for value in tensor.values.reshape(-1).tolist()
    ]
    assert read == values.reshape(-1).tolist()


@given(ARRAYS, ARRAYS)
def test_every_form_of_an_answer_is_read_the_same(one, two):
    for read in (
        tensors.from_http(http_json(one=one, two=two), None),
        tensors.from_http(*http_binary(one=one, two=two)),
        tensors.from_grpc(grpc_message(one=one, two=two)),
        tensors.from_grpc(grpc_message(typed=True, one=one, two=two)),
    ):
        assert read.keys() == {"one", "two"}
        assert_reads(read["one"], one)
        assert_reads(read["two"], two)


@given(STRINGS)
def test_strings_are_read_in_every_form(words):
    for read in (
        tensors.from_http(http_json(words=words), None),
        tensors.from_http(*http_binary(words=words)),
        tensors.from_grpc(grpc_message(words=words)),
        tensors.from_grpc(grpc_message(typed=True, words=words)),
    ):
        assert_reads(read["words"], words)


def test_sixteen_bit_floats_are_read_raw():
    half = np.array([[0.5, -2.0]], np.float16)
    assert_reads(tensors.from_grpc(grpc_message(half=half))["half"], half)
    answer = service_pb2.ModelInferResponse(raw_output_contents=[b"\x80\x3f\x00\xc0"])
    answer.outputs.add(name="brain", datatype="BF16", shape=[2])
    read = tensors.from_grpc(answer.SerializeToString())["brain"]
    assert read.values.astype(np.float64).tolist() == [1.0, -2.0]


def test_json_and_binary_outputs_may_be_mixed():
    body, header_bytes = http_binary(second=np.array([7, 8], np.int64))
    header = json.loads(body[:header_bytes])
    header["outputs"].insert(0, {"name": "first", "datatype": "FP32", "shape": [1], "data": [1.5]})
    head = json.dumps(header).encode()
    read = tensors.from_http(head + body[header_bytes:], len(head))
    assert (read["first"].values.tolist(), read["second"].values.tolist()) == ([1.5], [7, 8])


def output(**changes):
    fields = {"name": "a", "datatype": "FP32", "shape": [2], "data": [1, 2]} | changes
    return json.dumps({"outputs": [fields]}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"error": "no"}',
        b'{"outputs": 3}',
        b'{"outputs": [3]}',
        b"[" * 100_000,
        b'{"outputs": [{"name": "a", "datatype": "FP32", "shape": [1], "data": '
        + b"[" * 900
        + b"]" * 900
        + b"}]}",
        output(shape=[3]),
        output(shape=[-1]),
        output(shape=[-1, -2]),
        output(shape=[2] + [1] * 100),
        output(shape=["2"]),
        output(shape=[10**400, 10**400]),
        output(shape=None),
        output(datatype="FP33"),
        output(datatype="INT64", data=[2**70, 1]),
        output(datatype="INT32", data=[1e400, 1]),
        output(data=["x", "y"]),
        output(data={"x": 1}),
        output(parameters={"binary_data_size": 8}),
        output(parameters={"binary_data_size": -1}),
        output(parameters={"binary_data_size": "8"}),
        output(parameters=[]),
        json.dumps({"outputs": [json.loads(output())["outputs"][0]] * 2}).encode(),
        json.dumps(
            {"outputs": [{**json.loads(output())["outputs"][0], "name": str(n)} for n in range(70)]}
        ).encode(),
    ],
)
def test_what_is_no_http_answer_is_refused(body):
    with pytest.raises(UnreadableError):
        tensors.from_http(body, None)


@pytest.mark.parametrize("size", [-4, 7, 13, 10**30])
def test_a_binary_tensor_of_another_size_than_it_says_is_refused(size):
    head = json.dumps(
        {
            "outputs": [
                {"name": "a", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": size}}
            ]
        }
    ).encode()
    with pytest.raises(UnreadableError):
        tensors.from_http(head + bytes(12), len(head))


def message(raw=(), **output):
    answer = service_pb2.ModelInferResponse(raw_output_contents=raw)
    answer.outputs.add(**{"name": "a", "datatype": "FP32", "shape": [1], **output})
    return answer.SerializeToString()


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xff",
        message(),
        message([b"1234", b"1234"]),
        message([b"123"]),
        message([b"1234"], shape=[2]),
        message([b"1234"], shape=[-1]),
        message([b"1234"], datatype="nothing"),
        message([b"\xff\xff\xff\xff"], datatype="BYTES"),
        message([b"\xff"], datatype="BYTES"),
        message([b"\x04\x00\x00\x00abc"], datatype="BYTES"),
        message(datatype="FP16"),
        message([bytes(2**20)], datatype="BYTES", shape=[2**18]),
    ],
)
def test_what_is_no_grpc_answer_is_refused(body):
    with pytest.raises(UnreadableError):
        tensors.from_grpc(body)


@given(st.binary(max_size=300), st.none() | st.integers(0, 400))
@example(http_binary(a=np.zeros(3))[0], 1)
def test_any_bytes_are_read_or_refused(data, header_bytes):
    for read in (lambda: tensors.from_http(data, header_bytes), lambda: tensors.from_grpc(data)):
        with contextlib.suppress(UnreadableError):
            assert all(isinstance(tensor, tensors.Tensor) for tensor in read().values())
