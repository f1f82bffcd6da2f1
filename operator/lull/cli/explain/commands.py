"""The command `lull explain`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lull.cli import progress
from lull_runtime.publish import options
from lull_runtime.quality.errors import QualityError
from lull_runtime.quality.kinds import Baseline, Methods

if TYPE_CHECKING:
    from lull_runtime.publish.forms import Form
    from lull_runtime.publish.kinds import Kind
    from lull_runtime.quality.explain import Explained
    from lull_runtime.quality.inputs import Rows
    from lull_runtime.quality.measures import Array

NEEDS_EXTRA = "this needs an extra: pip install 'lull[explain]'"
EXTRA = ("captum", "matplotlib", "numpy", "torch", "keras", "onnx", "onnxruntime", "sklearn", "skl2onnx")
PICTURE = ".png"


class Output(StrEnum):
    """What `-o` may name."""

    JSON = "json"


@dataclass(frozen=True)
class _Said:
    """What was said about the network and its input."""

    network: str
    input: Path
    index: int
    target: int | None
    methods: Methods
    baseline: Baseline
    weights: Path | None
    kind: Kind | None
    trust_pickle: bool
    example_shape: str | None


def explain(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="As `lull publish` takes it: module:factory, or .pt2, TorchScript, .keras, .h5, .onnx.",
            show_default=False,
        ),
    ],
    input_file: Annotated[
        Path,
        typer.Option(
            "--input",
            metavar="FILE",
            help="What it was asked: .npy, .npz (x; `names` may name its features), or .png.",
            show_default=False,
        ),
    ],
    index: Annotated[int, typer.Option(metavar="N", help="Which row of the file.")] = 0,
    target: Annotated[
        int | None,
        typer.Option(metavar="CLASS", help="The class to explain.  [default: the one that is told]"),
    ] = None,
    method: Annotated[
        Methods,
        typer.Option(
            metavar="HOW",
            help=f"{', '.join(Methods)}; integrated gradients need a network in PyTorch or Keras.",
        ),
    ] = Methods.ALL,
    baseline: Annotated[
        Baseline,
        typer.Option(
            metavar="WHAT",
            help="What the input is compared with: zeros, or for tables the mean of the file's rows.",
        ),
    ] = Baseline.ZEROS,
    weights: options.Weights = None,
    kind: options.Held = None,
    trust_pickle: options.TrustPickle = False,
    example_shape: options.ExampleShape = None,
    out: Annotated[Path, typer.Option(metavar="PREFIX", help="Writes PREFIX.png and PREFIX.json.")] = Path(
        "explanation"
    ),
    output: Annotated[
        Output | None,
        typer.Option("--output", "-o", metavar="FORMAT", help="json: print what PREFIX.json holds too."),
    ] = None,
) -> None:
    """Show which parts of an input speak for a classifier's answer, and which against: a picture, and JSON.

    Integrated gradients (Sundararajan et al. 2017) follow the gradient from the baseline to the input, and
    add up to the score's difference; occlusion (Zeiler and Fergus 2014) puts windows of the input to the
    baseline and needs no gradients, so it explains ONNX and scikit-learn too. Both tell what the network
    heeds, not what is true. A .png is scaled to the network's input, its values between 0 and 1.

    Exit codes: 0 fine, 1 it cannot be explained (the message says what to do), 2 wrong usage.
    """
    said = _Said(
        network, input_file, index, target, method, baseline, weights, kind, trust_pickle, example_shape
    )
    if not out.parent.is_dir():
        _refuse(f"{out} cannot be written: {out.parent} is no folder")
    try:
        with progress.shown() as tell:
            explained, names = _explained(said, tell)
            told = _document(explained, said)
            _write(explained, names, told, out)
    except ModuleNotFoundError as error:
        _refuse(f"{NEEDS_EXTRA} ({error})" if (error.name or "").split(".")[0] in EXTRA else str(error))
    except (QualityError, ValueError, OSError, ImportError, AttributeError) as error:
        _refuse(str(error))
    _tell(explained, told, out, output)


def _explained(said: _Said, tell: Callable[[str], None]) -> tuple[Explained, list[str]]:
    tell("importing PyTorch")
    from lull_runtime.publish.forms import open_form
    from lull_runtime.quality.explain import explain as explained
    from lull_runtime.quality.inputs import read_rows

    rows = None if said.input.suffix.lower() == PICTURE else read_rows(said.input)
    tell(f"opening {said.network}")
    form = open_form(
        said.network,
        weights=said.weights,
        kind=said.kind,
        example=_example(said, rows),
        trust_pickle=said.trust_pickle,
    )
    row, baseline = _compared(form, rows, said)
    names = rows.names if rows else []
    return explained(form, row, baseline, said.target, said.methods, tell), names


def _example(said: _Said, rows: Rows | None) -> Array | None:
    """Rows that say what a network takes that does not say it itself."""
    if said.example_shape is None:
        return rows.array if rows else None
    from lull_runtime.publish.forms import made_up

    return made_up(options.shape_of(said.example_shape))


def _compared(form: Form, rows: Rows | None, said: _Said) -> tuple[Array, Array]:
    """Return the row, and what it is compared with."""
    import numpy as np

    from lull_runtime.quality.inputs import read_image, row_of

    (spec,) = form.inputs
    row = read_image(said.input, spec) if rows is None else row_of(rows, spec, said.index)
    if said.baseline is Baseline.ZEROS:
        return row, np.zeros_like(row)
    if rows is None or rows.array.ndim != row.ndim or len(rows.array) < 2:
        raise ValueError("--baseline mean is of several rows, and the file has one: say --baseline zeros")
    return row, rows.array.mean(axis=0, keepdims=True).astype(row.dtype)


def _document(explained: Explained, said: _Said) -> dict[str, Any]:
    from lull_runtime.quality.explain import document

    told = document(explained)
    told["input"] |= {"file": str(said.input), "index": said.index}
    return told | {"baseline": said.baseline.value}


def _write(explained: Explained, names: list[str], told: dict[str, Any], out: Path) -> None:
    from lull_runtime.quality.pictures import draw

    draw(explained, names, out.with_name(out.name + PICTURE))
    out.with_name(out.name + ".json").write_text(json.dumps(told, allow_nan=False) + "\n")


def _tell(explained: Explained, told: dict[str, Any], out: Path, output: Output | None) -> None:
    if output:
        print(json.dumps(told, allow_nan=False))
        return
    from lull_runtime.quality.pictures import headline

    print(headline(explained))
    for one in explained.attributions:
        delta = (
            "" if one.completeness_delta is None else f", completeness within {one.completeness_delta:.2g}"
        )
        print(f"  {one.method.value}{delta}")
    for note in explained.notes:
        print(f"note: {note}")
    print(f"{out}{PICTURE}  {out}.json")


def _refuse(message: str) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(1)
