"""The command `lull explain`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lull.cli import progress
from lull_runtime.publish.kinds import Kind
from lull_runtime.quality.errors import QualityError
from lull_runtime.quality.kinds import Baseline, Methods

if TYPE_CHECKING:
    from lull_runtime.publish.forms import Form
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
class _Options:
    """What was said about the network and its input."""

    what: str
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
    what: Annotated[
        str,
        typer.Argument(
            help="The network, as `lull publish` takes it: module:factory, or a file (.pt2, TorchScript, "
            ".keras, .h5, .onnx).",
            show_default=False,
        ),
    ],
    input_file: Annotated[
        Path,
        typer.Option(
            "--input",
            help="What it was asked: .npy, .npz (x; `names` may name its features), or a .png.",
            show_default=False,
        ),
    ],
    index: Annotated[int, typer.Option(help="Which row of the file.")] = 0,
    target: Annotated[
        int | None, typer.Option(help="The class to explain; the one that the network tells without it.")
    ] = None,
    method: Annotated[
        Methods, typer.Option(help="Integrated gradients need a network in PyTorch or Keras.")
    ] = Methods.ALL,
    baseline: Annotated[
        Baseline,
        typer.Option(
            help="What the input is compared with: zeros, or the mean of the file's rows (for tables)."
        ),
    ] = Baseline.ZEROS,
    weights: Annotated[Path | None, typer.Option(help="For a factory: its state_dict.")] = None,
    kind: Annotated[
        Kind | None, typer.Option(help="What the file holds, where its name does not tell.")
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Open a scikit-learn pickle: it may run anything, here.")
    ] = False,
    example_shape: Annotated[
        str | None,
        typer.Option(help="For a .png where the network does not say what it takes, such as 1,3,224,224."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Writes OUT.png and OUT.json.")] = Path("explanation"),
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Print what OUT.json holds too.")
    ] = None,
) -> None:
    """Show which parts of an input speak for a classifier's answer, and which against: a picture, and JSON.

    Integrated gradients (Sundararajan et al. 2017) follow the gradient from the baseline to the input, and
    add up to the score's difference; occlusion (Zeiler and Fergus 2014) puts windows of the input to the
    baseline and needs no gradients, so it explains ONNX and scikit-learn too. Both tell what the network
    heeds, not what is true. A .png is scaled to the network's input, its values between 0 and 1.

    Exit codes: 0 fine, 1 it cannot be explained (the message says what to do), 2 wrong usage.
    """
    options = _Options(
        what, input_file, index, target, method, baseline, weights, kind, trust_pickle, example_shape
    )
    if not out.parent.is_dir():
        _refuse(f"{out} cannot be written: {out.parent} is no folder")
    try:
        with progress.shown() as tell:
            explained, names = _explained(options, tell)
            told = _document(explained, options)
            _write(explained, names, told, out)
    except ModuleNotFoundError as error:
        _refuse(f"{NEEDS_EXTRA} ({error})" if (error.name or "").split(".")[0] in EXTRA else str(error))
    except (QualityError, ValueError, OSError, ImportError, AttributeError) as error:
        _refuse(str(error))
    _tell(explained, told, out, output)


def _explained(options: _Options, tell: Callable[[str], None]) -> tuple[Explained, list[str]]:
    tell("importing PyTorch")
    from lull_runtime.publish.forms import open_form
    from lull_runtime.quality.explain import explain as explained
    from lull_runtime.quality.inputs import read_rows

    rows = None if options.input.suffix.lower() == PICTURE else read_rows(options.input)
    tell(f"opening {options.what}")
    form = open_form(
        options.what,
        weights=options.weights,
        kind=options.kind,
        example=_example(options, rows),
        trust_pickle=options.trust_pickle,
    )
    row, baseline = _compared(form, rows, options)
    names = rows.names if rows else []
    return explained(form, row, baseline, options.target, options.methods, tell), names


def _example(options: _Options, rows: Rows | None) -> Array | None:
    """Rows that say what a network takes that does not say it itself."""
    if options.example_shape is None:
        return rows.array if rows else None
    from lull_runtime.publish.forms import made_up

    try:
        shape = [int(part) for part in options.example_shape.split(",")]
    except ValueError:
        shape = []
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(
            f"{options.example_shape!r} is no shape with a batch axis; write for example 1,3,224,224"
        )
    return made_up(shape)


def _compared(form: Form, rows: Rows | None, options: _Options) -> tuple[Array, Array]:
    """Return the row, and what it is compared with."""
    import numpy as np

    from lull_runtime.quality.inputs import read_image, row_of

    (spec,) = form.inputs
    row = read_image(options.input, spec) if rows is None else row_of(rows, spec, options.index)
    if options.baseline is Baseline.ZEROS:
        return row, np.zeros_like(row)
    if rows is None or rows.array.ndim != row.ndim or len(rows.array) < 2:
        raise ValueError("--baseline mean is of several rows, and the file has one: say --baseline zeros")
    return row, rows.array.mean(axis=0, keepdims=True).astype(row.dtype)


def _document(explained: Explained, options: _Options) -> dict[str, Any]:
    from lull_runtime.quality.explain import document

    told = document(explained)
    told["input"] |= {"file": str(options.input), "index": options.index}
    return told | {"baseline": options.baseline.value}


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
    print(f"lull explain: {message}", file=sys.stderr)
    raise typer.Exit(1)
