"""The report's plots."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import MaxNLocator

from lull.cli.drawing import COLOURS, drawn
from lull.cli.report.figures import Report, ratio, total
from lull.cli.report.prometheus import Curve

BASELINE = "#cf5c62"
IDLE, DYNAMIC = COLOURS[0], COLOURS[1]
MOST_SERVICES = 20


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

    return drawn(draw, "services", height_inches=1.1 + 0.27 * len(shown))


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

    return drawn(draw, "wakes")


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


def _drawn(draw: Callable[[Axes], None], name: str, report: Report) -> str:
    """Return what `draw` draws over the report's period."""

    def over_time(axes: Axes) -> None:
        draw(axes)
        days = _days(report)
        axes.set_xlim(float(days[0]), float(days[-1]))
        axes.set_ylim(bottom=0)
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]

    return drawn(over_time, name)


def _seconds(bound: float) -> str:
    if math.isinf(bound):
        return "more"
    return f"{bound:g} s" if bound >= 1 else f"{1000 * bound:g} ms"
