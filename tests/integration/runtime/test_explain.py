"""`lull explain`: what it says of the three networks and of a tree is true, and there is a picture of it."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import networks
from lull.cli import app
from lull_runtime.publish.forms import open_form
from lull_runtime.publish.labelled import Labelled
from lull_runtime.quality.attribution import Attribution, windows
from lull_runtime.quality.explain import Class, Explained
from lull_runtime.quality.kinds import Method
from lull_runtime.quality.pictures import draw

CNN = ["lull_runtime.publish.simple_cnn:SimpleCNN"]


@dataclass(frozen=True)
class Explanation:
    """What was printed, and the picture's size in pixels."""

    told: dict
    size: tuple[int, int]

    def attributions(self, method: str) -> np.ndarray:
        return np.array(self.of(method)["attributions"])

    def of(self, method: str) -> dict:
        (found,) = [one for one in self.told["methods"] if one["method"] == method]
        return found


def explained(folder: Path, *arguments: object) -> Explanation:
    out = folder / "why"
    done = CliRunner().invoke(app, ["explain", *map(str, arguments), "--out", str(out), "-o", "json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert json.loads((folder / "why.json").read_text()) == told
    with Image.open(folder / "why.png") as picture:
        colours = picture.convert("RGB").getcolors(1 << 20)
        assert len(colours) > 10, "the picture is empty"
        return Explanation(told, picture.size)


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["explain", *map(str, arguments)])
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith("Error: ")
    return done.stderr


def saved(folder: Path, rows: np.ndarray, **more: object) -> Path:
    np.savez(folder / "rows.npz", x=rows, **more)
    return folder / "rows.npz"


CASES: dict[str, tuple[Callable[[], tuple[Path, Labelled]], list[str], tuple[int, ...]]] = {
    "simple-cnn": (networks.simple_cnn_weights, [*CNN, "--weights"], (1, 32, 32)),
    "lstm": (networks.digit_rows, [], (8, 8)),
    "dense": (networks.tumours, [], (30,)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_three_networks_are_explained_by_both_methods(case: str, tmp_path: Path):
    of, factory, shape = CASES[case]
    path, held_out = of()
    baseline = "mean" if len(shape) == 1 else "zeros"
    why = explained(
        tmp_path,
        *factory,
        path,
        "--input",
        saved(tmp_path, held_out.rows),
        "--index",
        3,
        "--baseline",
        baseline,
    )
    form = open_form(
        factory[0] if factory else str(path), weights=path if factory else None, example=held_out.rows
    )
    (scores,) = form.predict(held_out.rows[3:4])["output"]
    assert why.told["prediction"]["class"] == scores.argmax()
    assert why.told["target"]["score"] == pytest.approx(float(scores.max()), rel=1e-4)
    for method in ("integrated-gradients", "occlusion"):
        assert why.attributions(method).shape == shape
        assert np.abs(why.attributions(method)).max() > 0
    gradients = why.of("integrated-gradients")
    risen = why.told["target"]["score"] - why.told["target"]["baseline_score"]
    assert gradients["sum"] == pytest.approx(risen, abs=0.05 * abs(risen) + 1e-3)
    assert gradients["completeness_delta"] == pytest.approx(abs(gradients["sum"] - risen), abs=1e-3)
    assert why.told["baseline"] == baseline


def test_a_tree_is_explained_by_occlusion_and_what_it_does_not_heed_counts_nothing(tmp_path: Path):
    tree = networks.tree()
    rows, _ = networks._wines()
    names = np.array([f"quality {index}" for index in range(13)])
    why = explained(
        tmp_path,
        "networks:tree",
        "--input",
        saved(tmp_path, rows, names=names),
        "--index",
        3,
        "--baseline",
        "mean",
    )
    found = why.attributions("occlusion")
    unused = tree.feature_importances_ == 0
    assert unused.any()
    assert not found[unused].any()
    before = tree.predict_proba(rows[3:4])[0, 0]
    for feature in range(13):
        changed = rows[3:4].copy()
        changed[0, feature] = rows[:, feature].mean()
        assert found[feature] == pytest.approx(before - tree.predict_proba(changed)[0, 0], abs=1e-6)
    assert found.any()
    assert "sklearn has none here" in why.told["notes"][0]


def test_a_machine_that_tells_labels_alone_is_explained_by_whether_it_still_tells_it(tmp_path: Path):
    rows, _ = networks._wines()
    why = explained(
        tmp_path, "networks:support_vectors", "--input", saved(tmp_path, rows), "--baseline", "mean"
    )
    assert why.told["prediction"]["probability"] is None
    assert set(np.unique(why.attributions("occlusion"))) <= {0.0, 1.0}


def test_onnx_is_explained_by_occlusion_as_its_original_is(tmp_path: Path):
    path, rows = tmp_path / "tiny.onnx", np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    exported = torch.onnx.export(
        networks.tiny().eval(), (torch.zeros(3, 4),), dynamo=True, dynamic_shapes=({0: "n"},), verbose=False
    )
    onnx.save(exported.model_proto, path)
    asked = ("--input", saved(tmp_path, rows), "--index", 2, "--target", 1)
    original = explained(tmp_path, "networks:tiny", *asked).attributions("occlusion")
    np.testing.assert_allclose(
        explained(tmp_path, path, *asked).attributions("occlusion"), original, rtol=1e-3, atol=1e-5
    )
    assert "say --method occlusion" in refused(path, *asked, "--method", "integrated-gradients")


def test_integrated_gradients_of_a_linear_network_are_its_weights_times_the_input(tmp_path: Path):
    row = np.array([[1.0, -2.0, 0.5, 3.0]], np.float32)
    why = explained(
        tmp_path,
        "networks:linear",
        "--input",
        saved(tmp_path, row),
        "--target",
        2,
        "--method",
        "integrated-gradients",
    )
    weights = networks.linear().weight[2].detach().numpy()
    np.testing.assert_allclose(why.attributions("integrated-gradients"), weights * row[0], rtol=1e-4)


def test_a_picture_is_scaled_to_the_network(tmp_path: Path):
    weights, held_out = networks.simple_cnn_weights()
    pixels = (held_out.rows[0, 0] * 255).round().astype(np.uint8)
    Image.fromarray(pixels).resize((96, 96), Image.Resampling.NEAREST).save(tmp_path / "digit.png")
    why = explained(
        tmp_path,
        *CNN,
        "--weights",
        weights,
        "--input",
        tmp_path / "digit.png",
        "--example-shape",
        "1,1,32,32",
        "--method",
        "integrated-gradients",
    )
    assert why.told["prediction"]["class"] == held_out.classes[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--index", 9], "goes from 0 to 4"),
        (["--target", 3], "it tells 3 classes: --target goes from 0 to 2"),
        (["--out", "/nowhere/why"], "/nowhere is no folder"),
    ],
)
def test_what_cannot_be_explained_says_why(arguments: list[object], words: str, tmp_path: Path):
    rows = saved(tmp_path, np.ones((5, 4), np.float32))
    assert words in refused("networks:tiny", "--input", rows, *arguments)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((5, 7), np.float32), "the network fails"),
        (np.full((5, 4), np.nan, np.float32), "holds NaN"),
        (np.array(["a"]), "there must be numbers"),
        (np.zeros((0, 4)), "there must be numbers"),
    ],
)
def test_an_input_that_does_not_fit_says_why(array: np.ndarray, words: str, tmp_path: Path):
    assert words in refused("networks:tiny", "--input", saved(tmp_path, array))


def test_a_file_that_is_none_says_how_to_write_one(tmp_path: Path):
    (tmp_path / "rows.npy").write_bytes(b"nothing")
    assert "numpy.save" in refused("networks:tiny", "--input", tmp_path / "rows.npy")
    (tmp_path / "cat.png").write_bytes(b"nothing")
    assert "cannot be read as a picture" in refused(
        *CNN, "--input", tmp_path / "cat.png", "--example-shape", "1,1,32,32"
    )


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=4))
def test_no_input_falls_into_more_windows_than_can_be_asked(sizes: list[int]):
    window, strides = windows(sizes)
    assert all(1 <= side <= size for side, size in zip(window, sizes, strict=True))
    assert all(1 <= stride <= side for stride, side in zip(strides, window, strict=True)), "gaps"
    positions = [
        -(-(size - side) // stride) + 1 for size, side, stride in zip(sizes, window, strides, strict=True)
    ]
    assert math.prod(positions) <= {1: 512, 2: 26**2, 3: 26**2, 4: 14**4}[len(sizes)]


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8, 4), (40,), (1,), (5, 6), (2, 3, 4, 5)])
def test_any_input_makes_a_picture(shape: tuple[int, ...], tmp_path: Path):
    rows = np.random.default_rng(4).normal(size=(1, *shape)).astype(np.float32)
    nothing = Attribution(Method.OCCLUSION, np.zeros_like(rows), {})
    one = Class(0, "0")
    attributions = [Attribution(Method.INTEGRATED_GRADIENTS, rows, {}), nothing]
    why = Explained("net", "torch", rows, "output", one, 0.5, one, 0.5, 1.0, 0.0, attributions, [])
    draw(why, ["first"], tmp_path / "why.png")
    with Image.open(tmp_path / "why.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10
