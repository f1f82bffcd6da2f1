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
    close = np.isclose(have, want, rtol=golden.relative, atol=golden.absolute, equal_nan=True)
    if close.all():
        return
    with np.errstate(all="ignore"):
        off = np.where(
            close, -1.0, np.nan_to_num(np.abs(have.astype(float) - want.astype(float)), nan=np.inf)
        )
    worst = tuple(int(axis) for axis in np.unravel_index(int(off.argmax()), off.shape))
    raise ModelError(
        Reason.GOLDEN_MISMATCH,
        f"golden case {number}: {entry.name}{list(worst)} is {float(have[worst]):.6g} here and was "
        f"{float(want[worst]):.6g} when it was published ({int((~close).sum())} of {close.size} values "
        f"are off by more than {golden.absolute:g} + {golden.relative:g} × |value|): it is not the network "
        "that was published, or does not compute alike here",
    )
