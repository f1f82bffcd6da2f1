"""The service that is evaluated, as its ModelService says, and the note of what was found on it."""

from dataclasses import dataclass
from typing import Any

from lull.api.names import ANNOTATION_EVALUATED
from lull.cli.cluster import UnreadableError, advice, connect
from lull.cli.rollout.figures import rollout
from lull.kube import MODELSERVICES, ApiError


@dataclass(frozen=True)
class Served:
    """Where a service is asked.

    Attributes:
        url: of its gateway, where its status says one.
        model: its model's name on the wire.
        candidate: the revision that a rollout is running for, if one is.
        revisions: all that its status knows.
    """

    url: str | None
    model: str
    candidate: str | None
    revisions: tuple[str, ...]


async def read(name: str, namespace: str) -> Served:
    """Return what a ModelService says.

    Raises:
        UnreadableError: there is none, or it may not be read.
    """
    async with await connect() as kube:
        try:
            item = await kube.get(MODELSERVICES, name, namespace)
        except ApiError as error:
            raise UnreadableError(
                advice(error, f"get modelservices in {namespace}", "ask for that right")
            ) from error
    if item is None:
        raise UnreadableError(
            f"there is no modelservice {name} in {namespace}: name its namespace with -n "
            "(kubectl get modelservices -A lists them)"
        )
    return served(item)


def served(item: dict[str, Any]) -> Served:
    """Return what a ModelService says."""
    now = rollout(item)
    return Served(
        url=(item.get("status") or {}).get("url"),
        model=item["spec"]["model"].get("name") or item["metadata"]["name"],
        candidate=now.candidate if now.running else None,
        revisions=tuple(revision.name for revision in now.revisions),
    )


async def record(name: str, namespace: str, revision: str, accuracy_percent: str) -> str:
    """Note on a ModelService what was found of a revision, for a rollout that waits for it; return the note.

    Raises:
        UnreadableError: it may not be written.
    """
    note = f"{revision} {accuracy_percent}"
    async with await connect() as kube:
        try:
            await kube.merge_patch(
                MODELSERVICES, name, namespace, {"metadata": {"annotations": {ANNOTATION_EVALUATED: note}}}
            )
        except ApiError as error:
            raise UnreadableError(
                advice(
                    error,
                    f"patch modelservices in {namespace}",
                    "ask for that right, or have someone say "
                    f"kubectl annotate modelservice {name} -n {namespace} '{ANNOTATION_EVALUATED}={note}'",
                )
            ) from error
    return note
