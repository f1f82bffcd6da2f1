"""What spoke for an answer, as a picture: the input, and beside it what each method says."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lull_runtime.quality.attribution import Attribution
from lull_runtime.quality.explain import Explained
from lull_runtime.quality.inputs import channel_axis
from lull_runtime.quality.measures import Array, Floats

FOR_AND_AGAINST = "RdBu_r"
"""Red speaks for the class and blue against it; told apart with colour-blind eyes too."""
MOST_BARS = 20
_PANEL_INCHES = 4.0
_DPI = 120


def draw(explained: Explained, names: list[str], path: Path) -> None:
    """Write the picture of an explanation as PNG.

    Args:
        explained: what was found.
        names: of the features of a table; their numbers where there are none.
        path: the file.
    """
    tabular = explained.row.ndim == 2
    panels = len(explained.attributions) + (not tabular)
    height = max(3.0, 0.28 * min(MOST_BARS, explained.row.shape[1]) + 1.6) if tabular else _PANEL_INCHES + 0.4
    width = _PANEL_INCHES * panels * (1.5 if tabular else 1.15)
    figure = Figure(figsize=(width, height), layout="constrained", dpi=_DPI)
    figure.suptitle(headline(explained))
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if not tabular:
        _show_input(axes.pop(0), explained.row[0])
    for axis, one in zip(axes, explained.attributions, strict=True):
        if tabular:
            _bars(axis, one, explained.row[0], names)
        else:
            _overlay(figure, axis, one, explained.row[0])
        axis.set_title(one.method.value.replace("-", " "), fontsize=10)
    figure.savefig(path, format="png", metadata={"Software": None})


def headline(explained: Explained) -> str:
    """Return what was told, and what the picture is about."""
    sure = f" ({explained.probability:.1%})" if explained.probability is not None else ""
    told = f"{explained.network} tells {explained.told.label}{sure}"
    if explained.target == explained.told:
        return f"{told}: what speaks for it"
    of_target = f" ({explained.target_probability:.1%})" if explained.target_probability is not None else ""
    return f"{told}: what speaks for {explained.target.label}{of_target}"


def _show_input(axis: Axes, row: Array) -> None:
    picture = _picture(row)
    axis.imshow(picture, cmap="gray" if picture.ndim == 2 else None, aspect=_aspect(row))
    axis.set_title("input", fontsize=10)
    _label(axis, row)


def _overlay(figure: Figure, axis: Axes, one: Attribution, row: Array) -> None:
    """Draw attributions over the input: the stronger, the less of it shows; symmetric about zero."""
    plane = _plane(one.values[0])
    most = float(np.abs(plane).max()) or 1.0
    picture = _picture(row)
    grey = picture.mean(axis=-1) if picture.ndim == 3 else picture
    aspect = _aspect(row)
    axis.imshow(1 - 0.6 * grey, cmap="gray", vmin=0, vmax=1, aspect=aspect)
    colours = ScalarMappable(Normalize(-most, most), FOR_AND_AGAINST)
    opacity = np.sqrt(np.abs(plane) / most)
    axis.imshow(colours.to_rgba(plane, alpha=opacity), aspect=aspect)
    figure.colorbar(colours, ax=axis, shrink=0.8, label="against ← → for")
    _label(axis, row)


def _bars(axis: Axes, one: Attribution, row: Array, names: list[str]) -> None:
    """Draw the features that count most, the strongest on top."""
    values = one.values[0]
    strongest = np.argsort(-np.abs(values), kind="stable")[:MOST_BARS][::-1]
    labels = [f"{names[i] if i < len(names) else f'feature {i}'} = {row[i]:.4g}" for i in strongest]
    colours = ["#b2182b" if value > 0 else "#2166ac" for value in values[strongest]]
    axis.barh(range(len(strongest)), values[strongest], color=colours)
    axis.set_yticks(range(len(strongest)), labels, fontsize=8)
    axis.axvline(0, color="black", linewidth=0.8)
    most = float(np.abs(values).max()) or 1.0
    axis.set_xlim(-1.1 * most, 1.1 * most)
    axis.locator_params(axis="x", nbins=5)
    axis.set_xlabel("against ← → for")
    if len(values) > MOST_BARS:
        axis.annotate(
            f"the {MOST_BARS} strongest of {len(values)}",
            (0.99, 0.01),
            xycoords="axes fraction",
            ha="right",
            fontsize=7,
        )


def _picture(row: Array) -> Floats:
    """Return an input as a plane, or as red, green and blue where it is a colour image; between 0 and 1."""
    channel = channel_axis(row.shape)
    if channel is not None and row.shape[channel] >= 3:
        picture = np.moveaxis(row, channel, -1)[..., :3].astype(np.float64)
    else:
        picture = _plane(row).astype(np.float64)
    low, high = float(picture.min()), float(picture.max())
    return np.asarray((picture - low) / (high - low if high > low else 1.0))


def _plane(values: Array) -> Floats:
    """Return values added up to two axes: over an image's channels, else over all but the last two."""
    channel = channel_axis(values.shape)
    axes = (channel,) if channel is not None else tuple(range(values.ndim - 2))
    return np.asarray(values.astype(np.float64).sum(axis=axes))


def _aspect(row: Array) -> Literal["equal", "auto"]:
    return "equal" if channel_axis(row.shape) is not None else "auto"


def _label(axis: Axes, row: Array) -> None:
    if channel_axis(row.shape) is not None:
        axis.set_axis_off()
    else:
        axis.set_xlabel("feature")
        axis.set_ylabel("step")
