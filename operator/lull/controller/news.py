"""What is news enough to write a status: of what sleeps, figures alone only for the last time."""

from lull.controller.ledger import Ledger, sleeps
from lull.controller.view import View
from lull.controller.wire import Object
from lull.kube import MODELHOSTS, MODELPOOLS, Resource
from lull.policy.energy import Meters


class News:
    """Compares what a status says with what the ledger knows."""

    def __init__(self, view: View, ledger: Ledger) -> None:
        self._hosts = view.raw[MODELHOSTS]
        self._ledger = ledger

    def figures(self, kind: Resource, key: str, status: Object) -> bool:
        """Tell whether figures alone may be written: not of what sleeps, but once when all of it is known."""
        if kind is MODELPOOLS:
            return self._ledger.pool(key) is not None
        book = self._ledger.service(key)
        return book is not None and (not sleeps(book) or self.outdated(kind, key, status))

    def outdated(self, kind: Resource, key: str, status: Object) -> bool:
        """Tell whether a status lacks what nobody tells again: delayed requests, the last of what is gone."""
        ledger = status.get("ledger") or {}
        counted = ledger.get("counted", ())
        if kind is MODELPOOLS:
            return any(entry["name"] not in self._hosts for entry in counted)
        book, present = self._ledger.service(key), self._ledger.reports.present(key)
        delayed = book is not None and book.account.delayed != ledger.get("delayed", 0)
        return delayed or any(entry["id"] not in present for entry in counted)

    def rates(self, kind: Resource, key: str, status: Object) -> bool:
        """Tell whether a status lacks what its figures grow by unwritten: a state like any other."""
        ledger = status.get("ledger") or {}
        said_mebibytes = ledger.get("mebibytes", 0)
        if kind is MODELPOOLS:
            pool = self._ledger.pool(key)
            rates = (ledger.get("baselineMilliwatts", 0), said_mebibytes)
            return pool is not None and (pool.account.baseline_milliwatts, pool.account.mebibytes) != rates
        book = self._ledger.service(key)
        if book is None:
            return False
        if book.settled or (book.pool, book.account.mebibytes) != (ledger.get("pool", ""), said_mebibytes):
            return True
        if bool(book.basis) != bool(status.get("energy")):
            return True
        # A reading above the meter's is of an earlier pool of that name: read back, it would owe no present.
        now = self._ledger.meters(book)
        said = Meters(ledger.get("meter", 0), ledger.get("overheadMeter", 0))
        return said.baseline > now.baseline or said.overhead > now.overhead
