"""The host's meter: what each placement did and drew, from Triton's counters and the accelerator's sensor.

Its totals never fall. Triton's counters begin anew with each load and each start of Triton, so that what is
added is always what they grew by. What was told is on disk before, with the counters it came from: an agent
that was killed goes on where the one before it stopped, and the gap is filled from Triton's own counters.

Times are of the system's monotonic clock, which the agents of one Pod share.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lull_runtime.measure.accelerator import Accelerator
from lull_runtime.measure.attribution import Split, Use, attribute
from lull_runtime.measure.power import Draw, PowerProfile, measured, modelled
from lull_runtime.measure.totals import Totals
from lull_runtime.measure.window import Rates, Window

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 10.0
"""How far the split of the host's draw lags. Not less: what computes shows only when it is done, and the draw
of a host without a sensor is that of one busy time at most."""
_READING_SECONDS = 30.0
"""The same of a host with a sensor, each reading of which settles: where readings fail."""

Basis = Literal["Measured", "Modelled"]


@dataclass(frozen=True)
class Held:
    """A model that Triton holds.

    Attributes:
        memory_bytes: that it takes, as far as known.
        counters: Triton's; None where it does not tell them (yet).
    """

    memory_bytes: int
    counters: Totals | None = None


@dataclass
class Account:
    """One placement's totals. Energy is in microjoules, in whole numbers that add up.

    Attributes:
        counters: Triton's at the last look; None: where they stand is unknown.
        totals: since the placement came to the host, golden runs apart.
        settled_ns: its busy time at the last settlement.
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
    window: Window = field(default_factory=Window)

    def count(self, counters: Totals, now: float) -> int:
        """Take in Triton's counters; return the busy time that they grew by."""
        before, self.counters = self.counters, counters
        busy_ns = self.totals.busy_ns
        if before is not None and counters != before:
            self.totals += counters.since(before)
        self.window.add(now, self.totals)
        return self.totals.busy_ns - busy_ns


@dataclass
class Sums:
    """The whole host's, those of placements that left included: microjoules, and nanoseconds."""

    drawn: int = 0
    unallocated: int = 0
    busy_ns: int = 0
    dynamic: int = 0


@dataclass(frozen=True)
class Power:
    """What the host draws at present, in microwatts: by the busy shares of the window."""

    basis: Basis
    draw: Draw
    split: Split


class Meter:
    """Measures one host.

    Args:
        path: of the file that keeps the totals.
        profile: what is known of the host's draw.
        capacity_bytes: of its memory, where no accelerator says.
    """

    def __init__(self, path: Path, profile: PowerProfile, capacity_bytes: int | None) -> None:
        self._path = path
        self._profile = profile
        self._capacity_bytes = capacity_bytes or 0
        self._held: frozenset[str] = frozenset()
        self._triton_up = False
        self._settled_seconds: float | None = None
        self._device: tuple[float, Accelerator] | None = None
        self._ahead = 0
        """Energy of the device that is settled, and is not in its readings yet."""
        self._saved = ""
        self.accounts: dict[str, Account] = {}
        self.sums = Sums()
        self._restore()

    @property
    def accelerator(self) -> Accelerator | None:
        """As it was last read."""
        return self._device[1] if self._device else None

    @property
    def capacity_bytes(self) -> int:
        """The memory that models share; 0 where nobody says."""
        found = self.accelerator
        return (found.memory_total_bytes if found else 0) or self._capacity_bytes

    @property
    def holds_models(self) -> bool:
        """Whether Triton held any at the last look."""
        return bool(self._held)

    @property
    def memory_bytes(self) -> int:
        """That the held models account for."""
        return sum(self.accounts[key].memory_bytes for key in self._held)

    # ── What comes in ──

    def loaded(self, placement: str, own: Totals, now: float) -> None:
        """A placement's model was loaded anew; `own` is what Triton counted of the agent's own runs."""
        account = self.accounts.setdefault(placement, Account())
        account.counters = own
        account.window.add(now, account.totals)
        self.save()

    def observe(self, held: Mapping[str, Held], now: float, *, triton_up: bool) -> None:
        """Take in what Triton holds and counts."""
        age_seconds = math.inf if self._settled_seconds is None else now - self._settled_seconds
        due = age_seconds >= (_READING_SECONDS if self.basis == "Measured" else _SETTLE_SECONDS)
        moved = held.keys() != self._held or triton_up != self._triton_up
        for placement, model in held.items():
            account = self.accounts.setdefault(placement, Account())
            if model.counters is not None:
                self.sums.busy_ns += account.count(model.counters, now)
        if moved or due:
            self.settle(now)  # what was until now, by who was there until now
        for placement, model in held.items():
            self.accounts[placement].memory_bytes = model.memory_bytes
        self._held, self._triton_up = frozenset(held), triton_up
        if moved:
            self.save()

    def read(self, device: Accelerator, now: float) -> None:
        """Take in what the accelerator says."""
        if self._device is None:
            self.settle(now)  # as it was told until now
            self._device = (now, device)
            return
        (then, last), self._device = self._device, (now, device)
        self._ahead -= _drawn(last, device, now - then)
        self.settle(now)

    def keep_only(self, placements: Iterable[str], now: float) -> None:
        """Forget every other placement; what it drew stays the host's."""
        wanted = set(placements)
        if not self._held <= wanted:
            self.settle(now)
        for gone in self.accounts.keys() - wanted:
            del self.accounts[gone]
        self._held &= wanted

    # ── What it comes to ──

    @property
    def basis(self) -> Basis | None:
        """Whether the draw is measured or modelled; None where nobody can say it."""
        found = self.accelerator
        if found is not None and found.watts is not None:
            return "Measured"
        return None if self._profile.max is None else "Modelled"

    def rates(self, placement: str) -> Rates | None:
        """A placement's figures of the window."""
        account = self.accounts.get(placement)
        return account.window.rates() if account else None

    @property
    def active(self) -> bool:
        """Whether anybody asked a held model in the window."""
        return any(rates.active for key in self._held if (rates := self.rates(key)))

    @property
    def busy_ratio(self) -> float:
        """Of the window, all held models together."""
        return sum(rates.busy_ratio for key in self._held if (rates := self.rates(key)))

    def power(self) -> Power | None:
        """What the host draws at present; None where nobody can say it."""
        basis, device = self.basis, self.accelerator
        if basis is None:
            return None
        draw = (
            measured(round(device.watts * 1e6), self._profile, 1.0)
            if device is not None and device.watts is not None
            else modelled(self.busy_ratio, self._profile, 1.0, context=self._triton_up)
        )
        return Power(basis, draw, attribute(draw, self._uses(self._window_busy()), self.capacity_bytes))

    def settle(self, now: float) -> None:
        """Charge what was drawn since the last settlement to who caused it."""
        self._settle(now, self._device_grown(now))

    def _device_grown(self, now: float) -> int:
        """Energy of the device that is not settled: by its readings, and since the last one by its watts."""
        if self._device is None:
            return 0
        then, device = self._device
        grown = max(0, round((device.watts or 0.0) * 1e6 * max(0.0, now - then)) - self._ahead)
        self._ahead += grown
        return grown

    def _settle(self, now: float, device: int) -> None:
        seconds = max(0.0, now - (now if self._settled_seconds is None else self._settled_seconds))
        self._settled_seconds = now
        basis = self.basis
        if basis is None:
            return
        busy = {key: self._unsettled_ns(key) for key in self._held}
        if basis == "Measured":
            draw = measured(device, self._profile, seconds)
        else:
            ratio = sum(busy.values()) / 1e9 / seconds if seconds else 0.0
            draw = modelled(ratio, self._profile, seconds, context=self._triton_up)
        # What computes shows only when it is done: until then, the window's shares are the best guess.
        split = attribute(
            draw, self._uses(busy if any(busy.values()) else self._window_busy()), self.capacity_bytes
        )
        for key, part in split.parts.items():
            account = self.accounts[key]
            account.idle += part.idle
            account.dynamic += part.dynamic
            account.settled_ns = account.totals.busy_ns
        self.sums.drawn += draw.total
        self.sums.unallocated += split.unallocated
        self.sums.dynamic += sum(part.dynamic for part in split.parts.values())

    def _unsettled_ns(self, placement: str) -> int:
        account = self.accounts[placement]
        return account.totals.busy_ns - account.settled_ns

    def _window_busy(self) -> dict[str, int]:
        return {key: round(rates.busy_ratio * 1e9) if (rates := self.rates(key)) else 0 for key in self._held}

    def _uses(self, busy: Mapping[str, int]) -> dict[str, Use]:
        return {key: Use(self.accounts[key].memory_bytes, busy[key]) for key in self._held}

    # ── What outlives the agent ──

    def save(self) -> None:
        """Keep the totals; to be called before they are told. A full disk costs no more than this file."""
        text = json.dumps(self._state())
        if text == self._saved:
            return
        fresh = self._path.with_suffix(".fresh")
        try:
            fresh.write_text(text)
            os.replace(fresh, self._path)
            self._saved = text
        except OSError as error:
            log.warning("the totals are not kept: %s", error)

    def _state(self) -> dict[str, Any]:
        return {
            "settled": self._settled_seconds,
            "device": self._device and [self._device[0], *astuple(self._device[1])],
            "ahead": self._ahead,
            "sums": astuple(self.sums),
            "held": sorted(self._held),
            "tritonUp": self._triton_up,
            "accounts": {
                key: [
                    a.counters and a.counters.values,
                    a.totals.values,
                    a.settled_ns,
                    a.idle,
                    a.dynamic,
                    a.memory_bytes,
                ]
                for key, a in self.accounts.items()
            },
        }

    def _restore(self) -> None:
        """Go on where the agent before stopped; from nothing where its file is missing or is no such file."""
        try:
            state = json.loads(self._path.read_text())
            sums = Sums(*state["sums"])
            device = state["device"] and (state["device"][0], Accelerator(*state["device"][1:]))
            accounts = {
                key: Account(counters and Totals(*counters), Totals(*totals), *rest)
                for key, (counters, totals, *rest) in state["accounts"].items()
            }
            settled_seconds, ahead, triton_up = state["settled"], state["ahead"], state["tritonUp"]
            held = frozenset(state["held"]) & accounts.keys()
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("the totals start anew, %s is not understood: %s", self._path, error)
            return
        self._settled_seconds, self._ahead, self._triton_up = settled_seconds, ahead, triton_up
        self._device, self._held, self.accounts, self.sums = device, held, accounts, sums


def _drawn(last: Accelerator, device: Accelerator, seconds: float) -> int:
    """Microjoules between two readings: by the device's counter, or by its watts where that began anew."""
    if device.joules is not None and last.joules is not None and device.joules >= last.joules:
        return round((device.joules - last.joules) * 1e6)
    return round((device.watts or 0.0) * 1e6 * max(0.0, seconds))
