"""Plots as SVG with the page's own text colour, so that dark and light both read well."""

import io
import re
from collections.abc import Callable
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#4c8dc4", "#d98a29", "#5fa35a", "#b27bb0", "#cf5c62", "#3f9c9c", "#9c8a4a", "#8585c9")
"""Middle tones that stand out from white and from black."""
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


def drawn(draw: Callable[[Axes], None], name: str, *, height_inches: float = 3.0) -> str:
    """Return what `draw` draws into one pair of axes as an SVG element; `name` is unique on its page."""
    return sketched(lambda figure: draw(figure.subplots()), name, height_inches=height_inches)


def sketched(
    draw: Callable[[Figure], None],
    name: str,
    *,
    height_inches: float = 3.0,
    legend: Literal["outside upper left"] | None = "outside upper left",
) -> str:
    """Return what `draw` draws into a figure as an SVG element, with one legend of all its axes."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        figure.patch.set_alpha(0)
        draw(figure)
        if legend:
            figure.legend(loc=legend, ncols=4)
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
