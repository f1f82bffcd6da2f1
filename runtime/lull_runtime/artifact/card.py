"""The card of an artifact (`lull.json`): what goes in, what comes out, and examples that prove it."""

import math
from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64"
]
"""The Open Inference Protocol's names of those types that have a fixed size."""

_NUMPY: dict[str, type] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
_DATATYPES: dict[np.dtype[np.generic], Datatype] = {
    np.dtype(kind): name  # type: ignore[misc]  # the keys are the literal's
    for name, kind in _NUMPY.items()
}

TensorName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]*$", max_length=128)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_SIZE = Annotated[int, Field(ge=0, le=2**40)]
_FIGURE = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
"""Bounded, as it is told in the status of a host, which holds models of others too."""
_MOST_BYTES = 1 << 50
_SHARE = Annotated[float, Field(ge=0, le=1)]


def numpy_type(datatype: str) -> np.dtype[np.generic]:
    """Return the numpy type of a datatype of the Open Inference Protocol."""
    return np.dtype(_NUMPY[datatype])


def datatype_of(array: NDArray[np.generic]) -> Datatype:
    """Return the datatype of an array.

    Raises:
        KeyError: the array's type has no fixed size that the protocol knows (strings, objects, complex).
    """
    return _DATATYPES[array.dtype]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Strict):
    """One input or output. `dims` has the batch axis first, as -1; other free axes are -1 too.

    Two axes at least: Triton cannot say of a tensor that it is the batch axis alone.
    """

    name: TensorName
    datatype: Datatype
    dims: Annotated[list[Annotated[int, Field(ge=-1, le=2**31)]], Field(min_length=2, max_length=16)]

    @model_validator(mode="after")
    def _batched(self) -> Self:
        if self.dims[0] != -1:
            raise ValueError(f"{self.name}: the first axis must be the batch axis, -1")
        return self

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape, batch axis included, is one of these."""
        return len(shape) == len(self.dims) and all(
            want in (-1, have) for want, have in zip(self.dims, shape, strict=True)
        )


class GoldenTensor(_Strict):
    """One tensor of a golden case: little-endian, C order, at `offset` of the golden file."""

    name: TensorName
    datatype: Datatype
    shape: Annotated[list[_SIZE], Field(min_length=1, max_length=16)]
    offset: _SIZE

    @property
    def size_bytes(self) -> int:
        """How long it is in the golden file."""
        return math.prod(self.shape) * numpy_type(self.datatype).itemsize


class GoldenCase(_Strict):
    """What the network answered, before it was shipped, to these inputs."""

    inputs: Annotated[list[GoldenTensor], Field(min_length=1, max_length=64)]
    outputs: Annotated[list[GoldenTensor], Field(min_length=1, max_length=64)]


class Golden(_Strict):
    """Cases and how near an answer must come: |have - want| ≤ absolute + relative × |want|."""

    cases: Annotated[list[GoldenCase], Field(min_length=1, max_length=16)]
    relative: Annotated[float, Field(gt=0, le=1)] = 1e-3
    absolute: Annotated[float, Field(gt=0, le=1)] = 1e-3


V1: Final = "lull.dev/artifact/v1"
V2: Final = "lull.dev/artifact/v2"
Member = Literal["model.onnx", "model.onnx.data", "model.pt2", "golden.bin", "README.md"]
"""What an artifact may hold beside its card and its signature: never a pickle, never source."""


class Source(_Strict):
    """What the network was before it was published."""

    framework: Annotated[str, Field(max_length=64)] = Field(description="Such as torch, keras, sklearn.")
    form: Annotated[str, Field(max_length=64)] = Field(
        description="Such as module, state_dict, h5, torchscript."
    )


class Measured(_Strict):
    """What it took where it was published. The agent measures anew where it serves."""

    load_seconds: _FIGURE
    latency_milliseconds: _FIGURE = Field(description="Median of one row's inference.")
    memory_bytes: Annotated[int, Field(ge=0)]
    on: Annotated[str, Field(max_length=256)] = Field(description="The machine and the runtime.")


class Optimisation(_Strict):
    """One change of the network for speed or size, and what it cost."""

    kind: Literal["fp16", "int8", "graph"]
    size_bytes_before: Annotated[int, Field(ge=0)]
    size_bytes_after: Annotated[int, Field(ge=0)]
    latency_milliseconds_before: _FIGURE
    latency_milliseconds_after: _FIGURE
    accuracy_before: _SHARE | None = None
    accuracy_after: _SHARE | None = None
    max_difference: _FIGURE = Field(description="Largest difference of any output of the golden cases.")


class Training(_Strict):
    """What the training cost, where it is known: a ledger starts before serving."""

    watt_hours: _FIGURE
    grams_co2e: _FIGURE | None = None
    duration_seconds: _FIGURE | None = None
    source: Literal["declared", "codecarbon"]


class Card(_Strict):
    """The whole of `lull.json`. The first version said less, and is read as one that leaves the rest out."""

    version: Literal["lull.dev/artifact/v1", "lull.dev/artifact/v2"] = V2
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    format: Literal["onnx", "pt2"] = "onnx"
    inputs: Annotated[list[TensorSpec], Field(min_length=1, max_length=64)]
    outputs: Annotated[list[TensorSpec], Field(min_length=1, max_length=64)]
    memory_bytes: Annotated[int, Field(gt=0, le=_MOST_BYTES)] = Field(
        description="Estimate of what it takes once loaded."
    )
    golden: Golden
    made_with: dict[str, str] = Field(default={}, max_length=32, description="Versions of what made it.")
    files: dict[Member, Digest] = Field(default={}, description="Its members; `pack_artifact` fills it in.")
    source: Source | None = None
    measured: Measured | None = None
    optimisation: Annotated[list[Optimisation], Field(max_length=8)] = []
    training: Training | None = None
    labels: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=10_000)] = Field(
        default=[], description="What the entries of its first output stand for, where it classifies."
    )


def tensor(golden: bytes, entry: GoldenTensor) -> NDArray[np.generic]:
    """Return a golden tensor, read from the bytes of the golden file.

    Raises:
        ValueError: the file ends before the tensor does.
    """
    if entry.offset + entry.size_bytes > len(golden):
        raise ValueError(f"golden tensor {entry.name} lies beyond the end of its file")
    kind = numpy_type(entry.datatype).newbyteorder("<")
    count = math.prod(entry.shape)
    return np.frombuffer(golden, kind, count, entry.offset).reshape(entry.shape)
