"""Networks to try Lull with, trained on real data inside scikit-learn: nothing is downloaded."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lull_runtime.publish.forms import Array, Form, open_form
from lull_runtime.publish.kinds import Sample
from lull_runtime.publish.labelled import Labelled

if TYPE_CHECKING:
    from lull_runtime.publish.keras_samples import Trained

_ROWS = 25


@dataclass(frozen=True)
class Ready:
    """A trained sample: rows for its golden cases, and what it has not seen."""

    form: Form
    example: Array
    held_out: Labelled


def train(sample: Sample, tell: Callable[[str], None]) -> Ready:
    """Train a sample, which takes ten seconds to a minute."""
    if sample is Sample.DIGITS:
        return _digits(tell)
    from lull_runtime.publish import keras_samples

    if sample is Sample.DIGIT_ROWS:
        return _saved(keras_samples.lstm(tell=tell), "digit-rows.keras")
    return _saved(keras_samples.dense(tell=tell), "model.h5")


def _digits(tell: Callable[[str], None]) -> Ready:
    from lull_runtime.publish.digits import load_digits
    from lull_runtime.publish.from_torch import from_module
    from lull_runtime.publish.simple_cnn import train as train_cnn

    training, held_out = load_digits()
    network = train_cnn(training, lambda done, total: tell(f"training: epoch {done} of {total}"))
    example = held_out.images[:_ROWS]
    form = from_module(network, "digits", None, example)
    return Ready(form, example, Labelled(held_out.images, held_out.labels))


def _saved(trained: Trained, name: str) -> Ready:
    """By way of the file in which people have such networks."""
    with tempfile.TemporaryDirectory(prefix="lull-sample-") as folder:
        path = Path(folder) / name
        logging.getLogger("absl").setLevel(logging.ERROR)  # Keras remarks that .h5 is old: people have them
        trained.model.save(path)
        form = open_form(str(path))
    return Ready(form, trained.held_out.rows[:_ROWS], trained.held_out)
