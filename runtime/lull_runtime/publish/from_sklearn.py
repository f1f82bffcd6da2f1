"""scikit-learn, through skl2onnx."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx

from lull_runtime.artifact.card import Source, TensorSpec
from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.forms import INPUT, Array, Form, NetworkFormat
from lull_runtime.publish.from_onnx import only_outputs, with_two_axes
from lull_runtime.publish.from_torch import stripped

_LABEL, _PROBABILITIES, _VALUE = "label", "probabilities", "variable"
"""What skl2onnx calls the outputs of classifiers, and that of regressors."""


def open_file(path: Path, name: str, example: Array | None) -> Form:
    """Return the estimator of a pickle that its publisher trusts: whatever is in it runs."""
    return from_estimator(joblib.load(path), name)


def from_estimator(estimator: Any, name: str) -> Form:  # noqa: ANN401  scikit-learn has no types
    """Return a fitted estimator as a form.

    Raises:
        NotPublishableError: it was not fitted.
    """
    width = getattr(estimator, "n_features_in_", None)
    if width is None:
        raise NotPublishableError("the estimator was not fitted: it does not know how many features it takes")
    classes = getattr(estimator, "classes_", None)
    told = [str(one) for one in classes] if classes is not None and not _numeric(classes) else []

    def predict(rows: Array) -> dict[str, Array]:
        return _predict(estimator, rows, labels=not told)

    def to_served(rows: Array, outputs: Sequence[str]) -> tuple[bytes, NetworkFormat, list[str]]:
        return _onnx(estimator, int(width), outputs), "onnx", []

    return Form(
        name=name,
        network=None,
        predict=predict,
        inputs=[TensorSpec(name=INPUT, datatype="FP32", dims=[-1, int(width)])],
        source=Source(framework="sklearn", form=type(estimator).__name__),
        to_served=to_served,
        labels=told,
    )


def _predict(estimator: Any, rows: Array, *, labels: bool) -> dict[str, Array]:  # noqa: ANN401
    if getattr(estimator, "classes_", None) is None:
        value = np.asarray(estimator.predict(rows), np.float32)
        return {_VALUE: value.reshape(len(rows), -1)}
    answers: dict[str, Array] = {}
    if labels:
        answers[_LABEL] = np.asarray(estimator.predict(rows), np.int64).reshape(-1, 1)
    if hasattr(estimator, "predict_proba"):
        answers[_PROBABILITIES] = np.asarray(estimator.predict_proba(rows), np.float32)
    if not answers:
        raise NotPublishableError(
            "its classes have names and it tells no probabilities, and names cannot be sent: fit it with "
            "numbers for classes, or with probability=True"
        )
    return answers


def _onnx(estimator: Any, width: int, outputs: Sequence[str]) -> bytes:  # noqa: ANN401
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    options = {"zipmap": False} if _VALUE not in outputs else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it reads attributes that scikit-learn is about to drop
            model: onnx.ModelProto = skl2onnx.to_onnx(
                estimator, initial_types=[(INPUT, FloatTensorType([None, width]))], options=options
            )
    except Exception as error:
        raise NotPublishableError(
            f"skl2onnx cannot convert this {type(estimator).__name__}: {str(error).splitlines()[0]}"
        ) from error
    only_outputs(model, outputs)
    return stripped(with_two_axes(model))


def _numeric(classes: Any) -> bool:  # noqa: ANN401
    return bool(np.issubdtype(np.asarray(classes).dtype, np.integer))
