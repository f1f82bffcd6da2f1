"""Reads what a model answered, over HTTP or gRPC, as tensors by name. Pure; the bytes are a stranger's.

Formats: the KServe v2 inference protocol, HTTP with Triton's binary tensor extension. Imports NumPy, which a
gateway that compares nothing need not have in memory.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor, triton_to_np_dtype

_MOST_OUTPUTS = 64
_LONGEST_STRINGS_BYTES = 256 * 1024
"""Of raw BYTES, which are taken apart one by one, in Python."""
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where a gRPC answer has a datatype's values that are not raw; 16-bit floats are always raw."""


class UnreadableError(ValueError):
    """These bytes are no answer of the protocol, or not a whole one."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One output.

    Attributes:
        datatype: by the protocol's name, such as FP32.
        values: in the shape that the answer says; of BYTES, an array of `bytes` or `str`.
    """

    datatype: str
    values: NDArray[Any]


def from_http(body: bytes, header_bytes: int | None) -> dict[str, Tensor]:
    """Read an HTTP answer.

    Args:
        body: the whole of it, not compressed.
        header_bytes: its Inference-Header-Content-Length: where JSON ends and binary tensors begin; None: all
            of it is JSON.

    Raises:
        UnreadableError: it is no answer.
    """
    try:
        outputs = json.loads(body[:header_bytes])["outputs"]
        binary = memoryview(b"" if header_bytes is None else body[header_bytes:])
        return _by_name(_of_json(outputs, binary))
    # An answer may nest lists until the interpreter gives up, or name numbers that no machine has.
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UnreadableError(f"not a whole answer: {error}") from error


def from_grpc(message: bytes) -> dict[str, Tensor]:
    """Read a serialized ModelInferResponse.

    Raises:
        UnreadableError: it is no answer.
    """
    try:
        return _by_name(_of_message(service_pb2.ModelInferResponse.FromString(message)))
    except (DecodeError, ValueError, TypeError, ArithmeticError) as error:
        raise UnreadableError(f"not a whole answer: {error}") from error


def _by_name(outputs: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, tensor in outputs:
        if name in tensors or len(tensors) == _MOST_OUTPUTS:
            raise UnreadableError(f"output {name!r} is there twice, or one of more than {_MOST_OUTPUTS}")
        tensors[name] = tensor
    return tensors


def _of_json(outputs: list[Mapping[str, Any]], binary: memoryview) -> Iterator[tuple[str, Tensor]]:
    for output in outputs:
        datatype, shape = str(output["datatype"]), output["shape"]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            yield str(output["name"]), _tensor(datatype, shape, output["data"])
            continue
        if not 0 <= size <= len(binary):
            raise UnreadableError(f"{size} bytes of a tensor, where {len(binary)} are left")
        yield str(output["name"]), _raw(datatype, shape, bytes(binary[:size]))
        binary = binary[size:]


def _of_message(answer: Any) -> Iterator[tuple[str, Tensor]]:  # noqa: ANN401  (generated, untyped)
    raw = answer.raw_output_contents
    if raw and len(raw) != len(answer.outputs):
        raise UnreadableError(f"{len(raw)} raw tensors for {len(answer.outputs)} outputs")
    for index, output in enumerate(answer.outputs):
        shape = list(output.shape)
        if raw:
            yield output.name, _raw(output.datatype, shape, raw[index])
        elif output.datatype in _CONTENTS:
            values = list(getattr(output.contents, _CONTENTS[output.datatype]))
            yield output.name, _tensor(output.datatype, shape, values)
        else:
            raise UnreadableError(f"{output.datatype} has no typed contents")


def _raw(datatype: str, shape: list[int], data: bytes) -> Tensor:
    if datatype == "BYTES":
        if len(data) > _LONGEST_STRINGS_BYTES:
            raise UnreadableError(f"{len(data)} bytes of strings, above {_LONGEST_STRINGS_BYTES}")
        try:
            return _shaped(datatype, shape, deserialize_bytes_tensor(data))
        except struct.error as error:
            raise UnreadableError(f"not a whole string: {error}") from error
    return _shaped(datatype, shape, np.frombuffer(data, dtype=_dtype(datatype)))


def _tensor(datatype: str, shape: list[int], values: list[Any]) -> Tensor:
    return _shaped(datatype, shape, np.array(values, dtype=_dtype(datatype)))


def _shaped(datatype: str, shape: list[int], values: NDArray[Any]) -> Tensor:
    # Asked for a negative length, NumPy alone would take it for "what is left", and let a wrong shape pass.
    if math.prod(shape) != values.size:
        raise UnreadableError(f"{values.size} values cannot have the shape {str(shape)[:100]}")
    return Tensor(datatype, values.reshape(shape))


def _dtype(datatype: str) -> Any:  # noqa: ANN401  (what NumPy takes for one)
    found = triton_to_np_dtype(datatype)
    if found is None:
        raise UnreadableError(f"no such datatype: {datatype[:100]!r}")
    return found
