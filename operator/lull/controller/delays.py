"""How many requests waited for a wake: totals, and their share of the last hour's."""

import math
from collections import deque
from dataclasses import dataclass, field

from lull.controller.clock import Clock
from lull.controller.wire import Object

MINUTES_KEPT = 60


@dataclass
class _Minutes:
    """Requests and delayed ones by minute, of the last hour."""

    delayed: int = 0
    ring: deque[list[int]] = field(default_factory=lambda: deque(maxlen=MINUTES_KEPT))

    def add(self, minute: int, requests: int, delayed: int) -> None:
        self.delayed += delayed
        if not self.ring or self.ring[-1][0] != minute:
            self.ring.append([minute, 0, 0])
        self.ring[-1][1] += requests
        self.ring[-1][2] += delayed

    def sums(self, minute: int) -> tuple[int, int]:
        recent = [entry for entry in self.ring if entry[0] > minute - MINUTES_KEPT]
        return sum(entry[1] for entry in recent), sum(entry[2] for entry in recent)


class Delays:
    """Counts since this controller started; the gateways' own counters go on over its restarts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._services: dict[str, _Minutes] = {}
        self._seen: dict[str, dict[str, int]] = {}  # by the gateway's uid, as it says now

    def meet(self, gateway: Object) -> None:
        """Take a gateway that was here before this controller: what it counted so far is not news."""
        self._seen[gateway["metadata"]["uid"]] = dict(_delayed(gateway))

    def see(self, gateway: Object) -> set[str]:
        """Count what a gateway delayed since it was last seen. Returns the services that it delayed."""
        uid = gateway["metadata"]["uid"]
        seen, told = self._seen.get(uid, {}), dict(_delayed(gateway))
        self._seen[uid] = told
        news = set()
        for service, total in told.items():
            before = seen.get(service, 0)  # what a gateway has dropped starts anew
            grown = total - before if total >= before else total
            if grown:
                self._add(service, 0, grown)
                news.add(service)
        return news

    def forget_gateways(self, alive: set[str]) -> None:
        """Drop the gateways whose uids are not among `alive`."""
        self._seen = {uid: seen for uid, seen in self._seen.items() if uid in alive}

    def restart(self) -> None:
        """Begin the hour anew: what was answered before this controller started is not in it."""
        self._services.clear()

    def forget(self, service: str) -> None:
        """Drop a service that is gone."""
        self._services.pop(service, None)

    def answered(self, service: str, requests: int) -> None:
        """Count requests of a service."""
        if requests:
            self._add(service, requests, 0)

    def total(self, service: str) -> int:
        """Return how many requests waited since this controller started."""
        return self._services[service].delayed if service in self._services else 0

    def ratio(self, service: str) -> float | None:
        """Return the share of the last hour's requests that waited; None without requests."""
        if service not in self._services:
            return None
        requests, delayed = self._services[service].sums(self._minute())
        return min(1.0, delayed / requests) if requests else None

    def _add(self, service: str, requests: int, delayed: int) -> None:
        self._services.setdefault(service, _Minutes()).add(self._minute(), requests, delayed)

    def _minute(self) -> int:
        return int(self._clock() // 60)


def percent_up(ratio: float) -> int:
    """Return a share in whole percent, rounded up, so that what happened at all never reads 0."""
    return min(100, math.ceil(round(100 * ratio, 6)))


def _delayed(gateway: Object) -> dict[str, int]:
    return (gateway.get("status") or {}).get("delayed") or {}
