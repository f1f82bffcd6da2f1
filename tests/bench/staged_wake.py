"""A wake whose artifact is staged beside one that downloads it first: the agent's `Host` and a real Triton.

The store is a thread here that sends so many bytes a second: what a network does to a download is modelled by
that alone. What was just written is in the page cache both times; a disk that must be read adds to both.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.figures import Figure
from integration.runtime.triton import TritonProcess
from lull.api.host import HostModel, StagedArtifact
from lull_runtime.agent.fetch import Sources
from lull_runtime.agent.host import Host, Limits
from lull_runtime.agent.journal import Journal
from lull_runtime.agent.meter import Meter
from lull_runtime.agent.repository import Repository
from lull_runtime.agent.rules import Rules
from lull_runtime.agent.settings import control_key
from lull_runtime.agent.shelf import lodge
from lull_runtime.agent.staging import Stager
from lull_runtime.agent.store import Store
from lull_runtime.agent.triton import Triton
from lull_runtime.artifact.pack import pack_repository
from lull_runtime.measure.power import PowerProfile
from slow_store import SlowStore

TURNS = 3
ARTIFACT_BYTES = 200 << 20
BYTES_PER_SECOND = 125_000_000
"""1 Gbit/s."""
DEADLINE_SECONDS = 120.0
MODEL = Path(__file__).parents[1] / "data" / "repository" / "identity"


class Reporter:
    """Whom the host tells; nobody reads it here."""

    def notify(self, urgent: bool) -> None:
        pass

    async def told(self) -> None:
        pass


class Bench:
    """One host on a node's folder, which the store fills."""

    def __init__(self, folder: Path, triton: TritonProcess, store: SlowStore) -> None:
        own, _ = lodge(folder / "node" / "hosts", "bench")
        self.driver = Triton(f"{triton.address}:8001", control_key(triton.folder / "control"))
        self.store = Store(
            folder / "node",
            own,
            Sources(triton.folder / "files", deadline_seconds=DEADLINE_SECONDS),
            Rules((store.uri(""),), code=True),
            most_bytes=8 * ARTIFACT_BYTES,
            in_use=lambda: self.host.digests(),
        )
        self.stager = Stager(self.store, lambda: None)
        self.host = Host(
            self.driver,
            self.store,
            Repository(triton.folder / "repository", triton.backends),
            Journal(own / "journal.json"),
            Limits(),
            Meter(own / "totals.json", PowerProfile(), 1 << 30),
            Reporter(),
        )

    async def staged(self, uri: str, digest: str) -> None:
        """Have it staged, with all that happens before a wake."""
        self.stager.set_list([StagedArtifact(uri=uri, digest=digest, service="bench/big")])
        await _until(lambda: digest in self.stager.staged, "staged")

    async def wake_seconds(self, uri: str, digest: str) -> float:
        """Return how long it takes until the model is ready, and unload it again."""
        named = {"id": "big-1", "service": "bench/big", "name": "identity", "revision": "1"}
        want = HostModel(**named, uri=uri, digest=digest, state="Loaded")
        began = time.perf_counter()
        self.host.set_desired([want])
        await _until(lambda: [m.state for m in self.host.status()] == ["Ready"], "ready")
        took = time.perf_counter() - began
        self.host.set_desired([])
        await _until(lambda: not self.host.placements, "unloaded")
        return took


def measure(folder: Path) -> list[Figure]:
    """Return the median wakes, in turn cold and staged, each with an artifact that was never here."""
    triton = TritonProcess.within(folder)
    files = folder / "store"
    files.mkdir()
    triton.start()
    try:
        with SlowStore(files, BYTES_PER_SECOND) as store:
            cold, staged = asyncio.run(_turns(folder, triton, store))
    finally:
        triton.stop()
    size_mib, rate = ARTIFACT_BYTES >> 20, BYTES_PER_SECOND // 1_000_000
    name = f"wake of {size_mib} MiB, staged, median of {TURNS}"
    return [Figure(name, staged, "s", f"downloaded at {rate} MB/s", cold, bar=0.5, of_ratio=True)]


async def _turns(folder: Path, triton: TritonProcess, store: SlowStore) -> tuple[float, float]:
    bench = Bench(folder, triton, store)
    running = [asyncio.create_task(part()) for part in (bench.host.run, bench.stager.run)]
    took: dict[str, list[float]] = {"cold": [], "staged": []}
    try:
        await _until(lambda: bench.host.triton_up, "up")
        warm = _publish(store, "warm", 1)  # Triton's own first load
        await bench.wake_seconds(*warm)
        for turn in range(TURNS):
            uri, digest = _publish(store, f"cold-{turn}", ARTIFACT_BYTES)
            took["cold"].append(await bench.wake_seconds(uri, digest))
            uri, digest = _publish(store, f"staged-{turn}", ARTIFACT_BYTES)
            await bench.staged(uri, digest)
            asked = len(store.asked)
            took["staged"].append(await bench.wake_seconds(uri, digest))
            assert len(store.asked) == asked, "a staged wake asks no store"
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await bench.driver.close()
    return median(took["cold"]), median(took["staged"])


def _publish(store: SlowStore, name: str, ballast_bytes: int) -> tuple[str, str]:
    """Make a model that answers with what it gets, and carries so many bytes; the one before it goes."""
    source = store.folder / "source"
    shutil.copytree(MODEL, source, dirs_exist_ok=True)
    (source / "1" / "ballast").write_bytes(os.urandom(ballast_bytes))
    for old in store.folder.glob("*.tar"):
        old.unlink()
    return store.uri(f"{name}.tar"), pack_repository(store.folder / f"{name}.tar", source)


async def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"it is not {what}"
        await asyncio.sleep(0.002)
