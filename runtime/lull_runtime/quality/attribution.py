"""How much each part of an input speaks for an answer: integrated gradients and occlusion, by Captum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from captum.attr import IntegratedGradients, Occlusion

from lull_runtime.quality.errors import QualityError
from lull_runtime.quality.inputs import channel_axis
from lull_runtime.quality.kinds import Method
from lull_runtime.quality.measures import Array

if TYPE_CHECKING:
    from torch import nn

STEPS = 64
"""Points of the path at which gradients are taken, by Gauss-Legendre quadrature."""
_AT_ONCE = 16
"""Rows that the network is asked at once, for the memory that this takes."""
_PARTS = {1: 512, 2: 8}
"""Into how many windows an axis falls, by the number of axes; four of three axes and more."""


@dataclass(frozen=True)
class Attribution:
    """What one method says.

    Attributes:
        values: for each number of the input how much it raised the target's score; below zero: lowered.
        settings: of the method, by name.
        completeness_delta: how far the values' sum is from score(input) - score(baseline), which is what
            integrated gradients add up to but for the quadrature's error; None for other methods.
    """

    method: Method
    values: Array
    settings: dict[str, object]
    completeness_delta: float | None = None


def integrated_gradients(
    network: nn.Module, score: Callable[[torch.Tensor], torch.Tensor], row: Array, baseline: Array
) -> Attribution:
    """Return integrated gradients (Sundararajan, Taly and Yan 2017).

    Args:
        network: whose gradients are taken; left as it was.
        score: rows in, the target's score of each out, through the network.
        row: one input, with its batch axis.
        baseline: what the input is compared with, of the same shape.

    Raises:
        QualityError: the network has no gradients for this input.
    """
    if not np.issubdtype(row.dtype, np.floating):
        raise QualityError(
            f"integrated gradients need fractions as input, and this is {row.dtype}: say --method occlusion"
        )
    try:
        values, delta = IntegratedGradients(score).attribute(
            torch.from_numpy(row),
            torch.from_numpy(baseline),
            n_steps=STEPS,
            internal_batch_size=_AT_ONCE,
            return_convergence_delta=True,
        )
    except RuntimeError as error:
        raise QualityError(
            f"the network has no gradients for this input ({error}): say --method occlusion"
        ) from error
    finally:
        network.zero_grad(set_to_none=True)
    settings: dict[str, object] = {"steps": STEPS, "quadrature": "gausslegendre"}
    return Attribution(
        Method.INTEGRATED_GRADIENTS, values.detach().numpy(), settings, abs(float(delta.detach()))
    )


def occlusion(score: Callable[[torch.Tensor], torch.Tensor], row: Array, baseline: Array) -> Attribution:
    """Return how much the score falls where a window of the input is put to the baseline.

    Zeiler and Fergus (2014); where windows overlap, the mean over them. It needs no gradients: any function
    will do.
    """
    window, strides = windows(row.shape[1:])
    with torch.no_grad():
        values = Occlusion(score).attribute(
            torch.from_numpy(row),
            sliding_window_shapes=tuple(window),
            strides=tuple(strides),
            baselines=torch.from_numpy(baseline),
            perturbations_per_eval=_AT_ONCE,
        )
    settings: dict[str, object] = {"window": window, "strides": strides}
    return Attribution(Method.OCCLUSION, values.numpy(), settings)


def windows(sizes: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the window and its strides, a bounded number of them for any input.

    Single features of a table; else an eighth of each axis, moved by half of it; of an image all channels.
    """
    channel = channel_axis(sizes)
    parts = _PARTS.get(len(sizes) - (channel is not None), 4)
    window = [size if axis == channel else math.ceil(size / parts) for axis, size in enumerate(sizes)]
    return window, [max(1, side // 2) if len(sizes) > 1 else side for side in window]
