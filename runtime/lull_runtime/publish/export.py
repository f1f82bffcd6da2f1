"""From a trained network to its artifact: exported, held to its answers, optimised on request, described."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lull_runtime.artifact.card import Card, Golden, Optimisation, Source, Training, numpy_type
from lull_runtime.artifact.pack import pack_artifact, pack_golden
from lull_runtime.publish.check import require_batch_axis
from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.forms import Array, Case, Exported, Form, NetworkFormat, export
from lull_runtime.publish.kinds import Change
from lull_runtime.publish.labelled import Labelled
from lull_runtime.publish.model_card import model_card
from lull_runtime.publish.optimise import Judge, optimise
from lull_runtime.publish.trial import TrialError, run_trial

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NotPublishableError", "Published", "Wishes", "publish_form", "publish_network"]

_RUNTIME_BYTES: dict[NetworkFormat, int] = {"onnx": 64 << 20, "pt2": 720 << 20}
"""What ONNX Runtime or PyTorch takes beside a model, in Triton (measured by `bench.load_time`: 68 and 713 MiB
resident, Python included; a PyTorch without CUDA's libraries takes less)."""
_GOLDEN_ROWS = (1, 3)
"""Batch sizes of the golden cases: one row, and several, which proves the batch axis."""
_TOLERANCE = 1e-3
_MADE_WITH = {
    "torch": ("torch", "onnx", "onnxruntime"),
    "keras": ("keras", "torch", "onnx", "onnxruntime"),
    "sklearn": ("scikit-learn", "skl2onnx", "onnx", "onnxruntime"),
    "onnx": ("onnx", "onnxruntime"),
}


@dataclass(frozen=True)
class Wishes:
    """What a publisher asks for besides.

    Attributes:
        key: whose signature the artifact shall bear.
        measure: load and ask it here, and note what that took: no two artifacts are the same then.
    """

    labelled: Labelled | None = None
    optimise: Sequence[Change] = ()
    training: Training | None = None
    key: Path | None = None
    measure: bool = False


@dataclass(frozen=True)
class Published:
    """An artifact that was written.

    Attributes:
        accuracy: share of labelled rows that it tells right, as it is shipped; None without such rows.
        notes: what its owner should know.
    """

    path: Path
    digest: str
    card: Card
    accuracy: float | None = None
    notes: list[str] = field(default_factory=list)


def publish_form(
    form: Form,
    example: Array,
    name: str,
    out: Path,
    wishes: Wishes = Wishes(),
    tell: Callable[[str], None] = lambda doing: None,
) -> Published:
    """Export a network and write its artifact.

    Args:
        form: the network.
        example: inputs, 3 rows or more, real ones if possible: fed all at once, and golden cases are made of
            the first.
        name: of the model; the default of its name on the wire.
        out: the tar to write.
        wishes: what is asked for besides.
        tell: is told what is done now.

    Raises:
        NotPublishableError: it has no served form that answers as it does; the message says why.
        ValueError: the key cannot sign.
    """
    tell("asking the network for golden cases")
    put = form.inputs[0].name
    example = _fit(example, form)
    whole = form.predict(example)
    require_batch_axis(example, whole)
    cases: Sequence[Case] = [({put: example[:rows]}, form.predict(example[:rows])) for rows in _GOLDEN_ROWS]
    tell(f"exporting from {form.source.framework} (some seconds)")
    exported = export(form, example[: _GOLDEN_ROWS[-1]], cases)
    judge = _judge(form, example, whole, wishes.labelled)
    exported, cases, taken = _optimised(exported, cases, judge, wishes, tell)
    golden_cases, golden = pack_golden(cases)
    card = Card(
        name=name,
        format=exported.format,
        inputs=form.inputs,
        outputs=exported.outputs,
        memory_bytes=_RUNTIME_BYTES[exported.format] + 2 * len(exported.network),
        golden=Golden(cases=golden_cases, absolute=_tolerance(taken)),
        made_with=_versions(form.source),
        source=form.source,
        optimisation=taken,
        training=wishes.training,
        labels=form.labels,
    )
    card, accuracy = _tried(card, exported, judge, wishes, tell)
    tell("signing and packing" if wishes.key else "packing")
    text = model_card(card, accuracy).encode()
    digest = pack_artifact(out, card, exported.network, golden, beside={"README.md": text}, key=wishes.key)
    return Published(out, digest, card, accuracy, exported.notes)


def publish_network(network: nn.Module, example: Array, name: str, out: Path) -> Published:
    """Publish a torch module as it is: always the same artifact for the same network and example.

    Raises:
        NotPublishableError: it has no served form that answers as it does.
    """
    from lull_runtime.publish.from_torch import from_module

    return publish_form(from_module(network, name, None, example), example, name, out)


def _fit(rows: Array, form: Form) -> Array:
    """Rows of the type that the network takes, enough of them for golden cases."""
    if len(rows) < max(_GOLDEN_ROWS):
        raise NotPublishableError(
            f"{len(rows)} rows of examples are too few; give {max(_GOLDEN_ROWS)} or more"
        )
    return rows.astype(numpy_type(form.inputs[0].datatype), copy=False)


def _judge(form: Form, example: Array, whole: dict[str, Array], labelled: Labelled | None) -> Judge:
    put = form.inputs[0].name
    if labelled is None:
        return Judge.by_agreement({put: example}, whole)
    return Judge({put: _fit(labelled.rows, form)}, labelled.accuracy)


def _optimised(
    exported: Exported,
    cases: Sequence[Case],
    judge: Judge,
    wishes: Wishes,
    tell: Callable[[str], None],
) -> tuple[Exported, Sequence[Case], list[Optimisation]]:
    if not wishes.optimise:
        return exported, cases, []
    if exported.format != "onnx":
        note = "only ONNX networks are optimised; this one is shipped as it is"
        return replace(exported, notes=[*exported.notes, note]), cases, []
    tell(f"trying {', '.join(wishes.optimise)}")
    try:
        done = optimise(exported.network, wishes.optimise, cases, judge)
    except TrialError as error:
        raise NotPublishableError(f"the onnx form cannot be run: {error}") from error
    changed = replace(exported, network=done.network, notes=[*exported.notes, *done.notes])
    return changed, done.cases, done.taken


def _tried(
    card: Card, exported: Exported, judge: Judge, wishes: Wishes, tell: Callable[[str], None]
) -> tuple[Card, float | None]:
    """The card with what was measured, and the accuracy on labelled rows, where these are wished for."""
    if not wishes.measure and wishes.labelled is None:
        return card, None
    tell("loading and asking it as hosts do")
    first_row = {name: array[:1] for name, array in judge.rows.items()}
    try:
        trial = run_trial(exported.network, exported.format, [first_row, judge.rows])
    except TrialError as error:
        raise NotPublishableError(f"the {exported.format} form cannot be run: {error}") from error
    if wishes.measure:
        card = card.model_copy(update={"measured": trial.measured})
    return card, judge.accuracy(trial.answers[1]) if wishes.labelled is not None else None


def _tolerance(taken: Sequence[Optimisation]) -> float:
    """On another processor an optimised network may differ by as much as it did here from the original."""
    return min(1.0, max([_TOLERANCE, *(entry.max_difference for entry in taken)]))


def _versions(source: Source) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _MADE_WITH[source.framework]}
