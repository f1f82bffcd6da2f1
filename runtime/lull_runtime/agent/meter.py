"""The host's meter: what each placement did and drew, from Triton's counters and the accelerator's sensor.

Its totals never fall. Triton's counters begin anew with each load and each start of Triton, so that what is
added is always what they grew by. They are kept on disk with the counters that they came from: an agent that
was killed goes on where the one before it stopped, and the gap is filled from Triton's own counters.

Times are of the system's monotonic clock, which the agents of one Pod share.
"""

import asyncio
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lull.api.host import ModelHostStatus
from lull_runtime.agent import kept
from lull_runtime.agent.kept import Account, Kept, Sums
from lull_runtime.measure.accelerator import Accelerator
from lull_runtime.measure.attribution import Split, Use, attribute
from lull_runtime.measure.pot import WAIT_SECONDS
from lull_runtime.measure.power import Draw, PowerProfile, measured, modelled
from lull_runtime.measure.totals import Totals
from lull_runtime.measure.window import Rates, Window

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 10.0
"""How far the split of the host's draw lags."""
_READING_SECONDS = 30.0
"""The same of a host with a sensor, each reading of which settles: where readings fail."""
_FRESH_SECONDS = 5.0
"""How old a placement's last sample may be: it is no longer looked at then, and has no figures."""
_NS_PER_SECOND = 10**9
_MICRO = 10**6

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
        found = kept.read(path)
        self._kept = found or Kept()
        self._anew = found is None
        self._windows: dict[str, Window] = {}
        self._looked_seconds = -math.inf
        self._written = b""
        self._writing = asyncio.Lock()

    @property
    def accounts(self) -> dict[str, Account]:
        """By placement."""
        return self._kept.accounts

    @property
    def sums(self) -> Sums:
        """The whole host's."""
        return self._kept.sums

    @property
    def accelerator(self) -> Accelerator | None:
        """As it was last read; while it does not answer, only what stays true."""
        return self._kept.sensor[1] if self._kept.sensor else self._kept.known

    @property
    def capacity_bytes(self) -> int:
        """The memory that models share; 0 where nobody says."""
        found = self.accelerator
        return found.memory_total_bytes if found else self._capacity_bytes

    @property
    def holds_models(self) -> bool:
        """Whether Triton held any at the last look."""
        return bool(self._kept.held)

    @property
    def memory_bytes(self) -> int:
        """That the held models account for."""
        return sum(self.accounts[key].memory_bytes for key in self._kept.held)

    # ── What comes in ──

    def loaded(self, placement: str, own: Totals, now: float) -> None:
        """A placement's model was loaded anew; `own` is what Triton counted of the agent's own runs."""
        account = self.accounts.setdefault(placement, Account())
        account.counters = own
        self._sample(placement, now)

    def observe(self, held: Mapping[str, Held], now: float, *, triton_up: bool) -> None:
        """Take in what Triton holds and counts."""
        state = self._kept
        age_seconds = math.inf if state.settled_seconds is None else now - state.settled_seconds
        due = age_seconds >= (_READING_SECONDS if self.basis == "Measured" else _SETTLE_SECONDS)
        moved = held.keys() != state.held or triton_up != state.triton_up
        self._looked_seconds = now
        for placement, model in held.items():
            account = self.accounts.setdefault(placement, Account())
            if model.counters is not None:
                self.sums.busy_ns += account.count(model.counters)
                self._sample(placement, now)
        if moved or due:
            self.settle(now)  # what was until now, by who was there until now
        for placement, model in held.items():
            self.accounts[placement].memory_bytes = model.memory_bytes
        state.held, state.triton_up = frozenset(held), triton_up
        if not triton_up:
            self.lose(now)

    def read(self, device: Accelerator, now: float) -> None:
        """Take in what the accelerator says."""
        if not device.memory_total_bytes:
            return  # Triton's first answers may come before it looked at its devices
        state = self._kept
        if state.sensor is None:
            self.settle(now)  # as it was told until now
            state.sensor = (now, device)
            return
        (then, last), state.sensor = state.sensor, (now, device)
        state.ahead -= _drawn(last, device, now - then)
        if _began_anew(last, device):
            state.ahead = min(state.ahead, 0)  # what was charged ahead will never be in its readings
        self.settle(now)

    def lose(self, now: float) -> None:
        """The accelerator tells nothing any more: what it draws is modelled from now on."""
        state = self._kept
        if state.sensor is None:
            return
        self.settle(now)
        state.known = replace(
            state.sensor[1], memory_used_bytes=None, utilization=None, watts=None, joules=None
        )
        state.sensor, state.ahead = None, 0

    def keep_only(self, placements: Iterable[str], now: float) -> None:
        """Forget every other placement; what it drew stays the host's."""
        wanted = set(placements)
        if not self._kept.held <= wanted:
            self.settle(now)
        for gone in self.accounts.keys() - wanted:
            del self.accounts[gone]
            self._windows.pop(gone, None)
        self._kept.held &= wanted

    def take_up(self, told: ModelHostStatus | None) -> None:
        """Go on from what the agent before told where its file is lost: others keep books by these totals.

        Args:
            told: the status as it stands when this agent first sees it; later ones are this agent's own.
        """
        anew, self._anew = self._anew, False
        if not anew or told is None:
            return
        for model in told.models:
            account = self.accounts.setdefault(model.id, Account())
            if model.counters is not None:
                account.totals += Totals(model.counters.requests, model.counters.failures)
            if model.energy is not None:
                account.idle += model.energy.idle_joules * _MICRO
                account.dynamic += model.energy.dynamic_joules * _MICRO
        if told.energy is not None:
            measured = told.energy.basis == "Measured"
            self.sums.measured += told.energy.joules * _MICRO if measured else 0
            self.sums.modelled += 0 if measured else told.energy.joules * _MICRO
            self.sums.unallocated += told.energy.unallocated_joules * _MICRO
            self.sums.dynamic += told.energy.dynamic_joules * _MICRO

    def _sample(self, placement: str, now: float) -> None:
        self._windows.setdefault(placement, Window()).add(now, self.accounts[placement].totals)

    # ── What it comes to ──

    @property
    def basis(self) -> Basis | None:
        """Whether the draw is measured or modelled; None where nobody can say it."""
        found = self.accelerator
        if found is not None and found.watts is not None:
            return "Measured"
        return None if self._profile.max is None else "Modelled"

    def rates(self, placement: str) -> Rates | None:
        """A placement's figures of the window; None unless Triton holds it and is asked about it."""
        window = self._windows.get(placement)
        if placement not in self._kept.held or window is None:
            return None
        return window.rates() if window.ended_seconds >= self._looked_seconds - _FRESH_SECONDS else None

    @property
    def active(self) -> bool:
        """Whether anybody asked a held model in the window."""
        return any(rates.active for key in self._kept.held if (rates := self.rates(key)))

    @property
    def busy_ratio(self) -> float:
        """Of the window, all held models together."""
        return sum(rates.busy_ratio for key in self._kept.held if (rates := self.rates(key)))

    def power(self) -> Power | None:
        """What the host draws at present; None where nobody can say it."""
        basis, device = self.basis, self.accelerator
        if basis is None:
            return None
        draw = (
            measured(round(device.watts * _MICRO), self._profile, 1.0)
            if device is not None and device.watts is not None
            else modelled(self.busy_ratio, self._profile, 1.0, context=self._kept.triton_up)
        )
        busy = {
            key: round(rates.busy_ratio * _NS_PER_SECOND) if (rates := self.rates(key)) else 0
            for key in self._kept.held
        }
        return Power(basis, draw, self._attribute(draw, busy))

    # ── Who is charged ──

    def settle(self, now: float) -> None:
        """Charge what was drawn since the last settlement to who caused it."""
        state = self._kept
        device = self._device_grown(now)
        seconds = max(0.0, now - (now if state.settled_seconds is None else state.settled_seconds))
        state.settled_seconds = now
        busy = {key: self.accounts[key].unsettled_ns for key in state.held}
        basis, busy_ns = self.basis, sum(busy.values())
        if basis == "Measured":
            draw = measured(device, self._profile, seconds)
            state.pot.put(draw.dynamic, now)
            draw = replace(draw, dynamic=state.pot.charge(busy_ns, now, seconds))
            self.sums.measured += draw.total
            settled_ns = busy_ns
        elif basis == "Modelled":
            ratio = busy_ns / _NS_PER_SECOND / seconds if seconds else 0.0
            draw = modelled(ratio, self._profile, seconds, context=state.triton_up)
            self.sums.modelled += draw.total
            settled_ns = _settled_ns(busy_ns, seconds)
        else:
            draw, settled_ns = Draw(0, 0, 0, 0), busy_ns
        self._charge(draw, busy, settled_ns)
        lapsed = state.pot.lapse(now)
        self.sums.measured += lapsed
        self.sums.unallocated += lapsed

    def _charge(self, draw: Draw, busy: Mapping[str, int], settled_ns: int) -> None:
        """Split a draw; `settled_ns` of the busy time is charged by it, of each model's the same share."""
        split, busy_ns = self._attribute(draw, busy), sum(busy.values())
        for key, part in split.parts.items():
            account = self.accounts[key]
            account.idle += part.idle
            account.dynamic += part.dynamic
            account.settled_ns += busy[key] * settled_ns // busy_ns if busy_ns else 0
        self.sums.unallocated += split.unallocated
        self.sums.dynamic += sum(part.dynamic for part in split.parts.values())

    def _device_grown(self, now: float) -> int:
        """Energy of the device that is not settled: by its readings, and since the last one by its watts."""
        state = self._kept
        if state.sensor is None:
            return 0
        then, device = state.sensor
        grown = max(0, round((device.watts or 0.0) * _MICRO * max(0.0, now - then)) - state.ahead)
        state.ahead += grown
        return grown

    def _attribute(self, draw: Draw, busy: Mapping[str, int]) -> Split:
        uses = {key: Use(self.accounts[key].memory_bytes, busy[key]) for key in self._kept.held}
        return attribute(draw, uses, self.capacity_bytes)

    # ── What outlives the agent ──

    async def keep(self, *, flush: bool) -> None:
        """Keep the totals, off the event loop. A full disk costs no more than this file.

        Args:
            flush: whether they are to outlive the machine too.
        """
        async with self._writing:
            content = kept.encode(self._kept)
            if content == self._written:
                return
            try:
                await asyncio.to_thread(kept.write, self._path, content, flush=flush)
                self._written = content
            except OSError as error:
                log.warning("the totals are not kept: %s", error)


def _settled_ns(busy_ns: int, seconds: float) -> int:
    """Of busy time, what a modelled draw of some seconds charges: no host draws more than all it can.

    The rest waits for the next settlements: an inference shows only once it is done. No more waits than the
    longest inference may take: where several compute at once, the host draws all it can all the time anyway.
    """
    return max(min(busy_ns, round(seconds * _NS_PER_SECOND)), busy_ns - round(WAIT_SECONDS * _NS_PER_SECOND))


def _began_anew(last: Accelerator, device: Accelerator) -> bool:
    return device.joules is not None and last.joules is not None and device.joules < last.joules


def _drawn(last: Accelerator, device: Accelerator, seconds: float) -> int:
    """Microjoules between two readings: by the device's counter, or by its watts where that began anew."""
    if device.joules is not None and last.joules is not None and not _began_anew(last, device):
        return round((device.joules - last.joules) * _MICRO)
    return round((device.watts or 0.0) * _MICRO * max(0.0, seconds))
