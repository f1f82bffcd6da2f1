"""Makes an ONNX network smaller or faster on request, and takes no change that costs answers.

Each change is made and tried in a process of its own with a deadline: the converters crash on some networks.
`python -m lull_runtime.publish.optimise KIND NETWORK OUT` makes one.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lull_runtime.artifact.card import Optimisation
from lull_runtime.publish.check import difference
from lull_runtime.publish.forms import Array, Case
from lull_runtime.publish.kinds import Change
from lull_runtime.publish.labelled import agreement
from lull_runtime.publish.trial import Trial, TrialError, run_apart, run_trial

ACCURACY_LOSS = 0.01
"""The most that a change may cost: one answer in a hundred."""


@dataclass(frozen=True)
class Optimised:
    """A network after the changes that were taken.

    Attributes:
        cases: golden cases as the changed network answers them.
        notes: which changes were not taken, and why.
    """

    network: bytes
    cases: Sequence[Case]
    taken: list[Optimisation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Judge:
    """What answers are worth: rows to ask, and the share of them told right."""

    rows: dict[str, Array]
    accuracy: Callable[[dict[str, Array]], float]

    @classmethod
    def by_agreement(cls, rows: dict[str, Array], original: dict[str, Array]) -> Judge:
        """Where there are no labels, what the original says counts as right."""
        return cls(rows, lambda answer: agreement(answer, original))


def optimise(network: bytes, kinds: Sequence[Change], cases: Sequence[Case], judge: Judge) -> Optimised:
    """Apply changes one after the other; one that cannot be made or costs too much is left out, with a note.

    Raises:
        TrialError: the network as it is cannot be run.
    """
    batches = [*(inputs for inputs, _ in cases), judge.rows]
    before = run_trial(network, "onnx", batches)
    done = Optimised(network, cases)
    original = judge.accuracy(before.answers[-1])
    for kind in kinds:
        try:
            changed = _changed(done.network, kind)
            after = run_trial(changed, "onnx", batches)
        except TrialError as error:
            done.notes.append(f"{kind} is not possible for this network: {error}")
            continue
        accuracy = judge.accuracy(after.answers[-1])
        if not accuracy >= original - ACCURACY_LOSS:
            done.notes.append(
                f"{kind} was not taken: of the answers {accuracy:.1%} would be right, not {original:.1%}"
            )
            continue
        entry = _entry(kind, (done.network, before), (changed, after), cases)
        entry = entry.model_copy(
            update={"accuracy_before": judge.accuracy(before.answers[-1]), "accuracy_after": accuracy}
        )
        shown = [
            (inputs, {name: answer[name] for name in outputs})
            for (inputs, outputs), answer in zip(cases, after.answers, strict=False)
        ]
        done = Optimised(changed, shown, [*done.taken, entry], done.notes)
        before = after
    return done


def _changed(network: bytes, kind: Change) -> bytes:
    with tempfile.TemporaryDirectory(prefix="lull-optimise-") as scratch:
        before, after = Path(scratch) / "before.onnx", Path(scratch) / "after.onnx"
        before.write_bytes(network)
        run_apart("lull_runtime.publish.optimise", kind, before, after)
        return after.read_bytes()


def _entry(
    kind: Change, before: tuple[bytes, Trial], after: tuple[bytes, Trial], cases: Sequence[Case]
) -> Optimisation:
    """What a change did; differences are from the original, through all changes so far."""
    apart = [
        difference(answer[name], want)
        for (_, outputs), answer in zip(cases, after[1].answers, strict=False)
        for name, want in outputs.items()
    ]
    return Optimisation(
        kind=kind.value,
        size_bytes_before=len(before[0]),
        size_bytes_after=len(after[0]),
        latency_milliseconds_before=before[1].measured.latency_milliseconds,
        latency_milliseconds_after=after[1].measured.latency_milliseconds,
        max_difference=max(apart),
    )


def _change(kind: str, before: str, after: str) -> None:
    """In the process apart: write the changed network."""
    import onnx

    if kind == Change.GRAPH:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = after
        onnxruntime.InferenceSession(before, options, providers=["CPUExecutionProvider"])
        return
    model = onnx.load(before)
    del model.graph.value_info[
        :
    ]  # noted shapes of the batch that it was exported with mislead the converters
    if kind == Change.FP16:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(model, keep_io_types=True), after)
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(model, after, weight_type=QuantType.QInt8)


if __name__ == "__main__":
    np.seterr(all="ignore")
    _change(*sys.argv[1:])
