"""What Triton holds and for whom, on disk: how an agent that was restarted knows what to adopt."""

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One loaded and validated model.

    Attributes:
        placement: the id it was loaded for.
        digest: of its artifact.
        load_seconds: how long Triton took.
        memory_bytes: as far as known.
        code: whether it runs code of its own.
    """

    placement: str
    digest: str
    load_seconds: float
    memory_bytes: int | None
    code: bool


class Journal:
    """Entries by wire name, in one small file that is replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries = _read(path)

    def put(self, name: str, entry: Entry) -> None:
        """Note that a model is loaded."""
        self.entries[name] = entry
        self._write()

    def drop(self, name: str) -> None:
        """Note that a model is not to be relied on."""
        if self.entries.pop(name, None) is not None:
            self._write()

    def _write(self) -> None:
        """Write all; where that fails (a full disk) leave none: a stale one would have a model adopted."""
        fresh = self._path.with_suffix(".fresh")
        try:
            fresh.write_text(json.dumps({name: asdict(entry) for name, entry in self.entries.items()}))
            os.replace(fresh, self._path)
        except OSError as error:
            log.warning("no journal is kept: %s", error)
            self._path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Entry]:
    """The entries; none where the file is missing or of another version: then models are loaded again."""
    try:
        return {name: Entry(**fields) for name, fields in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError):
        return {}
