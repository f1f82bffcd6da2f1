"""Load, first and later answers of one network as ONNX beside PyTorch's program, in turn on one Triton."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from bench.figures import Figure
from integration.runtime.triton import TritonProcess
from lull_runtime.agent.golden import ask
from lull_runtime.agent.repository import Repository
from lull_runtime.agent.settings import control_key
from lull_runtime.agent.store import Model
from lull_runtime.agent.triton import Triton
from lull_runtime.artifact import Format, read_artifact
from lull_runtime.artifact.tar import Bounds, unpack
from lull_runtime.measure.memory import stub_bytes
from lull_runtime.publish.export import publish_form
from lull_runtime.publish.forms import Form, made_up
from lull_runtime.publish.from_torch import as_pt2, exported_program, from_module
from lull_runtime.publish.simple_cnn import SimpleCNN

TURNS, ANSWERS = 5, 200
LOAD_SECONDS = 120.0
ROWS = made_up((3, 1, 32, 32))


@dataclass(frozen=True)
class Turn:
    """One load of a model, and what it did then."""

    load_seconds: float
    first_seconds: float
    later_seconds: float
    memory_bytes: int


def measure(folder: Path) -> list[Figure]:
    """Return the figures of ONNX; those of the `.pt2` are their references."""
    network = SimpleCNN().eval()
    onnx = from_module(network, "onnx", None, ROWS)
    program = as_pt2(exported_program(network, ROWS))
    served = {
        "onnx": onnx,
        "torch": replace(onnx, name="torch", to_served=lambda rows, outputs: (program, "pt2", [])),
    }
    triton = TritonProcess.within(folder)
    models = {name: _published(form, folder) for name, form in served.items()}
    triton.start()
    try:
        turns = asyncio.run(_turns(triton, models))
    finally:
        triton.stop()
    return _figures(turns["onnx"], turns["torch"])


def _published(form: Form, folder: Path) -> Model:
    tar, root = folder / f"{form.name}.tar", folder / "files" / form.name
    published = publish_form(form, ROWS, form.name, tar)
    root.mkdir()
    unpack(tar, root, Bounds(total_bytes=1 << 30))
    return Model(published.digest, root, Format.ARTIFACT, read_artifact(root), code=False)


async def _turns(triton: TritonProcess, models: dict[str, Model]) -> dict[str, list[Turn]]:
    repository = Repository(triton.folder / "repository", triton.backends)
    driver = Triton(f"{triton.address}:8001", control_key(triton.folder / "control"))
    turns: dict[str, list[Turn]] = defaultdict(list)
    try:
        deadline = time.monotonic() + LOAD_SECONDS
        while not await driver.live():
            assert time.monotonic() < deadline, "Triton does not start"
            await asyncio.sleep(0.1)
        for turn in range(TURNS + 1):
            for name, model in models.items():
                repository.lay(name, model)
                measured = await _turn(driver, name, model, repository)
                if turn:  # the first reads the libraries from the disk
                    turns[name].append(measured)
    finally:
        await driver.close()
    return turns


async def _turn(driver: Triton, name: str, model: Model, repository: Repository) -> Turn:
    case, blob = model.artifact.card.golden.cases[0], model.artifact.golden.read_bytes()
    began = time.perf_counter()
    await driver.load(name, LOAD_SECONDS)
    loaded = time.perf_counter()
    took = []
    for _ in range(1 + ANSWERS):
        asked = time.perf_counter()
        await ask(driver, name, case, blob)
        took.append(time.perf_counter() - asked)
    memory_bytes = stub_bytes(repository.directory(name)) or 0
    await driver.unload(name)
    deadline = time.monotonic() + LOAD_SECONDS
    while (await driver.index()).get(name):
        assert time.monotonic() < deadline, f"{name} is not unloaded"
        await asyncio.sleep(0.05)
    return Turn(loaded - began, took[0], median(took[1:]), memory_bytes)


def _figures(onnx: Sequence[Turn], torch: Sequence[Turn]) -> list[Figure]:
    rows = (
        ("load in Triton", "s", lambda turn: turn.load_seconds),
        ("first answer after it", "ms", lambda turn: 1e3 * turn.first_seconds),
        ("later answers", "ms", lambda turn: 1e3 * turn.later_seconds),
        ("memory", "MiB", lambda turn: turn.memory_bytes / 2**20),
    )
    return [
        Figure(
            f"SimpleCNN as ONNX: {what}, median of {TURNS}",
            median(map(of, onnx)),
            unit,
            "as .pt2 by PyTorch",
            median(map(of, torch)),
        )
        for what, unit, of in rows
    ]
