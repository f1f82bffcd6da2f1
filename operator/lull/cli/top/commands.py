"""The command `lull top`."""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from lull.cli.cluster import UnreadableError, connect
from lull.cli.top import once as printed
from lull.cli.top import tables
from lull.cli.top.figures import Fleet
from lull.cli.top.source import Source

PIPED_CELLS = 160
"""Width of the tables where no terminal says one: every column, and names in full as a rule."""


class Output(StrEnum):
    """What `-o` may name."""

    JSON = "json"


def _column(name: str) -> str:
    columns = [column.key for column in tables.SERVICE_COLUMNS]
    if name not in columns:
        raise typer.BadParameter(f"there is no column {name}; take one of: {', '.join(columns)}")
    return name


Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Services of this namespace alone; of all without it.")
]
Sort = Annotated[str, typer.Option(callback=_column, help="Column to sort services by, such as watts.")]


def top(
    namespace: Namespace = None,
    sort: Sort = "namespace",
    once: Annotated[
        bool,
        typer.Option("--once", help="Print the tables once and end; so it does where there is no terminal."),
    ] = False,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Print the figures once, as JSON for scripts.")
    ] = None,
    interval: Annotated[
        float, typer.Option(min=0.5, max=60, help="Seconds between two samples of the live view.")
    ] = 2.0,
) -> None:
    """Show what every service and host uses, draws and saves, live; with --once or -o json just now.

    It reads the cluster of KUBECONFIG: list and watch on modelservices, and on modelhosts in lull-hosts and
    modelpools where you may (without, it shows services alone and says so). A ~ marks what is modelled and
    not measured, as savings and carbon always are.

    JSON keys carry their units (power_watts, saved_joules, busy_ratio, memory_bytes); null is unknown.
    Exit codes: 0 fine, 1 the cluster cannot be read (the message says what to do), 2 wrong usage.
    """
    try:
        if output or once or not sys.stdout.isatty():
            _print(asyncio.run(_read(namespace)), sort, output)
        else:
            asyncio.run(_live(namespace, sort, interval))
    except UnreadableError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error


def _print(fleet: Fleet, sort: str, output: Output | None) -> None:
    if output:
        json.dump(asdict(fleet), sys.stdout, indent=2)
        print()
        return
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=PIPED_CELLS)
    printed.show(console, fleet, sort)


async def _read(namespace: str | None) -> Fleet:
    async with await connect() as kube:
        return (await Source.open(kube, namespace)).fleet()


async def _live(namespace: str | None, sort: str, interval_seconds: float) -> None:
    try:
        from lull.cli.top.app import Top
    except ImportError as error:
        raise UnreadableError(
            "the live view needs an extra: pip install 'lull[view]', or use --once"
        ) from error
    async with await connect() as kube:
        await Top(await Source.open(kube, namespace), sort, interval_seconds).run_async()
