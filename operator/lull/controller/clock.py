"""The controller's time: UTC at the start, and from then on a clock that never jumps."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]


def steady_clock() -> Clock:
    """Return a clock, in seconds since the epoch, that no correction of the system's time moves."""
    offset_seconds = time.time() - time.monotonic()
    return lambda: offset_seconds + time.monotonic()


def rfc3339(seconds: float) -> str:
    """Return a time as the API writes it, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> float:
    """Return the seconds since the epoch of a time as the API writes it."""
    return datetime.fromisoformat(text).timestamp()
