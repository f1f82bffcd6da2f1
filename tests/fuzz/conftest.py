"""How long fuzzers look: a moment, at inputs that are always the same, or as long as is said, at new ones."""

import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import SearchStrategy

_EXAMPLES = 80
_MEMORY_BYTES = 1 << 30

Fuzz = Callable[[SearchStrategy[Any], Callable[[Any], None]], None]


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """Try a check on many inputs; the first that fails is made small and shown, with its seed."""
    seconds = float(request.config.getoption("--fuzz-seconds"))

    def run(inputs: SearchStrategy[Any], check: Callable[[Any], None]) -> None:
        def once(number: int) -> None:
            options = settings(
                max_examples=_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
            )
            seed(number)(options(given(inputs)(check)))()

        once(0)
        until = time.monotonic() + seconds
        rounds = 1
        while time.monotonic() < until:
            once(random.getrandbits(64))
            rounds += 1
        print(f"{rounds * _EXAMPLES} inputs")

    return run


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """A gigabyte more than there is: what wants more fails."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, ((int(status["VmSize"].split()[0]) << 10) + _MEMORY_BYTES, before[1])
    )
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
