"""The user's word on a rollout: what is patched, and what will happen. Nothing here asks a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lull.api.names import AGAIN, ANNOTATION_ROLLOUT
from lull.cli.rollout.figures import STOPPED, Object, Revision, Rollout, rollout
from lull.controller.wire import service_from
from lull.policy.rollout import FINAL


class RefusedError(Exception):
    """What is asked makes no sense now; the message says what does."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What to merge into the ModelService, if anything, and what to tell the user."""

    patch: Mapping[str, Any] | None
    tells: str


def promote(item: Object, revision: str | None) -> Deed:
    """Have a revision take over as soon as it is ready, whatever steps are left.

    Raises:
        RefusedError: there is none to promote, or it is not said which.
    """
    now = rollout(item)
    wanted = revision or _candidate(now)
    known = now.revision(wanted)
    if known and known.state == "Serving":
        return Deed(None, f"{now.key}: {wanted} serves already; there is nothing to promote")
    if wanted != _spec_revision(item):
        raise RefusedError(_not_of_the_spec(now, wanted))
    if known and known.reason in FINAL:
        raise RefusedError(
            f"{now.key}: {wanted} does not answer its golden cases, and nobody can overrule that: "
            f"{known.message or known.reason}. Publish it anew, with what it should answer"
        )
    skipped = "What is left of its steps is skipped; golden cases and signatures are not."
    if known and known.state in STOPPED:
        skipped = f"It was {_ended(known)}"
    return _say(item, "promote", wanted, f"{wanted} gets all requests as soon as it is ready. {skipped}")


def abort(item: Object, revision: str | None) -> Deed:
    """Stop a rollout: the revision that served goes on serving.

    Raises:
        RefusedError: there is none to stop, or another one runs.
    """
    now = rollout(item)
    wanted = revision or now.candidate
    if wanted == now.candidate and now.phase in STOPPED:
        return Deed(None, f"{now.key}: {wanted} was {now.phase.lower()} already; {now.stable} serves")
    if not now.running or wanted != now.candidate:
        what = f"{now.candidate} is being rolled out" if now.running else "no rollout is running"
        raise RefusedError(
            f"{now.key}: {what}, so there is nothing to abort. To go back to a former revision: "
            f"kubectl lull rollout undo {now.service} -n {now.namespace}"
        )
    tells = f"{wanted} gets no more requests and is let go; {now.stable} goes on serving."
    return _say(item, "abort", wanted, f"{tells} The spec still names {wanted}: it stays aborted.")


def undo(item: Object, to: str | None) -> Deed:
    """Put a former revision's model back into the spec.

    Raises:
        RefusedError: there is no such revision, or none to go back to.
    """
    now, present = rollout(item), _spec_revision(item)
    target = _former(now, to, present)
    if target.name == present:
        return Deed(None, f"{now.key}: spec.model is {target.name}'s already; nothing is changed")
    named = target.model_name != now.service
    model = {
        "uri": target.uri,
        "digest": target.digest or None,
        "format": target.format,
        "name": target.model_name if named else None,
    }
    patch: dict[str, Any] = {"spec": {"model": model}}
    if target.state == "Serving" and now.running:
        happens = f"The rollout of {now.candidate} ends; {target.name} goes on serving."
    elif target.state == "Serving":
        happens = f"{target.name} goes on serving."
    else:
        happens = "It is rolled out like any other change: kubectl lull rollout status shows how."
    return Deed(
        patch,
        f"{now.key}: spec.model is {target.name}'s again ({target.uri}). {happens}\n"
        "If a GitOps tool keeps this object, revert it in the repository too: else the tool sets it back.",
    )


def _candidate(now: Rollout) -> str:
    if now.phase in STOPPED:
        revision = now.revision(now.candidate)
        raise RefusedError(
            f"{now.key}: {now.candidate} was {_ended(revision) if revision else now.phase.lower()}\n"
            f"To have it take over all the same: --revision {now.candidate}"
        )
    if not now.running and now.phase != "Promoted":
        raise RefusedError(
            f"{now.key}: no rollout is running. A change of spec.model begins one; what has been there: "
            f"kubectl lull rollout status {now.service} -n {now.namespace}"
        )
    return now.candidate


def _ended(revision: Revision) -> str:
    """Say how a revision's rollout ended, and why where Lull decided it and not its user."""
    why = revision.message or revision.reason
    return f"rejected: {why}" if revision.state == "Rejected" and why else revision.state.lower()


def _not_of_the_spec(now: Rollout, wanted: str) -> str:
    name = f"{now.service} -n {now.namespace}"
    if now.revision(wanted):
        return (
            f"{now.key}: {wanted} is not what spec.model says, and only that can take over. "
            f"First: kubectl lull rollout undo {name} --to {wanted}"
        )
    return f"{now.key}: there is no revision {wanted}: kubectl lull rollout status {name} lists them"


def _former(now: Rollout, to: str | None, present: str) -> Revision:
    """Return the revision to go back to: the one that serves if the spec has another, else the last one."""
    name = f"{now.service} -n {now.namespace}"
    if to is not None:
        found = now.revision(to)
        if found is None:
            raise RefusedError(
                f"{now.key}: the status knows no revision {to}: kubectl lull rollout status {name} lists "
                "them (spec.rollout.history says how many are kept)"
            )
    else:
        states = ("Serving", "Superseded")
        former = [r for r in now.revisions if r.name != present and r.state in states]
        found = next((r for r in former if r.state == "Serving"), former[0] if former else None)
        if found is None:
            raise RefusedError(
                f"{now.key}: no revision served before this one. One that did not pass can be named: --to"
            )
    if not found.uri:
        raise RefusedError(f"{now.key}: the status does not say where {found.name} came from; set spec.model")
    return found


def _say(item: Object, word: str, revision: str, tells: str) -> Deed:
    """Return the annotation, or nothing where it has been said of this rollout already."""
    key, said = f"{item['metadata']['namespace']}/{item['metadata']['name']}", f"{word} {revision}"
    stands, again = _annotations(item).get(ANNOTATION_ROLLOUT), f"{said} {AGAIN}"
    heard = ((item.get("status") or {}).get("rollout") or {}).get("heard")
    if stands in (said, again) and stands != heard:
        return Deed(None, f"{key}: that has been said already. {tells}")
    said = again if stands == said else said
    return Deed({"metadata": {"annotations": {ANNOTATION_ROLLOUT: said}}}, f"{key}: {tells}")


def _annotations(item: Object) -> Mapping[str, str]:
    return item["metadata"].get("annotations") or {}


def _spec_revision(item: Object) -> str:
    return service_from(dict(item)).model.revision
