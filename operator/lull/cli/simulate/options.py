"""The options of `lull simulate`: their types and what --help says of them."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lull.cli.simulate.runs import OBJECTIVE, SIMULATORS
from lull.policy.power import PRODUCTS
from lull.simulate.policies import FIXED

LARGEST_NUMBER = 1_000_000
"""Of GiB, seconds and watts: beyond every machine, and far below what overflows."""


class Output(StrEnum):
    """What `-o` may name."""

    JSON = "json"


class Nodes(StrEnum):
    """What `--nodes` may name."""

    ELASTIC = "elastic"
    FIXED = "fixed"


def _option(text: str, *names: str, metavar: str | None = None) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(*names, help=text, show_default=False, metavar=metavar)
    return found


def _number(text: str, least: float, *, shown: bool = False) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(
        help=text, min=least, max=LARGEST_NUMBER, show_default=shown
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
MemoryGib = Annotated[
    float, _number("Memory of each model that neither the trace nor --models gives one.", 0.001, shown=True)
]
Tenants = Annotated[int | None, _number("Deal the models to so many tenants, who share no GPU.", 1)]
Gpu = Annotated[str, typer.Option(help=f"Whose watts count: {', '.join(PRODUCTS)}.")]
GpuMemoryGib = Annotated[
    float | None, _number("Memory of one GPU; 80 without it, which is for the H100 alone.", 0.001)
]
LoadSeconds = Annotated[float, _number("How long a model loads.", 0, shown=True)]
HostStartSeconds = Annotated[float, _number("From the wish for a host until it can load.", 0, shown=True)]
GpusPerNode = Annotated[int, _number("GPUs of one node.", 1, shown=True)]
NodesKept = Annotated[
    Nodes,
    typer.Option(help="elastic: off while no GPU of it is kept; fixed: as many as are ever needed, always."),
]
ContextWatts = Annotated[
    float | None,
    _number(
        "What a process adds that holds a GPU and computes nothing; without it as published of the GPU. "
        "0 to 2 with low idle clocks.",
        0,
    ),
]
NodeWatts = Annotated[float, _number("A whole node's own idle draw.", 0, shown=True)]
Policies = Annotated[list[str] | None, _option(f"{', '.join(SIMULATORS)}. All without it.", metavar="NAMES")]
FixedHosts = Annotated[
    list[str] | None,
    _option(f"Hosts of {' and '.join(FIXED)}, of each tenant, 1 to 1000. 1 without it.", metavar="NUMBERS"),
]
DelayedPercent = Annotated[
    list[str] | None,
    _option(
        "Share of requests that Lull may let wait, 0 to 100; several draw its frontier. 5 without it.",
        metavar="NUMBERS",
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="Which synthetic trace: equal seeds, equal traces. 0 without it.", min=0)
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the figures here too, as JSON.", dir_okay=False)
]
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
    found = _split(said) or list(SIMULATORS)
    for name in found:
        if name not in SIMULATORS:
            raise typer.BadParameter(f"--policy has no {name!r}; it takes {', '.join(SIMULATORS)}")
    return found


def assert_apply(
    policies: Sequence[str], delayed_percents: Sequence[int], fixed_hosts: Sequence[int]
) -> None:
    """Refuse objectives and numbers of hosts that no simulated policy takes.

    Raises:
        typer.BadParameter: there are some.
    """
    for given, option, takers in (
        (delayed_percents, "--delayed-percent", OBJECTIVE),
        (fixed_hosts, "--fixed-hosts", FIXED),
    ):
        if given and not set(policies) & set(takers):
            raise typer.BadParameter(f"{option} is for {' and '.join(takers)} alone: --policy names neither")


def assert_once(files: Sequence[Path]) -> None:
    """Refuse a file that is given twice.

    Raises:
        typer.BadParameter: there is one.
    """
    if len({file.resolve() for file in files}) < len(files):
        raise typer.BadParameter("--trace has the same file twice: each of its requests would count twice")


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
