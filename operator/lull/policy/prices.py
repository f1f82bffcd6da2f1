"""What a delayed request is worth, in host-seconds: what may be paid, in hosts kept, to spare one.

Keeping hosts costs host-seconds, and the objective bounds the share of requests that may wait. The price of
a delay is the multiplier of that bound. It is found online: up with each delayed request, down a little with
every other, in proportion to itself, so that the share of delayed requests comes to the objective whatever
the traffic is (multiplicative weights; Arora, Hazan and Kale, Theory of Computing 8, 2012). Within its
bounds, the share differs from the objective by `log(price / first price) / (RATE · requests)`.
"""

from dataclasses import dataclass
from math import exp, log

from lull.policy.fleet import Service
from lull.policy.power import PowerProfile

DEFAULT_DELAYED_PERCENT = 5
"""The objective of services that have none of their own."""
FIRST_WORTH_SECONDS = 1800.0
"""Assumed before anything is known; in the simulated fleets 5 % led to between 1,000 and 15,000."""
MOST_WORTH_SECONDS = 86_400.0
"""One request is never worth more than a host for a day."""
RATE = 0.01
"""How much a delayed request raises the price. Slowly, as what is best over all has one price: one that
follows the share through day and night keeps more hosts (3 to 6 % at 0.02 against 0.005, as simulated)."""
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
        over: by how many more requests than the objective allows were delayed since it has moved last.
    """

    worth_seconds: float = FIRST_WORTH_SECONDS
    over: float = 0.0


def market_of(service: Service) -> Market:
    """Return whose price a service's delays have."""
    own = service.delayed_percent
    return service.pool, DEFAULT_DELAYED_PERCENT if own is None else own


def repriced(price: Price, market: Market, requests: int, delayed: int, floor_seconds: float) -> Price:
    """Return the price after `requests` more, `delayed` of them delayed: another one in steps alone."""
    over = price.over + delayed - requests * market[1] / 100
    most = log(MOST_WORTH_SECONDS / price.worth_seconds)
    grown = price.worth_seconds * exp(min(most, RATE * over))
    exact = min(MOST_WORTH_SECONDS, max(floor_seconds, grown))
    moved = log(exact / price.worth_seconds)
    return Price(exact) if abs(moved) >= log(1 + STEP) else Price(price.worth_seconds, moved / RATE)


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
