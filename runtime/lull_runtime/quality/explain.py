"""Why a network answers as it does: how much each part of an input spoke for a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lull_runtime.publish.forms import Form
from lull_runtime.quality.attribution import Attribution, integrated_gradients, occlusion
from lull_runtime.quality.errors import QualityError
from lull_runtime.quality.kinds import Method, Methods
from lull_runtime.quality.measures import NO_CLASS, Array, classes_of, probabilities_of

if TYPE_CHECKING:
    from torch import nn

Tell = Callable[[str], None]
Answer = Callable[[torch.Tensor], torch.Tensor]
_DIGITS = 6
_COMPLETE = 0.05
"""Share of the score's difference by which integrated gradients may miss it and nothing is said."""


@dataclass(frozen=True)
class Class:
    """One class by its number, and by its name where it has one (else its number again)."""

    number: int
    label: str


@dataclass(frozen=True)
class Explained:
    """One input, what was answered, and what spoke for `target`.

    Attributes:
        row: the input, with its batch axis.
        output: the tensor that is explained.
        told: the class that the network tells.
        probability: of `told`; None where the network tells labels alone.
        score: of `target` as the network gives it: a probability or a logit (of a label: whether it is told).
        baseline_score: the same of the baseline.
    """

    network: str
    source: str
    row: Array
    output: str
    told: Class
    probability: float | None
    target: Class
    target_probability: float | None
    score: float
    baseline_score: float
    attributions: list[Attribution]
    notes: list[str]


def explain(
    form: Form, row: Array, baseline: Array, target: int | None, methods: Methods, tell: Tell
) -> Explained:
    """Return what spoke for an answer.

    Args:
        form: the network.
        row: one input, with its batch axis.
        baseline: what it is compared with, of the same shape.
        target: the class; the one that is told if None.
        methods: which to use.
        tell: told what is under way.

    Raises:
        QualityError: the network has no such class, or a method cannot be used on it.
        NotPublishableError: it fails on this input.
    """
    answer = form.predict(row)
    output = _explained_output(answer)
    told = int(classes_of(answer[output])[0])
    if told == NO_CLASS:
        raise QualityError(f"{output} is not a number for this input: there is nothing to explain")
    target = told if target is None else target
    _require_class(answer[output], target, form.labels)
    asked = _score(_by_prediction(form, output), target)
    attributions: list[Attribution] = []
    notes: list[str] = []
    for method in _methods(form, methods, notes):
        tell(f"{method.value}: asking the network about parts of the input")
        if method is Method.OCCLUSION or form.network is None:
            attributions.append(occlusion(asked, row, baseline))
        else:
            through = _score(_by_module(form.network, list(answer).index(output)), target)
            attributions.append(integrated_gradients(form.network, through, row, baseline))
    probabilities = probabilities_of(answer[output])
    scores = [float(asked(torch.from_numpy(one))[0]) for one in (row, baseline)]
    return Explained(
        network=form.name,
        source=f"{form.source.framework} {form.source.form}",
        row=row,
        output=output,
        told=_named(told, form.labels),
        probability=None if probabilities is None else float(probabilities[0, told]),
        target=_named(target, form.labels),
        target_probability=None if probabilities is None else float(probabilities[0, target]),
        score=scores[0],
        baseline_score=scores[1],
        attributions=attributions,
        notes=notes + _doubts(attributions, scores),
    )


def document(explained: Explained) -> dict[str, Any]:
    """Return it as JSON has it; attributions have the shape of the input, without the batch axis."""
    return {
        "network": {"name": explained.network, "source": explained.source},
        "input": {"shape": list(explained.row.shape[1:])},
        "output": explained.output,
        "prediction": {
            "class": explained.told.number,
            "label": explained.told.label,
            "probability": explained.probability,
        },
        "target": {
            "class": explained.target.number,
            "label": explained.target.label,
            "probability": explained.target_probability,
            "score": explained.score,
            "baseline_score": explained.baseline_score,
        },
        "methods": [
            {
                "method": one.method.value,
                "settings": one.settings,
                "completeness_delta": one.completeness_delta,
                "sum": float(one.values.sum()),
                "attributions": _rounded(one.values[0]),
            }
            for one in explained.attributions
        ],
        "notes": explained.notes,
    }


def _explained_output(answer: dict[str, Array]) -> str:
    """Return the output that says most: the first one of scores, else the first one."""
    scores = [
        name
        for name, array in answer.items()
        if np.issubdtype(array.dtype, np.floating) and array.reshape(len(array), -1).shape[1] > 1
    ]
    return scores[0] if scores else next(iter(answer))


def _require_class(output: Array, target: int, labels: list[str]) -> None:
    if np.issubdtype(output.dtype, np.integer):
        return  # labels may be any numbers
    count = max(2, output.reshape(1, -1).shape[1])
    if not 0 <= target < count:
        named = f" ({', '.join(labels)})" if labels else ""
        raise QualityError(f"it tells {count} classes{named}: --target goes from 0 to {count - 1}")


def _methods(form: Form, methods: Methods, notes: list[str]) -> list[Method]:
    if methods is not Methods.ALL:
        chosen = Method(methods.value)
        if chosen is Method.INTEGRATED_GRADIENTS and form.network is None:
            raise QualityError(
                f"{form.source.framework} has no gradients here: explain the PyTorch or Keras original, or "
                "say --method occlusion"
            )
        return [chosen]
    if form.network is None:
        notes.append(f"no integrated gradients: {form.source.framework} has none here")
        return [Method.OCCLUSION]
    return list(Method)


def _by_prediction(form: Form, output: str) -> Answer:
    return lambda rows: torch.from_numpy(np.ascontiguousarray(form.predict(rows.numpy())[output]))


def _by_module(network: nn.Module, index: int) -> Answer:
    def answer(rows: torch.Tensor) -> torch.Tensor:
        found = network(rows)
        chosen: torch.Tensor = found[index] if isinstance(found, tuple | list) else found
        return chosen

    return answer


def _score(answer: Answer, target: int) -> Answer:
    """Return what scores the rows for a class.

    One number a row speaks for class 1, and against class 0; of a label it is whether it is the target's.
    """

    def score(rows: torch.Tensor) -> torch.Tensor:
        found = answer(rows).reshape(len(rows), -1)
        if found.shape[1] > 1:
            return found[:, target]
        if not found.is_floating_point():
            return (found[:, 0] == target).float()
        return found[:, 0] if target == 1 else -found[:, 0]

    return score


def _doubts(attributions: list[Attribution], scores: list[float]) -> list[str]:
    """Say where nothing was found, and where integrated gradients do not add up to what they should."""
    whole = abs(scores[0] - scores[1])
    nothing = [
        f"{one.method.value} found nothing: no part alone changes the score; try another --baseline"
        for one in attributions
        if not one.values.any()
    ]
    return nothing + [
        f"integrated gradients are {one.completeness_delta:.2g} away from adding up to the score's "
        f"difference, {whole:.2g}: read them with care"
        for one in attributions
        if one.completeness_delta is not None and one.completeness_delta > _COMPLETE * whole
    ]


def _named(number: int, labels: list[str]) -> Class:
    return Class(number, labels[number] if 0 <= number < len(labels) else str(number))


def _rounded(values: Array) -> Any:  # noqa: ANN401  lists as deep as the input has axes
    return np.vectorize(lambda value: float(f"{value:.{_DIGITS}g}"), otypes=[float])(values).tolist()
