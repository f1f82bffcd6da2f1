"""Loads and asks a network in a process of its own: what breaks there breaks nothing else.

`python -m lull_runtime.publish.trial NETWORK FORMAT BATCHES ANSWERS` prints what it measured as JSON.
"""

from __future__ import annotations

import json
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lull_runtime.artifact.card import Measured
from lull_runtime.publish.check import runner
from lull_runtime.publish.forms import Array, NetworkFormat

DEADLINE_SECONDS = 120.0
_TIMED_RUNS = 30
_TIMED_SECONDS = 2.0
"""Slow networks are timed fewer times."""


class TrialError(Exception):
    """The process died, failed or did not end in time; the message says which."""


@dataclass(frozen=True)
class Trial:
    """What a network took and answered: an answer for each batch."""

    measured: Measured
    answers: list[dict[str, Array]]


def run_trial(network: bytes, served: NetworkFormat, batches: Sequence[dict[str, Array]]) -> Trial:
    """Load a network, import of its runtime included, ask it, and time the first batch.

    Raises:
        TrialError: it could not be done within 120 s.
    """
    with tempfile.TemporaryDirectory(prefix="lull-trial-") as scratch:
        folder = Path(scratch)
        (folder / "network").write_bytes(network)
        _write(folder / "batches.npz", batches)
        told = run_apart(
            "lull_runtime.publish.trial",
            folder / "network",
            served,
            folder / "batches.npz",
            folder / "answers.npz",
        )
        answers = _read(folder / "answers.npz", len(batches))
    machine = f"{platform.machine()}, CPU, {'ONNX Runtime' if served == 'onnx' else 'PyTorch'}"
    return Trial(Measured(**json.loads(told), on=machine), answers)


def run_apart(module: str, *arguments: object) -> str:
    """Run a module of ours in a process of its own and return what it printed.

    Raises:
        TrialError: it died, failed or took longer than 120 s.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise TrialError(f"it took longer than {DEADLINE_SECONDS:.0f} s") from None
    if done.returncode < 0:
        raise TrialError(f"its process died of {signal.Signals(-done.returncode).name}")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise TrialError(lines[-1][:300] if lines else f"its process ended with {done.returncode}")
    return done.stdout


def _measure(network: bytes, served: NetworkFormat, batches: Sequence[dict[str, Array]], out: Path) -> Any:  # noqa: ANN401  JSON
    before_bytes = _resident_bytes()
    began = time.perf_counter()
    run = runner(network, served)
    load_seconds = time.perf_counter() - began
    _write(out, [run(batch) for batch in batches])
    times: list[float] = []
    while len(times) < _TIMED_RUNS and sum(times) < _TIMED_SECONDS:
        began = time.perf_counter()
        run(batches[0])
        times.append(time.perf_counter() - began)
    return {
        "load_seconds": round(load_seconds, 4),
        "latency_milliseconds": round(statistics.median(times) * 1e3, 4),
        "memory_bytes": max(0, _resident_bytes() - before_bytes),
    }


def _resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


def _write(path: Path, batches: Sequence[dict[str, Array]]) -> None:
    """As `<number>/<name>`; an answer of a type that numpy would pickle is refused by the card before."""
    np.savez(
        path, **{f"{i}/{name}": array for i, batch in enumerate(batches) for name, array in batch.items()}
    )


def _read(path: Path, count: int) -> list[dict[str, Array]]:
    batches: list[dict[str, Array]] = [{} for _ in range(count)]
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            number, _, name = key.partition("/")
            batches[int(number)][name] = file[key]
    return batches


def main(network: str, served: NetworkFormat, batches: str, answers: str) -> None:
    """Measure one network."""
    path = Path(batches)
    with np.load(path, allow_pickle=False) as file:
        count = 1 + max(int(key.partition("/")[0]) for key in file.files)
    figures = _measure(Path(network).read_bytes(), served, _read(path, count), Path(answers))
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]  # our own words
