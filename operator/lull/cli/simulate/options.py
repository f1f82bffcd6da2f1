"""The options of `lull simulate`: their types and what --help says of them."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lull.cli.simulate.inputs import GPUS
from lull.cli.simulate.runs import POLICIES


class Output(StrEnum):
    """What `-o` may name."""

    JSON = "json"


class Nodes(StrEnum):
    """What `--nodes` may name."""

    ELASTIC = "elastic"
    FIXED = "fixed"


def _option(
    text: str, *names: str, least: float | None = None, shown: bool = False, metavar: str | None = None
) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(
        *names, help=text, min=least, show_default=shown, metavar=metavar
    )
    return found


def _input(text: str) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(help=text, exists=True, dir_okay=False, show_default=False)
    return found


TraceFiles = Annotated[
    list[Path] | None,
    _input("CSV with timestamp, model, duration, and memory_gib if known; repeatable: one fleet serves all."),
]
Synthetic = Annotated[
    bool, _option("A made-up trace: 23 days of 87 image models, 27,000 requests.", "--synthetic")
]
ModelsFile = Annotated[Path | None, _input("YAML with the memory of models, a line each: 'resnet: 2Gi'.")]
MemoryGib = Annotated[float, _option("Memory of every other model.", least=0.001, shown=True)]
Tenants = Annotated[int | None, _option("Deal the models to so many tenants, who share no GPU.", least=1)]
Gpu = Annotated[str, _option(f"{', '.join(GPUS)}.", shown=True)]
GpuMemoryGib = Annotated[float | None, _option("Memory of one GPU; 80 for an H100.", least=0.001)]
LoadSeconds = Annotated[float, _option("How long a model loads.", least=0, shown=True)]
HostStartSeconds = Annotated[
    float, _option("From the wish for a host until it can load.", least=0, shown=True)
]
GpusPerNode = Annotated[int, _option("GPUs of one node.", least=1, shown=True)]
NodesKept = Annotated[
    Nodes, _option("elastic: off while no GPU of it is kept; fixed: as many as are ever needed.", shown=True)
]
ContextWatts = Annotated[
    float | None,
    _option(
        "What a process adds that holds a GPU and computes nothing; 0 to 2 for low idle clocks.", least=0
    ),
]
NodeWatts = Annotated[float, _option("A whole node's own idle draw.", least=0, shown=True)]
Policies = Annotated[list[str] | None, _option(f"{', '.join(POLICIES)}. All without it.", metavar="NAMES")]
FixedHosts = Annotated[
    list[str] | None,
    _option("Hosts of modelmesh and seldon, of each tenant. 1 without it.", metavar="NUMBERS"),
]
DelayedPercent = Annotated[
    list[str] | None,
    _option(
        "Share of requests that Lull may let wait; several draw its frontier. 5 without it.",
        metavar="NUMBERS",
    ),
]
Seed = Annotated[int, _option("Of the synthetic trace.", least=0, shown=True)]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures here too.", dir_okay=False)]
HtmlFile = Annotated[
    Path | None, typer.Option("--html", help="Write a page with plots here.", dir_okay=False)
]
AsJson = Annotated[
    Output | None, typer.Option("--output", "-o", help="Print the figures as JSON, and no table.")
]


def policies(said: Sequence[str] | None) -> list[str]:
    """Return the policies that are named, each once; all of them where none is.

    Raises:
        typer.BadParameter: there is no such policy.
    """
    found = _split(said) or list(POLICIES)
    for name in found:
        if name not in POLICIES:
            raise typer.BadParameter(f"--policy has no {name!r}; it takes {', '.join(POLICIES)}")
    return found


def numbers(said: Sequence[str] | None, option: str, least: int, most: int) -> list[int]:
    """Return whole numbers that are given apart or with commas, each once.

    Raises:
        typer.BadParameter: one is none, or out of bounds.
    """
    found = []
    for text in _split(said):
        if not text.isdecimal() or not least <= int(text) <= most:
            raise typer.BadParameter(f"{option} takes whole numbers from {least} to {most}, not {text!r}")
        found.append(int(text))
    return found


def _split(said: Sequence[str] | None) -> list[str]:
    parts = (part.strip() for text in said or () for part in text.split(","))
    return list(dict.fromkeys(part for part in parts if part))
