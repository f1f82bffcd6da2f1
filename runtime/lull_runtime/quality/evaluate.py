"""Evaluates a served model on labelled rows: what it answers through the gateway, how well, and how fast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lull_runtime.publish.labelled import LabelledFile
from lull_runtime.quality import asking
from lull_runtime.quality.asking import Answers, Described, Endpoint
from lull_runtime.quality.errors import QualityError
from lull_runtime.quality.measures import Array, Floats, Integers, Quality, percentile, quality


@dataclass(frozen=True)
class Latency:
    """How long requests took that were answered, from the client's side; `rows` were in each."""

    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    requests: int
    rows: int
    concurrency: int


@dataclass(frozen=True)
class Evaluation:
    """What was found of one revision.

    Attributes:
        revision: the one that answered; None where the gateway did not say.
        output: the tensor that was judged.
        quality: of the rows that were answered.
        failures: requests that failed, by why: their rows are not judged.
        wait_seconds: how long it took until the model answered at all (a wake, where it slept).
    """

    service: str
    url: str
    revision: str | None
    output: str
    quality: Quality
    latency: Latency
    failures: dict[str, int]
    failed_rows: int
    wait_seconds: float
    notes: list[str]

    @property
    def accuracy_percent(self) -> str:
        """Return the accuracy in percent with one decimal, rounded down: no more than was seen."""
        tenths = self.quality.correct * 1000 // self.quality.rows
        return f"{tenths // 10}.{tenths % 10}"


@dataclass(frozen=True)
class Asked:
    """How a model is to be asked.

    Attributes:
        output: the tensor that tells the class; the model's first one if None.
        batch: rows in one request.
        limit: how many rows to ask, spread evenly over the set; all if None.
    """

    output: str | None = None
    batch: int = 32
    concurrency: int = 4
    limit: int | None = None


@dataclass(frozen=True)
class Watch:
    """Who is told how it goes: in words, and how many rows more are over, of how many."""

    tell: Callable[[str], None]
    on_rows: Callable[[int, int], None]


async def evaluate(
    service: str, endpoint: Endpoint, data: LabelledFile, asked: Asked, watch: Watch
) -> Evaluation:
    """Return what a model answers to labelled rows, judged.

    Raises:
        QualityError: it cannot be judged: it does not answer, or more than one revision did.
        NotPublishableError: the rows are not what the model takes.
        ValueError: the answers are not those of a classifier.
    """
    async with asking.session(endpoint) as client:
        described = await asking.describe(client, endpoint, watch.tell)
        output = _output(described, asked.output)
        inputs, truth = _rows(data, described, asked.limit)
        answers = await asking.ask(
            client,
            endpoint,
            inputs,
            output,
            batch=asked.batch,
            concurrency=asked.concurrency,
            on_rows=lambda rows: watch.on_rows(rows, len(truth)),
        )
    if not answers.outputs:
        raise QualityError(f"no request was answered: {'; '.join(answers.failures)}")
    revision = the_revision(answers.revisions, endpoint.revision)
    found, answered = _joined(answers, truth, asked.batch)
    measured = quality(found, answered)
    return Evaluation(
        service=service,
        url=endpoint.url,
        revision=revision,
        output=output,
        quality=measured,
        latency=_latency(answers, asked),
        failures=dict(answers.failures),
        failed_rows=len(truth) - len(answered),
        wait_seconds=described.wait_seconds,
        notes=_notes(described, output, measured),
    )


def the_revision(answered: Counter[str], pinned: str | None) -> str | None:
    """Return the one revision that answered, or None where no answer said.

    Raises:
        QualityError: more than one did, or another than was asked for.
    """
    others = {name: count for name, count in answered.items() if name != pinned} if pinned else {}
    if others or len(answered) > 1:
        parts = ", ".join(f"{count} by {name or 'one unnamed'}" for name, count in answered.most_common())
        if pinned:
            raise QualityError(
                f"not all requests were answered by {pinned}: {parts}. It failed some, or its rollout ended: "
                "see kubectl lull rollout status"
            )
        raise QualityError(
            f"more than one revision answered: {parts}. A rollout is running: say which one to evaluate "
            "with --revision"
        )
    (only,) = answered
    return only or None


def spread(rows: int, limit: int | None) -> Integers:
    """Return which of some rows are asked: `limit` of them, spread evenly, for sets are often sorted."""
    if limit is None or limit >= rows:
        return np.arange(rows)
    return np.linspace(0, rows - 1, limit).round().astype(np.int64)


def _rows(data: LabelledFile, described: Described, limit: int | None) -> tuple[dict[str, Array], Integers]:
    chosen = spread(len(data.classes), limit)
    inputs = {
        name: asking.fitted(array[chosen], name, described.inputs[name])
        for name, array in data.inputs(list(described.inputs)).items()
    }
    return inputs, data.classes[chosen]


def _output(described: Described, wanted: str | None) -> str:
    if wanted is None:
        return next(iter(described.outputs))
    if wanted not in described.outputs:
        raise QualityError(f"it has no output {wanted}: take one of {', '.join(described.outputs)}")
    return wanted


def _joined(answers: Answers, truth: Integers, batch: int) -> tuple[Array, Integers]:
    """Return what was answered, and the classes of those rows, in the order of the set."""
    numbers = sorted(answers.outputs)
    parts = [answers.outputs[number] for number in numbers]
    if len({part.shape[1:] for part in parts}) > 1:
        raise QualityError("its answers are of several shapes: that is no classifier")
    classes = [truth[number * batch : (number + 1) * batch] for number in numbers]
    return np.concatenate(parts), np.concatenate(classes)


def _latency(answers: Answers, asked: Asked) -> Latency:
    seconds: Floats = np.array(answers.latencies_seconds, np.float64)
    p50, p95, p99 = (percentile(seconds, percent) for percent in (50, 95, 99))
    return Latency(p50, p95, p99, len(seconds), asked.batch, asked.concurrency)


def _notes(described: Described, output: str, measured: Quality) -> list[str]:
    notes = []
    others = [name for name, kind in described.outputs.items() if name != output and kind.startswith("FP")]
    if measured.calibration is None and others:
        notes.append(
            f"{output} tells labels alone: --tensor {others[0]} may tell probabilities, and calibration"
        )
    if measured.not_numbers:
        notes.append(f"{measured.not_numbers} rows were answered with NaN or infinity: they count as wrong")
    return notes
