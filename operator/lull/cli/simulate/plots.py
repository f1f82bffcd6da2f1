"""The plots of a simulation."""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from lull.cli.drawing import COLOURS, INK, drawn, sketched
from lull.cli.simulate.runs import BOUND, LULL
from lull.cli.simulate.told import Told, number
from lull.simulate.outcome import Outcome, Steps
from lull.simulate.peers.pods import KEDA_IDLE_SECONDS, KNATIVE_IDLE_SECONDS
from lull.simulate.setting import SECONDS_PER_HOUR
from lull.simulate.trace import Trace

Floats = NDArray[np.float64]
Point = tuple[float, float, str]
"""A delayed share in percent, a value, and the variant of a policy."""

COLOUR = {
    "lull": COLOURS[0],
    "knative": COLOURS[1],
    "knative-shared": COLOURS[1],
    "keda": COLOURS[2],
    "keda-shared": COLOURS[2],
    "modelmesh": COLOURS[3],
    "seldon": COLOURS[5],
    "always-on": COLOURS[4],
    "packed-always-on": COLOURS[4],
}
MARKER = {"knative-shared": "s", "keda-shared": "s", "packed-always-on": "s", "modelmesh": "^", "seldon": "v"}
OTHER = COLOURS[6]
BINS = 480
"""Points of a curve: what a plot of this width can show."""
SHARE_TICKS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
ROW_INCHES = 0.95
UNITS = {"days": 86_400.0, "hours": SECONDS_PER_HOUR, "minutes": 60.0}
TIMEOUTS = {"knative": KNATIVE_IDLE_SECONDS, "keda": KEDA_IDLE_SECONDS}
"""How long an idle model of these is kept."""
GAP_TICKS = {"1 s": 1, "10 s": 10, "1 min": 60, "10 min": 600, "1 h": 3600, "6 h": 21_600, "1 d": 86_400,
             "7 d": 604_800}  # fmt: skip
PARTS = {
    "nodes that are on: bare idle, and their own": "idle_wh",
    "contexts": "context_wh",
    "requests": "dynamic_wh",
    "loads": "load_wh",
}


def over_time(told: Told) -> str:
    """Hosts kept and models that compute, a row a policy."""
    runs = [one for one in told.outcomes if not _is_bound(one)]
    rows = len(runs)

    def draw(figure: Figure) -> None:
        every = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
        for at, (axes, outcome) in enumerate(zip(every, runs, strict=True)):
            _kept_and_busy(axes, outcome, told.trace.length_seconds, labelled=at == 0)
        every[-1].set_xlabel(f"time, {_unit(told.trace.length_seconds)[0]}")

    return sketched(draw, "kept", height_inches=0.9 + ROW_INCHES * rows)


def hosts_frontier(told: Told) -> str:
    """GPU-hours against the delayed share, with the bound's curve below."""

    def draw(axes: Axes) -> None:
        _points(axes, told.outcomes, [one.host_hours for one in told.outcomes])
        _bound(axes, told, [one.host_hours for one in told.bound])
        _frontier_axes(axes, "GPU-hours kept")

    return drawn(draw, "hosts", height_inches=4.6)


def energy_frontier(told: Told) -> str:
    """Energy against the delayed share."""

    def draw(axes: Axes) -> None:
        _points(axes, told.outcomes, [one.energy_wh / 1000 for one in told.outcomes])
        _bound(axes, told, [one.energy_wh / 1000 for one in told.bound])
        _frontier_axes(axes, "kWh, modelled")

    return drawn(draw, "energy", height_inches=4.6)


def energy_parts(told: Told) -> str:
    """What the energy of each policy is made of, in shares; the sums stand beside."""
    shown = [one for one in told.outcomes if one.energy_wh > 0 and not _is_bound(one)]

    def draw(axes: Axes) -> None:
        left = np.zeros(len(shown))
        names = [one.policy for one in shown]
        for (label, field), colour in zip(PARTS.items(), COLOURS, strict=False):
            shares = np.array([100 * getattr(one, field) / one.energy_wh for one in shown])
            axes.barh(names, shares, left=left, color=colour, label=label)
            left += shares
        for at, one in enumerate(shown):
            axes.annotate(
                f"{number(one.energy_wh / 1000)} kWh",
                (100, at),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                annotation_clip=False,
            )
        axes.set_xlim(0, 100)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("% of its energy, modelled")

    return drawn(draw, "parts", height_inches=1.1 + 0.3 * len(shown))


def gaps(told: Told) -> str | None:
    """How long a model rests between two requests: share of the gaps, and of the time in them."""
    found = gap_seconds(told.trace)
    if not len(found):
        return None

    edges = np.geomspace(1.0, max(10.0, float(found.max())) * 1.01, 61)

    def draw(axes: Axes) -> None:
        for weights, colour, label in (
            (np.ones(len(found)), COLOURS[0], "share of the gaps"),
            (found, COLOURS[1], "share of the time in them"),
        ):
            height, _ = np.histogram(np.maximum(found, 1.0), edges, weights=100 * weights / weights.sum())
            axes.stairs(height, edges, fill=True, color=colour, alpha=0.6, label=label)
        for name, seconds in TIMEOUTS.items():
            axes.axvline(seconds, color=INK, lw=1, ls=":")
            axes.annotate(
                f"{name}: {seconds:g} s",
                (seconds, 1),
                (3, -3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                rotation=90,
                va="top",
                fontsize=8,
            )
        shown = {name: at for name, at in GAP_TICKS.items() if at <= edges[-1]}
        axes.set_xscale("log")
        axes.set_xticks(list(shown.values()), list(shown))
        axes.set_xticks([], minor=True)
        axes.set_xlabel("from one request of a model to its next")
        axes.set_ylabel("%")

    return drawn(draw, "gaps", height_inches=3.2)


def gap_seconds(trace: Trace) -> Floats:
    """Return the times between two requests of the same model."""
    model, at = np.array(trace.model), np.array(trace.at_seconds)
    order = np.argsort(model, kind="stable")
    same = np.diff(model[order]) == 0
    found: Floats = np.diff(at[order])[same]
    return found


def binned(steps: Steps, length_seconds: float, *, most: bool = False) -> Floats:
    """Return a curve's time-weighted mean, or its `most`, in each of BINS equal parts of the time."""
    edges = np.linspace(0.0, length_seconds, BINS + 1)
    if not len(steps):
        return np.zeros(BINS)
    at = np.array([0.0, *(second for second, _ in steps)])
    value = np.array([0.0, *(many for _, many in steps)])
    if most:
        first = np.searchsorted(at, edges[:-1], side="right") - 1
        after = np.searchsorted(at, edges[1:], side="left")
        return np.array([value[a : max(b, a + 1)].max() for a, b in zip(first, after, strict=True)])
    area = np.concatenate([[0.0], np.cumsum(value[:-1] * np.diff(at))])
    last = np.searchsorted(at, edges, side="right") - 1
    summed = area[last] + value[last] * (edges - at[last])
    found: Floats = np.diff(summed) / np.diff(edges)
    return found


def _kept_and_busy(axes: Axes, outcome: Outcome, length_seconds: float, *, labelled: bool) -> None:
    _, unit = _unit(length_seconds)
    at = np.linspace(0.0, length_seconds / unit, BINS + 1)[:-1]
    kept, busy = binned(outcome.kept, length_seconds), binned(outcome.busy, length_seconds, most=True)
    axes.fill_between(
        at, kept, color=_colour(outcome), alpha=0.6, lw=0, step="post", label="hosts kept, mean"
    )
    axes.step(at, busy, color=INK, lw=0.6, alpha=0.6, where="post", label="models that compute, most at once")
    top = max(float(kept.max()), float(busy.max()), 1.0)
    axes.set_ylim(0, 1.35 * top)
    axes.set_xlim(0, length_seconds / unit)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    hours = length_seconds / SECONDS_PER_HOUR
    mean = outcome.host_hours / hours if hours else 0.0
    title = f"{outcome.policy}: {number(mean)} hosts on the mean"
    axes.annotate(title, (0.005, 0.98), va="top", fontsize=9, xycoords="axes fraction")
    if not labelled:  # one legend for all rows
        for artist in (*axes.collections, *axes.lines):
            artist.set_label("_")


def _bound(axes: Axes, told: Told, values: Sequence[float]) -> None:
    """Draw what no policy can go below."""
    shares = [100 * one.delayed_fraction for one in told.bound]
    axes.plot(shares, values, "--", color=INK, lw=1.2, label="perfect foresight, at best")


def _points(axes: Axes, outcomes: Sequence[Outcome], values: Sequence[float]) -> None:
    """Draw a mark a policy; objectives of Lull are joined to its curve, variants carry their own text."""
    runs = [(one, value) for one, value in zip(outcomes, values, strict=True) if not _is_bound(one)]
    points: dict[str, list[Point]] = {}
    for one, value in runs:
        policy, _, variant = one.policy.partition(" ")
        points.setdefault(policy, []).append((100 * one.delayed_fraction, value, variant))
    for policy, found in points.items():
        found.sort()
        axes.plot(
            [x for x, _, _ in found],
            [y for _, y, _ in found],
            MARKER.get(policy, "o"),
            ls="-" if policy == LULL else ":",
            ms=9 if policy == LULL else 7,
            mfc=None if "shared" not in policy and "packed" not in policy else "none",
            color=COLOUR.get(policy, OTHER),
            label=policy,
            clip_on=False,
        )
    for at, label in labels(points.values()).items():
        axes.annotate(label, at, (6, 5), textcoords="offset points", fontsize=8)


def labels(points: Iterable[Iterable[Point]]) -> dict[tuple[float, float], str]:
    """Return what stands beside points; points that look the same share one label."""
    texts: dict[tuple[str, str], tuple[tuple[float, float], list[str]]] = {}
    for x, y, variant in chain.from_iterable(points):
        _, variants = texts.setdefault((f"{x:.2g}", f"{y:.2g}"), ((x, y), []))
        if variant and variant not in variants:
            variants.append(variant)
    return {at: ", ".join(variants) for at, variants in texts.values() if variants}


def _frontier_axes(axes: Axes, label: str) -> None:
    axes.set_xscale("symlog", linthresh=0.1, linscale=0.4)
    axes.set_xlim(0, max(100.0 * SHARE_TICKS[2], axes.get_xlim()[1]))
    axes.set_xticks([100 * at for at in SHARE_TICKS if 100 * at <= axes.get_xlim()[1]])
    axes.set_xticks([], minor=True)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_plain))
    axes.set_xlabel("requests that waited, % (0.1 and less: not to scale)")
    axes.set_ylabel(label)


def _is_bound(outcome: Outcome) -> bool:
    return outcome.policy.partition(" ")[0] == BOUND


def _colour(outcome: Outcome) -> str:
    return COLOUR.get(outcome.policy.partition(" ")[0], OTHER)


def _plain(value: float, _: int | None) -> str:
    return f"{value:,.12g}"


def _unit(length_seconds: float) -> tuple[str, float]:
    for name, seconds in UNITS.items():
        if length_seconds >= 2 * seconds:
            return name, seconds
    return "seconds", 1.0
