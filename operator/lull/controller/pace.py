"""When figures alone may be written: seldom for each object, and spread over time for all of them."""

import zlib

FIGURES_SECONDS = 30.0
"""Shortest time between two writes of the same object that say nothing but figures."""


class Pace:
    """Remembers when each object was written. Objects that begin together are spread by their uids."""

    def __init__(self) -> None:
        self._written: dict[str, float] = {}

    def due(self, uid: str, now: float) -> bool:
        """Tell whether an object's figures may be written now."""
        if uid not in self._written:
            self._written[uid] = now - zlib.crc32(uid.encode()) % int(FIGURES_SECONDS)
        return now >= self._written[uid] + FIGURES_SECONDS

    def wrote(self, uid: str, now: float) -> None:
        """Take note of a write, whatever it said."""
        self._written[uid] = now

    def keep(self, alive: set[str]) -> None:
        """Forget the objects that are not among `alive`."""
        self._written = {uid: at for uid, at in self._written.items() if uid in alive}
