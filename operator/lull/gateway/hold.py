"""Requests that wait for their service to wake: how many, how long, and who is told when it has."""

import asyncio
from collections import Counter


class FullError(Exception):
    """No place is left to wait in; the message says whose bound it was."""


class Ledger:
    """Counts the places taken, per service and in all. Pure."""

    def __init__(self, total_limit: int) -> None:
        self._total_limit = total_limit
        self._taken: Counter[str] = Counter()
        self._total = 0

    def enter(self, service: str, limit: int) -> None:
        """Take a place.

        Raises:
            FullError: the service's own places, or the gateway's, are all taken.
        """
        if self._taken[service] >= limit:
            raise FullError(f"{limit} requests are waiting for this service already (spec.hold.max)")
        if self._total >= self._total_limit:
            raise FullError(f"{self._total_limit} requests are waiting at this gateway already")
        self._taken[service] += 1
        self._total += 1

    def leave(self, service: str) -> None:
        """Give a place back."""
        self._taken[service] -= 1
        self._total -= 1
        if not self._taken[service]:
            del self._taken[service]

    def taken(self, service: str) -> int:
        """Return how many requests wait for the service."""
        return self._taken.get(service, 0)

    @property
    def total(self) -> int:
        """Places taken now."""
        return self._total

    @property
    def services(self) -> frozenset[str]:
        """Services that at least one request waits for."""
        return frozenset(self._taken)


class Bell:
    """Wakes all who wait for one service; each then looks for itself whether its time has come."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}

    async def wait(self, service: str, seconds: float) -> None:
        """Wait until the service's bell rings.

        Raises:
            TimeoutError: it did not ring in time.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(service, set())
        waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        finally:
            waiters.discard(waiter)
            if not waiters and self._waiters.get(service) is waiters:
                del self._waiters[service]

    def ring(self, service: str) -> None:
        """Wake everyone who waits for the service."""
        for waiter in self._waiters.pop(service, ()):
            if not waiter.done():
                waiter.set_result(None)
