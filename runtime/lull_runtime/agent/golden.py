"""Asks a loaded model what its network answered before it was shipped, and compares."""

import asyncio
import logging
from dataclasses import replace

import numpy as np

from lull.api.reasons import Reason
from lull_runtime.agent.store import Model
from lull_runtime.agent.triton import Triton, TritonError, TritonTimeoutError, Usage
from lull_runtime.artifact.card import Golden, GoldenCase, tensor
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.format import GOLDEN
from lull_runtime.measure.totals import Totals

log = logging.getLogger(__name__)

_SILENT = "it loads, but does not answer in time once loaded: try it in a Triton of your own"
_COUNT_SECONDS, _COUNT_AGAIN_SECONDS = 1.0, 0.01
"""Triton counts a request just after its answer."""


async def validate(triton: Triton, name: str, model: Model) -> Totals:
    """Run the golden cases, which warms the model up too; return what Triton counted of them.

    Raises:
        ModelError: WrongShapes, LoadFailed, or NotAModel: the model takes or gives nothing.
    """
    if model.partial and not await _has_signature(triton, name):
        raise ModelError(
            Reason.NOT_A_MODEL,
            "its config.pbtxt leaves inputs or outputs out: declare them, or use a pool whose Triton "
            "completes configurations (LULL_TRITON_COMPLETE=true)",
        )
    if model.card is None:
        return Totals()
    blob = await asyncio.to_thread((model.root / GOLDEN).read_bytes)
    for case in model.card.golden.cases:
        await _run(triton, name, case, blob, model.card.golden)
    return await _counted(triton, name, len(model.card.golden.cases))


async def _counted(triton: Triton, name: str, requests: int) -> Totals:
    """What Triton counted of the golden runs, as far as it says: no load fails for want of a figure."""
    totals = Totals()
    try:
        async with asyncio.timeout(_COUNT_SECONDS):
            while True:
                before, totals = totals, (await triton.usage(name)).get(name, Usage()).totals
                # Not all backends count executions: those that did not move will not.
                if totals.requests >= requests and (totals.executions >= requests or totals == before):
                    break
                await asyncio.sleep(_COUNT_AGAIN_SECONDS)
    except (TimeoutError, TritonError, TritonTimeoutError) as error:
        log.warning("%s: what its golden runs took is not known: %s", name, error)
    return replace(totals, requests=requests)


async def _has_signature(triton: Triton, name: str) -> bool:
    try:
        return await triton.has_signature(name)
    except TritonTimeoutError as error:
        raise ModelError(Reason.LOAD_FAILED, _SILENT) from error


async def _run(triton: Triton, name: str, case: GoldenCase, blob: bytes, golden: Golden) -> None:
    inputs = {entry.name: tensor(blob, entry) for entry in case.inputs}
    try:
        answer = await triton.infer(name, inputs, {entry.name: entry.datatype for entry in case.inputs})
    except TritonTimeoutError as error:
        raise ModelError(Reason.LOAD_FAILED, _SILENT) from error
    except TritonError as error:
        message = f"it does not take its own golden inputs: {error}"
        raise ModelError(Reason.WRONG_SHAPES, message) from error
    for entry in case.outputs:
        have = answer.get(entry.name)
        if have is None or list(have.shape) != entry.shape:
            got = "no such output" if have is None else f"shape {list(have.shape)}"
            raise ModelError(
                Reason.WRONG_SHAPES,
                f"{entry.name}: its card promises shape {entry.shape}, the model gives {got}",
            )
        if not np.allclose(
            have, tensor(blob, entry), rtol=golden.relative, atol=golden.absolute, equal_nan=True
        ):
            raise ModelError(
                Reason.LOAD_FAILED,
                f"{entry.name}: it answers its golden inputs otherwise than when it was published",
            )
