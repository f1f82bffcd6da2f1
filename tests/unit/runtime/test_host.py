"""The host's bookkeeping, with a Triton that does as each test says."""

import asyncio
import gc
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from lull.api.host import HostModel
from lull_runtime.agent.fetch import Sources
from lull_runtime.agent.host import Host, Limits
from lull_runtime.agent.journal import Journal
from lull_runtime.agent.meter import Meter
from lull_runtime.agent.reconcile import Phase
from lull_runtime.agent.repository import Repository
from lull_runtime.agent.rules import NOTHING, Rules
from lull_runtime.agent.store import Store
from lull_runtime.agent.triton import (
    Signature,
    Tensor,
    Triton,
    TritonDownError,
    TritonError,
    TritonTimeoutError,
    Usage,
)
from lull_runtime.agent.validation import _counted
from lull_runtime.artifact.pack import pack_repository
from lull_runtime.measure.power import PowerProfile
from lull_runtime.measure.totals import Totals

CONFIG = 'backend: "onnxruntime" input [ { name: "x" } ] output [ { name: "y" } ]'


class FakeTriton:
    """Loads and unloads by the name, and counts."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.up = True
        self.calls: list[str] = []
        self.on_load: Callable[[str], None] = lambda name: None
        self.counts: dict[str, Usage] = {}
        self.on_usage: Callable[[], Awaitable[dict[str, Usage]]] = self.counted
        self.unloads = 0
        self.may_unload = asyncio.Event()
        self.may_unload.set()

    async def live(self) -> bool:
        return self.up

    async def index(self) -> dict[str, str]:
        return dict(self.states)

    async def usage(self, name: str = "") -> dict[str, Usage]:
        if not self.up:
            raise TritonDownError("connection refused")
        return await self.on_usage()

    async def counted(self) -> dict[str, Usage]:
        return {name: self.counts.get(name, Usage()) for name, state in self.states.items() if state}

    async def disconnected(self) -> None:
        await asyncio.Event().wait()

    async def load(self, name: str, timeout_seconds: float) -> None:
        self.calls.append(f"load {name}")
        self.on_load(name)
        self.states[name] = "READY"

    async def unload(self, name: str) -> None:
        self.calls.append(f"unload {name}")
        self.unloads += 1
        try:
            await self.may_unload.wait()
        finally:
            self.unloads -= 1
        self.states[name] = ""


class Reporter:
    """Remembers what the host drew whenever there was something to tell."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.told_watts: list[float] = []
        self.on_notify: Callable[[], None] = lambda: None

    def notify(self, urgent: bool) -> None:
        self.on_notify()
        power = self.meter.power()
        assert power is not None
        self.told_watts.append(power.draw.total / 1e6)

    async def told(self) -> None:
        pass


class World:
    """One host in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.triton = FakeTriton()
        for name in ("files", "artifacts"):
            (folder / name).mkdir(exist_ok=True)
        self.store = Store(
            folder / "artifacts",
            folder / "own",
            Sources(folder / "files"),
            Rules(("file:///",)),
            most_bytes=1 << 30,
            in_use=lambda: self.host.digests(),
        )
        self.journal = Journal(folder / "artifacts" / "journal.json")
        self.repository = Repository(folder / "repository", folder / "backends")
        power = PowerProfile(idle=16, context=21, max=72)
        self.meter = Meter(folder / "artifacts" / "totals.json", power, 1 << 30)
        self.reporter = Reporter(self.meter)
        self.host = Host(
            self.triton, self.store, self.repository, self.journal, Limits(), self.meter, self.reporter
        )

    def model(
        self, name: str, number: int = 1, content: bytes = b"network", config: str = CONFIG
    ) -> HostModel:
        """A placement of a model that is there."""
        source = self.folder / f"{name}-{hashlib.sha256(content).hexdigest()}"
        if not source.exists():
            (source / "1").mkdir(parents=True)
            (source / "config.pbtxt").write_text(config)
            (source / "1" / "model.onnx").write_bytes(content)
        digest = pack_repository(self.folder / "files" / source.name, source)
        return HostModel(
            id=f"{name}-{number}",
            service=f"demo/{name}",
            name=name,
            revision=str(number),
            uri=f"file:///{source.name}",
            digest=digest,
            state="Loaded",
        )

    def state(self, placement: str) -> str | None:
        return next((s.state for s in self.host.status() if s.id == placement), None)

    async def until(self, placement: str, state: str | None) -> None:
        await eventually(lambda: self.state(placement) == state)


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


@pytest.fixture
async def world(tmp_path: Path):
    world = World(tmp_path)
    running = asyncio.create_task(world.host.run())
    yield world
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_triton_that_is_up_is_told_with_the_watts_of_its_context_also_without_a_model(world: World):
    await eventually(lambda: world.reporter.told_watts)
    assert world.reporter.told_watts[0] == 37
    assert world.meter.power().split.unallocated == 37_000_000


async def test_what_is_drawn_while_a_model_is_unloaded_is_charged_to_nobody(world: World):
    world.host.set_desired([world.model("a")])
    await world.until("a-1", "Ready")
    await eventually(lambda: world.meter.holds_models)
    world.triton.may_unload.clear()
    world.host.set_desired([])
    await eventually(lambda: world.triton.unloads)
    account, unallocated = world.meter.accounts["a-1"], world.meter.sums.unallocated
    told = account.idle
    world.meter.settle(time.monotonic() + 5)
    assert account.idle == told > 0
    assert world.meter.sums.unallocated - unallocated >= 5 * 37_000_000
    world.triton.may_unload.set()
    await world.until("a-1", None)


async def test_a_fetch_that_fails_as_nobody_foresaw_fails_the_placement(world: World, monkeypatch):
    async def get(*_):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(world.store, "get", get)
    world.host.set_desired([world.model("a")])
    await world.until("a-1", "Failed")
    assert "unforeseen" in world.host.status()[0].message
    world.host.set_desired([])
    await world.until("a-1", None)


@pytest.mark.filterwarnings("error")
async def test_a_placement_that_goes_at_once_leaves_nothing_undone(world: World):
    world.host.set_desired([world.model("a")])
    world.host.set_desired([])
    await eventually(lambda: not world.host._tasks)
    gc.collect()


async def test_a_look_that_fails_as_nobody_foresaw_fails_the_placement(world: World, monkeypatch):
    def look(*_):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(world.store, "is_ready", lambda *_: True)
    monkeypatch.setattr(world.store, "open", look)
    world.host.set_desired([world.model("a")])
    assert world.state("a-1") == "Failed"


async def test_a_load_that_fails_as_nobody_foresaw_is_taken_out_again(world: World):
    def fail(name: str) -> None:
        world.triton.states[name] = "READY"
        raise KeyError("unforeseen")

    world.triton.on_load = fail
    world.host.set_desired([world.model("a")])
    await world.until("a-1", "Failed")
    await eventually(lambda: world.triton.states["a"] == "")
    world.triton.on_load = lambda name: None
    world.host.set_desired([world.model("a"), world.model("b")])
    await world.until("b-1", "Ready")


async def test_a_model_is_unloaded_by_one_task_so_that_its_successor_is_spared(world: World):
    def fail(name: str) -> None:
        world.triton.states[name] = "READY"
        raise KeyError("unforeseen")

    world.triton.on_load = fail
    world.triton.may_unload.clear()
    world.host.set_desired([world.model("a")])
    await eventually(lambda: world.triton.unloads == 1)
    world.host.set_desired([])
    await eventually(lambda: world.triton.calls.count("unload a") == 2)
    assert world.triton.unloads == 1

    world.triton.on_load = lambda name: None
    world.triton.may_unload.set()
    world.host.set_desired([world.model("a", 2)])
    await world.until("a-2", "Ready")
    assert world.triton.calls[-1] == "load a"


async def test_what_leaves_while_it_loads_is_out_before_the_next_load_begins(world: World):
    """Its room may be given away before anybody was told that it takes it."""
    world.triton.may_unload.clear()
    successor = world.model("b")

    def leave(name: str) -> None:
        if name == "a":
            world.host.set_desired([successor])

    world.triton.on_load = leave
    world.host.set_desired([world.model("a")])
    await eventually(lambda: world.triton.unloads == 1)
    await eventually(lambda: world.host.placements["b-1"].phase is Phase.WAITING)
    assert world.state("a-1") == "Loading", "whoever keeps books on this host counts its memory until then"
    world.host._reconcile()
    assert world.triton.calls == ["load a", "unload a"]
    world.triton.may_unload.set()
    await world.until("b-1", "Ready")
    assert world.triton.calls == ["load a", "unload a", "load b"]
    assert world.state("a-1") is None


async def test_a_model_that_is_out_leaves_no_directory_and_one_that_is_in_is_a_link(world: World):
    laid = world.folder / "repository" / "a"
    world.host.set_desired([world.model("a")])
    await world.until("a-1", "Ready")
    assert (laid / "1" / "model.onnx").stat().st_nlink == 2
    world.host.set_desired([])
    await world.until("a-1", None)
    assert not laid.exists()


async def test_what_a_killed_agent_left_is_removed(world: World):
    (world.folder / "repository" / "old").mkdir()
    world.repository.keep_only(["other"])
    assert not (world.folder / "repository" / "old").exists()


async def test_a_full_disk_costs_the_journal_and_no_model(world: World, monkeypatch):
    (world.folder / "artifacts" / "journal.json").write_text("{}")
    model = world.model("a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    world.host.set_desired([model])
    await world.until("a-1", "Ready")
    await eventually(lambda: not (world.folder / "artifacts" / "journal.json").exists())
    world.host.set_desired([])
    await world.until("a-1", None)


async def test_a_model_that_is_loaded_and_then_silent_is_no_load_timeout(world: World):
    async def silent(name: str) -> None:
        raise TritonTimeoutError("deadline")

    world.triton.signature = silent
    world.host.set_desired([world.model("a", config='backend: "onnxruntime"')])
    await world.until("a-1", "Failed")
    assert world.host.status()[0].reason == "LoadFailed"  # a timed out load would taint the host
    await eventually(lambda: world.triton.states["a"] == "")


async def test_an_output_of_strings_is_an_error_of_the_model(monkeypatch):
    answer = service_pb2.ModelInferResponse(raw_output_contents=[b"x"])
    answer.outputs.add(name="y", datatype="BYTES", shape=[1])

    async def call(*_):
        return answer

    triton = Triton("127.0.0.1:9", "key")
    monkeypatch.setattr(triton, "_call", call)
    with pytest.raises(TritonError, match="BYTES"):
        await triton.infer("m", {"x": np.ones((1, 1))}, {"x": "FP64"})
    await triton.close()


async def test_a_model_larger_than_its_reservation_waits_for_more(world: World, monkeypatch):
    real_open = world.store.open

    def large(*args):
        return replace(
            real_open(*args),
            artifact=SimpleNamespace(card=SimpleNamespace(memory_bytes=2**30 + 1, training=None)),
        )

    async def valid(*_):
        return Totals()

    monkeypatch.setattr(world.store, "open", large)
    monkeypatch.setattr(world.repository, "has", lambda *_: True)
    monkeypatch.setattr("lull_runtime.agent.host.validate", valid)
    wanted = world.model("a").model_copy(update={"memory": "1Gi"})
    world.host.set_desired([wanted])
    await eventually(lambda: world.host.status()[0].memory == "1025Mi")
    status = world.host.status()[0]
    assert (status.state, "1025Mi" in status.message) == ("Fetching", True)
    world.host.set_desired([wanted.model_copy(update={"memory": str(1025 * 2**20)})])
    await world.until("a-1", "Ready")
    assert world.triton.calls == ["load a"]


# ── What Triton does not let go of ──


class Deaf(FakeTriton):
    """Never unloads what is in `dead` but after another load, as Triton does not where a process died."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: set[str] = set()
        self.loads_help = True

    async def load(self, name: str, timeout_seconds: float) -> None:
        await super().load(name, timeout_seconds)
        if self.loads_help:
            self.dead.discard(name)

    async def unload(self, name: str) -> None:
        await super().unload(name)
        if name in self.dead:
            self.states[name] = "UNLOADING"

    async def signature(self, name: str) -> Signature:
        return (Tensor("x", "FP32", (-1, 2)),), ()

    async def infer(self, name: str, inputs: object, datatypes: object) -> dict[str, object]:
        if name in self.dead:
            raise TritonError(f"Stub process '{name}_0_0' is not healthy.")
        return {}


@pytest.fixture
async def deaf(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("lull_runtime.agent.host._UNLOAD_AGAIN_SECONDS", 0.02)
    monkeypatch.setattr("lull_runtime.agent.host._DEAD_SECONDS", 0.01)
    monkeypatch.setattr("lull_runtime.agent.host._TAKE_OUT_SECONDS", 0.2)
    monkeypatch.setattr("lull_runtime.agent.pulse._FAILING_SECONDS", 0.0)
    monkeypatch.setattr(f"{__name__}.FakeTriton", Deaf)
    world = World(tmp_path)
    running = asyncio.create_task(world.host.run())
    yield world
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def ready_and_failing(world: World) -> None:
    """Have model `a` be ready, and fail all that it is asked from then on."""
    world.host.set_desired([world.model("a").model_copy(update={"idle_after": "100ms"})])
    await world.until("a-1", "Ready")

    def more() -> bool:
        before = world.triton.counts.get("a", Usage()).totals.failures
        world.triton.counts["a"] = Usage(Totals(failures=before + 1))
        return world.state("a-1") != "Ready" or before > 200

    await eventually(more)


async def test_a_model_whose_process_died_is_unloaded_by_way_of_another_load(deaf: World):
    failing = asyncio.create_task(ready_and_failing(deaf))
    await eventually(lambda: "load a" in deaf.triton.calls and deaf.state("a-1") == "Ready")
    deaf.triton.dead.add("a")
    await failing
    status = deaf.host.status()[0]
    assert (status.state, status.reason, "process died" in status.message) == ("Failed", "LoadFailed", True)
    await eventually(lambda: deaf.triton.calls == ["load a", "unload a", "load a", "unload a"])
    deaf.host.set_desired([deaf.model("a", 2)])
    await deaf.until("a-2", "Ready")


async def test_what_takes_a_dead_model_out_spares_its_successor(deaf: World):
    failing = asyncio.create_task(ready_and_failing(deaf))
    await eventually(lambda: "load a" in deaf.triton.calls and deaf.state("a-1") == "Ready")
    deaf.triton.dead.add("a")
    deaf.triton.may_unload.clear()
    await failing
    await eventually(lambda: deaf.triton.unloads == 1)
    deaf.host.set_desired([deaf.model("a", 2)])
    await eventually(lambda: deaf.triton.calls.count("unload a") == 2)
    assert deaf.triton.unloads == 1, "one task at a time"
    deaf.triton.may_unload.set()
    await deaf.until("a-2", "Ready")
    await eventually(lambda: not deaf.host._tasks)
    assert deaf.triton.states["a"] == "READY"


async def test_a_model_that_lives_and_fails_all_it_is_asked_stays(deaf: World):
    await ready_and_failing(deaf)
    assert deaf.state("a-1") == "Ready"
    assert deaf.triton.calls == ["load a"]


async def test_an_unload_that_never_ends_is_given_up_and_its_memory_stays_counted(deaf: World):
    deaf.triton.loads_help = False
    deaf.host.set_desired([deaf.model("a").model_copy(update={"memory": "64Mi"})])
    await deaf.until("a-1", "Ready")
    deaf.triton.dead.add("a")
    deaf.host.set_desired([deaf.model("b")])
    await deaf.until("a-1", "Failed")
    status = deaf.host.status()[0]
    assert (status.reason, status.memory) == ("LoadTimeout", "64Mi"), "whoever keeps books replaces the host"
    await deaf.until("b-1", "Ready")
    asked = deaf.triton.calls.count("unload a")
    deaf.host._reconcile()
    assert deaf.triton.calls.count("unload a") == asked, "there is no use in asking again"
    deaf.triton.states["a"] = ""
    await deaf.host._look_again([])
    await deaf.until("a-1", None)


# ── Figures ──


@pytest.mark.parametrize("error", [TritonTimeoutError("deadline"), TritonError("no statistics"), None])
async def test_no_load_fails_for_want_of_its_golden_runs_figures(monkeypatch, error):
    monkeypatch.setattr("lull_runtime.agent.validation._COUNT_SECONDS", 0.05)
    triton = FakeTriton()

    async def usage() -> dict[str, Usage]:
        if error is not None:
            raise error
        await asyncio.Event().wait()

    triton.on_usage = usage
    assert await _counted(triton, "a", 3) == Totals(requests=3)


async def test_a_backend_without_batch_statistics_is_not_asked_again_and_again():
    triton, asked = FakeTriton(), []

    async def usage() -> dict[str, Usage]:
        asked.append(1)
        return {"a": Usage(Totals(requests=3))}

    triton.on_usage = usage
    assert await _counted(triton, "a", 3) == Totals(requests=3)
    assert len(asked) == 2


async def test_answers_are_taken_in_in_their_order(world: World):
    world.host.set_desired([world.model("a")])
    await world.until("a-1", "Ready")
    await eventually(lambda: world.meter.holds_models)
    held, answers, asking = asyncio.Event(), [7, 9], [0]

    async def usage() -> dict[str, Usage]:
        asking[0] += 1
        assert asking[0] == 1
        requests = answers.pop(0) if answers else 9
        if requests == 7:
            await held.wait()
        asking[0] -= 1
        return {"a": Usage(Totals(requests=requests))}

    world.triton.on_usage = usage
    looks = asyncio.gather(*(world.host.metering.look_last() for _ in range(2)))
    await asyncio.sleep(0.01)
    held.set()
    await looks
    assert world.meter.accounts["a-1"].totals.requests == 9


async def test_a_triton_that_does_not_answer_delays_an_unload_by_a_moment_only(world: World, monkeypatch):
    monkeypatch.setattr("lull_runtime.agent.metering._LAST_SECONDS", 0.02)
    world.host.set_desired([world.model("a")])
    await world.until("a-1", "Ready")

    async def usage() -> dict[str, Usage]:
        await asyncio.sleep(60)

    world.triton.on_usage = usage
    world.host.set_desired([])
    await world.until("a-1", None)


async def test_what_left_while_no_agent_lived_leaves_with_its_last_totals_told(tmp_path: Path):
    before = World(tmp_path)
    running = asyncio.create_task(before.host.run())
    before.host.set_desired([before.model("a")])
    await before.until("a-1", "Ready")
    await eventually(lambda: before.meter.holds_models)
    await before.meter.keep(flush=True)
    told = before.host.status()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    after = World(tmp_path)
    after.triton.states = before.triton.states
    after.triton.counts = {"a": Usage(Totals(requests=12))}
    seen = []

    async def note() -> None:
        for status in after.host.status():
            requests = after.meter.accounts[status.id].totals.requests
            seen.append((status.id, status.service, status.state, requests))

    after.reporter.told = note
    running = asyncio.create_task(after.host.run())
    after.host.set_desired([], told)
    await after.until("a-1", None)
    await eventually(lambda: after.triton.states["a"] == "")
    assert seen == [("a-1", "demo/a", "Unloading", 12)]
    assert not after.meter.accounts
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_model_that_is_fetched_while_triton_is_down_is_told_to_wait_for_its_load(world: World):
    told: list[str | None] = []
    world.reporter.on_notify = lambda: told.append(world.state("a-1"))
    world.triton.up = False
    world.host.set_desired([world.model("a")])
    assert told == ["Fetching"]
    await eventually(lambda: world.host.placements["a-1"].phase is Phase.WAITING)
    assert told[-1] == "Loading", "nothing else happens until Triton is back"
    world.triton.up = True
    await eventually(lambda: told[-1] == "Ready")


async def test_a_rule_that_is_withdrawn_while_a_model_waits_holds_at_its_load(world: World):
    world.triton.up = False
    world.host.set_desired([world.model("a")])
    await eventually(lambda: world.host.placements["a-1"].phase is Phase.WAITING)
    world.store.rules = NOTHING
    world.triton.up = True
    await world.until("a-1", "Failed")
    assert world.host.status()[0].reason == "UriNotAllowed"
    assert world.triton.calls == []
    world.store.rules = Rules(("file:///",))
    world.host.set_desired([world.model("b")])
    await world.until("b-1", "Ready")
