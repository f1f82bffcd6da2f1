"""What it is worth to keep a service loaded: the delays that this spares, in host-seconds per second.

A service that is loaded nowhere delays its next request. That comes at the hazard of its silence's age, and
costs the price of a delay: so it is worth `price · hazard` to have it loaded, while to keep a host costs 1.
Hazards are steps of age, so a worth stays what it is until the next bin begins.
"""

from collections.abc import Iterable, Iterator

from lull.policy.changes import Draft
from lull.policy.fleet import Host, Placement, Report, Service, State
from lull.policy.habits import EDGES_SECONDS, UNKNOWN_HAZARDS, Habit, bin_of
from lull.policy.prices import first_price, market_of

_NO_HABIT = Habit()
_BELOW_ALL = -(2**31) - 1
"""A priority below those of all PriorityClasses."""


def worth(draft: Draft, service: Service, unknown_since: float | None = None) -> float:
    """Return what it is worth to have a service loaded, in host-seconds per second.

    `unknown_since` is taken for its last request where that is not known; without it, it is worth nothing.
    """
    learned = draft.notes.learned
    habit = learned.habits.get(service.key, _NO_HABIT)
    since = unknown_since if habit.silent_since is None else habit.silent_since
    if since is None or _unasked(service):
        return 0.0
    rates = habit.hazards or UNKNOWN_HAZARDS
    return price_of(draft, service) * rates[bin_of(draft.now - since)]


def _unasked(service: Service) -> bool:
    """Tell whether no request waits for a service to be loaded: none ever does for a candidate."""
    return service.suspend or bool(service.follows)


def price_of(draft: Draft, service: Service) -> float:
    """Return what a delayed request to a service is worth, in host-seconds."""
    market = market_of(service)
    return (draft.notes.learned.prices.get(market) or first_price(market)).worth_seconds


def kept_worth(draft: Draft, placements: Iterable[Placement]) -> float:
    """Return what it is worth to keep these placements loaded."""
    return sum(placement_worth(draft, placement) for placement in placements)


def placement_worth(draft: Draft, placement: Placement) -> float:
    """Return what it is worth to keep a placement: nothing, where nobody may ask for it or it is spare."""
    service = draft.fleet.services.get(placement.service)
    return worth(draft, service, draft.now) if service and not spare(draft, placement) else 0.0


def spare(draft: Draft, placement: Placement) -> bool:
    """Tell whether no request would wait without a placement: another one of its service is routed."""
    others = ((host, p) for host, p in draft.of(placement.service) if p.id != placement.id)
    return any(p.state is State.LOADED and host.says(p, Report.READY) for host, p in others)


def less_than(draft: Draft, placements: Iterable[Placement], cost: float, first: float) -> float | None:
    """Return when, from `first` on, these placements are worth less than `cost` if nobody asks; None: never.

    It goes through all moments at which a hazard changes, so what is kept need not be looked at before.
    """
    steps: list[tuple[float, int, float]] = []  # when, of which, and what it is worth from then on
    for number, placement in enumerate(placements):
        steps += ((at, number, value) for at, value in _steps(draft, placement, first))
    values: dict[int, float] = {}
    steps.sort()
    for index, (at, number, value) in enumerate(steps):
        values[number] = value
        is_last = index + 1 == len(steps) or steps[index + 1][0] > at
        if is_last and sum(values.values()) < cost:
            return at
    return None if steps else first


def _steps(draft: Draft, placement: Placement, first: float) -> Iterator[tuple[float, float]]:
    """Yield what a placement is worth at `first`, and from each moment on at which that is another."""
    service = draft.fleet.services.get(placement.service)
    habit = draft.notes.learned.habits.get(placement.service, _NO_HABIT)
    if service is None or _unasked(service) or spare(draft, placement):
        yield first, 0.0
        return
    price, rates = price_of(draft, service), habit.hazards or UNKNOWN_HAZARDS
    if habit.silent_since is None:
        yield first, price * rates[0]
        return
    begun = bin_of(first - habit.silent_since)
    yield first, price * rates[begun]
    for later in range(begun + 1, len(rates)):
        yield habit.silent_since + EDGES_SECONDS[later], price * rates[later]


def cheapest(draft: Draft, host: Host, missing_bytes: int) -> list[Placement] | None:
    """Return the Residents that give back `missing_bytes` for the least worth; None where all do not.

    The lower priority goes first, then what is worth least for its bytes (after GreedyDual-Size, Cao and
    Irani, USITS 1997, with a learned hazard for its frequency); of these, none goes that need not. What is
    just being loaded goes last, as its memory is not had back before that ends.
    """
    residents = [p for p in host.placements if p.state is State.RESIDENT]
    spare_bytes = sum(p.memory_bytes for p in residents) - missing_bytes
    if spare_bytes < 0:
        return None
    chosen = sorted(residents, key=lambda p: (host.says(p, Report.LOADING), *standing(draft, p), p.id))
    for placement in reversed(chosen[:]):
        if placement.memory_bytes <= spare_bytes:  # it stays: the others are enough
            chosen.remove(placement)
            spare_bytes -= placement.memory_bytes
    return chosen


def standing(draft: Draft, placement: Placement) -> tuple[int, float]:
    """Return by what a Resident is kept before others: its service's priority, then its worth per byte.

    Candidates go before all others.
    """
    service = draft.fleet.services.get(placement.service)
    if service and service.follows:
        return _BELOW_ALL, 0.0
    priority = service.priority if service else 0
    return priority, placement_worth(draft, placement) / max(1, placement.memory_bytes)
