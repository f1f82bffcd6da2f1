"""The options of `lull simulate`: their types and what --help says of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import wraps
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

from lull.cli.simulate.inputs import DEFAULT_GPU
from lull.cli.simulate.runs import OBJECTIVE, SIMULATORS
from lull.policy.power import PRODUCTS
from lull.simulate.policies import FIXED
from lull.simulate.setting import Setting

SHIPPED = Setting()

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


@dataclass(frozen=True)
class TraceOptions:
    """Which requests, of which models."""

    trace: Annotated[
        list[Path] | None,
        _input(
            "CSV with timestamp, model, duration, and memory_gib if known; repeatable: one fleet serves all."
        ),
    ] = None
    synthetic: Annotated[
        bool, _option("A made-up trace: 23 days of 87 image models, 27,000 requests.", "--synthetic")
    ] = False
    models: Annotated[Path | None, _input("YAML with the memory of models, a line each: 'resnet: 2Gi'.")] = (
        None
    )
    memory_gib: Annotated[
        float,
        _number("Memory of each model that neither the trace nor --models gives one.", 0.001, shown=True),
    ] = 8.0
    tenants: Annotated[int | None, _number("Deal the models to so many tenants, who share no GPU.", 1)] = None
    seed: Annotated[
        int | None,
        typer.Option(help="Which synthetic trace: equal seeds, equal traces. 0 without it.", min=0),
    ] = None


@dataclass(frozen=True)
class MachineOptions:
    """What every policy runs on."""

    gpu: Annotated[str, typer.Option(help=f"Whose watts count: {', '.join(PRODUCTS)}.")] = DEFAULT_GPU
    gpu_memory_gib: Annotated[
        float | None, _number("Memory of one GPU; 80 without it, which is for the H100 alone.", 0.001)
    ] = None
    load_seconds: Annotated[float, _number("How long a model loads.", 0, shown=True)] = SHIPPED.load_seconds
    host_start_seconds: Annotated[
        float, _number("From the wish for a host until it can load.", 0, shown=True)
    ] = SHIPPED.host_start_seconds
    gpus_per_node: Annotated[int, _number("GPUs of one node.", 1, shown=True)] = SHIPPED.gpus_per_node
    nodes: Annotated[
        Nodes,
        typer.Option(
            help="elastic: off while no GPU of it is kept; fixed: as many as are ever needed, always."
        ),
    ] = Nodes.ELASTIC
    context_watts: Annotated[
        float | None,
        _number(
            "What a process adds that holds a GPU and computes nothing; without it as published of the GPU. "
            "0 to 2 with low idle clocks.",
            0,
        ),
    ] = None
    node_watts: Annotated[float, _number("A whole node's own idle draw.", 0, shown=True)] = 0.0


@dataclass(frozen=True)
class PolicyOptions:
    """Who is compared, and with what they are run."""

    policy: Annotated[
        list[str] | None, _option(f"{', '.join(SIMULATORS)}. All without it.", metavar="NAMES")
    ] = None
    fixed_hosts: Annotated[
        list[str] | None,
        _option(
            f"Hosts of {' and '.join(FIXED)}, of each tenant, 1 to 1000. 1 without it.", metavar="NUMBERS"
        ),
    ] = None
    delayed_percent: Annotated[
        list[str] | None,
        _option(
            "Share of requests that Lull may let wait, 0 to 100; several draw its frontier. 5 without it.",
            metavar="NUMBERS",
        ),
    ] = None


@dataclass(frozen=True)
class OutputOptions:
    """Where the figures go."""

    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here too, as JSON.", dir_okay=False)
    ] = None
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write a page with plots here.", dir_okay=False)
    ] = None
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Print the figures as JSON, and no table.")
    ] = None


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes each field of its parameters, which are dataclasses, as an option."""
    groups = get_type_hints(command)
    del groups["return"]
    hints = {kind: get_type_hints(kind, include_extras=True) for kind in groups.values()}

    @wraps(command)
    def flat(**given: object) -> None:
        command(
            **{
                name: kind(**{field.name: given[field.name] for field in fields(kind)})
                for name, kind in groups.items()
            }
        )

    options = [
        Parameter(
            field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[kind][field.name]
        )
        for kind in groups.values()
        for field in fields(kind)
    ]
    flat.__signature__ = Signature(options)  # type: ignore[attr-defined]
    flat.__annotations__ = {option.name: option.annotation for option in options}
    return flat


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
