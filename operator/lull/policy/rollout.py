"""How a new revision takes over from the old one: pure, so that every way through it can be tried.

The old one is called stable, the new one the candidate. All that is remembered is `Rollout`, and that is what
a service's status says: whoever takes over goes on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from lull.api.quantities import format_duration
from lull.api.reasons import LOAD_FAILURES, Reason
from lull.policy.fleet import replicas_of_share
from lull.policy.verdict import Bar, Sample, Verdict, verdict

NO_ROOM_SECONDS = 30.0
"""For how long there must have been no room beside the old revision before the new one goes on without."""

PASSING = frozenset({Reason.UNREACHABLE, Reason.UNAUTHORIZED, Reason.DISK_FULL})
"""What a host may say of any revision, however good: it is tried again."""
REFUSALS = LOAD_FAILURES - PASSING
"""What a host says for good."""
LOST = REFUSALS - {Reason.LOAD_TIMEOUT, Reason.LOAD_FAILED, Reason.TOO_SLOW, Reason.TOO_LARGE}
"""What every host will say, whatever its state and room: a stable revision is none to go back to then."""
FINAL = frozenset({Reason.GOLDEN_MISMATCH, Reason.NO_GOLDEN_CASES})
"""What nobody can overrule, as the answers are known to be wrong, or not known to be right."""

WORSE = "Worse"
"""It did worse than the stable revision."""
INACCURATE = "Inaccurate"
"""Its accuracy is below what the spec asks for."""
ABORTED = "Aborted"
"""Its user said so."""
TAKEN_BACK = "TakenBack"
"""The spec asks for the stable revision again."""


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


_ENDS = frozenset({Phase.PROMOTED, Phase.REJECTED, Phase.ABORTED})


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asks for: the revision of the spec, and how it is to take over."""

    revision: str
    steps: tuple[int, ...] = (100,)
    """Shares of the requests, in percent; at least one."""
    pause_seconds: float = 300.0
    shadow_percent: int = 0
    bar: Bar = Bar()  # noqa: RUF009  frozen
    command: tuple[str, ...] | None = None
    """`promote` or `abort`, the revision that is meant, maybe `again`. It stands until another is said."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What is seen now of the candidate; in Swapping, of the service itself.

    Attributes:
        wanted: replicas of the service that are wanted; 0 while it sleeps.
        have: the candidate's ready replicas.
        failure: reason and message of what last went wrong with it, passing or not; None once it was ready.
        no_room_seconds: for how long it has found no place; None where it has one, or looks for none.
        stable_lost: whether the stable revision serves nowhere, and is `LOST`: a change costs nothing then.
        old: what the stable revision was asked during this step.
        new: what the candidate was.
        accuracy_percent: what was measured of the candidate; None where nothing was.
    """

    wanted: int = 0
    have: int = 0
    failure: tuple[str, str] | None = None
    no_room_seconds: float | None = None
    stable_lost: bool = False
    old: Sample = Sample()  # noqa: RUF009  frozen
    new: Sample = Sample()  # noqa: RUF009  frozen
    accuracy_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a candidate is. All but `reason` is `status.rollout`; that is the candidate's in the status."""

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
    """When this phase or share began, in seconds since the epoch: samples are of the time since then."""
    message: str = ""
    reason: str = ""
    """Why it was rejected or aborted, in one word. While it runs: why that was so before, or why a swap was
    undone; then there is no swap any more, as it would take the old one away again."""
    heard: tuple[str, ...] | None = None
    """The command that stood there as it began: it was said of an earlier rollout of the same revision."""

    @property
    def running(self) -> bool:
        """Whether it is not over yet."""
        return self.phase not in _ENDS

    @property
    def beside(self) -> bool:
        """Whether the candidate is a service of its own in the fleet, beside the stable one."""
        return self.running and self.phase is not Phase.SWAPPING

    @property
    def serving(self) -> str:
        """The revision that the fleet's `namespace/name` has."""
        return self.candidate if self.phase in (Phase.SWAPPING, Phase.PROMOTED) else self.stable

    def share_percent(self, steps: Sequence[int]) -> int:
        """Return of what share of the service's replicas the candidate should have as many, at least one.

        At a step it is ahead of `percent`, which rises once they are ready.
        """
        if self.phase is Phase.PROMOTING:
            return 100
        if self.phase is Phase.STEPPING:
            return steps[min(self.step, len(steps)) - 1]
        return self.shadow_percent


def begin(stable: str, wish: Wish, signs: Signs, now: float) -> Rollout:
    """Return the rollout of the revision that is wished for.

    Of the signs only `wanted` counts: the others may be those of a former candidate.
    """
    heard = wish.command if wish.command and wish.command[1] == wish.revision else None
    rollout = Rollout(stable, wish.revision, Phase.VALIDATING, since=now, heard=heard)
    if signs.wanted == 0 and _unwatched(wish, None):
        return _enter(rollout, Phase.SWAPPING, now, _WAKES)
    return rollout


def advance(rollout: Rollout, wish: Wish, signs: Signs, now: float) -> tuple[Rollout, float | None]:
    """Return what becomes of a rollout, and when time alone may change that.

    The very same object comes back if nothing has changed. Where the spec asks for another revision by now,
    the rollout of that one begins; whether it needs one at all (a first revision, another name on the wire)
    is for the caller to tell before. Samples are expected to begin anew with every change of `since`.
    """
    settled = rollout.candidate if rollout.phase is Phase.PROMOTED else rollout.stable
    if wish.revision == settled:
        return _taken_back(rollout, now), None
    if wish.revision != rollout.candidate or rollout.reason == TAKEN_BACK:
        return advance(begin(settled, wish, signs, now), wish, Signs(wanted=signs.wanted), now)
    look = _Look(wish, signs, now)
    known = rollout
    if rollout.heard != wish.command:
        rollout = replace(rollout, heard=None)
    while (after := look.at(rollout)) != rollout:
        if after.since != rollout.since or after.phase is not rollout.phase:
            look = _Look(wish, replace(signs, old=Sample(), new=Sample()), now)
        rollout = after
    return (known if rollout == known else rollout), look.due_at


_SLEEPS = "the service sleeps; it goes on with the next request"
_WAKES = "the next request loads it; the old revision comes back if it fails"


def _taken_back(rollout: Rollout, now: float) -> Rollout:
    if rollout.phase is Phase.PROMOTED or rollout.reason == TAKEN_BACK:
        return rollout
    message = "the spec asks for the old revision again"
    if rollout.phase is Phase.REJECTED:
        message = f"{message}; it was rejected: {rollout.reason}: {rollout.message}"
    return _end(rollout, Phase.ABORTED, now, TAKEN_BACK, message)


def _unwatched(wish: Wish, accuracy_percent: float | None, stable_lost: bool = False) -> bool:
    """Tell whether nobody asks to see anything of a revision before all requests go to it, or nobody can.

    Beside a stable revision that is lost there are no requests to be seen: gateways turn them away.
    """
    seen = not stable_lost and (wish.steps[0] < 100 or wish.shadow_percent > 0)
    return not seen and _accurate(wish.bar, accuracy_percent)


def _accurate(bar: Bar, accuracy_percent: float | None) -> bool:
    if bar.min_accuracy_percent is None:
        return True
    return accuracy_percent is not None and accuracy_percent >= bar.min_accuracy_percent


def _enter(rollout: Rollout, phase: Phase, now: float, message: str = "") -> Rollout:
    """Go on to another phase."""
    return replace(rollout, phase=phase, since=now, shadow_percent=0, message=message)


def _end(rollout: Rollout, phase: Phase, now: float, reason: str, message: str) -> Rollout:
    return replace(_enter(rollout, phase, now, message), percent=0, reason=reason)


def _say(rollout: Rollout, message: str) -> Rollout:
    return replace(rollout, message=message)


class _Look:
    """One look at a rollout: each method is what becomes of one phase."""

    def __init__(self, wish: Wish, signs: Signs, now: float) -> None:
        self._wish = wish
        self._signs = signs
        self._now = now
        self.due_at: float | None = None

    def at(self, rollout: Rollout) -> Rollout:
        """Return the next state; the same one where it waits."""
        self.due_at = None
        if rollout.running and self._said("abort", rollout):
            return _end(
                rollout, Phase.ABORTED, self._now, ABORTED, "its user aborted it; promote it to try again"
            )
        return _WAYS[rollout.phase](self, rollout)

    def validating(self, rollout: Rollout) -> Rollout:
        signs, forced = self._signs, self._said("promote", rollout)
        if stopped := self._refused(rollout) or self._inaccurate(rollout):
            return stopped
        if signs.wanted == 0:
            unwatched = _unwatched(self._wish, signs.accuracy_percent, signs.stable_lost)
            return self._asleep(rollout, forced or unwatched)
        if signs.have == 0:
            return self._unplaced(rollout)
        if forced:
            return _enter(rollout, Phase.PROMOTING, self._now)
        if not _accurate(self._wish.bar, signs.accuracy_percent):
            return _say(
                rollout, "it is ready, and waits for `lull evaluate --record`; promote it to go on without"
            )
        if signs.stable_lost:
            return _enter(rollout, Phase.PROMOTING, self._now)
        if self._wish.shadow_percent:
            shadowing = _enter(rollout, Phase.SHADOWING, self._now)
            return replace(shadowing, shadow_percent=self._wish.shadow_percent)
        return self._to_step(rollout, 1)

    def shadowing(self, rollout: Rollout) -> Rollout:
        if stopped := self._refused(rollout) or self._worse(rollout):
            return stopped
        if rollout.shadow_percent != self._wish.shadow_percent:
            return replace(rollout, shadow_percent=self._wish.shadow_percent)
        if waiting := self._absent(rollout):
            return waiting
        if self._hurried(rollout):
            return _enter(rollout, Phase.PROMOTING, self._now)
        return self._gone_through(rollout) if rollout.shadow_percent else self._to_step(rollout, 1)

    def stepping(self, rollout: Rollout) -> Rollout:
        if stopped := self._refused(rollout) or self._worse(rollout):
            return stopped
        if self._signs.have and self._hurried(rollout):
            return _enter(rollout, Phase.PROMOTING, self._now)
        if rollout.step > len(self._wish.steps):  # some were taken away, which is no reason to hurry
            return replace(rollout, step=len(self._wish.steps))
        share = self._share(rollout.step)
        if share == 100:
            return _enter(rollout, Phase.PROMOTING, self._now)
        if rollout.percent > share:
            return replace(rollout, percent=share)
        if waiting := self._absent(rollout):
            return waiting
        if rollout.percent == share:
            return self._gone_through(rollout)
        if self._enough(replicas_of_share(share, self._signs.wanted)):
            return replace(rollout, percent=share, since=self._now)
        return _say(rollout, self._missing(replicas_of_share(share, self._signs.wanted)))

    def promoting(self, rollout: Rollout) -> Rollout:
        if stopped := self._refused(rollout) or self._worse(rollout):
            return stopped
        if self._enough(self._signs.wanted):
            return self._promoted(rollout)
        return _say(rollout, self._missing(self._signs.wanted))

    def swapping(self, rollout: Rollout) -> Rollout:
        if self._signs.have:
            return self._promoted(rollout)
        if stopped := self._refused(rollout):
            return stopped
        if self._signs.failure:
            reason, message = self._signs.failure
            return replace(_enter(rollout, Phase.VALIDATING, self._now), reason=reason, message=message)
        asleep = self._signs.wanted == 0
        return _say(
            rollout, _WAKES if asleep else "there is no room for both, so the old revision goes first"
        )

    def over(self, rollout: Rollout) -> Rollout:
        """Only its user revives it; what failed before is not swapped in again."""
        revived = self._said("promote", rollout) and rollout.phase is not Phase.PROMOTED
        if not revived or rollout.reason in FINAL:
            return rollout
        before = "" if rollout.reason == ABORTED else rollout.reason
        return replace(_enter(rollout, Phase.VALIDATING, self._now), step=0, reason=before)

    def _said(self, verb: str, rollout: Rollout) -> bool:
        command = self._wish.command or ()
        return command[:2] == (verb, rollout.candidate) and command != rollout.heard

    def _hurried(self, rollout: Rollout) -> bool:
        """Tell whether the remaining steps are left out: by its user, or as there is nothing to step from."""
        return self._signs.stable_lost or self._said("promote", rollout)

    def _due(self, at: float) -> bool:
        if self._now >= at:
            return True
        self.due_at = at
        return False

    def _share(self, step: int) -> int:
        """Return the share of a step; after the last it is all."""
        return self._wish.steps[step - 1] if step <= len(self._wish.steps) else 100

    def _to_step(self, rollout: Rollout, step: int) -> Rollout:
        phase = Phase.STEPPING if self._share(step) < 100 else Phase.PROMOTING
        number = step if phase is Phase.STEPPING else rollout.step
        return replace(_enter(rollout, phase, self._now), step=number)

    def _promoted(self, rollout: Rollout) -> Rollout:
        return replace(_enter(rollout, Phase.PROMOTED, self._now), percent=100, reason="")

    def _refused(self, rollout: Rollout) -> Rollout | None:
        """Return the end of a candidate that its host refuses for good."""
        reason, message = self._signs.failure or ("", "")
        if reason not in REFUSALS:
            return None
        swapped = rollout.phase is Phase.SWAPPING
        if self._said("promote", rollout) and reason not in FINAL and not swapped:
            return None
        return _end(rollout, Phase.REJECTED, self._now, reason, message)

    def _inaccurate(self, rollout: Rollout) -> Rollout | None:
        least, found = self._wish.bar.min_accuracy_percent, self._signs.accuracy_percent
        if least is None or found is None or found >= least or self._said("promote", rollout):
            return None
        message = f"its accuracy is {found:g}%, and analysis.minAccuracyPercent is {least}%"
        return _end(rollout, Phase.REJECTED, self._now, INACCURATE, message)

    def _worse(self, rollout: Rollout) -> Rollout | None:
        if self._said("promote", rollout):
            return None
        found, why = verdict(self._signs.old, self._signs.new, self._wish.bar)
        return _end(rollout, Phase.REJECTED, self._now, WORSE, why) if found is Verdict.BAD else None

    def _absent(self, rollout: Rollout) -> Rollout | None:
        """Return what becomes of a candidate that is nowhere."""
        if self._signs.wanted == 0:
            return self._asleep(rollout, self._hurried(rollout))
        return None if self._signs.have else self._unplaced(rollout)

    def _asleep(self, rollout: Rollout, unwatched: bool) -> Rollout:
        if unwatched and not rollout.reason:
            return self._swap(rollout)
        return _say(rollout, _SLEEPS)

    def _swap(self, rollout: Rollout) -> Rollout:
        return replace(_enter(rollout, Phase.SWAPPING, self._now), percent=0)

    def _unplaced(self, rollout: Rollout) -> Rollout:
        if self._signs.no_room_seconds is None:
            return _say(rollout, self._missing(1))
        if rollout.reason:
            no_swap = f"it is not swapped in again, as it failed: {rollout.reason}"
            return _say(rollout, f"there is no room for it beside the old revision, and {no_swap}")
        unseen = not _accurate(self._wish.bar, self._signs.accuracy_percent)
        if unseen and not self._said("promote", rollout):
            return _say(rollout, "there is no room for it beside the old revision, so it cannot be evaluated")
        if self._blocked():
            return self._swap(rollout)
        after = f"after {format_duration(NO_ROOM_SECONDS)} it takes that one's place"
        return _say(rollout, f"there is no room for it beside the old revision; {after}")

    def _blocked(self) -> bool:
        """Tell whether there was no room for long."""
        lasted = self._signs.no_room_seconds
        return lasted is not None and self._due(self._now - lasted + NO_ROOM_SECONDS)

    def _enough(self, replicas: int) -> bool:
        """Tell whether there are so many, or can be no more: then it is judged by what it does with fewer."""
        return self._signs.have >= replicas or self._blocked()

    def _missing(self, replicas: int) -> str:
        if self._signs.failure:
            reason, message = self._signs.failure
            return f"it is tried again, as it failed: {reason}: {message}"
        if self._signs.no_room_seconds is not None:
            return "there is no room for it yet"
        return f"{self._signs.have} of {replicas} replicas are ready"

    def _gone_through(self, rollout: Rollout) -> Rollout:
        """Go on to the next step, if this one has lasted and shown enough."""
        shadow = rollout.phase is Phase.SHADOWING
        found, why = verdict(self._signs.old, self._signs.new, self._wish.bar, shadow=shadow)
        if found is not Verdict.GOOD:
            return _say(rollout, why)
        if self._due(rollout.since + self._wish.pause_seconds):
            return self._to_step(rollout, rollout.step + 1)
        pause = format_duration(self._wish.pause_seconds)
        return _say(rollout, f"nothing speaks against it; each step lasts {pause} at least")


_WAYS = {
    Phase.VALIDATING: _Look.validating,
    Phase.SHADOWING: _Look.shadowing,
    Phase.STEPPING: _Look.stepping,
    Phase.PROMOTING: _Look.promoting,
    Phase.SWAPPING: _Look.swapping,
    Phase.PROMOTED: _Look.over,
    Phase.REJECTED: _Look.over,
    Phase.ABORTED: _Look.over,
}
