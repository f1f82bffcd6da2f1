"""Which services and hosts a plan looks at: all at first, then those whose answer may be another by now.

A subject is a service, by its `namespace/name`, or a host, by its name, which has no slash.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lull.policy.fleet import Fleet


class Subjects:
    """Names that are gone through in their order, together with those that come in ahead meanwhile."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = set(names)

    def __iter__(self) -> Iterator[str]:
        last, known, ahead = "", 0, list[str]()
        while True:
            if len(self.names) != known:
                known = len(self.names)
                ahead = sorted((name for name in self.names if name > last), reverse=True)
            if not ahead:
                return
            last = ahead.pop()
            yield last


@dataclass(frozen=True, slots=True)
class Scope:
    """The subjects of one plan; what it decides may bring in more."""

    services: Subjects = field(default_factory=Subjects)
    hosts: Subjects = field(default_factory=Subjects)


def whole(fleet: Fleet) -> Scope:
    """Return all that there is."""
    return Scope(Subjects(fleet.services), Subjects(fleet.hosts))
