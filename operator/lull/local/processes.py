"""Programs that outlive the command that started them, and only those.

Each is started in a session of its own and recorded with the moment the kernel says it started: a
process id alone may belong to somebody else by the time one ends it. Each also carries the
cluster's folder in its environment, inherited by whatever it starts, so that `down` finds strays.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

MARK = "LULL_LOCAL_CLUSTER"
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Record:
    """One started process: `started` is its start time in clock ticks since boot."""

    pid: int
    started: int
    boot: str

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        _reap(self.pid)
        return self.boot == _boot() and _started(self.pid) == self.started

    def signal_group(self, number: signal.Signals) -> None:
        """Signals the process and the group that it leads, even where only the group is left."""
        if self.boot == _boot() and _started(self.pid) in (self.started, None):
            with suppress(ProcessLookupError, PermissionError):
                try:
                    os.killpg(self.pid, number)
                except ProcessLookupError:  # it leads none: a stray whose leader has died
                    os.kill(self.pid, number)

    def save(self, path: Path) -> None:
        """Writes the record to a file."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def of(cls, pid: int) -> Record:
        """The record of a child that has just been started and not been waited for."""
        return cls(pid, _started(pid) or 0, _boot())

    @classmethod
    def load(cls, path: Path) -> Record | None:
        """The record in a file, None where there is none."""
        with suppress(FileNotFoundError, ValueError, TypeError):
            return cls(**json.loads(path.read_text()))
        return None


def start(
    record: Path, command: Sequence[str | Path], log: Path, environment: Mapping[str, str], mark: Path
) -> Record:
    """Starts a program in its own session, its output going to `log`, and records it."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**environment, MARK: str(mark)},
            cwd=record.parent,
        )
    started = Record.of(process.pid)
    started.save(record)
    # It is meant to outlive us: tell Popen not to complain about that.
    process.returncode = 0
    return started


def stop(records: Sequence[Record], grace_seconds: float) -> None:
    """Ends processes together: asks, waits for at most the grace, then kills their groups."""
    for record in records:
        record.signal_group(signal.SIGTERM)
    wait_ended(records, grace_seconds)
    for record in records:
        record.signal_group(signal.SIGKILL)
    wait_ended(records, grace_seconds)


def wait_ended(records: Sequence[Record], timeout_seconds: float) -> bool:
    """Waits until none of them runs; False when some still does at the deadline."""
    deadline = time.monotonic() + timeout_seconds
    while any(record.alive() for record in records):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def strays(mark: Path) -> Iterator[Record]:
    """Processes that carry the cluster's mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield Record.of(int(entry.name))


def _started(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None where there is no such process or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field, the name, may itself hold spaces and parentheses.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
