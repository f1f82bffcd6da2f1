"""Which host says something of which service: an index over the ModelHosts as they are known."""

from collections.abc import Iterator

from lull.controller.view import View
from lull.controller.wire import Object
from lull.kube import MODELHOSTS


class Reports:
    """Finds a service's entries in the statuses of hosts without a walk over all of them."""

    def __init__(self, view: View) -> None:
        self._hosts = view.raw[MODELHOSTS]
        self._named: dict[str, frozenset[str]] = {}
        self._homes: dict[str, set[str]] = {}

    def take(self, host: str) -> frozenset[str]:
        """Note what a host holds and says now, or that it went. Returns the services that this concerns."""
        before = self._named.pop(host, frozenset())
        item = self._hosts.get(host)
        now = frozenset(entry["service"] for entry in (*wanted(item), *told(item))) if item else frozenset()
        for service in before - now:
            self._homes[service].discard(host)
            if not self._homes[service]:
                del self._homes[service]
        for service in now:
            self._homes.setdefault(service, set()).add(host)
        if item:
            self._named[host] = now
        return before | now

    def of(self, service: str) -> Iterator[tuple[Object, Object]]:
        """Yield the ModelHosts that say something of a service, each with what it says of one placement."""
        for name in sorted(self._homes.get(service, ())):
            host = self._hosts[name]
            for entry in told(host):
                if entry["service"] == service:
                    yield host, entry

    def kept(self, service: str) -> list[tuple[Object, Object]]:
        """Return the same, of placements that are to stay for now, on hosts that are."""
        of_service = self.of(service)
        return [(h, entry) for h, entry in of_service if stays(h) and entry["id"] in _ids(wanted(h))]

    def present(self, service: str) -> set[str]:
        """Return the ids of its placements that any host should hold or does hold."""
        hosts = [self._hosts[name] for name in self._homes.get(service, ())]
        entries = [entry for host in hosts for entry in (*wanted(host), *told(host))]
        return {entry["id"] for entry in entries if entry["service"] == service}


def stays(host: Object) -> bool:
    """Tell whether a ModelHost is not being deleted: that of a dead node ends only with its Pod, so never."""
    return "deletionTimestamp" not in host["metadata"]


def wanted(host: Object) -> list[Object]:
    """Return what a ModelHost should hold."""
    return list((host.get("spec") or {}).get("models") or ())


def told(host: Object) -> list[Object]:
    """Return what a ModelHost's agent says of its models."""
    return list((host.get("status") or {}).get("models") or ())


def _ids(entries: list[Object]) -> set[str]:
    return {entry["id"] for entry in entries}
