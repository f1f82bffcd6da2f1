"""What a delayed request is worth, in host-seconds: what may be paid, in hosts kept, to spare one.

Keeping hosts costs host-seconds, and the objective bounds the share of requests that may wait. The price of
a delay is the multiplier of that bound. What is best over all has one price: one that follows the share
through day and night keeps more hosts for the same delays. So it is found by ever smaller steps, up with each
delayed request and down a little with every other (Robbins and Monro, Annals of Mathematical Statistics 22,
1951), but never by so small ones that it would not follow other habits within weeks.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import exp, log

from lull.policy.fleet import Service
from lull.policy.habits import TAIL_EXPONENT
from lull.policy.power import PowerProfile

DEFAULT_DELAYED_PERCENT = 5
"""The objective of services that have none of their own."""
MEDIAN_SILENCE_SECONDS = 71.0
"""Published of the trace that TAIL_EXPONENT is of."""
MOST_WORTH_SECONDS = 86_400.0
"""One request is never worth more than a host for a day."""
LEAST_WORTH_SECONDS = 1.0
"""Nor less than this, though it may take no time to start and to load."""
FIRST_RATE = 0.05
"""How much a delayed request raises the price at first …"""
LAST_RATE = 0.002
"""… and in the end: so the price moves by a tenth between day and night, and by half in a week."""
STEP = 0.1
"""How far the price has to move, of itself, to be told: it decides what is kept, so each move of it is news
for every host that serves nobody. What is not told yet is not lost."""
LOAD_BUSY = 0.2
"""Assumed: how busy a load keeps a host, as no measurement of it is known to us."""

Market = tuple[str, int]
"""A pool and an objective in percent: its services share one price, as what is kept serves them all."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a delayed request is worth, in host-seconds.

    Attributes:
        moved: the logarithm of how far it has moved since it was told last.
        allowed: how many delayed requests the objective has allowed so far.
    """

    worth_seconds: float
    moved: float = 0.0
    allowed: float = 0.0


@lru_cache(maxsize=1000)
def first_price(market: Market) -> Price:
    """Return the price before anything is known, as the assumed tail of silences would have it.

    Where the share `(t / median) ** -TAIL_EXPONENT / 2` of silences is longer than t, the objective is met by
    keeping a host for t after each request. A lone service pays that at the price `t / TAIL_EXPONENT`; t
    itself is about half of that, as hosts are shared.
    """
    share = market[1] / 100
    if not share:
        return Price(MOST_WORTH_SECONDS)
    kept_seconds = MEDIAN_SILENCE_SECONDS * (2 * share) ** (-1 / TAIL_EXPONENT)
    return Price(min(MOST_WORTH_SECONDS, kept_seconds))


def known_price(worth_seconds: float) -> Price:
    """Return a price that was found before, and is to move slowly."""
    return Price(worth_seconds, allowed=1 / (LAST_RATE * TAIL_EXPONENT))


def market_of(service: Service) -> Market:
    """Return whose price a service's delays have."""
    own = service.delayed_percent
    return service.pool, DEFAULT_DELAYED_PERCENT if own is None else own


def repriced(price: Price, market: Market, requests: int, delayed: int, floor_seconds: float) -> Price:
    """Return the price after `requests` more, `delayed` of them delayed: another one in steps alone.

    Delays fall as the price to the power of TAIL_EXPONENT: a step of `1 / (TAIL_EXPONENT · allowed)` for each
    is the one that settles soonest.
    """
    allowed = requests * market[1] / 100
    rate = max(LAST_RATE, 1 / (1 / FIRST_RATE + TAIL_EXPONENT * price.allowed))
    moved = price.moved + rate * (delayed - allowed)
    most = log(MOST_WORTH_SECONDS / price.worth_seconds)
    least = log(max(LEAST_WORTH_SECONDS, floor_seconds) / price.worth_seconds)
    moved = min(most, max(least, moved))
    told = abs(moved) >= log(1 + STEP)
    worth = price.worth_seconds * exp(moved) if told else price.worth_seconds
    return Price(worth, 0.0 if told else moved, price.allowed + allowed)


def break_even_seconds(profile: PowerProfile | None, load_seconds: float, start_seconds: float) -> float:
    """Return what a wake costs in host-seconds; to let go for less would not even save energy.

    The new host is kept while it starts and loads, and computes during the load (B = E_wake / P_kept).
    """
    return start_seconds + load_seconds + load_cost_seconds(profile, load_seconds)


def load_cost_seconds(profile: PowerProfile | None, load_seconds: float) -> float:
    """Return what the energy of a load is in host-seconds, on a host that is kept anyway."""
    if profile is None or not profile.kept_watts:
        return 0.0
    headroom = profile.max_watts - profile.idle_watts - profile.context_watts
    return load_seconds * LOAD_BUSY * headroom / profile.kept_watts
