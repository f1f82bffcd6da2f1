"""Accounts of energy: what was drawn, what always-on serving would have drawn, and the carbon of it.

Accounts are whole numbers, and all of an account is kept: read back after a crash, it goes on exactly.
A counter is charged by its growth over what the account holds of it, so that an old reading changes nothing.
The baseline is a meter that runs in each pool, like a clock, in microjoules per mebibyte of model: a service
owes its mebibytes times what the meter went forward, however long it slept unwritten.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from lull.policy.power import PowerProfile

MEBIBYTE = 2**20
HOUR_SECONDS = 3600
HOURS_KEPT = 25
"""Twenty-four whole hours and the present one."""
_MICRO = 10**6
_JOULES_PER_KILOWATT_HOUR = 3.6e6


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of one placement, as its host's agent reports them; they never fall."""

    idle_joules: int = 0
    dynamic_joules: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class HostReading:
    """The counters of one host."""

    joules: int = 0
    dynamic_joules: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """The totals of one service.

    Attributes:
        mebibytes: memory of the replicas that the baseline keeps on.
        meter: reading of the pool's meter up to which `baseline_joules` is counted.
        counted: how much of each placement's counters the totals hold, by placement id.
        hours: joules drawn by hour since the epoch, of the last `HOURS_KEPT`.
        spare_milligrams: a part of a milligram that is not in the total yet; not kept over a restart.
    """

    mebibytes: int = 0
    meter: int = 0
    idle_joules: int = 0
    dynamic_joules: int = 0
    baseline_joules: int = 0
    milligrams_co2e: int = 0
    requests: int = 0
    counted: Mapping[str, Reading] = field(default_factory=dict)
    hours: Mapping[int, int] = field(default_factory=dict)
    spare_milligrams: float = 0.0

    @property
    def joules(self) -> int:
        """Everything drawn."""
        return self.idle_joules + self.dynamic_joules

    def baseline_at(self, meter: int) -> float:
        """Return the baseline in joules when the pool's meter reads `meter`."""
        return self.baseline_joules + self.mebibytes * max(0, meter - self.meter) / _MICRO

    def last_day_joules(self, now: float) -> int:
        """Return what was drawn in the last 24 whole hours and the present one."""
        oldest = _hour(now) - HOURS_KEPT
        return sum(joules for hour, joules in self.hours.items() if hour > oldest)


@dataclass(frozen=True, slots=True)
class PoolAccount:
    """The totals of one pool, and its baseline's meter.

    Attributes:
        at: since when `baseline_milliwatts` and `meter_microwatts` hold, in seconds since the epoch.
        baseline_joules: the idle part until `at`, the dynamic one until now.
        meter: its reading at `at`, in microjoules per mebibyte.
        meter_microwatts: how fast it runs, in microwatts per mebibyte.
    """

    at: float
    joules: int = 0
    baseline_joules: int = 0
    baseline_milliwatts: int = 0
    meter: int = 0
    meter_microwatts: int = 0
    milligrams_co2e: int = 0
    counted: Mapping[str, HostReading] = field(default_factory=dict)
    spare_milligrams: float = 0.0

    def baseline_at(self, now: float) -> float:
        """Return the baseline in joules."""
        return self.baseline_joules + self.baseline_milliwatts * self._seconds(now) / 1000

    def meter_at(self, now: float) -> int:
        """Return the meter's reading."""
        return self.meter + int(self.meter_microwatts * self._seconds(now))

    def _seconds(self, now: float) -> float:
        return max(0.0, now - self.at)


def charge(
    account: Account, placement: str, reading: Reading, now: float, milligrams_per_joule: float
) -> Account:
    """Charge a service with what a placement's counters grew since they were last counted."""
    seen = account.counted.get(placement, Reading())
    idle = max(0, reading.idle_joules - seen.idle_joules)
    dynamic = max(0, reading.dynamic_joules - seen.dynamic_joules)
    requests = max(0, reading.requests - seen.requests)
    held = Reading(seen.idle_joules + idle, seen.dynamic_joules + dynamic, seen.requests + requests)
    whole, spare = _whole(account.spare_milligrams + (idle + dynamic) * milligrams_per_joule)
    return replace(
        account,
        idle_joules=account.idle_joules + idle,
        dynamic_joules=account.dynamic_joules + dynamic,
        # Computing would have drawn the same on the baseline's hosts.
        baseline_joules=account.baseline_joules + dynamic,
        milligrams_co2e=account.milligrams_co2e + whole,
        spare_milligrams=spare,
        requests=account.requests + requests,
        counted={**account.counted, placement: held},
        hours=_with_hour(account.hours, _hour(now), idle + dynamic),
    )


def disown(account: Account, placement: str, reading: Reading) -> Account:
    """Hold a placement's counters as counted without charging them: they are another's of the same name."""
    return replace(account, counted={**account.counted, placement: reading})


def close(account: Account, present: Collection[str]) -> Account:
    """Forget the counters of placements that are gone; their charge stays."""
    if all(id_ in present for id_ in account.counted):
        return account
    return replace(account, counted={id_: r for id_, r in account.counted.items() if id_ in present})


def rebase(account: Account, meter: int) -> Account:
    """Count the baseline up to the meter's reading, in whole joules; the rest stays owed on the meter."""
    owed = account.mebibytes * max(0, meter - account.meter) // _MICRO
    if not owed:
        return account
    return replace(
        account,
        baseline_joules=account.baseline_joules + owed,
        meter=account.meter + owed * _MICRO // account.mebibytes,
    )


def resize(account: Account, mebibytes: int, meter: int) -> Account:
    """Let the baseline keep another size on from now on; a begun joule counts as one.

    A meter that reads less than before is another one, of a pool that was made anew: its past is not owed.
    """
    if mebibytes == account.mebibytes and meter >= account.meter:
        return account
    owed = -(-account.mebibytes * max(0, meter - account.meter) // _MICRO)
    return replace(account, mebibytes=mebibytes, meter=meter, baseline_joules=account.baseline_joules + owed)


def change_meter(account: Account, old: int, new: int) -> Account:
    """Let another pool's meter count the baseline from now on."""
    return replace(resize(account, 0, old), meter=new)


def charge_host(
    account: PoolAccount, host: str, reading: HostReading, milligrams_per_joule: float
) -> PoolAccount:
    """Charge a pool with what a host's counters grew since they were last counted."""
    seen = account.counted.get(host, HostReading())
    joules = max(0, reading.joules - seen.joules)
    dynamic = max(0, reading.dynamic_joules - seen.dynamic_joules)
    whole, spare = _whole(account.spare_milligrams + joules * milligrams_per_joule)
    return replace(
        account,
        joules=account.joules + joules,
        baseline_joules=account.baseline_joules + dynamic,
        milligrams_co2e=account.milligrams_co2e + whole,
        spare_milligrams=spare,
        counted={**account.counted, host: HostReading(seen.joules + joules, seen.dynamic_joules + dynamic)},
    )


def close_hosts(account: PoolAccount, present: Collection[str]) -> PoolAccount:
    """Forget the counters of hosts that are gone; their charge stays."""
    if all(name in present for name in account.counted):
        return account
    return replace(account, counted={name: r for name, r in account.counted.items() if name in present})


def run_meter(account: PoolAccount, milliwatts: int, mebibytes: int, now: float) -> PoolAccount:
    """Let a pool's baseline run at another rate from now on, shared by `mebibytes` of models.

    The meter's rate is rounded down, so that the services' parts never exceed the pool's baseline.
    """
    rate = milliwatts * 1000 // mebibytes if mebibytes else 0
    if (milliwatts, rate) == (account.baseline_milliwatts, account.meter_microwatts):
        return account
    begun = -int(-account.baseline_at(now) // 1)
    return replace(
        account,
        at=max(now, account.at),
        baseline_joules=begun,
        baseline_milliwatts=milliwatts,
        meter=account.meter_at(now),
        meter_microwatts=rate,
    )


def rebase_pool(account: PoolAccount, now: float) -> PoolAccount:
    """Count a pool's baseline up to now, in whole joules; the rest stays owed, as `at` stays behind."""
    owed = int(account.baseline_at(now)) - account.baseline_joules
    if owed <= 0:
        return account
    at = account.at + owed * 1000 / account.baseline_milliwatts
    return replace(account, at=at, baseline_joules=account.baseline_joules + owed, meter=account.meter_at(at))


def fewest_hosts(sizes_bytes: Iterable[int], capacity_bytes: int) -> int:
    """Return a lower bound of the hosts that hold models of these sizes (⌈Σ/C⌉), for a careful baseline."""
    total = sum(sizes_bytes)
    return -(-total // capacity_bytes) if capacity_bytes > 0 else 0


def kept_milliwatts(profile: PowerProfile, hosts: int) -> int:
    """Return what so many hosts draw that are kept and compute nothing."""
    return int(hosts * profile.kept_watts * 1000)


def milligrams_per_joule(grams_per_kilowatt_hour: float, pue: float) -> float:
    """Return the operational carbon of a joule at the accelerator (SCI's E·I, ISO/IEC 21031; PUE over it)."""
    return grams_per_kilowatt_hour * pue * 1000 / _JOULES_PER_KILOWATT_HOUR


def grams_per_request(watts: float, requests_per_second: float, milligrams_per_joule: float) -> float | None:
    """Return the carbon of one request; None without requests."""
    if requests_per_second <= 0:
        return None
    return watts / requests_per_second * milligrams_per_joule / 1000


def watt_hours_text(joules: float) -> str:
    """Return energy as a decimal number of watt-hours: three significant digits, at least whole ones."""
    return _decimal(joules / HOUR_SECONDS)


def energy_text(joules: float) -> str:
    """Return energy for people, with its unit: `0.4Wh`, `48Wh`, `1.2kWh`, `-3.1Wh`."""
    watt_hours = joules / HOUR_SECONDS
    for power, unit in ((6, "MWh"), (3, "kWh")):
        if abs(watt_hours) >= 0.9995 * 10**power:
            return _short(watt_hours / 10**power) + unit
    return _short(watt_hours) + "Wh"


def watts_text(milliwatts: int) -> str:
    """Return a draw for people: `48`, `3.2` below ten, `0`."""
    return _short(milliwatts / 1000)


def grams_text(milligrams: float) -> str:
    """Return carbon as a decimal number of grams, to three significant digits, at least whole ones."""
    return _decimal(milligrams / 1000)


def _short(value: float) -> str:
    """Return a number with one decimal below ten, and none above."""
    text = f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"
    return text.removesuffix(".0") if text not in ("-0.0", "0.0") else "0"


def _decimal(value: float) -> str:
    """Return a plain decimal with three significant digits, or as many as it has before its point."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    text = f"{float(f'{value:.3g}'):.9f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _hour(now: float) -> int:
    return int(now // HOUR_SECONDS)


def _with_hour(hours: Mapping[int, int], hour: int, joules: int) -> Mapping[int, int]:
    if not joules:
        return hours
    kept = {h: j for h, j in hours.items() if h > hour - HOURS_KEPT}
    return {**kept, hour: kept.get(hour, 0) + joules}


def _whole(milligrams: float) -> tuple[int, float]:
    whole = int(milligrams)
    return whole, milligrams - whole
