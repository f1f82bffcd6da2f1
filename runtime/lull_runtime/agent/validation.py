"""Validates a loaded model before requests reach it: that it answers, rightly, and fast enough."""

import asyncio
import logging
import statistics
import time
from dataclasses import replace

import numpy as np

from lull.api.quantities import format_duration
from lull.api.reasons import Reason
from lull_runtime.agent.golden import SILENT, ask, compare
from lull_runtime.agent.refusals import DIED
from lull_runtime.agent.store import Model
from lull_runtime.agent.triton import Signature, Triton, TritonError, TritonTimeoutError, Usage
from lull_runtime.artifact import Artifact
from lull_runtime.artifact.card import numpy_type
from lull_runtime.artifact.errors import ModelError
from lull_runtime.measure.totals import Totals

log = logging.getLogger(__name__)

_RUNS = 5
_COUNT_SECONDS, _COUNT_AGAIN_SECONDS = 1.0, 0.01
"""Triton counts a request just after its answer."""


async def validate(triton: Triton, name: str, model: Model, latency_seconds: float | None) -> Totals:
    """Run the golden cases, which warms the model up too; return what Triton counted of them.

    Args:
        triton: that holds it.
        name: of the model on the wire.
        model: what it is.
        latency_seconds: what its service promises; None: nothing.

    Raises:
        ModelError: GoldenMismatch, TooSlow, WrongShapes, LoadFailed, or NotAModel: it takes or gives nothing.
    """
    if model.partial and not all(await _signature(triton, name)):
        raise ModelError(
            Reason.NOT_A_MODEL,
            "its config.pbtxt leaves inputs or outputs out: declare them, or use a pool whose Triton "
            "completes configurations (LULL_TRITON_COMPLETE=true)",
        )
    if model.artifact is None:
        return Totals()
    golden = model.artifact.card.golden
    blob = await asyncio.to_thread(model.artifact.golden.read_bytes)
    for number, case in enumerate(golden.cases):
        answer = await ask(triton, name, case, blob)
        await asyncio.to_thread(compare, answer, number, blob, golden)
    runs = 0
    if latency_seconds is not None:
        runs = await _time(triton, name, model.artifact, blob, latency_seconds)
    return await _counted(triton, name, len(golden.cases) + runs)


async def _time(triton: Triton, name: str, artifact: Artifact, blob: bytes, latency_seconds: float) -> int:
    """Run the first golden case until it is clear what the median of five is; return how often that was."""
    times: list[float] = []
    most = _RUNS // 2
    while sum(took <= latency_seconds for took in times) <= most:
        if sum(took > latency_seconds for took in times) > most:
            raise _too_slow(times, latency_seconds)
        started = time.perf_counter()
        await ask(triton, name, artifact.card.golden.cases[0], blob)
        times.append(time.perf_counter() - started)
    return len(times)


def _too_slow(times: list[float], latency_seconds: float) -> ModelError:
    rows = ", ".join(f"{took * 1000:.0f}" for took in times)
    return ModelError(
        Reason.TOO_SLOW,
        f"golden case 0 took {statistics.median(times) * 1000:.0f} ms here ({rows}), and "
        f"spec.objective.latency is {format_duration(latency_seconds)}: use a faster pool, publish a faster "
        "form of it, or promise less",
    )


async def _counted(triton: Triton, name: str, requests: int) -> Totals:
    """What Triton counted of our own runs, as far as it says: no load fails for want of a figure."""
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


async def has_died(triton: Triton, name: str) -> bool:
    """Whether a model's process is gone: it is asked something, as nothing but its answer tells.

    Raises:
        TritonDownError: Triton is gone itself.
    """
    try:
        inputs, _ = await triton.signature(name)
        shapes = {spec.name: [max(1, axis) for axis in spec.shape] for spec in inputs}
        datatypes = {spec.name: spec.datatype for spec in inputs}
        zeros = {key: np.zeros(shape, numpy_type(datatypes[key])) for key, shape in shapes.items()}
        await triton.infer(name, zeros, datatypes)
    except TritonError as error:
        return DIED in str(error)
    except (TritonTimeoutError, KeyError, MemoryError, ValueError):  # it is alive, or there is no asking it
        return False
    return False


async def _signature(triton: Triton, name: str) -> Signature:
    try:
        return await triton.signature(name)
    except TritonTimeoutError as error:
        raise ModelError(Reason.LOAD_FAILED, SILENT) from error
