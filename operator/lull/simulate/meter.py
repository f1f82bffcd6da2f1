"""Counts what a run keeps, draws and delays; every policy is counted by the same meter."""

from lull.simulate.outcome import Outcome
from lull.simulate.setting import Setting
from lull.simulate.trace import Trace


class Meter:
    """Takes in what happens, in the order of time, and sums it up. All times in virtual seconds."""

    def __init__(self, trace: Trace, setting: Setting) -> None:
        raise NotImplementedError

    def host_kept(self, host: str, at: float) -> None:
        """A host is wished for: its GPU is kept from now on, on a node in use if one has room."""
        raise NotImplementedError

    def host_gone(self, host: str, at: float) -> None:
        """Its GPU is free again."""
        raise NotImplementedError

    def loaded(self, host: str, *, moved: bool = False) -> None:
        """A load of one model began."""
        raise NotImplementedError

    def served(self, model: int, arrived: float, began: float, ended: float) -> None:
        """One request was served; it computed from `began` to `ended`."""
        raise NotImplementedError

    def outcome(self, policy: str, end: float) -> Outcome:
        """Return the sums; what is still kept is kept until `end`."""
        raise NotImplementedError
