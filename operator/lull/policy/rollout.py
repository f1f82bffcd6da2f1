"""How a new revision takes over from the old one: pure, so that every way through it can be tried.

The old one is called stable, the new one the candidate. All that is remembered is `Rollout`, and that is what a
service's status says: whoever takes over goes on from there.
"""

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """How far a rollout is; the values are those of the API."""

    VALIDATING = "Validating"
    """The candidate is loaded and tried; no request reaches it."""
    SHADOWING = "Shadowing"
    """It is asked what the stable one is asked, and no client sees its answers."""
    STEPPING = "Stepping"
    """It gets its share of the requests."""
    PROMOTING = "Promoting"
    """The rest of its replicas are loaded; it gets what it got before."""
    SWAPPING = "Swapping"
    """There is no room for both, or nobody to notice: the old one goes first, and comes back if it fails."""
    PROMOTED = "Promoted"
    REJECTED = "Rejected"
    ABORTED = "Aborted"


@dataclass(frozen=True, slots=True)
class Bar:
    """What a candidate must not do worse than the stable revision, by more than this."""

    min_requests: int = 50
    error_percent: int = 1
    """Percentage points by which more of its requests may fail."""
    latency_percent: int = 50
    """How much slower its p95 may be."""
    disagree_percent: int = 5
    """Share of the compared answers that may be other ones."""
    min_accuracy_percent: int | None = None
    """What must have been measured before it gets any request."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a revision was asked during one step. `latency` counts its answers by the bins of `api/latency.py`."""

    requests: int = 0
    failures: int = 0
    latency: tuple[int, ...] = ()
    compared: int = 0
    differed: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asks for: the revision of the spec, and how it is to take over."""

    revision: str
    steps: tuple[int, ...] = (100,)
    pause_seconds: float = 300.0
    shadow_percent: int = 0
    bar: Bar = Bar()
    command: tuple[str, str] | None = None
    """`promote` or `abort`, and the revision that is meant."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What is seen of the candidate now.

    Attributes:
        wanted: replicas of the service that are wanted; 0 while it sleeps.
        have: the candidate's ready replicas.
        need: the replicas that its share wants.
        failure: reason and message of what its host last said went wrong, passing or not.
        no_room_seconds: for how long it has found no place; None where it has one, or looks for none.
        old: what the stable revision was asked during this step.
        new: what the candidate was.
        accuracy_percent: what was measured of the candidate; None where nothing was.
    """

    wanted: int = 0
    have: int = 0
    need: int = 0
    failure: tuple[str, str] | None = None
    no_room_seconds: float | None = None
    old: Sample = Sample()
    new: Sample = Sample()
    accuracy_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a candidate is. All but `reason` is `status.rollout`; that is the candidate's in the history."""

    stable: str
    candidate: str
    phase: Phase
    step: int = 0
    """At which of the steps, from 1; 0 before the first."""
    percent: int = 0
    """Share of the requests that it gets now."""
    shadow_percent: int = 0
    """Share of the stable one's requests that it is asked too, now."""
    since: float = 0.0
    """When this phase, or this step, began, as seconds since the epoch: samples are of the time from then on."""
    message: str = ""
    reason: str = ""
    """Why it was rejected or aborted, in one word."""

    @property
    def running(self) -> bool:
        """Whether it is not over yet."""
        return self.phase not in (Phase.PROMOTED, Phase.REJECTED, Phase.ABORTED)

    @property
    def beside(self) -> bool:
        """Whether the candidate is a service of its own in the fleet, beside the stable one."""
        return self.running and self.phase is not Phase.SWAPPING

    @property
    def serving(self) -> str:
        """The revision that the fleet's `namespace/name` has."""
        return self.candidate if self.phase in (Phase.SWAPPING, Phase.PROMOTED) else self.stable

    def share_percent(self, steps: tuple[int, ...]) -> int:
        """Return the share of the stable's replicas that the candidate should have, as its step is to come.

        It is ahead of `percent`, which rises when these replicas are ready.
        """
        if self.phase is Phase.PROMOTING:
            return 100
        if self.phase is Phase.STEPPING:
            return max(self.percent, steps[min(self.step, len(steps)) - 1])
        return self.shadow_percent


class Verdict(StrEnum):
    """What two samples say of a candidate."""

    GOOD = "Good"
    BAD = "Bad"
    UNKNOWN = "Unknown"


def begin(stable: str, wish: Wish, signs: Signs, now: float) -> Rollout:
    """Return the rollout of the revision that is wished for.

    Of the signs only `wanted` counts, as the others are those of a former candidate.
    """
    raise NotImplementedError


def advance(rollout: Rollout, wish: Wish, signs: Signs, now: float) -> tuple[Rollout, float | None]:
    """Return what becomes of a rollout, and when time alone may change that.

    The very same object comes back if nothing has changed. Where the spec asks for another revision by now, the
    rollout of that one begins; whether it needs one at all (a first revision, another name on the wire) is for
    the caller to tell before.
    """
    raise NotImplementedError


def verdict(old: Sample, new: Sample, bar: Bar) -> tuple[Verdict, str]:
    """Tell whether the candidate, of which `new` is, does worse than its bar allows, and why, in words."""
    raise NotImplementedError
