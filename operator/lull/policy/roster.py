"""The fleet as it changes, one object at a time, and its indices with it."""

from collections import UserDict
from collections.abc import Collection, Mapping
from typing import TypeVar

from lull.policy.fleet import (
    Count,
    Fleet,
    Gateway,
    Host,
    Index,
    Pool,
    Service,
    candidates_of,
)

V = TypeVar("V")


class Entries(UserDict[str, V]):
    """What there is of one kind; shown as one and the same object until it changes.

    So nobody copies what stays as it is, nor compares it: `changed` knows it by its identity.
    """

    def __init__(self) -> None:
        self._shown: Mapping[str, V] | None = None
        super().__init__()

    def __setitem__(self, key: str, value: V) -> None:
        self._shown = None
        self.data[key] = value

    def __delitem__(self, key: str) -> None:
        self._shown = None
        del self.data[key]

    def shown(self) -> Mapping[str, V]:
        """Return all as it is now; nothing changes it any more."""
        if self._shown is None:
            self._shown = dict(self.data)
        return self._shown


class Roster:
    """What there is. Hosts change by `show` and `hide`, which index them; all else entry by entry."""

    def __init__(self) -> None:
        self.services = Entries[Service]()
        self.pools = Entries[Pool]()
        self.gateways = Entries[Gateway]()
        self.counts = Entries[Count]()
        self._hosts = Entries[Host]()
        self._homes = Entries[tuple[str, ...]]()
        self._by_pool = Entries[tuple[str, ...]]()
        self._candidates: tuple[Mapping[str, Service], Mapping[str, str]] = {}, {}

    @property
    def hosts(self) -> Mapping[str, Host]:
        """The hosts by name."""
        return self._hosts.data

    def show(self, host: Host) -> None:
        """Take a host as it is now."""
        before = self._hosts.get(host.name)
        if before == host:
            return  # the same object as before says that nothing is new
        self._hosts[host.name] = host
        if before is None:
            _add(self._by_pool, [host.pool], host.name)
            _add(self._homes, host.holds, host.name)
        elif (before.pool, before.holds) != (host.pool, host.holds):
            _cut(self._by_pool, {before.pool} - {host.pool}, host.name)
            _add(self._by_pool, {host.pool} - {before.pool}, host.name)
            _cut(self._homes, before.holds - host.holds, host.name)
            _add(self._homes, host.holds - before.holds, host.name)

    def hide(self, name: str) -> None:
        """Forget a host, if it is known."""
        host = self._hosts.pop(name, None)
        if host is not None:
            _cut(self._by_pool, [host.pool], name)
            _cut(self._homes, host.holds, name)

    def fleet(self, seed: str) -> Fleet:
        """Return the fleet as it is now; nothing changes it any more."""
        services = self.services.shown()
        if self._candidates[0] is not services:
            self._candidates = services, candidates_of(services)
        return Fleet(
            services,
            self.pools.shown(),
            self._hosts.shown(),
            self.gateways.shown(),
            seed,
            self.counts.shown(),
            Index(self._homes.shown(), self._by_pool.shown()),
            self._candidates[1],
        )


def _add(index: Entries[tuple[str, ...]], keys: Collection[str], name: str) -> None:
    for key in keys:
        index[key] = (*index.get(key, ()), name)


def _cut(index: Entries[tuple[str, ...]], keys: Collection[str], name: str) -> None:
    for key in keys:
        left = tuple(other for other in index[key] if other != name)
        if left:
            index[key] = left
        else:
            del index[key]
