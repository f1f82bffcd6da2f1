"""Keras 3, and the `.h5` of earlier ones, on the torch backend: a Keras model is a torch module there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from lull_runtime.artifact.card import Source, TensorSpec, datatype_of
from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.forms import INPUT, Array, Form, example_of, require_example, spec

os.environ.setdefault("KERAS_BACKEND", "torch")  # heeded at the first import only

import keras
import torch
from torch import nn

from lull_runtime.publish.from_torch import from_module


class Inferring(nn.Module):
    """A Keras model as PyTorch's exporter takes it: one named input, and never in training."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input: torch.Tensor) -> Any:  # noqa: A002, ANN401  its name on the wire; Keras says not what
        """Return what the model infers."""
        return self.model(input, training=False)


def open_file(path: Path, name: str, example: Array | None) -> Form:
    """Return the model of a `.keras` or `.h5` file; code in it (a Lambda layer) is refused.

    Raises:
        NotPublishableError: it cannot be read, has code in it, or takes more than one tensor.
    """
    _require_torch()
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise NotPublishableError(
            f"{path.name} cannot be read as a Keras model: {str(error).splitlines()[0][:300]}. Layers of "
            "your own must be importable: name a function that builds the model (module:factory --weights)"
        ) from error
    return _form(model, name, example, "h5" if path.suffix != ".keras" else "keras")


def from_model(model: keras.Model, name: str, weights: Path | None, example: Array | None) -> Form:
    """Return a Keras model that a factory made."""
    _require_torch()
    if weights is not None:
        model.load_weights(weights)
    return _form(model, name, example, "module")


def _form(model: keras.Model, name: str, example: Array | None, how: str) -> Form:
    declared = _declared(model)
    if declared is None:
        declared = spec(INPUT, require_example(example, "a Keras model without an Input"))
    rows = example if example is not None else example_of([declared])
    return from_module(Inferring(model), name, None, rows, Source(framework="keras", form=how))


def _declared(model: keras.Model) -> TensorSpec | None:
    """What the model says that it takes; None where it was never told."""
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return None
    if len(inputs) != 1:
        raise NotPublishableError(f"it takes {len(inputs)} inputs; what is served takes one tensor")
    (tensor,) = inputs
    datatype = datatype_of(np.empty(0, keras.backend.standardize_dtype(tensor.dtype)))
    dims = [-1 if size is None else size for size in tensor.shape]
    return TensorSpec(name=INPUT, datatype=datatype, dims=[-1, *dims[1:]])


def _require_torch() -> None:
    if keras.backend.backend() != "torch":
        raise NotPublishableError(
            f"Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=torch and publish again"
        )
