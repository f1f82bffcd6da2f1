"""What can be said to `lull publish`."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lull_runtime.publish.kinds import Change, Kind, Sample

_NETWORK, _ARTIFACT, _PLACE = "The network", "Its artifact", "Where it goes"


class Output(StrEnum):
    """How the result is printed."""

    TEXT = "text"
    JSON = "json"


Network = Annotated[
    str | None,
    typer.Argument(
        metavar="NETWORK",
        show_default=False,
        help="module:factory, a function that returns a torch, Keras or scikit-learn network; or a file: "
        ".pt2, TorchScript, .keras, .h5, .onnx.",
    ),
]
Sampled = Annotated[
    Sample | None,
    typer.Option(
        "--sample",
        metavar="NAME",
        rich_help_panel=_NETWORK,
        help=f"Train and publish a sample: {', '.join(Sample)}.",
    ),
]
Repository = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        rich_help_panel=_NETWORK,
        help="Publish a Triton model directory (config.pbtxt, 1/) unedited.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=_NETWORK,
        help="For a factory: its state_dict, as torch.save wrote it, or .safetensors.",
    ),
]
Held = Annotated[
    Kind | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        rich_help_panel=_NETWORK,
        help=f"What the file holds, where its name does not tell: {', '.join(Kind)}.",
    ),
]
TrustPickle = Annotated[
    bool,
    typer.Option(
        "--trust-pickle",
        rich_help_panel=_NETWORK,
        help="Open a scikit-learn pickle: it may run anything, here.",
    ),
]
ExampleShape = Annotated[
    str | None,
    typer.Option(
        metavar="SHAPE",
        rich_help_panel=_NETWORK,
        help="Shape of one input, batch axis first, such as 1,1,32,32.",
    ),
]
Examples = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=_NETWORK,
        help="Real rows of inputs for the golden cases: .npy, or x of an .npz.",
    ),
]
Labelled = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=_ARTIFACT,
        help="An .npz of rows x and their classes y: tells the accuracy.",
    ),
]
Optimise = Annotated[
    list[Change] | None,
    typer.Option(
        metavar="HOW",
        rich_help_panel=_ARTIFACT,
        help="Make it smaller or faster, if that costs no more than 1 % of the answers: "
        f"{', '.join(Change)}; may be said again.",
    ),
]
TrainingEnergy = Annotated[
    str | None,
    typer.Option(
        metavar="ENERGY",
        rich_help_panel=_ARTIFACT,
        help="What training took: 1.2kWh, or CodeCarbon's emissions.csv.",
    ),
]
NoMeasure = Annotated[
    bool,
    typer.Option(
        "--no-measure",
        rich_help_panel=_ARTIFACT,
        help="Do not note how fast it loads and answers here: then equal input is one digest.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", rich_help_panel=_ARTIFACT, help="Of the model; default from what is published."
    ),
]
Sign = Annotated[
    Path | None,
    typer.Option(
        metavar="KEY", rich_help_panel=_ARTIFACT, help="Sign with this private key (PEM, elliptic curve)."
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        rich_help_panel=_PLACE,
        help="FILE.tar, a folder, oci://host/repository, s3://bucket/folder.  [default: build/NAME.tar]",
    ),
]
Uri = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        rich_help_panel=_PLACE,
        help="Where hosts will find a file or folder.  [default: file:///its name]",
    ),
]
Manifest = Annotated[
    Path | None,
    typer.Option(metavar="FILE", rich_help_panel=_PLACE, help="Write the ModelService manifest here too."),
]
Out = Annotated[
    Output, typer.Option("--output", "-o", metavar="FORMAT", rich_help_panel=_PLACE, help="text or json.")
]


@dataclass(frozen=True)
class Options:
    """What was said."""

    network: str | None
    sample: Sample | None
    repository: Path | None
    weights: Path | None
    kind: Kind | None
    trust_pickle: bool
    example_shape: str | None
    examples: Path | None
    labelled: Path | None
    optimise: list[Change] | None
    training_energy: str | None
    no_measure: bool
    name: str | None
    sign: Path | None
    to: str | None
    uri: str | None
    manifest: Path | None
    output: Output


def shape_of(text: str) -> list[int]:
    """Return a shape as it is said, its batch axis first.

    Raises:
        ValueError: it is none.
    """
    try:
        shape = [int(part) for part in text.split(",")]
    except ValueError:
        shape = []
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"{text!r} is no shape with a batch axis; write for example 1,1,32,32")
    return shape
