"""Answers are compared with golden cases, value by value and in little memory."""

import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crafted import artifact
from lull.api.reasons import Reason
from lull_runtime.agent import golden as module
from lull_runtime.agent import validation
from lull_runtime.agent.golden import compare
from lull_runtime.agent.store import Model
from lull_runtime.agent.triton import Usage
from lull_runtime.artifact import read_artifact
from lull_runtime.artifact.card import Golden
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.format import Format
from lull_runtime.artifact.pack import pack_golden
from lull_runtime.measure.totals import Totals


def case(value: NDArray[Any]) -> tuple[bytes, Golden]:
    """A golden case of one output."""
    cases, blob = pack_golden([({"x": value[:1]}, {"y": value})])
    return blob, Golden(cases=cases, relative=1e-3, absolute=0.5)


def test_values_are_compared_in_pieces_and_the_farthest_of_all_is_named(monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 5)
    value = np.zeros((4, 3), np.float32)
    blob, golden = case(value)
    compare({"y": value}, 0, blob, golden)
    answer = value.copy()
    answer[0, 1], answer[2, 1], answer[3, 2] = 1, 9, 2
    with pytest.raises(ModelError, match=r"y\[2, 1\] is 9 here and was 0 .*3 of 12 values") as caught:
        compare({"y": answer}, 0, blob, golden)
    assert caught.value.reason is Reason.GOLDEN_MISMATCH


def test_to_compare_takes_less_memory_than_the_values_do():
    value = np.zeros(32 << 20, np.int8)
    blob, golden = case(value)
    tracemalloc.start()
    try:
        compare({"y": value}, 0, blob, golden)
        assert tracemalloc.get_traced_memory()[1] < 2 * value.nbytes
    finally:
        tracemalloc.stop()


class Alone:
    """A Triton that answers nothing in particular."""

    async def infer(self, *_: object) -> dict[str, NDArray[Any]]:
        return {}

    async def usage(self, _: str) -> dict[str, Usage]:
        return {"m": Usage(Totals(requests=2, executions=2))}


async def test_the_agent_goes_on_while_it_compares(tmp_path: Path, monkeypatch):
    compared_in = []
    monkeypatch.setattr(validation, "compare", lambda *_: compared_in.append(threading.current_thread()))
    found = read_artifact(artifact(tmp_path / "m"))
    model = Model("sha256:0", tmp_path / "m", Format.ARTIFACT, found, code=False)
    await validation.validate(Alone(), "m", model, None)
    assert len(compared_in) == 2
    assert threading.main_thread() not in compared_in
