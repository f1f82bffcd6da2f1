"""Rows with their right answers: the accuracy that a published network shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.forms import Array

_NEAR = 0.05
"""How far numbers may move, in parts of the largest, and still count as the same answer."""


@dataclass(frozen=True)
class Labelled:
    """Rows of inputs, and the number of each one's class."""

    rows: Array
    classes: NDArray[np.int64]

    def accuracy(self, answer: dict[str, Array]) -> float:
        """Return the share, between 0 and 1, of the rows told right."""
        return float((classes_of(_first(answer)) == self.classes).mean())


def read_labelled(path: Path) -> Labelled:
    """Return what numpy.savez(path, x=rows, y=classes) wrote.

    Raises:
        NotPublishableError: it is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            rows, classes = file["x"], file["y"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, BadZipFile) as error:
        raise NotPublishableError(
            f"{path} does not hold rows x and their classes y: write it with numpy.savez(path, x=…, y=…)"
        ) from error
    if len(rows) != len(classes) or not len(rows) or classes.ndim != 1:
        raise NotPublishableError(f"{path}: x {rows.shape} and y {classes.shape} must have as many rows")
    if not np.issubdtype(classes.dtype, np.integer):
        raise NotPublishableError(f"{path}: y must be the numbers of classes, not {classes.dtype}")
    return Labelled(_single(rows), classes.astype(np.int64))


def read_rows(path: Path) -> Array:
    """Return what numpy.save wrote, or the `x` of what numpy.savez wrote.

    Raises:
        NotPublishableError: it is something else, or fewer than 3 rows.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        rows: Array = loaded if isinstance(loaded, np.ndarray) else loaded["x"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise NotPublishableError(
            f"{path} holds no rows: write them with numpy.save, or numpy.savez(path, x=…)"
        ) from error
    if rows.ndim < 2 or len(rows) < 3:
        raise NotPublishableError(f"{path}: {rows.shape} is less than 3 rows; golden cases are made of 3")
    return _single(rows)


def _single(rows: Array) -> Array:
    """Networks compute in 32 bits; numpy writes 64 where nobody says otherwise."""
    return rows.astype(np.float32) if rows.dtype == np.float64 else rows


def classes_of(output: Array) -> NDArray[np.int64]:
    """Return the class that each row of an output tells: its label, its largest entry, or over ½ or not."""
    flat = output.reshape(len(output), -1)
    if flat.shape[1] > 1:
        told = flat.argmax(axis=1)
    elif np.issubdtype(flat.dtype, np.integer):
        told = flat[:, 0]
    else:
        told = flat[:, 0].astype(np.float64) > 0.5
    return np.asarray(told, np.int64)


def agreement(answer: dict[str, Array], original: dict[str, Array]) -> float:
    """Return the share of rows, between 0 and 1, that tell the same as the original."""
    have, want = _first(answer), _first(original)
    flat = want.reshape(len(want), -1)
    if flat.shape[1] > 1 or np.issubdtype(flat.dtype, np.integer):
        return float((classes_of(have) == classes_of(want)).mean())
    original_values = flat.astype(np.float64)
    near = _NEAR * float(np.abs(original_values).max())
    return float((np.abs(have.reshape(flat.shape).astype(np.float64) - original_values) <= near).mean())


def _first(answer: dict[str, Array]) -> Array:
    return next(iter(answer.values()))
