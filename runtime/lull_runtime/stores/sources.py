"""What a pool says of where its models come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Sources:
    """Where models may come from.

    Attributes:
        files: what `file:` URIs are relative to.
        allowed: URI prefixes.
        most_bytes: how large a tar may be.
        deadline_seconds: how long one fetch may take, all tries included.
        claims: where each volume claim that `pvc:` URIs name is mounted, by its name.
        credentials: folder of the pool's Secret, read at each fetch; None where the pool has none.
    """

    files: Path
    allowed: Sequence[str] = ()
    most_bytes: int = 64 << 30
    deadline_seconds: float = 600.0
    claims: Mapping[str, Path] = field(default_factory=dict)
    credentials: Path | None = None
