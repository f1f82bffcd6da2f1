"""Accounts of energy: what was drawn, what always-on serving would have drawn, and the carbon of it.

Accounts are whole numbers, and all of an account is kept: read back after a crash, it goes on exactly.
A counter is charged by its growth over what the account holds of it, so that an old reading changes nothing.
What services share by memory runs on meters of their pool, in microjoules per mebibyte of model: a service
owes its mebibytes times what a meter went forward, however long it slept unwritten. The baseline's runs like
a clock, the overhead's with what the pool's hosts drew for nobody; both are rounded so that what services
saved never adds up to more than what their pool saved.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from lull.policy.power import PowerProfile

MEBIBYTE = 2**20
HOUR_SECONDS = 3600
HOURS_KEPT = 25
"""Twenty-four whole hours and the present one."""
MICRO = 10**6
_JOULES_PER_KILOWATT_HOUR = 3.6e6


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of one placement, as its host's agent reports them; they never fall."""

    idle_joules: int = 0
    dynamic_joules: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class HostReading:
    """The counters of one host; unallocated is what it drew for none of its models."""

    joules: int = 0
    dynamic_joules: int = 0
    unallocated_joules: int = 0


@dataclass(frozen=True, slots=True)
class Meters:
    """Readings of a pool's meters, in microjoules per mebibyte."""

    baseline: int = 0
    overhead: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """A service's part of what one meter counts: so much, until it read `meter`."""

    meter: int = 0
    microjoules: int = 0

    def until(self, meter: int, mebibytes: int) -> "Share":
        """Return it counted on, to another reading.

        A meter that reads less than before is another one, of a pool that was made anew: it owes no past.
        """
        return Share(meter, self.microjoules + mebibytes * max(0, meter - self.meter))


@dataclass(frozen=True, slots=True)
class Account:
    """The totals of one service.

    Attributes:
        mebibytes: memory of the replicas that the baseline keeps on.
        baseline: its part of what always-on serving would have drawn, its own computing included.
        overhead: its part of what the pool's hosts drew for nobody.
        requests: those that Triton answered, counted without known energy too.
        delayed: those that waited for a wake.
        counted: how much of each placement's counters the totals hold, by placement id.
        hours: joules drawn by hour since the epoch, of the last `HOURS_KEPT`.
        spare_milligrams: a part of a milligram that is not in the total yet; not kept over a restart.
    """

    mebibytes: int = 0
    baseline: Share = Share()
    overhead: Share = Share()
    idle_joules: int = 0
    dynamic_joules: int = 0
    milligrams_co2e: int = 0
    requests: int = 0
    delayed: int = 0
    counted: Mapping[str, Reading] = field(default_factory=dict)
    hours: Mapping[int, int] = field(default_factory=dict)
    spare_milligrams: float = 0.0

    @property
    def joules(self) -> int:
        """Everything drawn."""
        return self.idle_joules + self.dynamic_joules

    @property
    def saved_joules(self) -> float:
        """What always-on serving would have drawn, less what it drew and what was drawn for nobody."""
        return (self.baseline.microjoules - self.overhead.microjoules) / MICRO - self.joules

    def until(self, meters: Meters) -> "Account":
        """Return it with its shares counted until the pool's meters read this."""
        return replace(
            self,
            baseline=self.baseline.until(meters.baseline, self.mebibytes),
            overhead=self.overhead.until(meters.overhead, self.mebibytes),
        )

    def last_day_joules(self, now: float) -> int:
        """Return what was drawn in the last 24 whole hours and the present one."""
        oldest = _hour(now) - HOURS_KEPT
        return sum(joules for hour, joules in self.hours.items() if hour > oldest)


@dataclass(frozen=True, slots=True)
class PoolAccount:
    """The totals of one pool, and its meters.

    Attributes:
        at_microseconds: until when the baseline and its meter are counted, since the epoch; whole, as it is
            written, so that a restart counts on from the very moment.
        mebibytes: memory of all the models that share what the meters count.
        baseline_microjoules: the idle part until then, the dynamic one until now.
        baseline_milliwatts: the rate of the idle part since.
        ahead_microjoules: what the overhead's meter counts too much, its readings being whole; forgotten by a
            restart.
    """

    at_microseconds: int
    mebibytes: int = 0
    meters: Meters = Meters()
    joules: int = 0
    baseline_microjoules: int = 0
    baseline_milliwatts: int = 0
    milligrams_co2e: int = 0
    counted: Mapping[str, HostReading] = field(default_factory=dict)
    spare_milligrams: float = 0.0
    ahead_microjoules: int = 0

    @property
    def baseline_joules(self) -> float:
        """What the fewest hosts would have drawn, always on."""
        return self.baseline_microjoules / MICRO

    @property
    def saved_joules(self) -> float:
        """What the fewest hosts would have drawn, always on, less what its hosts drew."""
        return self.baseline_joules - self.joules

    def until(self, now: float) -> "PoolAccount":
        """Return it with the baseline and its meter counted until then.

        The meter's growth is rounded down, so that the services' parts never exceed the pool's baseline.
        """
        at = max(self.at_microseconds, microseconds_of(now))
        grown = self.baseline_milliwatts * (at - self.at_microseconds) // 1000
        step = grown // self.mebibytes if self.mebibytes else 0
        return replace(
            self,
            at_microseconds=at,
            baseline_microjoules=self.baseline_microjoules + grown,
            meters=replace(self.meters, baseline=self.meters.baseline + step),
        )


def microseconds_of(seconds: float) -> int:
    """Return a time in whole microseconds."""
    return round(seconds * MICRO)


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
        baseline=replace(account.baseline, microjoules=account.baseline.microjoules + dynamic * MICRO),
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


def resize(account: Account, mebibytes: int, meters: Meters) -> Account:
    """Let the service have another part of what the pool's meters count from now on."""
    newer = meters.baseline >= account.baseline.meter and meters.overhead >= account.overhead.meter
    if newer and mebibytes == account.mebibytes:
        return account
    return replace(account.until(meters), mebibytes=mebibytes)


def move(account: Account, old: Meters, new: Meters) -> Account:
    """Let another pool's meters count from now on."""
    account = account.until(old)
    return replace(
        account,
        baseline=replace(account.baseline, meter=new.baseline),
        overhead=replace(account.overhead, meter=new.overhead),
    )


def charge_host(
    account: PoolAccount, host: str, reading: HostReading, milligrams_per_joule: float
) -> PoolAccount:
    """Charge a pool with what a host's counters grew since they were last counted."""
    seen = account.counted.get(host, HostReading())
    joules = max(0, reading.joules - seen.joules)
    dynamic = max(0, reading.dynamic_joules - seen.dynamic_joules)
    unallocated = max(0, reading.unallocated_joules - seen.unallocated_joules)
    held = HostReading(
        seen.joules + joules, seen.dynamic_joules + dynamic, seen.unallocated_joules + unallocated
    )
    whole, spare = _whole(account.spare_milligrams + joules * milligrams_per_joule)
    return replace(
        _share_out(account, unallocated),
        joules=account.joules + joules,
        baseline_microjoules=account.baseline_microjoules + dynamic * MICRO,
        milligrams_co2e=account.milligrams_co2e + whole,
        spare_milligrams=spare,
        counted={**account.counted, host: held},
    )


def _share_out(account: PoolAccount, joules: int) -> PoolAccount:
    """Count what was drawn for nobody on the overhead's meter: all of it at least, for careful savings.

    Without a model in the pool nobody shares it: it is the pool's alone.
    """
    if not account.mebibytes:
        return account
    owed = joules * MICRO - account.ahead_microjoules
    step = max(0, -(-owed // account.mebibytes))
    meters = replace(account.meters, overhead=account.meters.overhead + step)
    return replace(account, meters=meters, ahead_microjoules=step * account.mebibytes - owed)


def close_hosts(account: PoolAccount, present: Collection[str]) -> PoolAccount:
    """Forget the counters of hosts that are gone; their charge stays."""
    if all(name in present for name in account.counted):
        return account
    return replace(account, counted={name: r for name, r in account.counted.items() if name in present})


def set_rate(account: PoolAccount, milliwatts: int, mebibytes: int, now: float) -> PoolAccount:
    """Let a pool's baseline run at another rate from now on, shared by `mebibytes` of models."""
    if (milliwatts, mebibytes) == (account.baseline_milliwatts, account.mebibytes):
        return account
    return replace(account.until(now), baseline_milliwatts=milliwatts, mebibytes=mebibytes)


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
    # A clock may have been set back: what it called later than now is no hour of the last day.
    kept = {h: j for h, j in hours.items() if hour - HOURS_KEPT < h <= hour}
    return {**kept, hour: kept.get(hour, 0) + joules}


def _whole(milligrams: float) -> tuple[int, float]:
    whole = int(milligrams)
    return whole, milligrams - whole
