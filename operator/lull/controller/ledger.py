"""The controller's accounts: what each service and pool used, drew and saved, over all restarts."""

from lull.controller.clock import Clock
from lull.controller.figures import Pools, Services
from lull.controller.view import View


class Ledger:
    """Owns the accounts; loads each from its object's status, and charges it with what hosts report."""

    def __init__(self, view: View, clock: Clock) -> None:
        self._view = view
        self._clock = clock

    def services(self) -> Services:
        """Return the figures of every service; empty until the first plan."""
        return {}

    def pools(self) -> Pools:
        """Return the figures of every pool; empty until the first plan."""
        return {}
