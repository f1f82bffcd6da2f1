"""The input that is explained: the right row of a file, in the shape and type that the network takes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lull_runtime.artifact.card import TensorSpec
from lull_runtime.quality.errors import QualityError
from lull_runtime.quality.inputs import channel_axis, read_image, read_rows, row_of


def takes(*dims: int, datatype: str = "FP32") -> TensorSpec:
    return TensorSpec(name="input", datatype=datatype, dims=[-1, *dims])


def test_a_row_is_taken_from_many_or_is_the_file_itself(tmp_path: Path):
    many = np.arange(6, dtype=np.float64).reshape(3, 2)
    np.save(tmp_path / "many.npy", many)
    np.save(tmp_path / "one.npy", many[1])
    row = row_of(read_rows(tmp_path / "many.npy"), takes(2), 1)
    assert (row.dtype, row.tolist()) == (np.float32, [[2, 3]])
    assert row_of(read_rows(tmp_path / "one.npy"), takes(2), 0).tolist() == [[2, 3]]
    assert row_of(read_rows(tmp_path / "many.npy"), takes(-1), -1).tolist() == [[4, 5]]


def test_of_several_arrays_x_is_meant_and_names_are_its_features(tmp_path: Path):
    x = np.ones((2, 2), np.float32)
    np.savez(tmp_path / "a.npz", x=x, other=x, y=[0, 1], names=["width", "height"])
    assert read_rows(tmp_path / "a.npz").names == ["width", "height"]
    np.savez(tmp_path / "b.npz", input=x, y=[0, 1])
    assert read_rows(tmp_path / "b.npz").array.shape == (2, 2)
    np.savez(tmp_path / "c.npz", one=x, two=x)
    with pytest.raises(QualityError, match="has no array x, but one, two: call it x"):
        read_rows(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("spec", "index", "words"),
    [
        (takes(2), 3, "--index goes from 0 to 2"),
        (takes(3), 0, r"holds \[3, 2\], and the network takes \[-1, 3\]"),
        (takes(2, 2, 2), 0, "and the network takes"),
        (takes(2, datatype="INT64"), 0, "holds float32, and the network takes INT64"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(spec: TensorSpec, index: int, words: str, tmp_path: Path):
    np.save(tmp_path / "rows.npy", np.ones((3, 2), np.float32))
    with pytest.raises(QualityError, match=words):
        row_of(read_rows(tmp_path / "rows.npy"), spec, index)


@pytest.mark.parametrize("dims", [(1, 5, 6), (3, 5, 6), (5, 6, 3), (5, 6, 1), (4, 5, 6), (5, 6)])
def test_a_picture_lies_as_the_network_takes_it(dims: tuple[int, ...], tmp_path: Path):
    """Left black and right white: whatever the order of the axes, the columns differ and the rows do not."""
    pixels = np.zeros((40, 60, 4), np.uint8)
    pixels[:, 30:] = 255
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    row = read_image(tmp_path / "p.png", takes(*dims))
    assert (row.shape, row.dtype) == ((1, *dims), np.float32)
    channel = channel_axis(dims)
    planes = row[0] if channel is None else np.moveaxis(row[0], channel, 0)[0]
    assert planes.shape == (5, 6)
    np.testing.assert_allclose(planes[:, 0], 0, atol=0.01)
    np.testing.assert_allclose(planes[:, -1], 1, atol=0.01)


@pytest.mark.parametrize("dims", [(7,), (-1, 4, 4), (1, -1, 4), (7, 8, 9)])
def test_a_picture_for_what_takes_none_of_known_size_is_refused(dims: tuple[int, ...], tmp_path: Path):
    Image.new("L", (4, 4)).save(tmp_path / "p.png")
    with pytest.raises(QualityError, match="no image of known size"):
        read_image(tmp_path / "p.png", takes(*dims))
