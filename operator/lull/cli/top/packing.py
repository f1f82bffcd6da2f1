"""A host's memory drawn as a bar: who fills it, who merely stays in it, and what is free."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from zlib import crc32

from rich.style import Style
from rich.text import Text

from lull.cli.top.figures import HeldModel, HostRow

COLOURS = ("#4e79a7", "#b07aa1", "#59803f", "#a0653b", "#3f8a8c", "#8c5a5a", "#6f6fb5", "#7d7a3c")
"""Backgrounds that white text can be read on, in dark and light terminals."""
FREE, RESIDENT = "·", "░"
KEY = f"{RESIDENT} resident: loaded but not routed;  {FREE} free memory"


def bar(host: HostRow, width: int) -> Text:
    """Draw a host's memory in `width` cells; a name is written where three letters of it fit."""
    sizes = [model.memory_bytes or 0 for model in host.models]
    capacity = max(host.memory_bytes or 0, sum(sizes), 1)
    text = Text(no_wrap=True)
    for model, cells in zip(host.models, _cells(sizes, capacity, width), strict=True):
        text.append_text(_segment(model, cells))
    free = width - text.cell_len
    return text.append(FREE * free, Style(dim=True))


def _cells(sizes: Sequence[int], capacity: int, width: int) -> list[int]:
    """Share `width` cells out by size: rounded at the edges, so that no error adds up."""
    edges = [round(width * end / capacity) for end in accumulate(sizes, initial=0)]
    return [end - start for start, end in pairwise(edges)]


def _segment(model: HeldModel, cells: int) -> Text:
    if cells <= 0:
        return Text()
    resident = model.state == "Resident"
    fill = RESIDENT if resident else " "
    room = cells - 1 - resident  # a resident one shows its fill at least once
    name = model.service.partition("/")[2]
    label = name if len(name) <= room else f"{name[: room - 1]}…" if room >= 3 else ""
    return Text(f"{label:{fill}<{cells - 1}}│", _style(model), no_wrap=True)


def _style(model: HeldModel) -> Style:
    if model.state == "Resident":
        return Style(dim=True, italic=True)
    colour = COLOURS[crc32(model.service.encode()) % len(COLOURS)]
    if model.state == "Serving":
        return Style(color="#ffffff", bgcolor=colour)
    return Style(color="#ffffff" if model.state != "Failed" else "#ff9090", bgcolor="#505050", italic=True)
