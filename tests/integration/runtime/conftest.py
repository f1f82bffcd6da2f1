"""Real Triton on a loopback address, and the agent's host beside it: all but the API server."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import networks
from lull.api.host import HostModel, HostModelStatus
from lull_runtime.agent.fetch import Sources
from lull_runtime.agent.host import Host, Limits
from lull_runtime.agent.journal import Journal
from lull_runtime.agent.meter import Meter
from lull_runtime.agent.repository import Repository
from lull_runtime.agent.rules import Rules
from lull_runtime.agent.settings import control_key
from lull_runtime.agent.store import Store
from lull_runtime.agent.triton import Triton
from lull_runtime.artifact.pack import pack_repository
from lull_runtime.measure.power import PowerProfile
from lull_runtime.publish.digits import load_digits
from lull_runtime.publish.export import Published, publish_network

from .triton import TritonProcess

IDENTITY = Path(__file__).parents[2] / "data" / "repository" / "identity"


POWER = PowerProfile(idle=10.0, context=20.0, max=70.0, node=30.0)
MEMORY_BYTES = 1 << 30


@dataclass
class Reporter:
    """Notes what the agent would tell."""

    changes: list[bool] = field(default_factory=list)
    on_told: Callable[[], None] = lambda: None

    def notify(self, urgent: bool) -> None:
        self.changes.append(urgent)

    async def told(self) -> None:
        self.on_told()


@dataclass
class Bench:
    """One host without a Pod: Triton, the agent's `Host`, a folder for everything."""

    folder: Path
    triton: TritonProcess
    limits: Limits = field(default_factory=Limits)
    allow_code: bool = True
    host: Host | None = None
    driver: Triton | None = None
    reporter: Reporter = field(default_factory=Reporter)
    meter: Meter | None = None
    _task: asyncio.Task | None = None

    def start_agent(self) -> None:
        self.driver = Triton(f"{self.triton.address}:8001", control_key(self.folder / "control"))
        store = Store(
            self.folder / "artifacts",
            self.folder / "own",
            Sources(self.folder / "files"),
            Rules(("file:///",), self.allow_code),
            most_bytes=1 << 30,
            in_use=lambda: self.host.digests(),
        )
        repository = Repository(self.folder / "repository", self.triton.backends)
        journal = Journal(self.folder / "artifacts" / "journal.json")
        self.meter = Meter(self.folder / "artifacts" / "totals.json", POWER, MEMORY_BYTES)
        self.host = Host(self.driver, store, repository, journal, self.limits, self.meter, self.reporter)
        self._task = asyncio.create_task(self.host.run())

    async def stop_agent(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.driver.close()

    def put(self, name: str, content: Path) -> str:
        """Offer a tar or a model directory as file:///NAME; return its digest where it is a directory."""
        target = self.folder / "files" / name
        if content.is_dir():
            return pack_repository(target, content)
        os.link(content, target)
        return ""

    def status(self, placement: str) -> HostModelStatus | None:
        return next((s for s in self.host.status() if s.id == placement), None)

    async def until(
        self, placement: str, state: str | None, timeout_seconds: float = 30.0
    ) -> HostModelStatus:
        """Wait until a placement is in a state; None means gone."""

        def reached() -> bool:
            status = self.status(placement)
            if status is not None and status.state == "Failed" and state not in ("Failed", None):
                raise AssertionError(f"{placement} failed: {status.reason}: {status.message}")
            return (status.state if status else None) == state

        await eventually(
            reached, timeout_seconds, lambda: f"{placement} is {self.status(placement)}, not {state}"
        )
        return self.status(placement)


async def eventually(
    condition: Callable[[], bool],
    timeout_seconds: float = 10.0,
    why: Callable[[], str] = lambda: "never came true",
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(why())
        await asyncio.sleep(0.005)


def model(
    name: str, digest: str, *, uri: str | None = None, placement: str | None = None, **more
) -> HostModel:
    """A placement as the controller writes it."""
    more = {"state": "Loaded", "revision": "1"} | more
    return HostModel(
        id=placement or f"{name}-1",
        service=f"demo/{name}",
        name=name,
        uri=uri or f"file:///{name}.tar",
        digest=digest,
        **more,
    )


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The sample, trained and published once a session."""
    held_out = load_digits()[1]
    out = tmp_path_factory.mktemp("digits") / "digits.tar"
    return publish_network(networks.simple_cnn(), held_out.images[:3], "digits", out)


@pytest.fixture(scope="session")
def held_out():
    return load_digits()[1]


@pytest.fixture
def triton(tmp_path: Path) -> Iterator[TritonProcess]:
    process = TritonProcess.within(tmp_path)
    yield process
    process.stop()


@pytest.fixture
async def bench(triton: TritonProcess) -> AsyncIterator[Bench]:
    """A running host."""
    bench = Bench(triton.folder, triton)
    triton.start()
    bench.start_agent()
    yield bench
    await bench.stop_agent()


def as_array(*values: float) -> np.ndarray:
    return np.array([values], np.float32)
