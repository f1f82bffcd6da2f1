"""When a service is asked: how long its silences last, learned from those that have ended.

A silence is the time from a service's last request to its next, where that is at least the idle time. Its
length falls into one of a few log-wide bins. The hazard at an age is the rate, per second, at which silences
of this age end: those that ended in the bin over the time that all of them spent in it. What is known of one
service is shrunk towards what is known of its pool, and that towards a heavy tail: a Gamma prior on a Poisson
rate, whose posterior mean is `(ended + k) / (at risk + k / prior)`, where `k` is the prior's weight in ended
silences (Gelman et al., Bayesian Data Analysis, 3rd ed., 2.6).
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

from lull.policy.fleet import Count

FIRST_EDGE_SECONDS = 30.0
BINS_PER_DOUBLING = 2
BINS = 36
"""The last one takes silences of two months and more."""
EDGES_SECONDS = tuple(FIRST_EDGE_SECONDS * 2.0 ** (i / BINS_PER_DOUBLING) for i in range(BINS + 1))
_BEGINNINGS_SECONDS = tuple(edge * (1 - 3e-7) for edge in EDGES_SECONDS[1:-1])
"""Of all bins but the first: a little early, as ages are differences of clocks that count from 1970."""

TAIL_EXPONENT = 0.55
"""Where nothing is known the hazard at age t is 0.55 / t: a Pareto tail of this exponent goes through the
published quantiles of a trace of 87 image models (p50 71 s, p90 1,304 s, p99 87,099 s)."""
SHRINKAGE_SILENCES = 10.0
"""How many silences of its own weigh as much as what is known of all; 1 and 40 kept more hosts, simulated."""
MOST_SILENCES = 2000
"""More are halved, so that new habits replace old ones."""
LEARNING_RATE = 0.3
"""Weight of the newest load or start in what one is expected to take."""

Gaps = tuple[int, ...]
"""How many silences ended in each bin."""
NO_GAPS: Gaps = (0,) * BINS
UNKNOWN_HAZARDS = tuple(TAIL_EXPONENT / sqrt(low * high) for low, high in pairwise(EDGES_SECONDS))
"""Per second, by bin: of a pool in which no silence has ended yet."""


@dataclass(frozen=True, slots=True)
class Habit:
    """What was learned of one service.

    Attributes:
        gaps: its silences, by bin.
        hazards: per second, by bin, as known when its last silence began or ended; empty before its first.
        silent_since: its last request, on the observer's clock, or, where nobody knows, when it was first
            seen asleep; None while it is in use.
        asked: whether it was ever seen in use: no silence before that was seen to begin.
        count: its totals when they were last looked at; None where the next ones are the first, and no news.
        load_seconds: how long a load of it takes; None before the first.
        loaded: the placement whose load was learned from last.
    """

    gaps: Gaps = NO_GAPS
    hazards: tuple[float, ...] = ()
    silent_since: float | None = None
    asked: bool = False
    count: Count | None = Count()  # noqa: RUF009  frozen
    load_seconds: float | None = None
    loaded: str = ""


@dataclass(frozen=True, slots=True)
class Crowd:
    """What was learned of all services of a pool together: where each of them starts from.

    Attributes:
        start_seconds: from the wish for a host until it can load; None before the first.
        load_seconds: how long a load takes of who was never loaded; None before the first.
        unload_seconds: until the memory is free of what makes room; None before the first.
    """

    gaps: Gaps = NO_GAPS
    hazards: tuple[float, ...] = UNKNOWN_HAZARDS
    start_seconds: float | None = None
    load_seconds: float | None = None
    unload_seconds: float | None = None


def bin_of(age_seconds: float) -> int:
    """Return the bin of a silence of this age; the first and the last take what is beyond them."""
    return bisect_right(_BEGINNINGS_SECONDS, age_seconds)


def with_silence(gaps: Gaps, seconds: float) -> Gaps:
    """Return the counts after one more silence."""
    ended = bin_of(seconds)
    counted = (*gaps[:ended], gaps[ended] + 1, *gaps[ended + 1 :])
    return counted if sum(counted) <= MOST_SILENCES else tuple(count // 2 for count in counted)


def hazards(gaps: Gaps, prior: Sequence[float]) -> tuple[float, ...]:
    """Return the rate, per second, at which silences end, by the bin of their age.

    Those that ended in a bin spent half of it there, those that went on all of it.
    """
    rates = []
    going_on = sum(gaps)
    for ended, (low, high), guess in zip(gaps, pairwise(EDGES_SECONDS), prior, strict=True):
        going_on -= ended
        at_risk = (high - low) * (going_on + ended / 2)
        rates.append((ended + SHRINKAGE_SILENCES) / (at_risk + SHRINKAGE_SILENCES / guess))
    return tuple(rates)


def counts_of(habit: Habit) -> list[int]:
    """Return what of a habit is worth keeping over a restart, as short as it can be."""
    known = [index + 1 for index, count in enumerate(habit.gaps) if count]
    return list(habit.gaps[: max(known, default=0)])


def habit_from(counts: Sequence[int], load_seconds: float | None = None) -> Habit:
    """Return the habit of these counts; its hazards follow (`learning.with_habits`)."""
    kept = tuple(counts[:BINS])
    return Habit(gaps=(*kept, *NO_GAPS[len(kept) :]), load_seconds=load_seconds)


def with_average(known: float | None, seconds: float) -> float:
    """Return a moving average after one more value."""
    return seconds if known is None else known + LEARNING_RATE * (seconds - known)
