"""Rows with their right answers: the accuracy that a published network shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.forms import Array
from lull_runtime.quality.measures import classes_of

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


@dataclass(frozen=True)
class LabelledFile:
    """What a file of labelled rows holds: arrays by name, and the number of each row's class."""

    path: Path
    arrays: dict[str, Array]
    classes: NDArray[np.int64]

    def inputs(self, names: Sequence[str]) -> dict[str, Array]:
        """Return the inputs of a model that calls them so; the only one may be called `x` here.

        Raises:
            NotPublishableError: one is missing, or has another number of rows than there are classes.
        """
        found = {name: self.arrays[name] for name in names if name in self.arrays}
        if not found and len(names) == 1 and "x" in self.arrays:
            found = {names[0]: self.arrays["x"]}
        if missing := [name for name in names if name not in found]:
            raise NotPublishableError(
                f"{self.path} has no {', '.join(missing)}, only {', '.join(self.arrays) or 'y'}: write it by "
                f"numpy.savez(path, {', '.join(f'{name}=…' for name in names)}, y=…)"
            )
        for name, array in found.items():
            if not array.ndim or len(array) != len(self.classes):
                raise NotPublishableError(
                    f"{self.path}: {name} {array.shape} and y {self.classes.shape} must have as many rows"
                )
        return {name: _single(array) for name, array in found.items()}


def read_labelled(path: Path) -> Labelled:
    """Return what numpy.savez(path, x=rows, y=classes) wrote.

    Raises:
        NotPublishableError: it is something else.
    """
    file = read_labelled_file(path)
    return Labelled(file.inputs(["x"])["x"], file.classes)


def read_labelled_file(path: Path) -> LabelledFile:
    """Return what numpy.savez(path, …, y=classes) wrote, whatever its inputs are called.

    Raises:
        NotPublishableError: it is something else, or y is not the numbers of some rows' classes.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
            classes = arrays.pop("y")
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, BadZipFile) as error:
        raise NotPublishableError(
            f"{path} does not hold rows x and their classes y: write it with numpy.savez(path, x=…, y=…)"
        ) from error
    if classes.ndim != 1 or not len(classes):
        raise NotPublishableError(f"{path}: y {classes.shape} must be one number for each row, of some rows")
    if not np.issubdtype(classes.dtype, np.integer):
        raise NotPublishableError(f"{path}: y must be the numbers of classes, not {classes.dtype}")
    return LabelledFile(path, arrays, classes.astype(np.int64))


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
