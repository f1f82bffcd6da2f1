"""A figure beside its reference, and the table and file of all of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        value: None where nothing could be measured: its bar is missed then.
        bar: the most that `value` (or `ratio`, where `of_ratio`) may be; None where it is only reported.
    """

    name: str
    value: float | None
    unit: str
    reference: str = ""
    reference_value: float | None = None
    bar: float | None = None
    of_ratio: bool = False

    @property
    def ratio(self) -> float | None:
        return self.value / self.reference_value if self.reference_value and self.value is not None else None

    @property
    def holds(self) -> bool | None:
        """Whether the bar is met; None where there is none."""
        if self.bar is None:
            return None
        measured = self.ratio if self.of_ratio else self.value
        return measured is not None and measured <= self.bar

    def entry(self) -> dict[str, Any]:
        """Return the figure as bench.json has it."""
        plain = asdict(self) | {"ratio": self.ratio, "holds": self.holds}
        of_ratio = plain.pop("of_ratio")
        plain["bar"] = (
            f"<= {self.bar:g}{' x reference' if of_ratio else ''}" if self.bar is not None else None
        )
        return {key: round(v, 4) if isinstance(v, float) else v for key, v in plain.items()}


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile, between the measured values where it falls there."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def write(figures: Sequence[Figure], path: Path) -> None:
    """Write bench.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([figure.entry() for figure in figures], indent=1) + "\n")


def show(figures: Sequence[Figure]) -> None:
    """Print the table."""
    table = Table("figure", "value", "reference", "", "ratio", "bar", "holds", box=None, pad_edge=False)
    for figure in figures:
        entry = figure.entry()
        verdict = {None: "", True: "yes", False: "[bold red]NO[/bold red]"}[figure.holds]
        table.add_row(
            figure.name,
            "none" if figure.value is None else f"{figure.value:,.3f} {figure.unit}",
            figure.reference,
            "" if figure.reference_value is None else f"{figure.reference_value:,.3f} {figure.unit}",
            "" if figure.ratio is None else f"{figure.ratio:.3f}",
            entry["bar"] or "",
            verdict,
        )
    Console(width=190).print(table)
