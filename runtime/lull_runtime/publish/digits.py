"""Real handwritten digits: scikit-learn's 1,797, inside the package, so nothing is downloaded.

8 × 8 pixels each (from the UCI repository), scaled here to 32 × 32.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lull_runtime.publish.labelled import Labelled

SPLIT_SEED = 20
HELD_OUT = 360
"""How many of the digits, drawn by `SPLIT_SEED`, no network sees in training."""
_SIDE = 32


@dataclass(frozen=True)
class Digits:
    """Images as float32 (count, 1, 32, 32) between 0 and 1, and what they show as int64 (count,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def load_digits() -> tuple[Digits, Digits]:
    """Return the digits for training and those held out: always the same split."""
    (training, training_labels), (held_out, held_out_labels) = _split()
    return (
        Digits(_scaled(training)[:, None].astype(np.float32), training_labels),
        Digits(_scaled(held_out)[:, None].astype(np.float32), held_out_labels),
    )


def load_digits_as_rows() -> tuple[Labelled, Labelled]:
    """Return the same digits, each a sequence of its 8 rows of 8 pixels: float32 (count, 8, 8)."""
    training, held_out = _split()
    return (
        Labelled(training[0].astype(np.float32), training[1]),
        Labelled(held_out[0].astype(np.float32), held_out[1]),
    )


def _split() -> tuple[tuple[NDArray[np.float64], NDArray[np.int64]], ...]:
    """Images (count, 8, 8) between 0 and 1 and what they show: those for training, and those held out."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    images, labels = bunch.images / 16.0, bunch.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    return tuple((images[some], labels[some]) for some in (order[HELD_OUT:], order[:HELD_OUT]))


def _scaled(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale square images (count, side, side) bilinearly; a pixel's value stands at its centre."""
    side = images.shape[-1]
    centres = (np.arange(_SIDE) + 0.5) * side / _SIDE - 0.5
    weights = np.stack([np.interp(centres, np.arange(side), row) for row in np.eye(side)], axis=1)
    return np.asarray(weights @ images @ weights.T)
