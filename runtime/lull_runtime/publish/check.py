"""Holds a network, as it is shipped, to what the original answered."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np

from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.forms import Array, Case, NetworkFormat

RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""How near the answers must come: |have - want| ≤ absolute + relative × |want|."""


def require_batch_axis(example: Array, outputs: dict[str, Array]) -> None:
    """Check that fed n rows a network gives n rows: a `view(-1, …)` of the wrong width gives another number.

    Raises:
        NotPublishableError: it does not.
    """
    for name, array in outputs.items():
        if array.ndim < 2 or len(array) != len(example):
            raise NotPublishableError(
                f"{name} does not keep the batch axis: fed {example.shape} the network gives {array.shape}. "
                "Look for view(-1, …) or reshape(-1, …): its width may not fit this input; "
                "torch.flatten(x, 1) keeps the axis"
            )


def require_agreement(network: bytes, served: NetworkFormat, cases: Sequence[Case]) -> None:
    """Check that a network, as it is shipped, answers golden cases as the original did.

    Raises:
        NotPublishableError: it cannot be loaded, or disagrees.
    """
    try:
        run = runner(network, served)
        answers = [run(inputs) for inputs, _ in cases]
    except Exception as error:
        raise NotPublishableError(f"the {served} form cannot be run: {error}") from error
    for (_, outputs), answer in zip(cases, answers, strict=True):
        for name, want in outputs.items():
            have = answer[name]
            if have.shape != want.shape or not np.allclose(have, want, rtol=RELATIVE, atol=ABSOLUTE):
                apart = (
                    f"{difference(have, want):.2g} apart" if have.shape == want.shape else "of other shapes"
                )
                raise NotPublishableError(
                    f"the {served} form and the original disagree about {name}: shapes {have.shape} and "
                    f"{want.shape}, {apart}; is there randomness (dropout, sampling), or control flow that "
                    "depends on the input?"
                )


def runner(network: bytes, served: NetworkFormat) -> Callable[[dict[str, Array]], dict[str, Array]]:
    """Return a function that asks a network in the form in which it is shipped."""
    if served == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))

    import torch

    from lull_runtime.publish.from_torch import run

    module = torch.export.load(io.BytesIO(network)).module()

    def ask(inputs: dict[str, Array]) -> dict[str, Array]:
        (rows,) = inputs.values()
        return run(module, rows)

    return ask


def difference(have: Array, want: Array) -> float:
    """Return the largest difference of two tensors of one shape."""
    apart = np.abs(have.astype(np.float64) - want.astype(np.float64))
    return float(apart.max(initial=0.0))
