"""Asks a loaded model what its network answered before it was shipped, and compares."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lull.api.reasons import Reason
from lull_runtime.agent.refusals import refusal
from lull_runtime.agent.triton import Triton, TritonError, TritonTimeoutError
from lull_runtime.artifact.card import Golden, GoldenCase, GoldenTensor, tensor
from lull_runtime.artifact.errors import ModelError

SILENT = "it loads, but does not answer in time once loaded: try it in a Triton of your own"
_AT_ONCE = 1 << 20
"""How many values are compared at once: that takes up to 27 bytes of memory for each."""
Answer = dict[str, NDArray[Any]]


async def ask(triton: Triton, name: str, case: GoldenCase, blob: bytes) -> Answer:
    """Return what a model answers to the inputs of a golden case.

    Raises:
        ModelError: it does not answer.
    """
    inputs = {entry.name: tensor(blob, entry) for entry in case.inputs}
    try:
        return await triton.infer(name, inputs, {entry.name: entry.datatype for entry in case.inputs})
    except TritonTimeoutError as error:
        raise ModelError(Reason.LOAD_FAILED, SILENT) from error
    except TritonError as error:
        message = f"it does not take its own golden inputs: {error}"
        raise refusal(message, Reason.WRONG_SHAPES) from error


def compare(answer: Answer, number: int, blob: bytes, golden: Golden) -> None:
    """Compare an answer with a golden case, by its number from 0.

    Raises:
        ModelError: WrongShapes, or GoldenMismatch with where it is farthest off.
    """
    for entry in golden.cases[number].outputs:
        have = answer.get(entry.name)
        if have is None or list(have.shape) != entry.shape:
            got = "no such output" if have is None else f"shape {list(have.shape)}"
            raise ModelError(
                Reason.WRONG_SHAPES,
                f"{entry.name}: its card promises shape {entry.shape}, the model gives {got}",
            )
        _compare(have, number, entry, blob, golden)


def _compare(have: NDArray[Any], number: int, entry: GoldenTensor, blob: bytes, golden: Golden) -> None:
    want = tensor(blob, entry)
    off, farthest, at = 0, -1.0, 0
    for start in range(0, want.size, _AT_ONCE):
        here, there = (flat[start : start + _AT_ONCE] for flat in (have.reshape(-1), want.reshape(-1)))
        close = np.isclose(here, there, rtol=golden.relative, atol=golden.absolute, equal_nan=True)
        if close.all():
            continue
        with np.errstate(all="ignore"):
            distance = np.nan_to_num(np.abs(here.astype(float) - there.astype(float)), nan=np.inf)
        distance[close] = -1.0
        off += int((~close).sum())
        if distance.max() > farthest:
            farthest, at = float(distance.max()), start + int(distance.argmax())
    if not off:
        return
    worst = tuple(int(axis) for axis in np.unravel_index(at, want.shape))
    raise ModelError(
        Reason.GOLDEN_MISMATCH,
        f"golden case {number}: {entry.name}{list(worst)} is {float(have[worst]):.6g} here and was "
        f"{float(want[worst]):.6g} when it was published ({off} of {want.size} values "
        f"are off by more than {golden.absolute:g} + {golden.relative:g} × |value|): it is not the network "
        "that was published, or does not compute alike here",
    )
