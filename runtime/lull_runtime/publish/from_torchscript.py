"""TorchScript, the older way of PyTorch to take a network out of Python."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch

from lull_runtime.artifact.card import Source
from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.forms import INPUT, Array, Form, NetworkFormat, require_example, spec
from lull_runtime.publish.from_torch import run, stripped


def open_file(path: Path, name: str, example: Array | None) -> Form:
    """Return the network of a file that torch.jit.save wrote.

    Raises:
        NotPublishableError: it cannot be read, or there is no example of what it takes.
    """
    example = require_example(example, path.name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise NotPublishableError(f"{path.name} cannot be read as TorchScript: {error}") from error

    def to_served(rows: Array, outputs: Sequence[str]) -> tuple[bytes, NetworkFormat, list[str]]:
        return _onnx(network, rows, outputs), "onnx", []

    source = Source(framework="torch", form="torchscript")
    inputs = [spec(INPUT, example)]
    return Form(name, network, lambda rows: run(network, rows), inputs, source, to_served)


def _onnx(network: torch.jit.ScriptModule, rows: Array, outputs: Sequence[str]) -> bytes:
    """By the older exporter: the newer one refuses script modules."""
    batch = {name: {0: "batch"} for name in (INPUT, *outputs)}
    try:
        with tempfile.NamedTemporaryFile(suffix=".onnx") as out, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (torch.from_numpy(rows),),
                out.name,
                dynamo=False,
                input_names=[INPUT],
                output_names=list(outputs),
                dynamic_axes=batch,
            )
            return stripped(onnx.load(out.name))
    except Exception as error:
        raise NotPublishableError(
            f"PyTorch cannot export this TorchScript to ONNX: {str(error).splitlines()[0]}. Publish the "
            "network that it was made from (module:factory --weights)"
        ) from error
