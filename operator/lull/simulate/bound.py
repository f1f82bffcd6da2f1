r"""What perfect foresight could not go below: a proven lower bound of the hosts kept.

**The claim.** Take any policy, with any knowledge of the future, that serves every request within
H = HOLD_SECONDS of its arrival, and at most a share p of them later than D = DELAYED_SECONDS. A host can load
c seconds after the wish for it, begins empty, and loads a model in L seconds. Then the policy keeps hosts for
at least `lower_bound_host_hours(trace, setting, p)` hours between 0 and T, the end of the trace.

**Proof.** Tenants share no host, so their host time adds up; consider one tenant, and the times when at
least one of its hosts is kept. They fall apart into maximal periods [s, e]. A request that arrives at t and
computes for d begins at some b, t ≤ b ≤ t + H, on one host, whose life lies in one period. That host was
wished for and has loaded the model, so s + w ≤ b with w = c + L; and b + d ≤ e. Hence, with f the shortest d
of all, and E the least t' + d' of this and all later arrivals:

1. s + w ≤ t + H, and s + w + f ≤ e;
2. E ≤ t + d ≤ e;
3. if s + w > t + D, call the request *late*: b ≥ s + w, so it is delayed.

Host time is at least the length of all periods. Ask no more than 1 to 3: choose periods, and a period for
each request. *Then each period may serve a run of consecutive arrivals:* let j arrive no later than k, and be
in a later period than k, which is in [s, e]. Move j to [s, e]: 1 holds, as s is earlier than what j had; so
does 2, as E(j) ≤ E(k) ≤ e; and if j is late now, it was late before. No period got longer.

In a run the late ones come first, and s should be as late as the first one (by 1) or the first that is not
late (by 3) permits: s + w = min(H + t of the first, D + t of the first in time). The period ends at the E of
its last one; a run of late ones alone lasts w + f at least. Only what lies within [0, T] counts; a period
that begins before 0 may as well begin earlier, and have nothing late. So the least of

    G(m) = length of all periods + m * number of late ones

for a price m ≥ 0 is found by going through the arrivals once (`least_seconds`), and a policy that delays at
most p * N requests keeps hosts for at least G(m) - m * p * N seconds, *whatever m is* (weak duality). The
best m is searched for. ∎

**Memory.** The same holds for one model instead of one host: [s, e] are then the times when it takes memory
somewhere, and w = L. What models take is at most what hosts have, so the sum over a tenant's models of their
periods, each times the share of a host that the model takes, is no more than host time either. Which of both
counts is chosen for each tenant; any choice is right.

**Dropped requests** need nothing. A policy that drops some is bound with `may_drop`: any request may then be
given up for m, as a dropped request is a delayed one.

What is not asked makes the bound too low, never too high: that a host loads one model at a time, that models
are not cut up to fit, and that a moment may need both many models and many hosts that start.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from lull.api.names import DELAYED_SECONDS
from lull.simulate.setting import HOLD_SECONDS, SECONDS_PER_HOUR, Setting
from lull.simulate.trace import Trace

PRICES = 40
"""At most so many are tried; the search ends by itself, after ten or so."""

Cost = tuple[float, int]
"""Seconds, prices of late requests included, and how many are late."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Requests in the order of arrival, of all models or of one.

    Attributes:
        at: seconds.
        ends: what the period that serves each cannot end before (E above), seconds.
        shortest_seconds: the least duration (f above).
        wake_seconds: w above.
        share: of a host's time that a second of these periods stands for.
    """

    at: Sequence[float]
    ends: Sequence[float]
    shortest_seconds: float
    wake_seconds: float
    share: float = 1.0


View = Sequence[Arrivals]


def lower_bound_host_hours(
    trace: Trace, setting: Setting, delayed_fraction: float, *, may_drop: bool = False
) -> float:
    """Return hours of hosts that no policy can go below with at most this share of requests delayed.

    Args:
        trace: the requests.
        setting: the machine.
        delayed_fraction: 0 to 1.
        may_drop: requests may be dropped too; each counts as a delayed one.
    """
    length = trace.length_seconds
    dearest = (length + 1.0) * (1.0 + sum(m.memory_bytes for m in trace.models) / setting.gpu_memory_bytes)

    def least(view: View, price: float) -> Cost:
        told = [(of.share, *least_seconds(of, price / of.share, length, may_drop=may_drop)) for of in view]
        return sum(share * cost for share, cost, _ in told), sum(late for _, _, late in told)

    def best(views: Sequence[View]) -> float:
        def dual(price: float) -> Cost:
            told = [least(view, price) for view in views]
            return sum(cost for cost, _ in told), sum(late for _, late in told)

        return _best(dual, delayed_fraction * len(trace), dearest)

    tenants = _views(trace, setting)
    by_hosts: list[View] = [hosts for hosts, _ in tenants]
    larger: list[View] = [max(views, key=lambda view: least(view, dearest)[0]) for views in tenants]
    seconds = best(by_hosts)
    if larger != by_hosts:
        seconds = max(seconds, best(larger))
    return max(0.0, seconds) / SECONDS_PER_HOUR


def least_seconds(of: Arrivals, price: float, length_seconds: float, *, may_drop: bool = False) -> Cost:
    """Return the least of seconds of periods plus `price` for each late request, and how many are late there.

    Going through the arrivals, `closed` is the least cost so far where no period goes on, and `opened` where
    one does, whose end is not paid yet. The others are of runs that may have begun with a late one: `first`
    has those whose first one may still be late when the next is in time, `short` those that are late
    throughout and last w + f, and `long` is the least of those that are late throughout and last longer.
    """
    wake, shortest = of.wake_seconds, of.shortest_seconds
    closed: Cost = (0.0, 0)
    opened: Cost = (inf, 0)
    long: Cost = (inf, 0)
    first, short = _Least(), _Least()
    for count, (at, end) in enumerate(zip(of.at, of.ends, strict=True)):
        # What is paid for the late ones of a run that begins here is paid when it is known how many they are.
        begun, late, latest = closed[0] - price * count, closed[1] - count, at + HOLD_SECONDS
        first.add(begun, late, latest)
        alone = min(length_seconds, latest + shortest) - (latest - wake)
        short.add(begun + max(0.0, alone), late, latest)
        intime = at + DELAYED_SECONDS
        for begun, late, latest in first.until(intime):
            opened = min(opened, (begun + price * count - (latest - wake), late + count))
        for begun, late, latest in short.until(end - shortest):
            long = min(long, (begun - latest - shortest, late))
        begun, late = first.least
        opened = min(opened, (begun + price * count - max(0.0, intime - wake), late + count))
        paid, count = price * (count + 1), count + 1
        closed = min(
            (opened[0] + end, opened[1]),
            (short.least[0] + paid, short.least[1] + count),
            (long[0] + end + paid, long[1] + count),
            (closed[0] + price, closed[1] + 1) if may_drop else (inf, 0),
        )
    return closed


class _Least:
    """The least of costs that are of use for a while. Of two, an earlier one that costs more is of no use."""

    def __init__(self) -> None:
        self._costs: deque[tuple[float, int, float]] = deque()

    @property
    def least(self) -> Cost:
        """The least cost that is still of use, and its late requests."""
        return self._costs[0][:2] if self._costs else (inf, 0)

    def add(self, cost: float, late: int, latest: float) -> None:
        """Take one in that is of use for longer than all before."""
        while self._costs and self._costs[-1][0] >= cost:
            self._costs.pop()
        self._costs.append((cost, late, latest))

    def until(self, now: float) -> list[tuple[float, int, float]]:
        """Give up and return those that are of no use any more."""
        gone = []
        while self._costs and self._costs[0][2] < now:
            gone.append(self._costs.popleft())
        return gone


def _best(dual: Callable[[float], Cost], allowed: float, dearest: float) -> float:
    """Return the most of dual(price) - price * allowed, a concave function, over prices up to `dearest`.

    The lines of two prices, one with too many late ones and one with few enough, meet at the next price.
    """

    def line(price: float) -> tuple[float, int]:
        cost, late = dual(price)
        return cost - price * late, late

    many, few = line(0.0), line(dearest)
    best = max(many[0], few[0] + dearest * (few[1] - allowed))
    for _ in range(PRICES):
        if many[1] <= max(allowed, few[1]):
            break
        price = (few[0] - many[0]) / (many[1] - few[1])
        met = line(price)
        best = max(best, met[0] + price * (met[1] - allowed))
        if met[0] + price * met[1] >= many[0] + price * many[1] - 1e-6:
            break
        if met[1] > allowed:
            many = met
        else:
            few = met
    return best


def _views(trace: Trace, setting: Setting) -> list[tuple[View, View]]:
    """Return the two ways to bound the host time of each tenant: by its hosts, and by its models' memory."""
    tenants: dict[str, dict[int, list[int]]] = {}
    for row, model in enumerate(trace.model):
        tenants.setdefault(trace.models[model].tenant, {}).setdefault(model, []).append(row)
    views: list[tuple[View, View]] = []
    for models in tenants.values():
        loads = {model: setting.load_seconds_of(trace.models[model].key) for model in models}
        wake = setting.host_start_seconds + min(loads.values())
        hosts = [_arrivals(trace, sorted(row for rows in models.values() for row in rows), wake, 1.0)]
        memory = [
            _arrivals(trace, rows, loads[model], trace.models[model].memory_bytes / setting.gpu_memory_bytes)
            for model, rows in models.items()
        ]
        views.append((hosts, memory))
    return views


def _arrivals(trace: Trace, rows: Sequence[int], wake_seconds: float, share: float) -> Arrivals:
    at = [trace.at_seconds[row] for row in rows]
    durations = [trace.duration_seconds[row] for row in rows]
    ends = [trace.length_seconds] * len(rows)
    end = trace.length_seconds
    for place in range(len(rows) - 1, -1, -1):
        ends[place] = end = min(end, at[place] + durations[place])
    return Arrivals(at, ends, min(durations), wake_seconds, share)
