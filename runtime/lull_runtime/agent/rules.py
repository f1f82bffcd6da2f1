"""What the pool's admin lets its hosts run: followed, so that what is withdrawn holds at the next load."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult

from lull.api.pool import Allow, Trust
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.trust import Rule, Signer
from lull_runtime.artifact.uris import clear


@dataclass(frozen=True)
class Rules:
    """What may run here, and from where.

    Attributes:
        allowed: URI prefixes; none: nothing runs.
        code: whether models that are code may.
        trust: who must have signed what; none: no signature is asked for.
    """

    allowed: tuple[str, ...] = ()
    code: bool = False
    trust: tuple[Rule, ...] = ()


NOTHING = Rules()


def rules_of(spec: Mapping[str, Any]) -> Rules:
    """Return the rules of a pool by its spec.

    Raises:
        ValueError: they are not understood; nothing may run then, rather than what nobody trusts.
    """
    allow = Allow.model_validate(spec.get("allow") or {})
    trust = map(Trust.model_validate, spec.get("trust") or ())
    return Rules(tuple(allow.uris), allow.code, tuple(map(_rule, trust)))


def _rule(said: Trust) -> Rule:
    signers = tuple(Signer(signer.name, signer.public_key) for signer in said.signed_by)
    return Rule(_place(said.prefix), frozenset(said.namespaces), signers)


def _place(prefix: str) -> SplitResult:
    """A prefix that no model could be beneath would leave what it is for to a weaker rule."""
    try:
        return clear(prefix)
    except ModelError as error:
        raise ValueError(f"spec.trust: {error.message}") from error
