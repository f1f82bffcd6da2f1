"""The revisions of a service and its rollout, between what its status keeps and the policy's values.

The status is all that is remembered. A rollout's next state is decided, written, and only acted on once it
stands there: so gateways hear of a candidate before there is one, and who takes over goes on from there.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lull.controller.clock import rfc3339, seconds_of
from lull.controller.wire import Object
from lull.policy import Model
from lull.policy.rollout import TAKEN_BACK, Phase, Rollout

SERVING, CANDIDATE, SUPERSEDED = "Serving", "Candidate", "Superseded"
_REPLACED = "the spec asked for another revision before it had taken over"
_LONGEST_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Revision:
    """One entry of `status.revisions`; the first one, while it serves, has no `since` before it was ready."""

    model: Model
    state: str = SERVING
    reason: str = ""
    message: str = ""
    since: str = ""
    memory: str = ""
    training_watt_hours: str = ""
    """What a replica of it took, as the API writes quantities; empty where nobody knows."""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.model.revision


@dataclass(frozen=True, slots=True)
class History:
    """What a status remembers: revisions, the newest first, and how far the last one is."""

    revisions: tuple[Revision, ...] = ()
    rollout: Rollout | None = None
    traffic: tuple[Object, ...] = ()
    """What is told of what it was asked."""

    def known(self, name: str) -> Revision | None:
        """Return a revision by its name."""
        return next((revision for revision in self.revisions if revision.name == name), None)

    def serving(self, spec: Model) -> Model:
        """Return what serves: the spec's revision, unless that has one to take over from, and has not yet.

        One that was never ready, or has another name on the wire, is replaced at once.
        """
        ready = (r.name for r in self.revisions if r.state == SERVING and r.since)
        name = self.rollout.serving if self.rollout else next(ready, "")
        known = self.known(name)
        replaceable = known is not None and known.model.uri and known.model.name == spec.name
        return known.model if known and replaceable else spec

    def rollout_of(self, serving: Model) -> Rollout | None:
        """Return the rollout, if it is about what serves; not what a direct change has left of one."""
        return self.rollout if self.rollout and self.rollout.serving == serving.revision else None

    def unfit(self, serving: Model) -> frozenset[str]:
        """Return the revisions that no gateway routes to any more."""
        ended = {r.name for r in self.revisions if r.state in (Phase.REJECTED.value, Phase.ABORTED.value)}
        return frozenset(ended - {serving.revision})

    def candidate(self, serving: Model) -> Model | None:
        """Return what is rolled out beside what serves."""
        rollout = self.rollout_of(serving)
        known = self.known(rollout.candidate) if rollout and rollout.beside else None
        return known.model if known else None


def over(rollout: Rollout) -> bool:
    """Tell whether nothing but another wish makes anything of a rollout."""
    return rollout.phase is Phase.PROMOTED or (not rollout.running and rollout.reason == TAKEN_BACK)


def history_from(status: Object | None) -> History:
    """Read `status.revisions` and `status.rollout`; what another version wrote otherwise is no history."""
    status = status or {}
    try:
        revisions = tuple(_revision_from(entry) for entry in status.get("revisions") or ())
        told = status.get("rollout") or {}
        return History(revisions, _rollout_from(told, revisions), tuple(told.get("traffic") or ()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return History()


def settled(rollout: Rollout) -> Rollout:
    """Return a rollout as it reads back: to the second, later rather than earlier, as steps last at least."""
    return replace(rollout, since=float(math.ceil(rollout.since)), message=rollout.message[:_LONGEST_TEXT])


def rollout_to(rollout: Rollout, traffic: Iterable[Object]) -> Object:
    """Write `status.rollout`."""
    return {
        "stable": rollout.stable,
        "candidate": rollout.candidate,
        "phase": rollout.phase.value,
        "percent": rollout.percent,
        "shadowPercent": rollout.shadow_percent,
        "step": rollout.step,
        "since": rfc3339(rollout.since),
        "message": rollout.message,
        "traffic": list(traffic),
        **({"heard": " ".join(rollout.heard)} if rollout.heard else {}),
    }


def next_revisions(
    history: History,
    rollout: Rollout | None,
    spec: Model,
    serving: Model,
    now: float,
    *,
    former: int,
    ready: bool,
) -> tuple[Revision, ...]:
    """Return the revisions as they are to be written: those that matter, and so many `former` ones.

    `ready`: whether what serves answers; a first revision serves since it did for the first time.
    """
    models = {r.name: r.model for r in history.revisions} | {m.revision: m for m in (spec, serving)}
    fresh = {}
    for name, state in _states(rollout, serving).items():
        if name in models:
            known = history.known(name) or Revision(models[name])
            fresh[name] = _turned(known, models[name], state, rollout, now)
    first = fresh.get(serving.revision)
    if first and first.state == SERVING and ready and not first.since:
        fresh[first.name] = replace(first, since=rfc3339(now))
    others = [
        _former(r, now) for r in history.revisions if r.name not in fresh and (r.since or r.state != SERVING)
    ]
    kept = fresh | {r.name: r for r in others[:former]}
    return tuple(kept[name] for name in _newest_first(history, fresh, spec.revision) if name in kept)


def _states(rollout: Rollout | None, serving: Model) -> dict[str, str]:
    """Return the states of the revisions that matter."""
    if rollout is None:
        return {serving.revision: SERVING}
    if rollout.running:
        return {rollout.candidate: CANDIDATE, rollout.stable: SERVING}
    if rollout.phase is Phase.PROMOTED:
        return {rollout.candidate: SERVING}
    return {rollout.candidate: rollout.phase.value, rollout.stable: SERVING}


def _turned(known: Revision, model: Model, state: str, rollout: Rollout | None, now: float) -> Revision:
    """Return a revision in a state, since it came to it; a first one that serves has no time yet."""
    reason = message = ""
    if rollout and known.name == rollout.candidate:
        reason = rollout.reason
        message = rollout.message if state not in (SERVING, CANDIDATE) else ""
    since = known.since
    if rollout is None and known.state != SERVING:
        since = ""  # it is asked for anew, at once: it serves once it is ready
    elif rollout is not None and (known.state != state or not since):
        since = rfc3339(now)
    return replace(known, model=model, state=state, reason=reason, message=message, since=since)


def _former(revision: Revision, now: float) -> Revision:
    """Return a revision that neither serves nor is rolled out any more."""
    if revision.state == SERVING:
        return replace(revision, state=SUPERSEDED, since=rfc3339(now))
    if revision.state == CANDIDATE:
        return replace(
            revision, state=Phase.ABORTED.value, reason="Replaced", message=_REPLACED, since=rfc3339(now)
        )
    return revision


def _newest_first(history: History, fresh: Mapping[str, Revision], spec: str) -> list[str]:
    """Return names in order: what is asked for anew is the newest again."""
    known = [revision.name for revision in history.revisions]
    before, now = history.known(spec), fresh.get(spec)
    taken_up = now is not None and now.state in (SERVING, CANDIDATE)
    if taken_up and (before is None or before.state not in (SERVING, CANDIDATE)):
        known = [spec, *(name for name in known if name != spec)]
    return [*(name for name in fresh if name not in known), *known]


def _revision_from(entry: Object) -> Revision:
    model = Model(
        entry["name"],
        entry.get("modelName", ""),
        entry.get("uri", ""),
        entry.get("digest", ""),
        entry.get("format", "Auto"),
    )
    return Revision(
        model,
        entry.get("state", SERVING),
        entry.get("reason", ""),
        entry.get("message", ""),
        entry.get("since", ""),
        entry.get("memory", ""),
        entry.get("trainingWattHours", ""),
    )


def revision_to(revision: Revision, percent: int, *, ready: bool) -> Object:
    """Write one entry of `status.revisions`."""
    model = revision.model
    optional = {
        "reason": revision.reason,
        "message": revision.message,
        "since": revision.since,
        "memory": revision.memory,
        "trainingWattHours": revision.training_watt_hours,
    }
    return {
        "name": model.revision,
        "digest": model.digest,
        "uri": model.uri,
        "format": model.format,
        "modelName": model.name,
        "state": revision.state,
        "percent": percent,
        "ready": ready,
        **{name: value for name, value in optional.items() if value},
    }


def _rollout_from(entry: Object | None, revisions: Iterable[Revision]) -> Rollout | None:
    if not entry:
        return None
    reasons = {revision.name: revision.reason for revision in revisions}
    return Rollout(
        stable=entry["stable"],
        candidate=entry["candidate"],
        phase=Phase(entry["phase"]),
        step=entry.get("step", 0),
        percent=entry.get("percent", 0),
        shadow_percent=entry.get("shadowPercent", 0),
        since=seconds_of(entry["since"]) if entry.get("since") else 0.0,
        message=entry.get("message", ""),
        reason=reasons.get(entry["candidate"], ""),
        heard=tuple(entry["heard"].split()) if entry.get("heard") else None,
    )
