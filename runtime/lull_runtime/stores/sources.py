"""What a pool says of where its models come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sources:
    """Where models may come from.

    Attributes:
        files: what `file:` URIs are relative to.
        allowed: URI prefixes.
        most_bytes: how large a tar may be.
        deadline_seconds: how long one fetch may take, all tries included.
        claims: folder in which each volume claim that `pvc:` URIs name is mounted by its name; None for none.
        credentials: folder of the pool's Secret, read at each fetch; None where the pool has none.
    """

    files: Path
    allowed: Sequence[str] = ()
    most_bytes: int = 64 << 30
    deadline_seconds: float = 600.0
    claims: Path | None = None
    credentials: Path | None = None
