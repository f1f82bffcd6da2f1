"""What a host draws, by configuration: for hosts without a sensor, and for the baseline of what is saved."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PowerProfile:
    """A host's draw in watts, all its accelerators together.

    Attributes:
        idle_watts: bare idle draw.
        context_watts: what a process that holds the accelerator adds, at 0 % busy.
        max_watts: draw at full load (TDP).
        node_watts: the host's part of its node's own idle draw.
    """

    idle_watts: float
    context_watts: float
    max_watts: float
    node_watts: float = 0.0

    @property
    def kept_watts(self) -> float:
        """What a host draws that is kept and computes nothing."""
        return self.idle_watts + self.context_watts + self.node_watts


@dataclass(frozen=True, slots=True)
class PowerSetting:
    """What a pool says of one accelerator and of a node; None where it says nothing."""

    idle_watts: float | None = None
    context_watts: float | None = None
    max_watts: float | None = None
    node_watts: float | None = None
    hosts_per_node: int = 1


@dataclass(frozen=True, slots=True)
class _Product:
    """One row: watts at TDP, bare idle, and with a context at 0 % busy; `other` are words of other boards."""

    max_watts: float
    idle_watts: float
    held_watts: float
    words: tuple[str, ...]
    other: tuple[str, ...] = ()


_PRODUCTS = (
    _Product(70, 9, 36, ("T4",)),
    _Product(72, 16, 37, ("L4",)),
    _Product(150, 20, 54, ("A10",)),
    _Product(300, 27, 40, ("V100",), other=("PCIE", "FHHL")),
    _Product(300, 30, 110, ("A40",)),
    _Product(350, 36, 102, ("L40S",)),
    _Product(300, 54, 80, ("A100", "PCIE")),
    _Product(700, 72, 122, ("H100",), other=("PCIE", "NVL")),
    _Product(700, 75, 120, ("H200",), other=("NVL",)),
)
"""H100, A100, L40S: arXiv 2605.23918; A40: NVIDIA/open-gpu-kernel-modules#874; T4: triton server#2678; the
rest from published outputs of `nvidia-smi`, so ±20 %. Other boards of the same chip have no row."""

PRODUCTS = tuple(" ".join(row.words) for row in _PRODUCTS)
"""Names that `profile` knows, for who has to choose one."""
_PARTS_OF_ONE = ("MIG", "SHARED")
"""Words by which NVIDIA's feature discovery marks a slice of an accelerator; its draw is not the whole's."""


def profile(product: str | None, count: int, setting: PowerSetting) -> PowerProfile | None:
    """Return the draw of a host with `count` accelerators; None where it is not known.

    What the pool says goes before the product's defaults. `product` is spelled as `nvidia-smi` or NVIDIA's
    feature discovery spell it, such as `NVIDIA-H100-80GB-HBM3`.
    """
    row = _row(product or "")
    idle = _first(setting.idle_watts, row.idle_watts if row else None)
    context = _first(setting.context_watts, row.held_watts - row.idle_watts if row else None)
    most = _first(setting.max_watts, row.max_watts if row else None)
    if idle is None or context is None or most is None:
        return None
    node = (setting.node_watts or 0.0) / setting.hosts_per_node
    return PowerProfile(count * idle, count * context, count * max(most, idle + context), node)


def _row(product: str) -> _Product | None:
    words = re.split(r"[^A-Z0-9]+", product.upper())
    for row in _PRODUCTS:
        if all(word in words for word in row.words) and not any(
            word in words for word in (*row.other, *_PARTS_OF_ONE)
        ):
            return row
    return None


def _first(said: float | None, default: float | None) -> float | None:
    return default if said is None else said
