"""What the meter knows, and the small file that keeps it from one agent to the next."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from lull_runtime.measure.accelerator import Accelerator
from lull_runtime.measure.pot import Pot
from lull_runtime.measure.totals import Totals

log = logging.getLogger(__name__)


@dataclass
class Account:
    """One placement's totals. Energy is in microjoules, in whole numbers that add up.

    Attributes:
        counters: Triton's at the last look; None: where they stand is unknown.
        totals: since the placement came to the host, golden runs apart.
        settled_ns: of its busy time, what is charged.
        idle: energy for being there.
        dynamic: energy for computing.
        memory_bytes: that it takes.
    """

    counters: Totals | None = None
    totals: Totals = field(default_factory=Totals)
    settled_ns: int = 0
    idle: int = 0
    dynamic: int = 0
    memory_bytes: int = 0

    @property
    def unsettled_ns(self) -> int:
        """Its busy time that is not charged yet."""
        return self.totals.busy_ns - self.settled_ns

    def count(self, counters: Totals) -> int:
        """Take in Triton's counters; return the busy time that they grew by."""
        before, self.counters = self.counters, counters
        busy_ns = self.totals.busy_ns
        if before is not None and counters != before:
            self.totals += counters.since(before)
        return self.totals.busy_ns - busy_ns


@dataclass
class Sums:
    """The whole host's, those of placements that left included: microjoules, and nanoseconds.

    Attributes:
        measured: drawn, as a sensor said.
        modelled: drawn, as the profile says.
        unallocated: of both, what no model caused.
        busy_ns: that its models computed.
        dynamic: of both, what its models' computing drew.
    """

    measured: int = 0
    modelled: int = 0
    unallocated: int = 0
    busy_ns: int = 0
    dynamic: int = 0

    @property
    def drawn(self) -> int:
        """All that was drawn, and charged to somebody or nobody."""
        return self.measured + self.modelled


@dataclass
class Kept:
    """All that outlives an agent. Times are of the system's monotonic clock, which a Pod's agents share.

    Attributes:
        settled_seconds: when energy was last charged; None: never.
        sensor: when the accelerator was last read, and what it said; None while it does not answer.
        known: what it said that stays true while it does not.
        ahead: energy of the device that is charged, and is not in its readings yet.
        sums: the host's.
        pot: what computing drew and is not charged yet.
        held: the placements that Triton held at the last look.
        triton_up: whether it answered then.
        accounts: by placement.
    """

    settled_seconds: float | None = None
    sensor: tuple[float, Accelerator] | None = None
    known: Accelerator | None = None
    ahead: int = 0
    sums: Sums = field(default_factory=Sums)
    pot: Pot = field(default_factory=Pot)
    held: frozenset[str] = frozenset()
    triton_up: bool = False
    accounts: dict[str, Account] = field(default_factory=dict)


_FORMAT = TypeAdapter(Kept)


def read(path: Path) -> Kept | None:
    """Return what the agent before kept; None where its file is missing or is no such file."""
    try:
        kept = _FORMAT.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("the totals start anew, %s is not understood: %s", path, error)
        return None
    kept.held &= kept.accounts.keys()
    return kept


def encode(kept: Kept) -> bytes:
    """Return what the file holds."""
    return _FORMAT.dump_json(kept)


def write(path: Path, content: bytes, *, flush: bool) -> None:
    """Replace the file.

    Args:
        path: of the file.
        content: by `encode`.
        flush: whether it is to outlive the machine too, which takes the disk's time.

    Raises:
        OSError: the file before stands.
    """
    fresh = path.with_suffix(".fresh")
    with fresh.open("wb") as file:
        file.write(content)
        if flush:
            file.flush()
            os.fsync(file.fileno())
    os.replace(fresh, path)
