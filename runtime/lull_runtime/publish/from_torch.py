"""PyTorch: a network from Python with its weights, and the way of every torch module to what hosts load."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from lull_runtime.artifact.card import Source, TensorSpec
from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.forms import INPUT, Array, Form, NetworkFormat, spec

_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn")
"""What an exported program notes about the source that it came from."""


def from_module(
    network: nn.Module,
    name: str,
    weights: Path | None,
    example: Array,
    source: Source | None = None,
) -> Form:
    """Return a torch module as a form; `weights` are loaded into it first."""
    how = "module"
    if weights is not None:
        how = "safetensors" if weights.suffix == ".safetensors" else "state_dict"
        _load(network, weights)
    network = network.eval()

    def to_served(rows: Array, outputs: Sequence[str]) -> tuple[bytes, NetworkFormat, list[str]]:
        return served(exported_program(network, rows), outputs)

    return Form(
        name=name,
        network=network,
        predict=lambda rows: run(network, rows),
        inputs=[spec(INPUT, example)],
        source=source or Source(framework="torch", form=how),
        to_served=to_served,
    )


def run(network: nn.Module, rows: Array) -> dict[str, Array]:
    """Return what a torch module answers to some rows.

    Raises:
        NotPublishableError: it fails, or answers with something else than tensors.
    """
    try:
        with torch.no_grad():
            answer = network(torch.from_numpy(np.ascontiguousarray(rows)))
    except Exception as error:
        shape = "×".join(map(str, rows.shape[1:]))
        raise NotPublishableError(f"fed {len(rows)} rows of {shape} the network fails: {error}") from error
    tensors = answer if isinstance(answer, tuple | list) else [answer]
    if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise NotPublishableError("the network must return a tensor or a tuple of tensors")
    names = ["output"] if len(tensors) == 1 else [f"output{i}" for i in range(len(tensors))]
    return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}


def exported_program(network: nn.Module, rows: Array) -> torch.export.ExportedProgram:
    """Return a torch module as a graph with a free batch axis.

    Raises:
        NotPublishableError: PyTorch cannot export it.
    """
    batch = {0: torch.export.Dim("batch", min=1)}
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(network, (torch.from_numpy(rows),), dynamic_shapes=(batch,))
    except Exception as error:
        raise NotPublishableError(
            f"PyTorch cannot export this network: {_first(error)}. Its flow of control must not depend on "
            "the values or the number of its rows"
        ) from error


def served(
    program: torch.export.ExportedProgram, outputs: Sequence[str]
) -> tuple[bytes, NetworkFormat, list[str]]:
    """Return a program as ONNX or, where ONNX has no words for it, as `.pt2`; the latter with a note."""
    try:
        return _onnx(program, outputs), "onnx", []
    except Exception as error:  # noqa: BLE001  the exporter raises whatever its passes raise
        note = (
            f"ONNX cannot express it ({_first(error)}): it is shipped as model.pt2, which takes seconds "
            "longer to load, and ten times the memory: PyTorch's own"
        )
        return as_pt2(program), "pt2", [note]


def stripped(model: onnx.ModelProto) -> bytes:
    """Return an ONNX model without what exporters note for debugging: source paths and stack traces."""
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
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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


def inputs_of(program: torch.export.ExportedProgram) -> list[TensorSpec]:
    """Return what a program takes.

    Raises:
        NotPublishableError: that is not one tensor with a batch axis.
    """
    names = program.graph_signature.user_inputs
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    values = [node.meta.get("val") for node in nodes]
    if len(values) != 1 or not isinstance(values[0], torch.Tensor):
        raise NotPublishableError(f"it takes {len(names)} inputs; what is served takes one tensor")
    (value,) = values
    if isinstance(value.shape[0], int):
        raise NotPublishableError(
            f"its batch axis is fixed at {value.shape[0]}: export it with "
            'dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)'
        )
    sizes = [size if isinstance(size, int) else -1 for size in value.shape[1:]]
    kind = torch.empty(0, dtype=value.dtype).numpy()
    return [TensorSpec(name=INPUT, datatype=spec(INPUT, kind[None]).datatype, dims=[-1, *sizes])]


def _load(network: nn.Module, weights: Path) -> None:
    try:
        if weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(weights)
        else:
            state = torch.load(weights, weights_only=True, map_location="cpu")
    except Exception as error:
        raise NotPublishableError(
            f"{weights} cannot be read as weights: {_first(error)}. Save them with "
            "torch.save(network.state_dict(), …) or safetensors.torch.save_file"
        ) from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise NotPublishableError(f"{weights} does not fit this network: {error}") from error


def _onnx(program: torch.export.ExportedProgram, outputs: Sequence[str]) -> bytes:
    with quiet(), torch.no_grad():
        exported = torch.onnx.export(
            program, dynamo=True, input_names=[INPUT], output_names=list(outputs), verbose=False
        )
    if exported is None:
        raise NotPublishableError("PyTorch exported nothing")  # never with dynamo=True
    return stripped(exported.model_proto)


def as_pt2(program: torch.export.ExportedProgram) -> bytes:
    """Return a program as the bytes of `model.pt2`, without what it notes about the source it came from."""
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            for key in _TRACES:
                node.meta.pop(key, None)
    out = io.BytesIO()
    with quiet():
        torch.export.save(program, out)
    return out.getvalue()


def _first(error: BaseException) -> str:
    """The first line of what is often a page, of the error beneath all others."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
