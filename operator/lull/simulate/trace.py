"""Traces: who was asked, when, and for how long it computed."""

from __future__ import annotations  # array takes no parameter at run time before Python 3.12

import csv
import gzip
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import IO

from lull.simulate.setting import GIB

CONTEXT_TOKEN_SECONDS = 0.0001
GENERATED_TOKEN_SECONDS = 0.02
"""Assumed of language models whose trace tells tokens and no durations."""
DERIVED = "Durations are assumed where the trace tells tokens: 0.1 ms a context token, 20 ms a generated one."
TENANT = "default"
"""Of models that are named without one."""
LARGEST_REQUESTS = 20_000_000
"""Half a gigabyte of columns."""
LONGEST_REQUEST_SECONDS = 86_400.0
LONGEST_TRACE_SECONDS = 400 * 86_400.0
LATEST_SECONDS = 1e11
"""Beyond these it is milliseconds: a request of a day, a trace of a year, arrivals after the year 5000."""
LARGEST_MODEL_GIB = 1e6
NOT_SECONDS = "these are seconds, not milliseconds?"


@dataclass(frozen=True, slots=True)
class TracedModel:
    """A model of a trace; `key` is `tenant/name`. Models of different tenants share no host."""

    key: str
    memory_bytes: int

    @property
    def tenant(self) -> str:
        """Who it belongs to."""
        return self.key.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their arrival, as columns of one length.

    Attributes:
        at_seconds: arrival; the first is near 0.
        model: index into `models`.
        duration_seconds: how long the model computes it.
        length_seconds: from 0 to the end of the observation, at or after the last arrival.
        about: what of it is made up or assumed, as a sentence; empty where nothing is.
    """

    name: str
    models: Sequence[TracedModel]
    at_seconds: array[float] = field(default_factory=lambda: array("d"))
    model: array[int] = field(default_factory=lambda: array("l"))
    duration_seconds: array[float] = field(default_factory=lambda: array("d"))
    length_seconds: float = 0.0
    about: str = ""

    def __len__(self) -> int:
        return len(self.at_seconds)


class TraceError(ValueError):
    """A file that is no trace: it says which line, and what should stand there."""


def read_csv(files: Sequence[Path], *, memory_bytes: int) -> Trace:
    """Return the requests of all files together, in the order of time; gzip is read too.

    Two forms are known by their header line:

    - `timestamp`, `model`, `duration`, maybe `memory_gib`: seconds or ISO 8601, a name with or without its
      tenant (`tenant/name`), and seconds. Other columns do not matter.
    - `TIMESTAMP`, `ContextTokens`, `GeneratedTokens`, as Azure publishes: each file is one model, named after
      the file. Durations are not recorded there; they are derived: 0.1 ms a context token and 20 ms a
      generated one.

    Args:
        files: at least one; their clocks are one clock.
        memory_bytes: of every model whose `memory_gib` is not given.

    Raises:
        TraceError: a file cannot be read, has a line that is no request, or none at all.
    """
    rows = _Rows()
    for file in files:
        _read(file, rows)
    if not rows.at:
        raise TraceError(f"{', '.join(map(str, files)) or 'nothing'}: no requests, so nothing to simulate")
    order = sorted(range(len(rows.at)), key=rows.at.__getitem__)
    begin = rows.at[order[0]]
    at = array("d", (rows.at[row] - begin for row in order))
    duration = array("d", (rows.duration[row] for row in order))
    return Trace(
        name="+".join(_name(file) for file in files),
        models=[TracedModel(key, rows.memory.get(key, memory_bytes)) for key in rows.models],
        at_seconds=at,
        model=array("l", (rows.model[row] for row in order)),
        duration_seconds=duration,
        length_seconds=max(map(float.__add__, at, duration)),
        about=DERIVED if rows.derived else "",
    )


@dataclass(slots=True)
class _Rows:
    """The requests read so far, as columns; models in the order of their first one."""

    at: array[float] = field(default_factory=lambda: array("d"))
    model: array[int] = field(default_factory=lambda: array("l"))
    duration: array[float] = field(default_factory=lambda: array("d"))
    models: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    dated: bool | None = None
    """Whether timestamps are dates, not seconds; None before the first."""
    derived: bool = False
    """Whether durations are derived from tokens."""

    def add(self, timestamp: str, model: str, duration: float, memory_gib: str = "") -> None:
        """Take in one request.

        Raises:
            ValueError: it is none.
        """
        if len(self.at) >= LARGEST_REQUESTS:
            raise ValueError(f"more than {LARGEST_REQUESTS:,} requests are too many; cut the trace")
        if not model:
            raise ValueError("no model; say which one was asked")
        if duration > LONGEST_REQUEST_SECONDS:
            raise ValueError(f"a request that computes for {duration:g} s, over a day: {NOT_SECONDS}")
        key = model if "/" in model else f"{TENANT}/{model}"
        self._size(key, memory_gib)
        self.at.append(self._seconds(timestamp))
        self.model.append(self.models.setdefault(key, len(self.models)))
        self.duration.append(duration)

    def _seconds(self, timestamp: str) -> float:
        seconds = _number(timestamp)
        dated = seconds is None
        if seconds is None:
            try:
                date = datetime.fromisoformat(timestamp)
            except ValueError:
                raise ValueError(
                    f"timestamp {timestamp!r} is neither seconds (12.5) nor ISO 8601 (2026-01-31T12:00:00Z)"
                ) from None
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        if self.dated not in (None, dated):
            raise ValueError("some timestamps are seconds and some are dates; write all of them in one form")
        self.dated = dated
        begun = self.at[0] if self.at else seconds
        if seconds > LATEST_SECONDS or abs(seconds - begun) > LONGEST_TRACE_SECONDS:
            days = LONGEST_TRACE_SECONDS / 86_400
            raise ValueError(
                f"timestamp {timestamp!r} is after the year 5000, or over {days:g} days from the first one: "
                f"{NOT_SECONDS}"
            )
        return seconds

    def _size(self, key: str, memory_gib: str) -> None:
        if not memory_gib:
            return
        memory_bytes = round(min(_positive(memory_gib, "memory_gib"), LARGEST_MODEL_GIB) * GIB)
        if not memory_bytes:
            raise ValueError(f"memory_gib {memory_gib!r} of {key}: a model takes some memory")
        if self.memory.setdefault(key, memory_bytes) != memory_bytes:
            raise ValueError(f"another memory_gib of {key} than before; a model has one size")


def _read(file: Path, rows: _Rows) -> None:
    """Add the requests of one file."""
    line = 0
    try:
        with _opened(file) as text:
            lines = csv.reader(text)
            add = _form(file, [name.strip() for name in next(lines, [])], rows)
            for cells in lines:
                line = lines.line_num
                if cells:
                    add([cell.strip() for cell in cells])
    except IndexError:
        raise TraceError(f"{file}:{line}: fewer cells than the header line has") from None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise TraceError(f"{file}: cannot be read: {error}") from error
    except (ValueError, csv.Error) as error:
        raise TraceError(f"{file}:{line or 1}: {error}") from error


def _opened(file: Path) -> IO[str]:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return file.open(encoding="utf-8-sig", newline="")


def _form(file: Path, header: Sequence[str], rows: _Rows) -> Callable[[Sequence[str]], None]:
    """Return what adds a line's cells, by the form that the header line tells."""
    columns = {name: at for at, name in enumerate(header)}
    if {"timestamp", "model", "duration"} <= columns.keys():
        at, model, duration = columns["timestamp"], columns["model"], columns["duration"]
        memory = columns.get("memory_gib")

        def plain(cells: Sequence[str]) -> None:
            size = "" if memory is None else cells[memory]
            rows.add(cells[at], cells[model], _positive(cells[duration], "duration"), size)

        return plain
    if {"TIMESTAMP", "ContextTokens", "GeneratedTokens"} <= columns.keys():
        at, context, generated = columns["TIMESTAMP"], columns["ContextTokens"], columns["GeneratedTokens"]
        name = _name(file)
        rows.derived = True

        def azure(cells: Sequence[str]) -> None:
            seconds = CONTEXT_TOKEN_SECONDS * _positive(cells[context], "ContextTokens")
            seconds += GENERATED_TOKEN_SECONDS * _positive(cells[generated], "GeneratedTokens")
            rows.add(cells[at], name, seconds)

        return azure
    raise ValueError(
        f"the header line is {','.join(header)[:100]!r}; it has to name timestamp, model and duration "
        "(or TIMESTAMP, ContextTokens and GeneratedTokens)"
    )


def _name(file: Path) -> str:
    """Return a file's name without its endings."""
    return file.name.removesuffix(".gz").removesuffix(".csv")


def _number(text: str) -> float | None:
    """Return the finite number that a text is, if it is one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _positive(text: str, what: str) -> float:
    """Return a number that may be 0.

    Raises:
        ValueError: it is none.
    """
    number = _number(text)
    if number is None or number < 0:
        raise ValueError(f"{what} {text!r} is no number from 0 on")
    return number
