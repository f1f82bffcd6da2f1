"""Tells whether an ONNX file is whole and keeps to itself, without parsing it into memory.

The agent holds a token, and so leaves hostile protobuf to the runtime in Triton's container. It only walks
over the file, length by length, and looks at one thing: the files that tensors say their values lie in.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError

_WITHIN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "External"},
}
"""The messages of onnx.proto that lead to a tensor's external data, by field number."""
_GRAPH, _KEY, _VALUE = 7, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIELDS = 4_000_000
"""More than any network has (a node has about ten), and a few seconds' walk."""
_DEPTH = 100
"""How deep protobuf's own parsers go."""
_LOCATION = b"location"
_LOCATION_BYTES = 4096
"""The longest path that an operating system takes; of what is longer only the beginning is looked at."""

Span = tuple[int, int]


def check_onnx(path: Path, data: str | None) -> None:
    """Check that an ONNX file is whole, and names no file but `data` for what its tensors hold.

    Raises:
        ModelError: NotAModel, or ExternalData.
    """
    if path.stat().st_size == 0:
        raise _refused(f"{path.name} is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for location in _locations(content):
            if data is None or location != data.encode():
                raise ModelError(
                    Reason.EXTERNAL_DATA,
                    f"{path.name} keeps weights in {location[:80]!r}, which is no part of it: save it with "
                    "its weights inside, or publish it again",
                )


def _locations(content: mmap.mmap) -> Iterator[bytes]:
    """The names of the files that tensors lie in. Raises ModelError where this is no ONNX file.

    Of the messages that it is within it keeps a place each, and nothing of those beside them.
    """
    graphs = 0
    budget = iter(range(_FIELDS))
    walks = [("Model", _fields(content, (0, len(content)), budget))]
    while walks:
        message, fields = walks[-1]
        field = next(fields, None)
        if field is None:
            walks.pop()
            continue
        number, span = field
        graphs += message == "Model" and number == _GRAPH
        within = _WITHIN[message].get(number)
        if within == "External":
            yield from _named(content, span, budget)
        elif within:
            walks.append((within, _fields(content, span, budget)))
        if len(walks) > _DEPTH:
            raise _refused(f"it holds messages {_DEPTH} deep")
    if graphs != 1:
        raise _refused(f"it holds {graphs} graphs, not one")


def _named(content: mmap.mmap, span: Span, budget: Iterator[int]) -> Iterator[bytes]:
    """The names of files in an entry of external data, which has several keys and values where it is bent."""
    if not any(
        number == _KEY and end - start == len(_LOCATION) and content[start:end] == _LOCATION
        for number, (start, end) in _fields(content, span, budget)
    ):
        return
    named = False
    for number, (start, end) in _fields(content, span, budget):
        if number == _VALUE:
            named = True
            yield content[start : min(end, start + _LOCATION_BYTES)]
    if not named:
        yield b""


def _fields(content: mmap.mmap, span: Span, budget: Iterator[int]) -> Iterator[tuple[int, Span]]:
    """The fields of a message that are themselves bytes: their numbers, and where they lie."""
    at, end = span
    while at < end:
        if next(budget, None) is None:
            raise _refused(f"it holds more than {_FIELDS} fields")
        tag, at = _varint(content, at, end)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise _refused("it has a field that protobuf does not know")
        start = at
        if kind == _VARINT:
            _, at = _varint(content, at, end)
        elif kind == _BYTES:
            length, start = _varint(content, at, end)
            at = start + length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise _refused("it has a field that protobuf does not know")
        if at > end:
            raise _refused("it ends in the middle, or claims to be longer than it is")
        yield (number, (start, at)) if kind == _BYTES else (0, (start, at))


def _varint(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number of variable length, and where what follows it begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _refused("it ends in the middle")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _refused("it has a number that is too long")


def _refused(why: str) -> ModelError:
    return ModelError(Reason.NOT_A_MODEL, f"the network is no ONNX file: {why}; publish it again")
