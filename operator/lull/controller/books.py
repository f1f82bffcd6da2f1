"""Accounts as statuses keep them. Whatever is written reads back as the same account.

What is counted in microjoules is written in joules and a rest: the API's integers end at 9.2 million joules
times a million, which a large pool reaches within months.
"""

from datetime import UTC, datetime, timedelta

from lull.controller.wire import Object
from lull.policy.energy import (
    MICRO,
    Account,
    HostReading,
    Meters,
    PoolAccount,
    Reading,
    Share,
    microseconds_of,
)

_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


def account_from(ledger: Object) -> Account:
    """Read the account of a service from `status.ledger`."""
    return Account(
        mebibytes=ledger.get("mebibytes", 0),
        baseline=Share(ledger.get("meter", 0), _microjoules(ledger, "baseline")),
        overhead=Share(ledger.get("overheadMeter", 0), _microjoules(ledger, "overhead")),
        idle_joules=ledger.get("idleJoules", 0),
        dynamic_joules=ledger.get("dynamicJoules", 0),
        milligrams_co2e=ledger.get("milligramsCO2e", 0),
        requests=ledger.get("requests", 0),
        delayed=ledger.get("delayed", 0),
        counted={entry["id"]: reading_from(entry) for entry in ledger.get("counted", ())},
        hours={entry["hour"]: entry["joules"] for entry in ledger.get("hours", ())},
    )


def account_to(account: Account, pool: str, now: float) -> Object:
    """Write the account of a service, its shares counted up to now by its pool's meters."""
    return {
        "at": _time(microseconds_of(now)),
        "pool": pool,
        "mebibytes": account.mebibytes,
        "meter": account.baseline.meter,
        "overheadMeter": account.overhead.meter,
        "idleJoules": account.idle_joules,
        "dynamicJoules": account.dynamic_joules,
        **_in_joules("baseline", account.baseline.microjoules),
        **_in_joules("overhead", account.overhead.microjoules),
        "milligramsCO2e": account.milligrams_co2e,
        "requests": account.requests,
        "delayed": account.delayed,
        "counted": [
            {
                "id": id_,
                "idleJoules": reading.idle_joules,
                "dynamicJoules": reading.dynamic_joules,
                "requests": reading.requests,
            }
            for id_, reading in sorted(account.counted.items())
        ],
        "hours": [{"hour": hour, "joules": joules} for hour, joules in sorted(account.hours.items())],
    }


def pool_account_from(ledger: Object) -> PoolAccount:
    """Read the account of a pool from `status.ledger`."""
    return PoolAccount(
        at_microseconds=_microseconds(ledger["at"]),
        mebibytes=ledger.get("mebibytes", 0),
        meters=Meters(ledger.get("meter", 0), ledger.get("overheadMeter", 0)),
        joules=ledger.get("joules", 0),
        baseline_microjoules=_microjoules(ledger, "baseline"),
        baseline_milliwatts=ledger.get("baselineMilliwatts", 0),
        milligrams_co2e=ledger.get("milligramsCO2e", 0),
        counted={entry["name"]: host_reading_from(entry) for entry in ledger.get("counted", ())},
    )


def pool_account_to(account: PoolAccount) -> Object:
    """Write the account of a pool."""
    return {
        "at": _time(account.at_microseconds),
        "mebibytes": account.mebibytes,
        "meter": account.meters.baseline,
        "overheadMeter": account.meters.overhead,
        "joules": account.joules,
        **_in_joules("baseline", account.baseline_microjoules),
        "baselineMilliwatts": account.baseline_milliwatts,
        "milligramsCO2e": account.milligrams_co2e,
        "counted": [
            {
                "name": name,
                "joules": reading.joules,
                "dynamicJoules": reading.dynamic_joules,
                "unallocatedJoules": reading.unallocated_joules,
            }
            for name, reading in sorted(account.counted.items())
        ],
    }


def reading_from(energy: Object, counters: Object | None = None) -> Reading:
    """Read a placement's counters: as its host reports them, in two parts, or as a ledger keeps them."""
    requests = (energy if counters is None else counters).get("requests", 0)
    return Reading(energy.get("idleJoules", 0), energy.get("dynamicJoules", 0), requests)


def host_reading_from(energy: Object) -> HostReading:
    """Read a host's counters, as it reports them or as a ledger keeps them."""
    return HostReading(
        energy.get("joules", 0), energy.get("dynamicJoules", 0), energy.get("unallocatedJoules", 0)
    )


def _in_joules(what: str, microjoules: int) -> Object:
    joules, rest = divmod(microjoules, MICRO)
    return {f"{what}Joules": joules, f"{what}Microjoules": rest}


def _microjoules(ledger: Object, what: str) -> int:
    joules, rest = ledger.get(f"{what}Joules", 0), ledger.get(f"{what}Microjoules", 0)
    return int(joules * MICRO + rest)


def _time(microseconds: int) -> str:
    """Return a time as the API takes it, to the microsecond: in whole numbers, as floats round once more."""
    return (_EPOCH + microseconds * _MICROSECOND).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _microseconds(time: str) -> int:
    """Return a time as the API writes it in microseconds since the epoch."""
    return (datetime.fromisoformat(time) - _EPOCH) // _MICROSECOND
