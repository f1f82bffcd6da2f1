"""Kubernetes quantities and durations, to and from plain numbers.

Inside Lull memory is bytes (`int`) and time is seconds (`float`); only the API speaks in strings.
"""

import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
"""Non-negative quantities; the exponent form (`1e3`) is left out, as nobody writes memory that way."""

DURATION_PATTERN = r"^([0-9]+(\.[0-9]{1,3})?(ms|s|m|h))+$"
"""Go's notation without sign: `90s`, `5m`, `1h30m`, `250ms`."""

_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]{1,9})?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]{1,3})?)(ms|s|m|h)")
_DURATION = re.compile(DURATION_PATTERN)

_UNITS: dict[str | None, Fraction] = {
    None: Fraction(1),
    "m": Fraction(1, 1000),
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTP", start=1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTP", start=1)},
}
_SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}


def parse_quantity(text: str) -> Fraction:
    """Return the number that a quantity such as `500m`, `2Gi` or `1.5G` stands for.

    Raises:
        ValueError: the text is no non-negative quantity.
    """
    match = _QUANTITY.match(text)
    if not match:
        raise ValueError(f"{text!r} is no quantity; write for example 500Mi or 2Gi")
    return Fraction(Decimal(match[1])) * _UNITS[match[2]]


def parse_bytes(text: str) -> int:
    """Return a memory quantity in whole bytes, rounded up.

    Raises:
        ValueError: the text is no non-negative quantity.
    """
    return -int(-parse_quantity(text) // 1)


def format_bytes(size_bytes: int) -> str:
    """Return bytes as a quantity for people: the largest binary unit that keeps it ≥ 1, one decimal."""
    for power, suffix in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if size_bytes >= 1024**power:
            text = f"{size_bytes / 1024**power:.1f}"
            return text.removesuffix(".0") + suffix
    return str(size_bytes)


@lru_cache(maxsize=1024)
def parse_duration_seconds(text: str) -> float:
    """Return the seconds that a duration such as `90s` or `1h30m` stands for.

    Raises:
        ValueError: the text is no duration.
    """
    if not _DURATION.match(text):
        raise ValueError(f"{text!r} is no duration; write for example 250ms, 90s, 5m or 1h30m")
    return float(sum(Fraction(Decimal(n)) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(text)))


def format_duration(seconds: float) -> str:
    """Return seconds as a duration string: milliseconds below one second, else whole units, largest first."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f}s"
    whole = round(seconds)
    parts = [(whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s")]
    return "".join(f"{n}{unit}" for n, unit in parts if n) or "0s"
