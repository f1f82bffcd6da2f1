"""The report's plots as SVG with the page's own text colour, so that dark and light both read well."""

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lull.cli.report.figures import Report, ratio, total
from lull.cli.report.prometheus import Curve

COLOURS = ("#4c8dc4", "#d98a29", "#5fa35a", "#b27bb0", "#cf5c62", "#3f9c9c", "#9c8a4a", "#8585c9")
"""Middle tones that stand out from white and from black."""
BASELINE = "#cf5c62"
IDLE, DYNAMIC = COLOURS[0], COLOURS[1]
MOST_SERVICES = 20
WIDTH_INCHES = 9.0
INK = "#010203"
"""Stands for the page's own text colour while matplotlib draws."""

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "legend.frameon": False,
    "timezone": "UTC",
}


def hosts(report: Report) -> str | None:
    """Hosts kept by pool, stacked, and the services awake."""
    curves = report.curves
    if not curves.hosts:
        return None

    def draw(axes: Axes) -> None:
        _stack(axes, report, curves.hosts, step=True)
        for awake in curves.awake:
            axes.step(_days(report), awake.values, color=COLOURS[4], label="services awake", where="post")
        axes.set_ylabel("hosts kept, services awake")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))

    return _drawn(draw, "hosts", report)


def power(report: Report) -> str | None:
    """Watts by pool, stacked, with the baseline's line."""
    if not report.curves.power_watts:
        return None

    def draw(axes: Axes) -> None:
        _stack(axes, report, report.curves.power_watts)
        for baseline in report.curves.baseline_watts:
            axes.plot(_days(report), baseline.values, "--", color=BASELINE, label="baseline: always on")
        axes.set_ylabel("watts")

    return _drawn(draw, "power", report)


def services(report: Report) -> str | None:
    """Energy of the services that drew most, idle and dynamic apart."""
    shown = [one for one in report.services if one.idle_joules + one.dynamic_joules > 0][:MOST_SERVICES]
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        names = [f"{one.namespace}/{one.name}" for one in shown]
        idle = [one.idle_joules / 3600 for one in shown]
        axes.barh(names, idle, color=IDLE, label="idle: its share of what its hosts draw anyway")
        axes.barh(
            names,
            [one.dynamic_joules / 3600 for one in shown],
            left=idle,
            color=DYNAMIC,
            label="dynamic: computing",
        )
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("Wh")

    return _drawn(draw, "services", None, height_inches=1.1 + 0.27 * len(shown))


def requests(report: Report) -> str | None:
    """Requests a minute, and the share of them that waited for a wake."""
    answered = total(report.curves.requests_per_minute)
    if not answered:
        return None
    delayed = ratio(total(report.curves.delayed_per_minute), answered)

    def draw(axes: Axes) -> None:
        days = _days(report)
        axes.plot(days, answered, color=COLOURS[0], label="requests")
        axes.set_ylabel("requests a minute")
        if delayed:
            right = axes.twinx()
            right.plot(days, 100 * np.array(delayed), color=COLOURS[1], label="waited for a wake (right)")
            right.set_ylabel("waited, %")
            right.set_ylim(0, 110 * float(np.nanmax([0.0, *delayed])) or 1.0)
            right.grid(visible=False)
            right.spines.right.set_visible(True)

    return _drawn(draw, "requests", report)


def wakes(report: Report) -> str | None:
    """How long wakes took, by what they started from."""
    if not sum(bucket.wakes for bucket in report.wakes):
        return None

    def draw(axes: Axes) -> None:
        bounds = sorted({bucket.upper_seconds or math.inf for bucket in report.wakes})
        below = np.zeros(len(bounds))
        for at, source in enumerate(sorted({bucket.source for bucket in report.wakes if bucket.wakes})):
            of = {b.upper_seconds or math.inf: b.wakes for b in report.wakes if b.source == source}
            counts = np.array([of.get(bound, 0.0) for bound in bounds])
            axes.bar(range(len(bounds)), counts, bottom=below, color=COLOURS[at], label=f"from {source}")
            below += counts
        axes.set_xticks(range(len(bounds)), [_seconds(bound) for bound in bounds])
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("took at most")
        axes.set_ylabel("wakes")

    return _drawn(draw, "wakes", None)


def utilization(report: Report) -> str | None:
    """What was used of what was kept: memory, and computing time."""
    curves = report.curves
    memory = ratio(total(curves.memory_used_bytes), total(curves.memory_supply_bytes))
    busy = ratio(total(curves.busy_hosts), total(curves.hosts))
    if not np.isfinite([*memory, *busy]).any():
        return None

    def draw(axes: Axes) -> None:
        for values, colour, name in ((memory, COLOURS[0], "memory"), (busy, COLOURS[1], "computing time")):
            if values:
                axes.plot(_days(report), 100 * np.array(values), color=colour, label=name)
        axes.set_ylabel("used, % of what is kept")
        axes.set_ylim(0, 105)

    return _drawn(draw, "utilization", report)


def _stack(axes: Axes, report: Report, curves: Sequence[Curve], *, step: bool = False) -> None:
    """Fill curves one upon the other; a gap in all of them stays a gap."""
    gap = np.isnan(total(curves))
    below = np.where(gap, np.nan, 0.0)
    for at, curve in enumerate(sorted(curves, key=lambda curve: curve.labels.get("modelpool", ""))):
        above = below + np.nan_to_num(np.array(curve.values))
        colour = COLOURS[(0, 2, 3, 5, 6, 7)[at % 6]]
        how: Literal["post"] | None = "post" if step else None
        label = f"pool {curve.labels.get('modelpool', '?')}"
        axes.fill_between(_days(report), below, above, color=colour, alpha=0.75, lw=0, step=how, label=label)
        below = above


def _days(report: Report) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the grid's points in matplotlib's unit: days since the epoch."""
    return np.array([at.timestamp() for at in report.period.times]) / 86_400


def _drawn(
    draw: Callable[[Axes], None], name: str, over_time: Report | None, *, height_inches: float = 3.0
) -> str:
    """Return what `draw` draws as an SVG element; `over_time` gives the x axis its period."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        draw(axes)
        if over_time:
            days = _days(over_time)
            axes.set_xlim(float(days[0]), float(days[-1]))
            axes.set_ylim(bottom=0)
            locator = AutoDateLocator()  # type: ignore[no-untyped-call]
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        figure.legend(loc="outside upper left", ncols=4)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), name)


def _inline(svg: str, name: str) -> str:
    """Make a file of matplotlib's an element: no header, ids of its own, the page's ink and font."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", element)
    element = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", element)
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    return element.replace(INK, "currentColor")


def _seconds(bound: float) -> str:
    if math.isinf(bound):
        return "more"
    return f"{bound:g} s" if bound >= 1 else f"{1000 * bound:g} ms"
