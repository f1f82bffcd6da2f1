"""Puts an artifact's tar into a registry or an object store."""

from pathlib import Path
from typing import Protocol


class Target(Protocol):
    """A place in a store that takes artifacts."""

    def push(self, tar: Path, card: bytes, digest: str) -> str:
        """Put a tar there and return the URI for `spec.model.uri`, beside its digest.

        Raises:
            ModelError: Unauthorized, Unreachable or UriNotAllowed.
        """
