"""Two networks in Keras, trained on real data inside scikit-learn: a sequence classifier and a dense one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lull_runtime.publish.digits import load_digits_as_rows
from lull_runtime.publish.labelled import Labelled

os.environ.setdefault("KERAS_BACKEND", "torch")  # heeded at the first import only

import keras

SEED = 20
_HELD_OUT = 143
"""How many of the 569 tumours, drawn by `SEED`, no network sees in training."""


@dataclass(frozen=True)
class Trained:
    """A network, and what it has not seen."""

    model: keras.Model
    held_out: Labelled


def lstm(epochs: int = 15, tell: Callable[[str], None] = lambda doing: None) -> Trained:
    """Return an LSTM that reads a digit's 8 rows one after the other (15 epochs: 93 %, a minute)."""
    keras.utils.set_random_seed(SEED)
    training, held_out = load_digits_as_rows()
    model = keras.Sequential(
        [keras.Input((8, 8)), keras.layers.LSTM(32), keras.layers.Dense(10, activation="softmax")]
    )
    return _trained(model, training, held_out, epochs, 64, 5e-3, tell)


def dense(epochs: int = 40, tell: Callable[[str], None] = lambda doing: None) -> Trained:
    """Return a dense network that tells benign tumours from malign by 30 figures (40 epochs: 98 %, 20 s)."""
    from sklearn.datasets import load_breast_cancer

    keras.utils.set_random_seed(SEED)
    bunch = load_breast_cancer()
    order = np.random.default_rng(SEED).permutation(len(bunch.target))
    rows, classes = bunch.data.astype(np.float32)[order], bunch.target.astype(np.int64)[order]
    training, held_out = (
        Labelled(rows[_HELD_OUT:], classes[_HELD_OUT:]),
        Labelled(rows[:_HELD_OUT], classes[:_HELD_OUT]),
    )
    scaled = keras.layers.Normalization()
    scaled.adapt(training.rows)
    model = keras.Sequential(
        [
            keras.Input((30,)),
            scaled,
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    return _trained(model, training, held_out, epochs, 32, 1e-3, tell)


def _trained(
    model: keras.Model,
    training: Labelled,
    held_out: Labelled,
    epochs: int,
    batch: int,
    rate: float,
    tell: Callable[[str], None],
) -> Trained:
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    for epoch in range(epochs):
        tell(f"training: epoch {epoch + 1} of {epochs}")
        model.fit(training.rows, training.classes, epochs=1, batch_size=batch, verbose=0)
    return Trained(model, held_out)
