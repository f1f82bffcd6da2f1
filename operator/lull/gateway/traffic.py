"""What both revisions of a rollout were asked: Envoy's statistics of their routes, added up. Pure.

A route's statistics, unlike a cluster's, are of what clients asked of it: a request that the candidate failed
and the other revision then answered counts once, as the candidate's and as failed, with the time that its
client waited. They also stay when clusters go.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from operator import add
from typing import Any, NamedTuple
from zlib import crc32

from lull.api.latency import BINS
from lull.gateway.view import GRPC, Lease, Split

LONGEST = 200
"""Most entries, two a service: with the longest names and counts 0.1 MB."""

OWN_ROUTES = "lull_own"
CANDIDATE_ROUTES = "lull_candidate"
"""Under these names (`stat_prefix`), with a number, Envoy counts what a rollout's routes were asked."""
_NAMES = 256
"""How many names a service's rollouts share: Envoy forgets none, and each takes 10 kB once it was used.

It goes by the candidate. What a bad one held for long ends when the next one is there, and is none of its
doing; only where both happen to have one name is it counted as such.
"""
GRPC_FAILED = "grpc.failure"
"""gRPC errors of a cluster: over HTTP/2 they are answers with status 200. Of the own routes alone."""

_COMPLETED, _TOOK = "completed", "time"
_RETRIED, _RETRIED_IN_VAIN = "retry", "retry_limit_exceeded"
_REFUSED, _FAILED = "4xx", "5xx"
_COUNTED = (_COMPLETED, _RETRIED, _RETRIED_IN_VAIN, _REFUSED, _FAILED)

Bins = tuple[int, ...]
_NONE: Bins = (0,) * BINS


class Statistics(NamedTuple):
    """Envoy's totals, by name."""

    counters: Mapping[str, int] = {}
    histograms: Mapping[str, Bins] = {}


class Rollout(NamedTuple):
    """A service's running rollout, and where it stands."""

    split: Split
    own: tuple[Lease, ...]


@dataclass
class _Counts:
    requests: int = 0
    failures: int = 0
    latency: Bins = _NONE
    compared: int = 0
    differed: int = 0

    def entry(self) -> dict[str, Any]:
        """Return what is written of it; a request that is asked again has failed before it has ended."""
        failures = min(self.failures, self.requests)
        used = max((i + 1 for i, count in enumerate(self.latency) if count), default=0)
        return {
            "requests": self.requests,
            "failures": failures,
            "latency": list(self.latency[:used]),
            "compared": self.compared,
            "differed": self.differed,
        }


class Traffic:
    """Totals by `namespace/name@revision`, of running rollouts alone."""

    def __init__(self) -> None:
        self._counts: dict[str, _Counts] = {}
        self._wanted: frozenset[str] = frozenset()
        self._candidates: dict[str, str] = {}  # service -> the candidate that is counted
        self._seen = Statistics()  # as of the last look

    def restore(self, totals: Mapping[str, Mapping[str, Any]]) -> None:
        """Go on from what an earlier pilot of this gateway counted."""
        for key, entry in totals.items():
            latency = (*entry.get("latency", ()), *_NONE)[:BINS]
            self._counts.setdefault(key, _Counts(**{**entry, "latency": latency}))

    def compared(self, service: str, revision: str, differed: bool) -> None:
        """Count two answers to one request that were compared."""
        counts = self._of(service, revision)
        if counts:
            counts.compared += 1
            counts.differed += differed

    def follow(self, rollouts: Mapping[str, Rollout]) -> dict[str, Rollout]:
        """Forget all other rollouts. Returns those that are counted: as many as there is room for.

        First come those whose candidate is asked now: one that waits has nothing to be counted.
        """
        first = sorted(rollouts, key=lambda service: (not _asked(rollouts[service]), service))
        counted = {service: rollouts[service] for service in first[: LONGEST // 2]}
        self._wanted = frozenset(
            _key(service, revision)
            for service, (split, _) in counted.items()
            for revision in (split.stable, split.candidate)
        )
        self._counts = {key: counts for key, counts in self._counts.items() if key in self._wanted}
        self._candidates = {k: v for k, v in self._candidates.items() if k in counted}
        return counted

    def take(self, rollouts: Mapping[str, Rollout], statistics: Statistics) -> None:
        """Add what is new in Envoy's statistics since the last look.

        At the first look at a rollout all is old: an earlier one's of that name, or seen by an earlier pilot.
        """
        for service, (split, own) in rollouts.items():
            if self._candidates.get(service) != split.candidate:
                self._candidates[service] = split.candidate
                continue
            own_routes, its_routes = (
                routes_name(routes, split.candidate) for routes in (OWN_ROUTES, CANDIDATE_ROUTES)
            )
            new = self._new(service, own_routes, statistics)
            grpc_failed = sum(self._since(_grpc_name(lease), statistics) for lease in own)
            self._add(service, split.stable, new, new[_REFUSED] + new[_FAILED] + grpc_failed)
            new = self._new(service, its_routes, statistics)
            # What failed again is among the final answers too.
            finally_failed = new[_REFUSED] + new[_FAILED] - new[_RETRIED_IN_VAIN]
            self._add(service, split.candidate, new, new[_RETRIED] + max(0, finally_failed))
            for routes, revision in ((own_routes, split.stable), (its_routes, split.candidate)):
                self._add_latency(service, revision, _name(service, routes, _TOOK), statistics)
        self._seen = statistics

    def totals(self) -> dict[str, dict[str, Any]]:
        """Return what is to be written."""
        return {key: counts.entry() for key, counts in self._counts.items()}

    def _new(self, service: str, routes: str, statistics: Statistics) -> dict[str, int]:
        return {outcome: self._since(_name(service, routes, outcome), statistics) for outcome in _COUNTED}

    def _add(self, service: str, revision: str, new: Mapping[str, int], failures: int) -> None:
        counts = self._of(service, revision) if new[_COMPLETED] or failures else None
        if counts:
            counts.requests += new[_COMPLETED]
            counts.failures += failures

    def _add_latency(self, service: str, revision: str, name: str, statistics: Statistics) -> None:
        now, before = statistics.histograms.get(name, _NONE), self._seen.histograms.get(name, _NONE)
        if sum(now) < sum(before):
            before = _NONE  # an Envoy that is new counts from zero
        counts = self._of(service, revision) if now != before else None
        if counts:
            new = (max(0, a - b) for a, b in zip(now, before, strict=True))
            counts.latency = tuple(map(add, counts.latency, new))

    def _of(self, service: str, revision: str) -> _Counts | None:
        key = _key(service, revision)
        return self._counts.setdefault(key, _Counts()) if key in self._wanted else None

    def _since(self, name: str, statistics: Statistics) -> int:
        now, before = statistics.counters.get(name, 0), self._seen.counters.get(name, 0)
        return now - before if now >= before else now  # an Envoy that is new counts from zero


def _asked(rollout: Rollout) -> bool:
    return bool(rollout.own and (rollout.split.percent or rollout.split.shadow_percent))


def pattern(rollouts: Mapping[str, Rollout]) -> str:
    """Return the expression that Envoy finds the statistics of these rollouts by."""
    names = "|".join(
        f"{re.escape(service)}\\.route\\.{routes_name(routes, rollout.split.candidate)}"
        for service, rollout in rollouts.items()
        for routes in (OWN_ROUTES, CANDIDATE_ROUTES)
    )
    outcomes = "|".join((*_COUNTED, _TOOK))
    grpc = re.escape(f"|{GRPC}.{GRPC_FAILED}")
    return rf"^vhost\.({names})\.upstream_rq_({outcomes})$|^cluster\..*{grpc}$"


def routes_name(routes: str, candidate: str) -> str:
    """Return under what name Envoy counts what routes of a rollout are asked."""
    return f"{routes}_{crc32(candidate.encode()) % _NAMES}"


def _name(service: str, routes: str, outcome: str) -> str:
    return f"vhost.{service}.route.{routes}.upstream_rq_{outcome}"


def _grpc_name(lease: Lease) -> str:
    return f"cluster.{lease.cluster(GRPC)}.{GRPC_FAILED}"


def _key(service: str, revision: str) -> str:
    return f"{service}@{revision}"
