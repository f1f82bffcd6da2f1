"""`lull publish`: from a trained network, or a Triton model directory, to an artifact and its manifest."""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console

from lull.api.names import API_VERSION

if TYPE_CHECKING:
    from torch import nn

_SAMPLE = "digits"
_ROWS = 25
"""How many examples a network is fed at once, to see whether as many answers come out."""


class Output(StrEnum):
    """How the result is printed."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True)
class _Result:
    """What was published; `notes` are what its owner should know besides."""

    name: str
    digest: str
    path: Path
    wire_name: str | None = None
    accuracy: float | None = None
    notes: list[str] = field(default_factory=list)


def publish(
    network: Annotated[
        str | None, typer.Argument(help="module:factory, a function that returns the torch network.")
    ] = None,
    sample: Annotated[str | None, typer.Option(help=f"Train and publish a sample: {_SAMPLE}.")] = None,
    repository: Annotated[
        Path | None, typer.Option(help="Publish a Triton model directory (config.pbtxt, 1/) unedited.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The network's state_dict, as torch.save wrote it.")
    ] = None,
    example_shape: Annotated[
        str | None, typer.Option(help="Shape of one input, batch axis first, such as 1,1,32,32.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model; default from what is published.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The tar to write.  [default: build/NAME.tar]")] = None,
    uri: Annotated[
        str | None, typer.Option(help="Where hosts will find it.  [default: file:///OUT's name]")
    ] = None,
    manifest: Annotated[Path | None, typer.Option(help="Write the ModelService manifest here too.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="text or json.")] = Output.TEXT,
) -> None:
    """Write a model's artifact; print its digest and a ready ModelService manifest."""
    if sum(what is not None for what in (network, sample, repository)) != 1:
        _refuse("say what to publish: module:factory, or --sample digits, or --repository DIR")
    console = Console(stderr=True)
    try:
        if sample is not None:
            result = _publish_sample(sample, name, out, console)
        elif repository is not None:
            result = _publish_repository(repository, name, out)
        else:
            result = _publish_network(str(network), weights, example_shape, name, out, console)
    except (ValueError, OSError, ImportError, AttributeError) as error:
        _refuse(str(error))
    service = _service(result, uri or f"file:///{result.path.name}")
    text = yaml.safe_dump(service, sort_keys=False)
    if manifest is not None:
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(text)
    _print(result, service, text, output)


def _publish_sample(sample: str, name: str | None, out: Path | None, console: Console) -> _Result:
    if sample != _SAMPLE:
        raise ValueError(f"there is no sample {sample!r}; there is {_SAMPLE!r}")
    name = name or sample
    with console.status("importing PyTorch") as status:
        from lull_runtime.publish.digits import load_digits
        from lull_runtime.publish.export import publish_network
        from lull_runtime.publish.simple_cnn import accuracy, train

        training, held_out = load_digits()
        trained = train(training, lambda done, total: status.update(f"training: epoch {done} of {total}"))
        status.update("exporting to ONNX (some 15 seconds)")
        made = publish_network(trained, held_out.images[:_ROWS], name, out or _default_out(name))
    return _Result(name, made.digest, made.path, accuracy=accuracy(trained, held_out))


def _publish_network(
    target: str,
    weights: Path | None,
    example_shape: str | None,
    name: str | None,
    out: Path | None,
    console: Console,
) -> _Result:
    if example_shape is None:
        raise ValueError("--example-shape is needed: the shape of one input, such as 1,1,32,32")
    name = name or target.rpartition(":")[2].lower().replace("_", "-")
    with console.status("importing PyTorch") as status:
        import numpy as np

        from lull_runtime.publish.export import publish_network

        network = _build(target, weights)
        shape = _shape(example_shape)
        example = np.random.default_rng(0).standard_normal((_ROWS, *shape[1:])).astype(np.float32)
        status.update("exporting to ONNX (some 15 seconds)")
        made = publish_network(network, example, name, out or _default_out(name))
    return _Result(name, made.digest, made.path)


def _publish_repository(folder: Path, name: str | None, out: Path | None) -> _Result:
    from lull_runtime.artifact.format import detect, inspect_repository, is_partial, name_in
    from lull_runtime.artifact.pack import pack_repository

    if not folder.is_dir():
        raise ValueError(f"{folder} is no directory")
    detect(folder, "TritonRepository")
    wire_name = name_in(folder) or name or folder.resolve().name
    code = inspect_repository(folder, wire_name, allow_code=True)
    notes = ["it is code: its pool needs allow.code"] if code else []
    if is_partial(folder):
        notes.append(
            "its config.pbtxt leaves inputs or outputs out: its pool needs LULL_TRITON_COMPLETE=true"
        )
    name = name or wire_name
    path = out or _default_out(name)
    return _Result(name, pack_repository(path, folder), path, wire_name, notes=notes)


def _build(target: str, weights: Path | None) -> nn.Module:
    import torch

    module, _, factory = target.partition(":")
    if not factory:
        raise ValueError(f"{target!r} is not module:factory")
    sys.path.insert(0, os.getcwd())
    network: nn.Module = getattr(importlib.import_module(module), factory)()
    if weights is not None:
        network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    return network


def _shape(text: str) -> list[int]:
    try:
        shape = [int(part) for part in text.split(",")]
    except ValueError:
        shape = []
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"{text!r} is no shape with a batch axis; write for example 1,1,32,32")
    return shape


def _default_out(name: str) -> Path:
    return Path("build") / f"{name}.tar"


def _service(result: _Result, uri: str) -> dict[str, Any]:
    model: dict[str, Any] = {"uri": uri, "digest": result.digest}
    if result.wire_name is not None:
        model["format"] = "TritonRepository"
        if result.wire_name != result.name:
            model["name"] = result.wire_name
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelService",
        "metadata": {"name": result.name},
        "spec": {"model": model},
    }


def _print(result: _Result, service: dict[str, Any], text: str, output: Output) -> None:
    if output is Output.JSON:
        fields = {
            "name": result.name,
            "digest": result.digest,
            "path": str(result.path),
            "accuracy": result.accuracy,
            "notes": result.notes,
            "manifest": service,
        }
        print(json.dumps(fields, indent=2))
        return
    print(f"# {result.path}: {result.path.stat().st_size} bytes, {result.digest}")
    if result.accuracy is not None:
        print(f"# {result.accuracy:.1%} of the held-out digits are told right")
    for note in result.notes:
        print(f"# note: {note}")
    print("# kubectl apply -f - with what follows, once the file lies where the uri says")
    print(text, end="")


def _refuse(message: str) -> None:
    print(f"lull publish: {message}", file=sys.stderr)
    raise typer.Exit(1)
