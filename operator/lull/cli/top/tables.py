"""The tables of services and hosts: their columns, and which of them fit a width."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from rich.style import Style
from rich.table import Table
from rich.text import Text

from lull.cli import words
from lull.cli.top.figures import HostRow, ServiceRow, Totals


class Stated(Protocol):
    """What a row is of: it has a state, which is coloured."""

    @property
    def state(self) -> str:
        """One word, such as Serving."""


Row = TypeVar("Row", bound=Stated)
Sortable = str | float | int

GAP = 2
"""Cells between two columns."""
LEAST_NAME = 12
"""Names are shortened down to this before a column is left out."""
STATES = {
    "Serving": "green",
    "Waking": "yellow",
    "Draining": "cyan",
    "Asleep": "dim",
    "Suspended": "dim",
    "Idle": "yellow",
    "Starting": "yellow",
    "Unready": "red",
    "Candidate": "yellow",
    "Superseded": "dim",
    "Rejected": "red",
    "Aborted": "cyan",
}


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column.

    Attributes:
        key: its header, and its name for `--sort`.
        shown: what a cell says; the second argument is the time of the figures, RFC 3339.
        order: what rows are sorted by.
        keep: how long it stays as the terminal narrows; the lowest goes first.
        figure: set to the right and sorted from the greatest; words may be shortened, and start with A.
    """

    key: str
    shown: Callable[[Row, str], str]
    order: Callable[[Row], Sortable]
    keep: int
    figure: bool = True


def _state(row: ServiceRow) -> str:
    return f"{row.state} !{row.stalled}" if row.stalled else row.state


def _replicas(row: ServiceRow) -> str:
    return f"{row.ready_replicas}/{row.desired_replicas}"


def _requests(row: ServiceRow) -> int:
    return row.requests_per_minute or 0


def _p99(row: ServiceRow) -> float:
    return row.latency_p99_seconds or 0


def _power(row: ServiceRow) -> float:
    return row.energy.power_watts or 0


def _saved(row: ServiceRow) -> float:
    return row.energy.saved_joules or 0


def _next(row: ServiceRow) -> str:
    """What time decides comes first, soonest first; then by name of the step."""
    return (row.next.time or f"~{row.next.action}") if row.next else "~~"


def _memory(row: HostRow) -> str:
    return f"{words.memory(row.used_bytes)}/{words.memory(row.memory_bytes)}"


SERVICE_COLUMNS: tuple[Column[ServiceRow], ...] = (
    Column("namespace", lambda r, _: r.namespace, lambda r: r.key, keep=8, figure=False),
    Column("name", lambda r, _: r.name, lambda r: r.name, keep=99, figure=False),
    Column("state", lambda r, _: _state(r), lambda r: r.state, keep=98, figure=False),
    Column("replicas", lambda r, _: _replicas(r), lambda r: r.ready_replicas, keep=2),
    Column("req/min", lambda r, _: words.count(r.requests_per_minute), _requests, keep=96),
    Column("busy", lambda r, _: words.percent(r.busy_ratio), lambda r: r.busy_ratio or 0, keep=7),
    Column("p99", lambda r, _: words.seconds(r.latency_p99_seconds), _p99, keep=5),
    Column("memory", lambda r, _: words.memory(r.memory_bytes), lambda r: r.memory_bytes or 0, keep=4),
    Column("watts", lambda r, _: words.watts(r.energy.power_watts, r.energy.basis), _power, keep=97),
    Column("saved", lambda r, _: words.saved(r.energy.saved_joules), _saved, keep=95),
    Column("next", lambda r, now: words.next_step(r.next, now), _next, keep=3, figure=False),
)

HOST_COLUMNS: tuple[Column[HostRow], ...] = (
    Column("host", lambda r, _: r.name, lambda r: r.name, keep=99, figure=False),
    Column("pool", lambda r, _: r.pool, lambda r: r.pool, keep=3, figure=False),
    Column("state", lambda r, _: r.state, lambda r: r.state, keep=4, figure=False),
    Column("busy", lambda r, _: words.percent(r.busy_ratio), lambda r: r.busy_ratio or 0, keep=97),
    Column("watts", lambda r, _: words.watts(r.power_watts, r.basis), lambda r: r.power_watts or 0, keep=98),
    Column("used", lambda r, _: _memory(r), lambda r: r.used_bytes, keep=2),
)


def cells(columns: Sequence[Column[Row]], rows: Sequence[Row], now: str) -> list[list[str]]:
    """Return what every cell says, row by row."""
    return [[column.shown(row, now) for column in columns] for row in rows]


def fit(columns: Sequence[Column[Row]], said: Sequence[Sequence[str]], width: int) -> dict[int, int]:
    """Return the widths, by index, of the columns that fit: names are shortened, then columns left out."""
    natural = [_widest(column.key, [line[at] for line in said]) for at, column in enumerate(columns)]
    least = [
        size if column.figure else min(size, LEAST_NAME)
        for size, column in zip(natural, columns, strict=True)
    ]
    kept = sorted(range(len(columns)), key=lambda index: columns[index].keep, reverse=True)
    while len(kept) > 1 and sum(least[index] + GAP for index in kept) - GAP > width:
        kept.pop()
    room = max(0, width - sum(least[index] + GAP for index in kept) + GAP)
    widths = {}
    for index in kept:  # the most wanted ones first get back what they were shortened by
        more = min(room, natural[index] - least[index])
        widths[index] = least[index] + more
        room -= more
    return dict(sorted(widths.items()))


def _widest(header: str, texts: Sequence[str]) -> int:
    return max(len(header), *map(len, texts), 0)


def table(
    columns: Sequence[Column[Row]],
    rows: Sequence[Row],
    now: str,
    width: int,
    drawing: tuple[str, Callable[[Row, int], Text]] | None = None,
) -> Table:
    """Return a table that is at most `width` cells wide and never wraps.

    Args:
        columns: which there are.
        rows: what they are of.
        now: the time of the figures, RFC 3339.
        width: in cells.
        drawing: header of a last column, and what draws a row in the width that is left (half at least).
    """
    said = cells(columns, rows, now)
    widths = fit(columns, said, width // 2 if drawing else width)
    drawn = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for index, size in widths.items():
        header = Text(columns[index].key.upper(), justify="right" if columns[index].figure else "left")
        drawn.add_column(header, width=size, no_wrap=True, header_style="bold")
    left = width - sum(size + GAP for size in widths.values())
    if drawing:
        drawn.add_column(drawing[0], width=left, no_wrap=True, header_style="bold")
    for row, line in zip(rows, said, strict=True):
        picture = [drawing[1](row, left)] if drawing else []
        drawn.add_row(*(painted(columns[index], row, line[index]) for index in widths), *picture)
    return drawn


def painted(column: Column[Row], row: Row, text: str) -> Text:
    """Colour a cell: states by what they mean, what is unknown or asleep dimmed."""
    style = Style()
    if column.key == "state":
        stalled = isinstance(row, ServiceRow) and row.stalled
        style = Style.parse("red" if stalled else STATES.get(row.state, "default"))
    elif text in (words.UNKNOWN, "0", "0 W", "0%") or column.key in ("namespace", "next"):
        style = Style(dim=True)
    return Text(text, style, justify="right" if column.figure else "left", no_wrap=True, overflow="ellipsis")


def in_order(columns: Sequence[Column[Row]], rows: Sequence[Row], key: str, *, turned: bool) -> list[Row]:
    """Return rows sorted by a column: the greatest figure or A first; `turned` the other way."""
    column = next(column for column in columns if column.key == key)
    return sorted(rows, key=column.order, reverse=column.figure != turned)


def totals(of: Totals, width: int) -> list[str]:
    """Return the sums in words, as few lines of at most `width` cells as they need."""
    energy = of.energy
    parts = [
        f"{of.awake_services} of {of.services} services awake",
        f"{of.requests_per_minute:,} req/min",
        words.watts(energy.power_watts, energy.basis),
        f"saved {words.saved(energy.saved_joules)}",
    ]
    if energy.carbon_grams is not None:
        parts.append(words.grams(energy.carbon_grams))
    if of.hosts is not None:
        parts.insert(0, f"{of.hosts} host{'' if of.hosts == 1 else 's'} kept")
    if of.memory_used_ratio is not None:
        memory, busy = words.percent(of.memory_used_ratio), words.percent(of.busy_used_ratio)
        parts.append(f"used of what is kept: memory {memory}, time {busy}")
    return packed(parts, width)


def packed(parts: Sequence[str], width: int) -> list[str]:
    """Return pieces joined to as few lines of at most `width` cells as they need."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]
