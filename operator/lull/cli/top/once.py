"""The tables of one moment, printed: they fit the width, and never wrap."""

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from lull.cli import words
from lull.cli.top import packing, tables
from lull.cli.top.figures import MODELLED, Fleet, HostRow, ServiceRow


def show(console: Console, fleet: Fleet, sort: str) -> None:
    """Print totals, services and hosts in the console's width."""
    for line in rendered(fleet, sort, console.width):
        console.print(line)


def rendered(fleet: Fleet, sort: str, width: int) -> list[RenderableType]:
    """Return what is printed, from the top down."""
    services = tables.in_order(tables.SERVICE_COLUMNS, fleet.services, sort, turned=False)
    lines: list[RenderableType] = [Text(line, "bold") for line in tables.totals(fleet.totals, width)]
    lines += ["", _services(services, fleet, width)]
    if fleet.hosts is not None:
        lines += ["", _hosts(fleet.hosts, fleet.at, width)]
    return [*lines, "", *(Text(note, "dim") for note in legend(fleet))]


def legend(fleet: Fleet) -> list[str]:
    """Return what has to be known to read the tables rightly."""
    said = list(fleet.notes)
    if fleet.hosts:
        said.insert(0, packing.KEY)
    if _marked(fleet):
        said.insert(0, words.LEGEND)
    return said


def _marked(fleet: Fleet) -> bool:
    """Return whether a `~` is shown: all savings and carbon have one, and draws that no sensor told."""
    energies = [fleet.totals.energy, *(row.energy for row in fleet.services)]
    bases = {energy.basis for energy in energies} | {row.basis for row in fleet.hosts or ()}
    modelled = any(energy.saved_joules is not None or energy.carbon_grams is not None for energy in energies)
    return modelled or bool(bases & MODELLED)


def _services(rows: Sequence[ServiceRow], fleet: Fleet, width: int) -> RenderableType:
    if not rows:
        where = f"in namespace {fleet.namespace}" if fleet.namespace else "in this cluster"
        return Text(f"No ModelService {where} yet.")
    return tables.table(tables.SERVICE_COLUMNS, rows, fleet.at, width)


def _hosts(rows: Sequence[HostRow], now: str, width: int) -> RenderableType:
    if not rows:
        return Text("No host is kept: nothing is powered for these services.")
    return tables.table(tables.HOST_COLUMNS, rows, now, width, ("MEMORY", packing.bar))
