"""The fleet as it changes, one object at a time, and its indices with it."""

from collections.abc import Collection, Mapping

from lull.policy.fleet import Count, Fleet, Gateway, Host, Index, Pool, Service


class Roster:
    """What there is. Hosts change by `show` and `hide`, which index them; the other dicts are plain."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self.pools: dict[str, Pool] = {}
        self.gateways: dict[str, Gateway] = {}
        self._hosts: dict[str, Host] = {}
        self._homes: dict[str, tuple[str, ...]] = {}
        self._by_pool: dict[str, tuple[str, ...]] = {}

    @property
    def hosts(self) -> Mapping[str, Host]:
        """The hosts by name."""
        return self._hosts

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

    def fleet(self, seed: str, counts: Mapping[str, Count] | None = None) -> Fleet:
        """Return the fleet as it is now; nothing changes it any more."""
        return Fleet(
            dict(self.services),
            dict(self.pools),
            dict(self._hosts),
            dict(self.gateways),
            seed,
            dict(counts or {}),
            Index(dict(self._homes), dict(self._by_pool)),
        )


def _add(index: dict[str, tuple[str, ...]], keys: Collection[str], name: str) -> None:
    for key in keys:
        index[key] = (*index.get(key, ()), name)


def _cut(index: dict[str, tuple[str, ...]], keys: Collection[str], name: str) -> None:
    for key in keys:
        left = tuple(other for other in index[key] if other != name)
        if left:
            index[key] = left
        else:
            del index[key]
