"""How many requests waited for a wake: what gateways count anew, and their share of the last hour's."""

import math
from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field

from lull.controller.clock import Clock
from lull.controller.wire import Object

MINUTES_KEPT = 60


@dataclass
class _Minutes:
    """Requests and delayed ones by minute, of the last hour."""

    ring: deque[list[int]] = field(default_factory=lambda: deque(maxlen=MINUTES_KEPT))

    def add(self, minute: int, requests: int, delayed: int) -> None:
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

    def see(self, gateway: Object) -> dict[str, int]:
        """Count what a gateway delayed since it was last seen. Returns how many, by service."""
        uid = gateway["metadata"]["uid"]
        seen, told = self._seen.get(uid, {}), dict(_delayed(gateway))
        self._seen[uid] = told
        news = {}
        for service, total in told.items():
            before = seen.get(service, 0)  # what a gateway has dropped starts anew
            grown = total - before if total >= before else total
            if grown:
                self._add(service, 0, grown)
                news[service] = grown
        return news

    def forget_gateways(self, alive: set[str]) -> None:
        """Drop the gateways whose uids are not among `alive`."""
        self._seen = {uid: seen for uid, seen in self._seen.items() if uid in alive}

    def restart(self) -> None:
        """Begin the hour anew: what was answered before this controller started is not in it."""
        self._services.clear()

    def keep(self, services: Container[str]) -> None:
        """Drop what is not among `services`: gateways go on to tell of those that are gone."""
        self._services = {key: minutes for key, minutes in self._services.items() if key in services}

    def answered(self, service: str, requests: int) -> None:
        """Count requests of a service."""
        if requests:
            self._add(service, requests, 0)

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
