"""From a PyTorch network to an artifact: exported to ONNX, with golden cases that hold it to what it was."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from lull_runtime.artifact.card import Card, Golden, TensorSpec, datatype_of
from lull_runtime.artifact.pack import pack_artifact, pack_golden

Array = NDArray[np.generic]

_RUNTIME_BYTES = 64 << 20
"""What ONNX Runtime itself takes beside a model (measured: 70 MB resident a process, Python included)."""
_GOLDEN_ROWS = (1, 3)
"""Batch sizes of the golden cases: one row, and several, which proves the batch axis."""


class NotPublishableError(ValueError):
    """This network cannot be served as it is; the message says what to change."""


@dataclass(frozen=True)
class Published:
    """An artifact that was written."""

    path: Path
    digest: str
    card: Card


def publish_network(network: nn.Module, example: Array, name: str, out: Path) -> Published:
    """Export a network of one input tensor and write its artifact.

    Args:
        network: takes (batch, …), gives one tensor or a tuple of tensors, each (batch, …).
        example: real inputs, 3 rows or more: fed all at once, and golden cases are made of the first.
        name: of the model; the default of its name on the wire.
        out: the tar to write.

    Raises:
        NotPublishableError: the output does not keep the batch axis, or ONNX Runtime disagrees with PyTorch.
    """
    network = network.eval()
    _require_batch_axis(example, _run(network, example))
    cases = [({"input": example[:rows]}, _run(network, example[:rows])) for rows in _GOLDEN_ROWS]
    onnx_bytes = _export(network, example[: _GOLDEN_ROWS[-1]], list(cases[0][1]))
    _require_agreement(onnx_bytes, cases, relative=1e-3, absolute=1e-4)
    golden_cases, golden = pack_golden(cases)
    card = Card(
        name=name,
        inputs=[_spec("input", example)],
        outputs=[_spec(name, array) for name, array in cases[0][1].items()],
        memory_bytes=_RUNTIME_BYTES + 2 * len(onnx_bytes),
        golden=Golden(cases=golden_cases),
        made_with={
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    )
    return Published(out, pack_artifact(out, card, onnx_bytes, golden), card)


def _run(network: nn.Module, rows: Array) -> dict[str, Array]:
    try:
        with torch.no_grad():
            answer = network(torch.from_numpy(np.ascontiguousarray(rows)))
    except Exception as error:
        shape = "×".join(map(str, rows.shape[1:]))
        raise NotPublishableError(f"fed {len(rows)} rows of {shape} the network fails: {error}") from error
    tensors = answer if isinstance(answer, tuple | list) else [answer]
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise NotPublishableError("the network must return a tensor or a tuple of tensors")
    names = ["output"] if len(tensors) == 1 else [f"output{i}" for i in range(len(tensors))]
    return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}


def _require_batch_axis(example: Array, outputs: dict[str, Array]) -> None:
    """Fed n rows a network must give n rows: a `view(-1, …)` of the wrong width gives another number."""
    for name, array in outputs.items():
        if array.ndim < 2 or len(array) != len(example):
            shapes = f"fed {example.shape} the network gives {array.shape}"
            raise NotPublishableError(
                f"{name} does not keep the batch axis: {shapes}. Look for view(-1, …) or reshape(-1, …): its "
                "width may not fit this input; torch.flatten(x, 1) keeps the axis"
            )


def _export(network: nn.Module, example: Array, outputs: Sequence[str]) -> bytes:
    """The network as ONNX with a free batch axis, without traces of the machine that made it."""
    try:
        program = _program(network, example, outputs)
    except Exception as error:
        raise NotPublishableError(f"PyTorch cannot export this network to ONNX: {error}") from error
    if program is None:  # never with dynamo=True
        raise NotPublishableError("PyTorch exported nothing")
    model = program.model_proto
    _strip(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _program(network: nn.Module, example: Array, outputs: Sequence[str]) -> torch.onnx.ONNXProgram | None:
    batch = {0: torch.export.Dim("batch", min=1)}
    with _quiet():
        return torch.onnx.export(
            network,
            (torch.from_numpy(example),),
            dynamo=True,
            dynamic_shapes=(batch,),
            input_names=["input"],
            output_names=list(outputs),
            verbose=False,
        )


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes for debugging: source paths and stack traces."""
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        del part.metadata_props[:]
        part.doc_string = ""
    model.graph.name = "network"


def _require_agreement(
    network: bytes,
    cases: Sequence[tuple[dict[str, Array], dict[str, Array]]],
    relative: float,
    absolute: float,
) -> None:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    for inputs, outputs in cases:
        got = session.run(list(outputs), inputs)
        for (name, want), have in zip(outputs.items(), got, strict=True):
            if have.shape != want.shape or not np.allclose(have, want, rtol=relative, atol=absolute):
                raise NotPublishableError(
                    f"ONNX Runtime and PyTorch disagree about {name}: shapes {have.shape} and {want.shape}; "
                    "is there randomness (dropout, sampling) or control flow that depends on the input?"
                )


def _spec(name: str, array: Array) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype_of(array), dims=[-1, *array.shape[1:]])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about packages that this network does not use off the screen."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
