"""The one input that is explained, from the file that it is in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from lull_runtime.artifact.card import TensorSpec, numpy_type
from lull_runtime.quality.errors import QualityError
from lull_runtime.quality.measures import Array

CHANNELS = (1, 3, 4)
"""Sizes of an axis that tell that it is an image's channels."""


@dataclass(frozen=True)
class Rows:
    """What an input file holds.

    Attributes:
        array: as it was saved; one row or many.
        names: what its features are called, where the file says.
    """

    path: Path
    array: Array
    names: list[str]


def read_rows(path: Path, key: str = "x") -> Rows:
    """Return the array of an `.npy`, or of an `.npz` the one called `key`, or else its only one.

    Raises:
        QualityError: there is none.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return Rows(path, _numbers(path, loaded), [])
        with loaded as file:
            names = [str(name) for name in file["names"]] if "names" in file else []
            keys = [name for name in file if name not in ("y", "names")]
            found = key if key in keys else keys[0] if len(keys) == 1 else None
            if found is None:
                raise QualityError(f"{path} has no array x, but {', '.join(keys) or 'nothing'}: call it x")
            return Rows(path, _numbers(path, file[found]), names)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise QualityError(
            f"{path} cannot be read: {error}. Write it with numpy.save, or numpy.savez(path, x=…)"
        ) from error


def read_image(path: Path, spec: TensorSpec) -> Array:
    """Return a picture as one row of an input, scaled to its size, its values between 0 and 1.

    Raises:
        QualityError: it is none, or the input is not an image of known size.
    """
    from PIL import Image

    sizes = spec.dims[1:]
    channel = channel_axis(sizes)
    sides = [size for axis, size in enumerate(sizes) if axis != channel]
    channels = 1 if channel is None else sizes[channel]
    if len(sides) != 2 or min(sides) < 1 or channels not in CHANNELS:
        raise QualityError(
            f"{spec.name} takes {list(spec.dims)}, which is no image of known size: say its shape with "
            "--example-shape, such as 1,3,224,224, or save the input as .npy"
        )
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    try:
        with Image.open(path) as image:
            scaled = image.convert(mode).resize((sides[1], sides[0]), Image.Resampling.BILINEAR)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise QualityError(f"{path} cannot be read as a picture: {error}") from error
    values = np.asarray(scaled, np.float32).reshape(*sides, channels) / 255
    ordered = values if channel == 2 else np.moveaxis(values, -1, 0)
    return ordered.reshape(1, *sizes).astype(numpy_type(spec.datatype))


def row_of(rows: Rows, spec: TensorSpec, index: int) -> Array:
    """Return one row, its batch axis kept, in the type that the input takes.

    Raises:
        QualityError: there is no such row, or it does not fit the input.
    """
    array = rows.array
    if array.ndim == len(spec.dims) - 1:
        array = array[None]  # one row without its batch axis
    fits = array.ndim == len(spec.dims) and all(
        want in (-1, have) for want, have in zip(spec.dims[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise QualityError(
            f"{rows.path} holds {list(rows.array.shape)}, and the network takes {list(spec.dims)} (-1: any)"
        )
    if not -len(array) <= index < len(array):
        raise QualityError(f"{rows.path} has {len(array)} rows: --index goes from 0 to {len(array) - 1}")
    wanted = numpy_type(spec.datatype)
    if not np.can_cast(array.dtype, wanted, "same_kind"):
        raise QualityError(f"{rows.path} holds {array.dtype}, and the network takes {spec.datatype}")
    return np.ascontiguousarray(array[index][None], wanted)


def channel_axis(sizes: Sequence[int]) -> int | None:
    """Return which axis of an image's three (without the batch's) is its channels; None where none is."""
    if len(sizes) != 3:
        return None
    return 0 if sizes[0] in CHANNELS else 2 if sizes[2] in CHANNELS else None


def _numbers(path: Path, array: Array) -> Array:
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_) or not array.size:
        raise QualityError(f"{path} holds {array.dtype} of shape {list(array.shape)}: there must be numbers")
    if not np.isfinite(array).all():
        raise QualityError(f"{path} holds NaN or infinity")
    return array.astype(np.float32) if array.dtype == np.float64 else array
