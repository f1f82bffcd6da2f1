"""Splits what a host draws among its models: P = (bare + node)·memory share + context/n + dynamic·busy share.

What no model causes stays unallocated: the part of memory that is free, and a context that no model uses: a
Triton holds one from its start, as its CUDA memory pools are on each device (cuda_memory_manager.cc).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lull_runtime.measure.power import Draw


@dataclass(frozen=True)
class Use:
    """What one model on the host takes.

    Attributes:
        memory_bytes: that it holds.
        busy: time that it computed, in any unit: only its share counts.
    """

    memory_bytes: int
    busy: int


@dataclass(frozen=True)
class Part:
    """One model's part, in the unit of the draw: for being there, and for computing."""

    idle: int
    dynamic: int


@dataclass(frozen=True)
class Split:
    """All parts, and what is left: together exactly the draw."""

    parts: Mapping[str, Part]
    unallocated: int


def attribute(draw: Draw, uses: Mapping[str, Use], capacity_bytes: int) -> Split:
    """Split a draw among the models that the host holds.

    Args:
        draw: of the host.
        uses: of each model, by any name.
        capacity_bytes: the host's memory; models that hold more than that share all of it.
    """
    memory_bytes = max(capacity_bytes, sum(use.memory_bytes for use in uses.values()))
    busy = sum(use.busy for use in uses.values())
    parts = {
        name: Part(
            _share(draw.bare + draw.node, use.memory_bytes, memory_bytes) + draw.context // len(uses),
            _share(draw.dynamic, use.busy, busy),
        )
        for name, use in uses.items()
    }
    return Split(parts, draw.total - sum(part.idle + part.dynamic for part in parts.values()))


def _share(amount: int, part: int, whole: int) -> int:
    """Rounded down, so that shares never add up to more than there is."""
    return amount * part // whole if whole else 0
