"""Draw panels the way Grafana does, as near as a mock-up needs to be."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, MultipleLocator

from mockup.queries import STEPS, Period, Series, asked, with_gaps

PAGE, PANEL, GRID, TEXT, FAINT = "#111217", "#181b1f", "#2a2d33", "#ccccdc", "#8e8e99"
PALETTE = [
    "#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d",
    "#fade2a", "#447ebc", "#c15c17", "#890f02", "#96d98d", "#ffb357", "#a352cc",
]  # fmt: skip
NAMED = {
    "green": "#73bf69", "yellow": "#fade2a", "semi-dark-blue": "#3274d9", "light-blue": "#8ab8ff",
    "orange": "#ff9830", "red": "#f2495c", "text": TEXT,
}  # fmt: skip
INCHES_PER_COLUMN, INCHES_PER_ROW = 0.75, 0.38
GAP_INCHES = 0.05
SI = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ"))


def draw(board: dict[str, Any], prometheus: str, period: Period) -> Figure:
    """Return a figure of the whole dashboard."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = Figure(figsize=(24 * INCHES_PER_COLUMN, (rows + 1.5) * INCHES_PER_ROW), facecolor=PAGE, dpi=100)
    page = _Page(figure, rows + 1.5)
    page.text(0.2, 0.75, f"{board['title']}   (mock-up)", size=15, color=TEXT, weight="bold")
    chosen = ", ".join(f"{name}: {value}" for name, value in period.variables.items())
    page.text(12, 0.75, chosen, size=11, color=FAINT)
    for panel in board["panels"]:
        at = panel["gridPos"]
        if panel["type"] == "row":
            page.text(
                at["x"] + 0.1, at["y"] + 2.0, f"⌄ {panel['title']}", size=11.5, color=TEXT, weight="bold"
            )
            continue
        body = page.panel(at["x"], at["y"] + 1.5, at["w"], at["h"], panel["title"])
        points = panel.get("maxDataPoints", STEPS)
        series = [it for target in panel["targets"] for it in asked(prometheus, target, period, points)]
        _KINDS[panel["type"]](body, panel, series, period)
    return figure


class _Page:
    """The dashboard's grid on the figure: columns and rows from the top left."""

    def __init__(self, figure: Figure, rows: float) -> None:
        self.figure = figure
        self.width, self.height = 24 * INCHES_PER_COLUMN, rows * INCHES_PER_ROW

    def text(self, column: float, row: float, words: str, **style: Any) -> None:
        x, y = column * INCHES_PER_COLUMN / self.width, 1 - row * INCHES_PER_ROW / self.height
        self.figure.text(x, y, words, va="center", **style)

    def panel(self, x: float, y: float, w: float, h: float, title: str) -> Axes:
        left, top = x * INCHES_PER_COLUMN + GAP_INCHES, y * INCHES_PER_ROW + GAP_INCHES
        wide, high = w * INCHES_PER_COLUMN - 2 * GAP_INCHES, h * INCHES_PER_ROW - 2 * GAP_INCHES
        frame = self._axes(left, top, wide, high)
        frame.patch.set(facecolor=PANEL, alpha=1)
        frame.set(xticks=[], yticks=[])
        for spine in frame.spines.values():
            spine.set(color=GRID, visible=True)
        frame.text(
            0.1 / wide, 1 - 0.17 / high, title, color=TEXT, size=9.5, weight="bold", va="center",
            transform=frame.transAxes,
        )  # fmt: skip
        return self._axes(left + 0.55, top + 0.36, wide - 0.75, high - 0.95)

    def _axes(self, left: float, top: float, wide: float, high: float) -> Axes:
        axes = self.figure.add_axes(
            (left / self.width, 1 - (top + high) / self.height, wide / self.width, high / self.height)
        )
        axes.patch.set_alpha(0)
        axes.tick_params(colors=FAINT, labelsize=7.5, length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes


def _timeseries(axes: Axes, panel: dict[str, Any], series: Sequence[Series], period: Period) -> None:
    if not series:
        _empty(axes, panel)
        return
    defaults = panel["fieldConfig"]["defaults"]
    is_stacked = defaults["custom"].get("stacking", {}).get("mode") == "normal"
    right = None
    base = np.zeros(STEPS + 1)
    for number, each in enumerate(with_gaps(it, period) for it in series):
        own = _overrides(panel, each.target)
        colour = _fixed_colours(panel).get(each.name, PALETTE[number % len(PALETTE)])
        on = axes
        if own.get("custom.axisPlacement") == "right":
            on = right = right or _right_axis(axes, own["unit"])
        times = [datetime.fromtimestamp(time) for time in each.times]
        if "custom.lineStyle" in own or not is_stacked:
            style = {"ls": (0, (5, 3)), "lw": 1.6} if "custom.lineStyle" in own else {"lw": 1.2}
            on.plot(times, each.values, color=colour, label=each.name, **style)
            if not own:
                axes.fill_between(times, each.values, color=colour, alpha=0.08, lw=0)
            continue
        floor, top = base, base + np.array(each.values)
        base = np.where(np.isnan(top), base, top)
        step = "mid" if defaults["custom"].get("drawStyle") == "bars" else None
        axes.fill_between(times, floor, top, color=colour, alpha=0.7, lw=0, label=each.name, step=step)
    _time_axis(axes, period)
    axes.set_axisbelow(True)
    axes.grid(True, color=GRID, lw=0.6)
    if "min" in defaults:
        axes.set_ylim(bottom=0)
        low, high = axes.get_ylim()
        axes.set_ylim(low, max(high, defaults["custom"].get("axisSoftMax", 0)) * 1.03)
    axes.yaxis.set_major_locator(_ticks(axes, defaults["unit"]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: told(value, defaults["unit"])))
    handles, names = axes.get_legend_handles_labels()
    if right:
        right.set_ylim(0, max(1, right.get_ylim()[1]))
        handles, names = [
            a + b for a, b in zip((handles, names), right.get_legend_handles_labels(), strict=True)
        ]
    _legend(axes, handles, names)


def _ticks(axes: Axes, unit: str) -> Locator:
    if unit == "bytes":
        return MultipleLocator(2 ** round(math.log2(max(axes.get_ylim()[1], 4) / 4)))
    return MaxNLocator(5, integer=unit == "short")


def _right_axis(axes: Axes, unit: str) -> Axes:
    right = axes.twinx()
    right.patch.set_alpha(0)
    right.tick_params(colors=FAINT, labelsize=7.5, length=0)
    for spine in right.spines.values():
        spine.set_visible(False)
    right.yaxis.set_major_locator(MaxNLocator(5, integer=unit == "short"))
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: told(value, unit)))
    return right


def _stat(axes: Axes, panel: dict[str, Any], series: Sequence[Series], _: Period) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
    latest = [value for each in series for value in each.values[-1:] if not math.isnan(value)]
    words, colour = defaults.get("noValue", "No data"), FAINT
    if latest:
        words, colour = told(latest[0], defaults["unit"]), TEXT
        if panel["options"]["textMode"] == "value_and_name":
            words += f" {series[0].name}"
        if states := _states(panel):
            words, colour = states.get(latest[0], (words, TEXT))
    axes.text(
        0.47,
        0.3,
        words,
        color=colour,
        size=20 if latest and len(words) < 12 else 13,
        weight="bold",
        ha="center",
        va="center",
    )


def _state_timeline(axes: Axes, panel: dict[str, Any], series: Sequence[Series], period: Period) -> None:
    if not series:
        _empty(axes, panel)
        return
    states = _states(panel)
    seen = {}
    for row, each in enumerate(series):
        for time, value in zip(each.times, each.values, strict=True):
            word, colour = states.get(value, (str(value), FAINT))
            seen[word] = axes.barh(
                row, period.step_seconds / 86400, left=mdates.date2num(datetime.fromtimestamp(time)),
                height=0.8, color=colour, lw=0,
            )  # fmt: skip
    at = axes.get_position()
    axes.set_position((at.x0 + 0.08 * at.width, at.y0, 0.92 * at.width, at.height))
    axes.set_yticks(range(len(series)), [each.name[-20:] for each in series])
    axes.set_ylim(-0.7, len(series) - 0.3)
    _time_axis(axes, period)
    _legend(axes, [bars[0] for bars in seen.values()], list(seen))


def _table(axes: Axes, panel: dict[str, Any], series: Sequence[Series], _: Period) -> None:
    named = {
        override["matcher"]["options"]: {it["id"]: it.get("value") for it in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }
    labels = [name for name in named if not name.startswith("Value #")]
    values = [name for name in named if name.startswith("Value #")]
    lines: dict[tuple[str, ...], dict[str, str]] = {
        tuple(each.labels.get(label, "") for label in labels): {} for each in series if each.target == "A"
    }
    for each in series:
        for key, line in lines.items() if each.target != "A" else ():
            if all(each.labels.get(label, value) == value for label, value in zip(labels, key, strict=True)):
                column = f"Value #{each.target}"
                value = each.values[-1]
                rounded = round(value) if named[column].get("decimals") == 0 else value
                line[column] = told(rounded, named[column]["unit"])
    axes.set(xticks=[], yticks=[], xlim=(0, 1))
    columns = labels + values
    high = axes.get_position().height * axes.figure.get_figheight() / 0.26
    axes.set_ylim(-high, 0.2)
    for number, name in enumerate(columns):
        x = number / len(columns) - 0.02
        axes.text(x, 0, named[name]["displayName"], color=FAINT, size=9, weight="bold", va="center")
        for row, (key, line) in enumerate(sorted(lines.items())[: int(high)], 1):
            words = key[number] if number < len(labels) else line.get(name, "")
            axes.text(x, -row, words, color=_cell_colour(name), size=9, va="center")
    if not lines:
        axes.text(0.5, -high / 2, "none", color=FAINT, ha="center")


def _xychart(axes: Axes, panel: dict[str, Any], series: Sequence[Series], period: Period) -> None:
    by_target = {each.target: dict(zip(each.times, each.values, strict=True)) for each in series}
    across, up = by_target.get("A", {}), by_target.get("B", {})
    times = sorted(across.keys() & up.keys())
    if not times:
        _empty(axes, panel)
        return
    units = [
        {it["id"]: it.get("value") for it in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    ]
    shade = np.linspace(0.25, 1, len(times))
    axes.scatter(
        [across[time] for time in times], [up[time] for time in times], s=22, color=PALETTE[0], alpha=shade
    )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=-0.03 * max(up.values()))
    axes.grid(True, color=GRID, lw=0.6)
    for axis, own in zip((axes.xaxis, axes.yaxis), units, strict=True):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(FuncFormatter(lambda value, _, unit=own["unit"]: told(value, unit)))
        axis.set_label_text(own["custom.axisLabel"], color=FAINT, size=8)


_SI_UNITS = {"watt": "W", "watth": "Wh", "massg": "g", "s": "s"}


def told(value: float, unit: str) -> str:
    """Return a figure in its unit, as Grafana words it."""
    if math.isnan(value):
        return "NaN"
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "bytes":
        return _scaled(value, ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")))
    if unit == "short":
        return _scaled(value, ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K"), (1, "")))
    if unit == "s" and abs(value) >= 100:
        return f"{value / 60:.3g} min"
    if unit in _SI_UNITS:
        return _scaled(value, tuple((size, f" {prefix}{_SI_UNITS[unit]}") for size, prefix in SI))
    return f"{value:.3g}{' req/s' if unit == 'reqps' else unit.removeprefix('suffix:')}"


def _scaled(value: float, scale: Sequence[tuple[float, str]]) -> str:
    one = next(it for it in scale if it[0] == 1)
    size, suffix = next((it for it in scale if abs(value) >= it[0]), scale[-1]) if value else one
    return f"{value / size:.3g}{suffix}"


def _cell_colour(column: str) -> str:
    return NAMED["light-blue"] if column in ("modelservice", "modelhost", "modelpool") else TEXT


def _overrides(panel: dict[str, Any], target: str) -> dict[str, Any]:
    return {
        it["id"]: it.get("value")
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"] == {"id": "byFrameRefID", "options": target}
        for it in override["properties"]
    }


def _fixed_colours(panel: dict[str, Any]) -> dict[str, str]:
    return {
        override["matcher"]["options"]: NAMED.get(it["value"]["fixedColor"], it["value"]["fixedColor"])
        for override in panel["fieldConfig"]["overrides"]
        for it in override["properties"]
        if it["id"] == "color"
    }


def _states(panel: dict[str, Any]) -> dict[float, tuple[str, str]]:
    return {
        float(number): (it["text"], NAMED.get(it["color"], it["color"]))
        for mapping in panel["fieldConfig"]["defaults"].get("mappings", ())
        for number, it in mapping["options"].items()
    }


def _time_axis(axes: Axes, period: Period) -> None:
    axes.set_xlim(datetime.fromtimestamp(period.start), datetime.fromtimestamp(period.end))
    axes.xaxis.set_major_locator(mdates.AutoDateLocator(maxticks=6))
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))


def _legend(axes: Axes, handles: list[Any], names: list[str]) -> None:
    axes.legend(
        handles, names, loc="upper left", bbox_to_anchor=(-0.02, -0.1), ncols=4, frameon=False, fontsize=7.5,
        labelcolor=TEXT, handlelength=1.2, columnspacing=1.2, borderaxespad=0.4,
    )  # fmt: skip


def _empty(axes: Axes, panel: dict[str, Any]) -> None:
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
    words = panel["fieldConfig"]["defaults"].get("noValue", "No data")
    axes.text(0.47, 0.5, words, color=FAINT, ha="center", va="center", size=10)


_KINDS: dict[str, Callable[[Axes, dict[str, Any], Sequence[Series], Period], None]] = {
    "timeseries": _timeseries,
    "stat": _stat,
    "state-timeline": _state_timeline,
    "table": _table,
    "xychart": _xychart,
}
