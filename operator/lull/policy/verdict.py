"""Whether a new revision does worse than the old one, by what both were asked meanwhile.

It is looked at with every request, so whoever is the same has many chances to look worse by chance. A share
is therefore held against the upper end of Wilson's score interval of the old one's (Wilson, Journal of the
American Statistical Association 22, 1927), and it counts as higher only where the binomial tail is thin.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import exp, lgamma, log, log1p, sqrt

from lull.api.latency import EDGES_SECONDS
from lull.api.quantities import format_duration

SURE = 0.001
"""How thin the tail has to be: so rarely is as much seen by chance of a revision just at its bar …"""
SURE_DEVIATIONS = 3.0
"""… and how many standard deviations the old one may really be worse than it looks."""
SLOW_SHARE = 0.05
"""Of a revision's answers, the share that took longer than its p95."""


class Verdict(StrEnum):
    """What two samples say of a candidate."""

    GOOD = "Good"
    BAD = "Bad"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Bar:
    """What a candidate must not do worse than the stable revision, by more than this."""

    min_requests: int = 50
    """As many must have been seen before it is called good."""
    error_percent: int = 1
    """Percentage points by which more of its requests may fail."""
    latency_percent: int = 50
    """How much slower its p95 may be."""
    disagree_percent: int = 5
    """Share of the compared answers that may be other ones."""
    min_accuracy_percent: int | None = None
    """What must have been measured before it gets any request."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a revision was asked during one step.

    `latency` counts its answers by the bins of `api/latency.py`.
    """

    requests: int = 0
    failures: int = 0
    latency: tuple[int, ...] = ()
    compared: int = 0
    differed: int = 0

    def __add__(self, other: "Sample") -> "Sample":
        """Return what was seen at two places."""
        width = max(len(self.latency), len(other.latency))
        ours, theirs = (s.latency + (0,) * (width - len(s.latency)) for s in (self, other))
        return Sample(
            self.requests + other.requests,
            self.failures + other.failures,
            tuple(a + b for a, b in zip(ours, theirs, strict=True)),
            self.compared + other.compared,
            self.differed + other.differed,
        )

    def __sub__(self, before: "Sample") -> "Sample":
        """Return what was seen since; where a count is lower than before, counting began anew."""
        old = before.latency + (0,) * (len(self.latency) - len(before.latency))
        since = Sample(
            self.requests - before.requests,
            self.failures - before.failures,
            tuple(a - b for a, b in zip(self.latency, old, strict=False)),
            self.compared - before.compared,
            self.differed - before.differed,
        )
        counts = (since.requests, since.failures, *since.latency, since.compared, since.differed)
        return since if min(counts) >= 0 else self

    @property
    def answers(self) -> int:
        """How many answers were timed."""
        return sum(self.latency)

    @property
    def p95_seconds(self) -> float | None:
        """How long 95 of 100 answers took at most, rounded up to the edge of a bin; None without any.

        What took longer than the last edge is taken to be a quarter above it.
        """
        seen, enough = 0, (1 - SLOW_SHARE) * self.answers
        for edge, count in zip((*EDGES_SECONDS, 1.25 * EDGES_SECONDS[-1]), self.latency, strict=False):
            seen += count
            if count and seen >= enough:
                return edge
        return None

    def slower_than(self, seconds: float) -> int:
        """Return how many answers took longer for sure: those of bins that begin there or later."""
        return sum(self.latency[bisect_left(EDGES_SECONDS, seconds) + 1 :])


@dataclass(frozen=True, slots=True)
class _Finding:
    """A share of what the candidate did, `count` of `of`, and the share that is allowed: surely `at_most`."""

    count: int
    of: int
    allowed: float
    at_most: float
    words: str


def verdict(old: Sample, new: Sample, bar: Bar, *, shadow: bool = False) -> tuple[Verdict, str]:
    """Tell whether the candidate, of which `new` is, does worse than its bar allows, and why, in words.

    Bad as soon as that is sure. Good once it was asked enough, or has enough compared answers in `shadow`,
    and no share is above its bar. One that fails always is bad after 2 requests where the old one was asked
    1,000 without a failure, after 4 where that was 50, and after 10 where it was asked as often.
    """
    findings = list(_findings(old, new, bar))
    for finding in findings:
        if tail(finding.count, finding.of, finding.at_most) < SURE:
            return Verdict.BAD, finding.words
    seen, what = (new.compared, "compared answers") if shadow else (new.requests, "requests")
    if seen < bar.min_requests:
        return Verdict.UNKNOWN, f"{seen} of {bar.min_requests} {what}; promote it to go on sooner"
    for finding in findings:
        if finding.count > finding.allowed * finding.of:
            return Verdict.UNKNOWN, f"{finding.words}; more {what} tell, or promote it to go on sooner"
    return Verdict.GOOD, ""


def _findings(old: Sample, new: Sample, bar: Bar) -> Iterator[_Finding]:
    failed = old.failures / max(1, old.requests)
    yield _Finding(
        new.failures,
        new.requests,
        failed + bar.error_percent / 100,
        upper_share(old.failures, old.requests) + bar.error_percent / 100,
        f"{new.failures} of its {new.requests} requests failed, and {old.failures} of {old.requests} "
        "of the old revision",
    )
    yield _Finding(
        new.differed,
        new.compared,
        bar.disagree_percent / 100,
        bar.disagree_percent / 100,
        f"{new.differed} of {new.compared} compared answers were other ones than the old revision's",
    )
    usual = old.p95_seconds
    if usual is not None:
        limit = usual * (1 + bar.latency_percent / 100)
        slow = new.slower_than(limit)
        yield _Finding(
            slow,
            new.answers,
            SLOW_SHARE,
            max(SLOW_SHARE, upper_share(old.slower_than(limit), old.answers)),
            f"{slow} of its {new.answers} answers took longer than {format_duration(limit)}, "
            f"and the p95 of the old revision is {format_duration(usual)}",
        )


def upper_share(count: int, of: int) -> float:
    """Return how large the share may really be of which `count` of `of` were seen (Wilson's upper end)."""
    if of == 0:
        return 1.0
    share, z = count / of, SURE_DEVIATIONS
    spread = z * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (share + z * z / (2 * of) + spread) / (1 + z * z / of)


def tail(count: int, of: int, share: float) -> float:
    """Return how likely `count` or more of `of` are, each with probability `share`; never too little.

    It is the last term's bound on the sum of all, `b(k; n, p) · k·q / (k − n·p)` (Feller, An Introduction to
    Probability Theory, vol. 1, 3rd ed., VI.3): some per cent above the sum where that is thin, and found at
    once however many there are.
    """
    if count <= of * share or share >= 1:
        return 1.0
    if share <= 0:
        return 0.0
    ways = lgamma(of + 1) - lgamma(count + 1) - lgamma(of - count + 1)
    rest = (of - count) * log1p(-share)
    term = exp(ways + count * log(share) + rest)
    return min(1.0, term * count * (1 - share) / (count - of * share))
