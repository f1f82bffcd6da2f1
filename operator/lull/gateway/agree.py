"""Whether two revisions said the same: exactly where that means something, else within a tolerance. Pure.

Two good networks never agree to the last bit: one is retrained, quantized, or only runs on other kernels.
What must not happen is that a client draws another conclusion.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lull.gateway.tensors import Tensor

Floats = NDArray[np.float64]

_TOLERANCES = {
    "FP64": (1e-2, 1e-3),
    "FP32": (1e-2, 1e-3),
    "FP16": (2e-2, 1e-2),
    "BF16": (8e-2, 8e-2),
}
"""Relative and absolute, by datatype.

One in a hundred is what int8 quantization costs, and above what kernels differ by. The units in the last
place of FP16 (2^-10) and BF16 (2^-7) add up over the layers of a network: room for some ten of them.
"""
_SAME_SCALE = 10.0
"""Scores whose largest values are further apart than this are not in one unit, whatever is largest."""
_SUM_ERROR = 1e-2
"""How far a row of probabilities may sum up from one: what BF16 loses."""


def agree(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    """Tell whether an answer says what the reference answer says.

    The same outputs by name, datatype and shape; integers, booleans and strings equal; floats close, not a
    number only where the reference is none, or, where a row has the scores of classes, the same class ahead.
    A row of scores is one of probabilities, or one of a [batch, classes] tensor, as logits are.

    Args:
        ours: the reference's: tolerances are relative to it.
        theirs: what is judged.
    """
    return ours.keys() == theirs.keys() and all(_same(ours[name], theirs[name]) for name in ours)


def _same(ours: Tensor, theirs: Tensor) -> bool:
    if ours.datatype != theirs.datatype or ours.values.shape != theirs.values.shape:
        return False
    if ours.datatype not in _TOLERANCES:
        return bool(np.array_equal(ours.values, theirs.values))
    relative, absolute = _TOLERANCES[ours.datatype]
    a, b = ours.values.astype(np.float64), theirs.values.astype(np.float64)
    with np.errstate(all="ignore"):  # what is infinite or no number is told apart, and no mishap
        close = np.isclose(b, a, rtol=relative, atol=absolute, equal_nan=True)
        if close.all():
            return True
        return _are_scores(a, b) and bool((close.all(axis=-1) | _same_class(a, b)).all())


def _are_scores(a: Floats, b: Floats) -> bool:
    """Tell whether the last axis has the scores of classes, in both."""
    if a.ndim == 0 or a.shape[-1] < 2:
        return False
    return (_are_probabilities(a) and _are_probabilities(b)) or (a.ndim == 2 and _in_one_unit(a, b))


def _are_probabilities(values: Floats) -> bool:
    sums = values.sum(axis=-1)
    return bool((values >= 0).all() and np.isclose(sums, 1.0, rtol=0, atol=_SUM_ERROR).all())


def _in_one_unit(a: Floats, b: Floats) -> bool:
    one, other = (_largest(values) for values in (a, b))
    return max(one, other) <= _SAME_SCALE * min(one, other)


def _largest(values: Floats) -> float:
    finite: NDArray[Any] = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0))


def _same_class(a: Floats, b: Floats) -> NDArray[np.bool_]:
    """Return for each row whether the same score is the largest; one that is no number has no largest."""
    finite = np.isfinite(a).all(axis=-1) & np.isfinite(b).all(axis=-1)
    same: NDArray[np.bool_] = finite & (a.argmax(axis=-1) == b.argmax(axis=-1))
    return same
