"""Whom a pool trusts: which models must be signed, and by whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult

from lull_runtime.artifact.uris import clear, is_beneath


@dataclass(frozen=True)
class Signer:
    """Who may sign.

    Attributes:
        name: as people know them, for messages and status.
        public_key: of an elliptic curve (P-256, P-384 or P-521), as PEM.
    """

    name: str
    public_key: str


@dataclass(frozen=True)
class Rule:
    """What is asked of models from one place.

    Attributes:
        prefix: of their URIs, matched as `spec.allow.uris` is; a clear one.
        namespaces: of their ModelServices; none: every namespace.
        signers: any one of whom must have signed; none: they need not be signed.
    """

    prefix: SplitResult
    namespaces: frozenset[str]
    signers: tuple[Signer, ...]


def signers_for(rules: Sequence[Rule], uri: str, namespace: str) -> tuple[Signer, ...] | None:
    """Return who may have signed a model, by the first rule that fits; nobody: it need not be signed.

    A pool without rules asks for no signatures. None: there are rules and none fits, so that the
    pool does not take the model at all.

    Raises:
        ModelError: UriNotAllowed: the URI is not clear, so that rules could take it for another one.
    """
    if not rules:
        return ()
    parts = clear(uri.partition("@sha256:")[0])
    for rule in rules:
        if (not rule.namespaces or namespace in rule.namespaces) and is_beneath(parts, rule.prefix):
            return rule.signers
    return None
