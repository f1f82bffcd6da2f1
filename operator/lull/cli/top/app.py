"""The live view: the same tables and bars, kept current, sorted and filtered by keys."""

from collections import deque
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Footer, Input, Static

from lull.cli import words
from lull.cli.top import once, packing, tables
from lull.cli.top.figures import ASLEEP, Fleet, ServiceRow
from lull.cli.top.source import Source

HISTORY = 120
"""Samples kept for sparklines: at 2 s, four minutes."""
TREND_CELLS = 12
NARROW = 100
"""Below this width trends take half as many cells: figures matter more."""

HELP = """\
[b]<[/b] [b]>[/b]  sort by the column to the left or right (or click a header)   [b]r[/b]  reverse
[b]/[/b]    show services whose namespace/name, pool or state contains what you type; [b]Esc[/b]: all
[b]s[/b]    hide or show sleeping services     [b]h[/b]  hide or show hosts     [b]q[/b]  quit
Figures are of the last minute; energy is since Lull counts. Saved is against the same services always on,
packed on the fewest hosts. What hosts draw for no model counts in the sums above and against savings."""


class Top(App[None]):
    """`lull top` on a terminal."""

    TITLE = "lull top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #totals { height: auto; padding: 0 1; text-style: bold; }
    #trend { height: 1; padding: 0 1; color: $accent; }
    #legend { height: auto; padding: 0 1; color: $text-muted; }
    #services { height: 1fr; }
    #hosts { height: auto; max-height: 40%; padding: 1 1 0 1; }
    #filter { display: none; border: none; height: 1; padding: 0 1; }
    #help { display: none; height: auto; padding: 1; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("less_than_sign,left", "move(-1)", "sort left", key_display="<", priority=False),
        Binding("greater_than_sign,right", "move(1)", "sort right", key_display=">", priority=False),
        Binding("r", "turn", "reverse"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("s", "sleeping", "sleeping"),
        Binding("h", "hosts", "hosts"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("escape", "clear", show=False),
    ]

    def __init__(self, source: Source, sort: str, interval_seconds: float) -> None:
        super().__init__()
        self._source = source
        self._interval_seconds = interval_seconds
        self._columns = [column.key for column in tables.SERVICE_COLUMNS]
        self._sort = sort
        self._turned = False
        self._with_sleeping = True
        self._wanted = ""
        self._fleet: Fleet = source.fleet()
        self._requests: dict[str, deque[float]] = {}
        self._totals: dict[str, deque[float]] = {name: deque(maxlen=HISTORY) for name in ("req/min", "watts")}

    def compose(self) -> ComposeResult:
        """Lay the screen out, from the top down."""
        yield Static(id="totals")
        yield Static(id="trend")
        yield Input(placeholder="show only services that contain …", id="filter")
        yield DataTable(id="services", cursor_type="row", zebra_stripes=True)
        yield VerticalScroll(Static(id="packing"), id="hosts")
        yield Static(id="legend")
        yield Static(HELP, id="help")
        yield Footer()

    def on_mount(self) -> None:
        """Show what is known, and follow the API server from here."""
        self.run_worker(self._source.follow(), name="follow")
        self.set_interval(self._interval_seconds, self._sample)
        self.query_one("#services", DataTable).focus()
        self._sample()

    def on_resize(self) -> None:
        """Fit the new width."""
        self._draw()

    def _sample(self) -> None:
        """Take one sample of the figures, and show it."""
        self._fleet = self._source.fleet()
        self._totals["req/min"].append(self._fleet.totals.requests_per_minute)
        self._totals["watts"].append(self._fleet.totals.energy.power_watts or 0.0)
        before = self._requests
        self._requests = {
            row.key: before.get(row.key, deque(maxlen=TREND_CELLS)) for row in self._fleet.services
        }
        for row in self._fleet.services:
            self._requests[row.key].append(row.requests_per_minute or 0)
        self._draw()

    def _draw(self) -> None:
        width = self.size.width - 2
        if width < 1:
            return
        self.query_one("#totals", Static).update("\n".join(tables.totals(self._fleet.totals, width)))
        self.query_one("#trend", Static).update(self._trend(width))
        self.query_one("#legend", Static).update(Text("\n".join(once.legend(self._fleet))))
        self._draw_services(width)
        self._draw_hosts(width)

    def _trend(self, width: int) -> Text:
        cells = max(8, (width - 48) // 2)
        parts = (
            f"{name} {words.sparkline(list(past), cells)} max {max(past, default=0):,.0f}"
            for name, past in self._totals.items()
        )
        return Text("   ".join(parts), no_wrap=True)

    def _draw_services(self, width: int) -> None:
        shown = self.query_one("#services", DataTable)
        rows = tables.in_order(tables.SERVICE_COLUMNS, self._shown(), self._sort, turned=self._turned)
        said = tables.cells(tables.SERVICE_COLUMNS, rows, self._fleet.at)
        gap = 2 * shown.cell_padding - tables.GAP
        trend_cells = TREND_CELLS if width >= NARROW else TREND_CELLS // 2
        room = width - trend_cells - tables.GAP - gap * len(self._columns)
        widths = tables.fit(tables.SERVICE_COLUMNS, said, room)
        at, scroll = shown.cursor_row, shown.scroll_y
        shown.clear(columns=True)
        for index, size in widths.items():
            shown.add_column(self._header(index), width=size, key=self._columns[index])
        shown.add_column("TREND", width=trend_cells, key="trend")
        for row, line in zip(rows, said, strict=True):
            cells = [tables.painted(tables.SERVICE_COLUMNS[index], row, line[index]) for index in widths]
            trend = Text(words.sparkline(list(self._requests.get(row.key, ())), trend_cells), "cyan")
            shown.add_row(*cells, trend, key=row.key)
        shown.move_cursor(row=min(at, max(0, len(rows) - 1)), scroll=False)
        shown.scroll_to(y=scroll, animate=False)

    def _header(self, index: int) -> Text:
        column = tables.SERVICE_COLUMNS[index]
        chosen = column.key == self._sort
        style = "reverse" if chosen else "bold"
        return Text(column.key.upper(), style, justify="right" if column.figure else "left")

    def _draw_hosts(self, width: int) -> None:
        hosts = self._fleet.hosts
        if hosts is None:
            self.query_one("#hosts").display = False
            return
        columns = tables.HOST_COLUMNS
        drawn = tables.table(columns, hosts, self._fleet.at, width, ("MEMORY", packing.bar))
        none = "No host is kept: nothing is powered for these services."
        self.query_one("#packing", Static).update(drawn if hosts else none)

    def _shown(self) -> list[ServiceRow]:
        return [
            row
            for row in self._fleet.services
            if (self._with_sleeping or row.state not in ASLEEP)
            and self._wanted in f"{row.key} {row.pool} {row.state}".lower()
        ]

    def action_move(self, step: int) -> None:
        """Sort by the next column to the left or right."""
        self._sort = self._columns[(self._columns.index(self._sort) + step) % len(self._columns)]
        self._turned = False
        self._draw()

    def action_turn(self) -> None:
        """Turn the order round."""
        self._turned = not self._turned
        self._draw()

    def action_sleeping(self) -> None:
        """Hide or show sleeping services."""
        self._with_sleeping = not self._with_sleeping
        self._draw()

    def action_hosts(self) -> None:
        """Hide or show hosts."""
        hosts = self.query_one("#hosts")
        hosts.display = not hosts.display

    def action_help(self) -> None:
        """Hide or show the help."""
        shown = self.query_one("#help")
        shown.display = not shown.display

    def action_filter(self) -> None:
        """Type what services must contain."""
        box = self.query_one("#filter", Input)
        box.display = True
        box.focus()

    def action_clear(self) -> None:
        """Show all services again."""
        box = self.query_one("#filter", Input)
        box.value = ""
        box.display = False
        self.query_one("#help").display = False
        self.query_one("#services").focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._wanted = event.value.strip().lower()
        self._draw()

    @on(Input.Submitted)
    def _entered(self) -> None:
        self.query_one("#services").focus()

    @on(DataTable.HeaderSelected)
    def _clicked(self, event: DataTable.HeaderSelected) -> None:
        key = str(event.column_key.value)
        if key in self._columns:
            self._turned = key == self._sort and not self._turned
            self._sort = key
            self._draw()
