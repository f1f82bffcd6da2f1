"""ONNX as it is, and what ONNX of other makers needs before it can be served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from lull_runtime.artifact.card import Source, TensorSpec, datatype_of
from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.forms import Array, Form, NetworkFormat


def open_file(path: Path, name: str, example: Array | None) -> Form:
    """Return the network of an `.onnx` file, weights beside it included.

    Raises:
        NotPublishableError: it cannot be read or run, takes more than one tensor, or has a fixed batch axis.
    """
    try:
        onnx.checker.check_model(path)  # refuses weights that lie outside of its folder
        model = with_two_axes(onnx.load(path))
        network = model.SerializeToString(deterministic=True)
        session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise NotPublishableError(f"{path.name} is no ONNX that can be run: {error}") from error
    if len(session.get_inputs()) != 1:
        raise NotPublishableError(
            f"it takes {len(session.get_inputs())} inputs; what is served takes one tensor"
        )
    outputs = [_spec(one).name for one in session.get_outputs()]
    (put,) = (_spec(one) for one in session.get_inputs())

    def predict(rows: Array) -> dict[str, Array]:
        try:
            return dict(zip(outputs, session.run(outputs, {put.name: rows}), strict=True))
        except Exception as error:
            raise NotPublishableError(f"fed {rows.shape} the network fails: {error}") from error

    def to_served(rows: Array, outputs: Sequence[str]) -> tuple[bytes, NetworkFormat, list[str]]:
        return network, "onnx", []

    source = Source(framework="onnx", form="onnx")
    return Form(name, None, predict, [put], source, to_served)


def with_two_axes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give outputs that are the batch axis alone a second one: Triton cannot say that of a tensor."""
    graph = model.graph
    for output in graph.output:
        if len(output.type.tensor_type.shape.dim) != 1:
            continue
        flat, shape = f"{output.name}_flat", f"{output.name}_shape"
        for node in graph.node:
            for names in (node.input, node.output):
                for index, used in enumerate(names):
                    if used == output.name:
                        names[index] = flat
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 1], np.int64), shape))
        graph.node.append(onnx.helper.make_node("Reshape", [flat, shape], [output.name]))
        kind = output.type.tensor_type.elem_type
        output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, kind, [None, 1]))
    return model


def only_outputs(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Drop all outputs but these; what only they need is no longer computed."""
    kept = [output for output in model.graph.output if output.name in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def _spec(tensor: onnxruntime.NodeArg) -> TensorSpec:
    kind = _ORT_TYPES.get(tensor.type)
    if kind is None:
        raise NotPublishableError(f"{tensor.name} is of type {tensor.type}, which cannot be sent")
    if not tensor.shape or isinstance(tensor.shape[0], int):
        raise NotPublishableError(
            f"the first axis of {tensor.name} is fixed ({tensor.shape}): export it with a free batch axis "
            "(dynamic_shapes or dynamic_axes of torch.onnx.export)"
        )
    sizes = [size if isinstance(size, int) else -1 for size in tensor.shape[1:]]
    return TensorSpec(name=tensor.name, datatype=datatype_of(np.empty(0, kind)), dims=[-1, *sizes])


_ORT_TYPES: dict[str, type] = {
    "tensor(bool)": np.bool_,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
}
