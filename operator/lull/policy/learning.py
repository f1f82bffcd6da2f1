"""What the fleet shows of its users' habits, and of what loads and starts take; learned by looking alone.

All times are the observer's own. A restart forgets which silences were under way, and so counts none of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import filterfalse
from statistics import fmean

from lull.policy.fleet import Count, Fleet, Host, Placement, Pod, Report, Service, State
from lull.policy.habits import Crowd, Gaps, Habit, hazards, with_average, with_silence
from lull.policy.prices import (
    Market,
    Price,
    break_even_seconds,
    first_price,
    known_price,
    market_of,
    repriced,
)

USUAL_LOAD_SECONDS = 20.0
"""How long a load is expected to take before the first one of a pool."""
USUAL_START_SECONDS = 30.0
"""How long a host is expected to take to start before the first one of a pool."""
USUAL_UNLOAD_SECONDS = 1.0
"""How long what makes room is expected to take to be gone before the first one of a pool."""


_NO_HABIT, _NO_CROWD = Habit(), Crowd()


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned up to now: by service, by pool, and by pool and objective."""

    habits: Mapping[str, Habit] = field(default_factory=dict)
    crowds: Mapping[str, Crowd] = field(default_factory=dict)
    prices: Mapping[Market, Price] = field(default_factory=dict)

    def load_seconds(self, service: str, pool: str) -> float:
        """Return how long a load of a service is expected to take, as its own did, or those of its pool."""
        own = self.habits.get(service, _NO_HABIT).load_seconds
        return self.pool_load_seconds(pool) if own is None else own

    def pool_load_seconds(self, pool: str) -> float:
        """Return how long loads of a pool's services take on average."""
        known = self.crowds.get(pool, _NO_CROWD).load_seconds
        return USUAL_LOAD_SECONDS if known is None else known

    def start_seconds(self, pool: str) -> float:
        """Return how long a host of a pool is expected to take from the wish for it until it can load."""
        known = self.crowds.get(pool, _NO_CROWD).start_seconds
        return USUAL_START_SECONDS if known is None else known

    def unload_seconds(self, pool: str) -> float:
        """Return how long what makes room on a host of a pool is expected to take to be gone."""
        known = self.crowds.get(pool, _NO_CROWD).unload_seconds
        return USUAL_UNLOAD_SECONDS if known is None else known


def remembered(
    services: Mapping[str, tuple[str, Habit]], starts: Mapping[str, float], prices: Mapping[Market, float]
) -> Learned:
    """Return what a restarted controller goes on with.

    Args:
        services: by service: its pool, and its habit (`habit_from`).
        starts: seconds that a host takes to start, by pool.
        prices: what a delayed request is worth, in host-seconds.
    """
    gaps: dict[str, Gaps] = {}
    loads: dict[str, list[float]] = {}
    for pool, habit in services.values():
        known = gaps.get(pool)
        gaps[pool] = tuple(map(sum, zip(known, habit.gaps, strict=True))) if known else habit.gaps
        if habit.load_seconds is not None:
            loads.setdefault(pool, []).append(habit.load_seconds)
    crowds = {
        pool: _crowd(
            Crowd(start_seconds=starts.get(pool), load_seconds=fmean(loads[pool]) if pool in loads else None),
            gaps.get(pool, _NO_CROWD.gaps),
        )
        for pool in gaps.keys() | starts.keys()
    }
    learned = Learned({}, crowds, {market: known_price(worth) for market, worth in prices.items()})
    return with_habits(learned, services)


def with_habits(learned: Learned, services: Mapping[str, tuple[str, Habit]]) -> Learned:
    """Return what is known with habits that were kept; who has no silence yet starts from its pool."""
    habits = {
        key: replace(habit, hazards=hazards(habit.gaps, learned.crowds.get(pool, Crowd()).hazards))
        if any(habit.gaps)
        else habit
        for key, (pool, habit) in services.items()
    }
    return replace(learned, habits={**learned.habits, **habits})


def learn(
    learned: Learned,
    fleet: Fleet,
    since: Mapping[tuple[str, str], float],
    now: float,
    keys: Iterable[str],
    hosts: Iterable[str] = (),
) -> Learned:
    """Return what is known after a look at the services `keys` and `hosts`: those that changed.

    `since` are the facts as of the look before: since when hosts start, and placements are in their state.
    What began before anybody looked, nobody knows.
    """
    student = _Student(learned, fleet, since, now)
    for key in keys:
        if key in fleet.services:
            student.look_at(fleet.services[key])
    begun = since.get(BEGUN, now)
    for host in (fleet.hosts[name] for name in sorted(hosts) if name in fleet.hosts):
        if host.pod not in (Pod.STARTING, Pod.RUNNING):
            continue
        born = since.get(starting(host), begun)
        if born > begun and not starts(host):
            student.started(host.pool, now - born - _loaded_seconds(host))
        left_at = since.get(making_room(host), begun)
        if left_at > begun and not host.leaving:
            student.unloaded(host.pool, now - left_at)
    return student.learned()


def starts(host: Host) -> bool:
    """Tell whether a host cannot load yet, for all that is known.

    It may well load before its Pod is called ready. An agent calls a load one from the moment on that it
    could begin, were Triton there: only its end tells.
    """
    may_start = host.pod in (Pod.MISSING, Pod.STARTING)
    return may_start and not any(report.state is Report.READY for report in host.reports.values())


def _loaded_seconds(host: Host) -> float:
    """Return how long all loads took that are over on a host, one after the other."""
    ready = (report for report in host.reports.values() if report.state is Report.READY)
    return sum(report.load_seconds or 0.0 for report in ready)


BEGUN = "Begun", ""
"""The fact that somebody looks."""


def starting(host: Host) -> tuple[str, str]:
    """The fact that a host is wished for, and cannot load yet, with nothing in its way."""
    return "Starting", host.name


def making_room(host: Host) -> tuple[str, str]:
    """The fact that something is being unloaded from a host."""
    return "Leaving", host.name


def used(fleet: Fleet, service: Service, placed: Iterable[tuple[Host, Placement]]) -> bool:
    """Tell whether a service is asked: a gateway holds requests for it, or an agent saw one in its idle time.

    What was put there unasked has not been idle for long, and is not in use for that.
    """
    if any(service.key in gateway.held for gateway in fleet.gateways.values()):
        return True
    return any(
        p.state is State.LOADED and host.says(p, Report.READY) and not host.reports[p.id].idle
        for host, p in placed
    )


class _Student:
    """Takes in one look. Copies what it changes, once."""

    def __init__(
        self, learned: Learned, fleet: Fleet, since: Mapping[tuple[str, str], float], now: float
    ) -> None:
        self._fleet = fleet
        self._since = since
        self._now = now
        self._habits = dict(learned.habits)
        for key in filterfalse(fleet.services.__contains__, learned.habits):
            del self._habits[key]
        self._crowds = {pool: crowd for pool, crowd in learned.crowds.items() if pool in fleet.pools}
        self._prices = {market: price for market, price in learned.prices.items() if market[0] in fleet.pools}
        self._sums: dict[Market, tuple[int, int]] = {}

    def look_at(self, service: Service) -> None:
        key = service.key
        if service.follows:
            return  # its service is learned from
        habit = self._habits.get(key)
        count = self._fleet.counts.get(key)
        if habit is None:
            habit = Habit(count=count or Count())
        placed = self._fleet.of(key)
        habit = self._timed(habit, placed)
        habit = self._counted(habit, service, count or habit.count)
        self._habits[key] = self._heard(habit, service, placed)

    def started(self, pool: str, seconds: float) -> None:
        crowd = self._crowds.get(pool, Crowd())
        self._crowds[pool] = replace(
            crowd, start_seconds=with_average(crowd.start_seconds, max(0.0, seconds))
        )

    def unloaded(self, pool: str, seconds: float) -> None:
        crowd = self._crowds.get(pool, Crowd())
        self._crowds[pool] = replace(crowd, unload_seconds=with_average(crowd.unload_seconds, seconds))

    def learned(self) -> Learned:
        learned = Learned(self._habits, self._crowds, self._prices)
        for market, (requests, delayed) in self._sums.items():
            pool = self._fleet.pools.get(market[0])
            if pool is None:
                continue
            load, start = learned.pool_load_seconds(pool.name), learned.start_seconds(pool.name)
            floor = break_even_seconds(pool.profile, load, start)
            price = self._prices.get(market) or first_price(market)
            self._prices[market] = repriced(price, market, requests, delayed, floor)
        return learned

    def _heard(self, habit: Habit, service: Service, placed: list[tuple[Host, Placement]]) -> Habit:
        """Let a silence begin, go on or end."""
        if used(self._fleet, service, self._fleet.of_pair(service.key)):
            return habit if habit.asked and habit.silent_since is None else self._ended(habit, service)
        if habit.silent_since is not None:
            return habit
        quiet = [p for host, p in placed if self._quiet(host, p)]
        if not quiet:
            return habit
        idle = max(0.0 if p.state is State.RESIDENT else p.idle_after_seconds for p in quiet)
        known = habit.hazards or self._crowds.get(service.pool, Crowd()).hazards
        return replace(habit, silent_since=self._now - idle, hazards=known)

    def _quiet(self, host: Host, placement: Placement) -> bool:
        """Tell whether a placement is idle; the agent's word may be older than the placement's last turn."""
        if placement.state is State.RESIDENT:
            return True
        report = host.report(placement)
        turned = self._since.get((placement.state, placement.claim), self._now)
        told = report is not None and report.idle
        return told and (
            placement.state is State.DRAINING or turned + placement.idle_after_seconds <= self._now
        )

    def _ended(self, habit: Habit, service: Service) -> Habit:
        """End a silence, and count it if it was seen to begin."""
        asked = replace(habit, silent_since=None, asked=True)
        if habit.silent_since is None or not habit.asked:
            return asked
        seconds = self._now - habit.silent_since
        crowd = self._crowds.get(service.pool, Crowd())
        crowd = _crowd(crowd, with_silence(crowd.gaps, seconds))
        if service.pool in self._fleet.pools:
            self._crowds[service.pool] = crowd
        gaps = with_silence(habit.gaps, seconds)
        return replace(asked, gaps=gaps, hazards=hazards(gaps, crowd.hazards))

    def _counted(self, habit: Habit, service: Service, count: Count | None) -> Habit:
        if count is None or habit.count is None:
            return habit if count is habit.count else replace(habit, count=count)
        requests, delayed = count.requests - habit.count.requests, count.delayed - habit.count.delayed
        if count != habit.count and min(requests, delayed) >= 0:  # either may be told before the other
            market = market_of(service)
            before = self._sums.get(market, (0, 0))
            self._sums[market] = before[0] + requests, before[1] + delayed
        return habit if habit.count == count else replace(habit, count=count)

    def _timed(self, habit: Habit, placed: list[tuple[Host, Placement]]) -> Habit:
        for host, placement in placed:
            report = host.report(placement)
            if report and report.load_seconds is not None and placement.id != habit.loaded:
                average = with_average(habit.load_seconds, report.load_seconds)
                habit = replace(habit, load_seconds=average, loaded=placement.id)
                self._loaded(host.pool, report.load_seconds)
        return habit

    def _loaded(self, pool: str, seconds: float) -> None:
        if pool in self._fleet.pools:
            crowd = self._crowds.get(pool, Crowd())
            self._crowds[pool] = replace(crowd, load_seconds=with_average(crowd.load_seconds, seconds))


def _crowd(crowd: Crowd, gaps: Gaps) -> Crowd:
    return replace(crowd, gaps=gaps, hazards=hazards(gaps, Crowd().hazards))
