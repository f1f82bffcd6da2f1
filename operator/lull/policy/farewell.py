"""When a host on which everything sleeps is let go, if nobody asks for what is on it: to tell its users."""

from bisect import bisect_left
from copy import copy

from lull.policy.changes import Draft
from lull.policy.fleet import Host
from lull.policy.habits import EDGES_SECONDS, Habit
from lull.policy.hosts import cost, stay_seconds
from lull.policy.notes import empty, serves_nobody
from lull.policy.worth import kept_worth

_NO_HABIT = Habit()


def goes_at(draft: Draft, host: Host) -> float | None:
    """Return when a host goes if nothing else happens; None where time alone does not decide that."""
    if host.name not in draft.farewells:
        draft.farewells[host.name] = _goes_at(draft, host)
    return draft.farewells[host.name]


def _goes_at(draft: Draft, host: Host) -> float | None:
    pool = draft.fleet.pools.get(host.pool)
    since = draft.notes.since.get(empty(host))
    if pool is None or since is None or host.kept or not serves_nobody(host):
        return None
    if len(draft.of_pool(pool.name)) <= pool.min_hosts:
        return None
    if pool.empty_after_seconds is not None:
        return since + pool.empty_after_seconds
    first = max(draft.now, since + stay_seconds(draft, host))
    moments = _moments(draft, host, first)
    # Found by halves: hazards that rise again with age are rare, and this is an estimate.
    place = bisect_left(moments, True, key=lambda at: _is_worth_less(draft, host, at))
    return moments[place] if place < len(moments) else None


def _moments(draft: Draft, host: Host, first: float) -> list[float]:
    """Return when the worth of what is on a host may be another: hazards are steps of age."""
    habits = (draft.notes.learned.habits.get(p.service, _NO_HABIT) for p in host.placements)
    silences = [habit.silent_since for habit in habits if habit.silent_since is not None]
    steps = {since + edge for since in silences for edge in EDGES_SECONDS}
    return [first, *sorted(at for at in steps if at > first)]


def _is_worth_less(draft: Draft, host: Host, at: float) -> bool:
    """Tell whether a host will be worth less than it costs at a moment, as far as is known now."""
    then = copy(draft)
    then.now = at
    return kept_worth(then, host.placements) < cost(then, host)
