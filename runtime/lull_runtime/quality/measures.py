"""How good answers are: accuracy, precision, recall, F1, confusion and calibration. Pure NumPy.

A class that nobody predicted has precision 0, one that no row is of has recall 0, and F1 is 0 where both
are (scikit-learn's `zero_division=0`). Averages are macro: each class that a row is of, or was told, counts
once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

NO_CLASS = int(np.iinfo(np.int64).min)
"""What a row was told whose answer is not a number: never right, and no class of its own."""
MOST_CLASSES = 2000
BINS = 15
"""Of Guo et al. (2017)."""
_SUM_TOLERANCE = 1e-3
"""How far from 1 probabilities may add up, after 16-bit arithmetic."""


@dataclass(frozen=True)
class ClassQuality:
    """How one class is told; all but `number` and `rows` between 0 and 1.

    Attributes:
        rows: rows that are of it.
        precision: of the rows told to be of it, the share that are: TP / (TP + FP).
        recall: of the rows that are of it, the share told so: TP / (TP + FN).
        f1: their harmonic mean: 2 TP / (2 TP + FP + FN) (van Rijsbergen, Information Retrieval, 1979).
    """

    number: int
    rows: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Bin:
    """Answers of like confidence: what they claimed on average, and the share that was right."""

    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Whether probabilities mean what they say.

    Attributes:
        expected_error: the expected calibration error, between 0 and 1 (see `calibration`).
        brier: the Brier score, between 0 and 2 (see `brier`).
    """

    expected_error: float
    brier: float
    bins: list[Bin]


@dataclass(frozen=True)
class Quality:
    """How good answers are; `precision`, `recall` and `f1` are macro averages.

    Attributes:
        confusion: rows by what they are (first index) and what they were told, both as in `classes`.
        not_numbers: rows whose answer was not a number (NaN or infinite): they count as wrong.
        calibration: None where the network tells labels alone.
    """

    rows: int
    correct: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    classes: list[ClassQuality]
    confusion: list[list[int]]
    not_numbers: int
    calibration: Calibration | None


def quality(output: Array, truth: Integers) -> Quality:
    """Return how good an output is.

    Args:
        output: a row of scores, probabilities or logits for each row of the input, or its label.
        truth: the class of each row.

    Raises:
        ValueError: there are no rows, as many answers as classes, or more than `MOST_CLASSES` classes.
    """
    if len(output) != len(truth) or not len(truth):
        raise ValueError(f"{len(output)} answers to {len(truth)} rows: there must be one for each, and some")
    told = classes_of(output)
    numbers = np.union1d(truth, told[told != NO_CLASS])
    if len(numbers) > MOST_CLASSES:
        raise ValueError(
            f"{len(numbers)} classes are more than {MOST_CLASSES}: is y the numbers of classes, and the "
            "output their scores?"
        )
    counts = confusion(truth, told, numbers)
    classes = _by_class(counts, truth, numbers)
    correct = int((told == truth).sum())
    probabilities = probabilities_of(output)
    return Quality(
        rows=len(truth),
        correct=correct,
        accuracy=correct / len(truth),
        precision=float(np.mean([one.precision for one in classes])),
        recall=float(np.mean([one.recall for one in classes])),
        f1=float(np.mean([one.f1 for one in classes])),
        classes=classes,
        confusion=counts.tolist(),
        not_numbers=int((told == NO_CLASS).sum()),
        calibration=None if probabilities is None else calibration(probabilities, told, truth),
    )


def classes_of(output: Array) -> Integers:
    """Return the class that each row of an output tells: its label, its largest entry, or one of two.

    Of equal entries the first is told. A single number that is no label tells class 1 where it is a
    probability above ½ or, where any of them is none, a logit above 0.
    """
    flat = _flat(output)
    if _is_labels(flat):
        return flat[:, 0].astype(np.int64)
    values = flat.astype(np.float64)
    if values.shape[1] > 1:
        told = values.argmax(axis=1)
    else:
        told = (values[:, 0] > (0.5 if _are_probabilities(values[:, 0]) else 0.0)).astype(np.int64)
    return np.where(np.isfinite(values).all(axis=1), told, NO_CLASS)


def probabilities_of(output: Array) -> Floats | None:
    """Return the probability of each class, (rows, classes); None where an output tells labels alone.

    What does not add up to 1 is taken for logits: softmax of several, the logistic function of one. A row
    that is not of numbers gives no class any probability.
    """
    flat = _flat(output)
    if np.issubdtype(flat.dtype, np.integer) or flat.dtype == np.bool_:
        return None
    values = flat.astype(np.float64)
    finite = np.isfinite(values).all(axis=1)
    probabilities = np.zeros((len(values), max(2, values.shape[1])))
    probabilities[finite] = _probabilities(values[finite])
    return probabilities


def confusion(truth: Integers, told: Integers, numbers: Integers) -> Integers:
    """Return how many rows of each class (first axis) were told each class, both ordered as `numbers`."""
    counts = np.zeros((len(numbers), len(numbers)), np.int64)
    known = np.isin(told, numbers)
    np.add.at(counts, (np.searchsorted(numbers, truth[known]), np.searchsorted(numbers, told[known])), 1)
    return counts


def calibration(probabilities: Floats, told: Integers, truth: Integers, bins: int = BINS) -> Calibration:
    """Return how well the told class's probability predicts whether it is right.

    The expected calibration error is Σ_b (n_b / n) |accuracy_b - confidence_b| over `bins` equal intervals
    (lower, upper] of the largest probability (Naeini et al. 2015; Guo et al. 2017, equation 5).
    """
    confidence = probabilities.max(axis=1)
    right = told == truth
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    claimed = np.bincount(index, weights=confidence, minlength=bins)
    hits = np.bincount(index, weights=right, minlength=bins)
    filled = counts > 0
    return Calibration(
        expected_error=float(np.abs(hits - claimed).sum() / len(truth)),
        brier=brier(probabilities, truth),
        bins=[
            Bin(int(n), float(c / n), float(h / n))
            for n, c, h in zip(counts[filled], claimed[filled], hits[filled], strict=True)
        ],
    )


def brier(probabilities: Floats, truth: Integers) -> float:
    """Return the Brier score: the mean of Σ_c (p_c - [c is true])², 0 at best and 2 at worst.

    Of all classes, as Brier (1950) has it; libraries that look at two classes often give half of that.
    """
    known = (truth >= 0) & (truth < probabilities.shape[1])
    of_truth = np.where(known, probabilities[np.arange(len(truth)), np.where(known, truth, 0)], 0.0)
    return float(np.mean((probabilities**2).sum(axis=1) - 2 * of_truth + 1))


def percentile(values_seconds: Floats, percent: float) -> float:
    """Return a percentile, interpolated between the two values that it lies between."""
    return float(np.percentile(values_seconds, percent))


def _by_class(counts: Integers, truth: Integers, numbers: Integers) -> list[ClassQuality]:
    rows = np.array([(truth == number).sum() for number in numbers], np.int64)
    hits, predicted = np.diagonal(counts), counts.sum(axis=0)
    return [
        ClassQuality(
            number=int(number),
            rows=int(of),
            precision=_share(hit, said),
            recall=_share(hit, of),
            f1=_share(2 * hit, said + of),
        )
        for number, hit, said, of in zip(numbers, hits, predicted, rows, strict=True)
    ]


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0


def _flat(output: Array) -> Array:
    return output.reshape(len(output), -1)


def _is_labels(flat: Array) -> bool:
    return flat.shape[1] == 1 and (np.issubdtype(flat.dtype, np.integer) or flat.dtype == np.bool_)


def _probabilities(values: Floats) -> Floats:
    if values.shape[1] == 1:
        positive = values[:, 0] if _are_probabilities(values[:, 0]) else _logistic(values[:, 0])
        return np.stack([1 - positive, positive], axis=1)
    if _are_probabilities(values) and (abs(values.sum(axis=1) - 1) <= _SUM_TOLERANCE).all():
        return values
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _are_probabilities(values: Floats) -> bool:
    finite = values[np.isfinite(values)]
    return bool(((finite >= 0) & (finite <= 1 + _SUM_TOLERANCE)).all())


def _logistic(values: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))  # does not overflow, as 1 / (1 + exp(-x)) does
