"""`lull publish` from every form: what is shipped answers as the original did, with any number of rows."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from safetensors.torch import save_file
from typer.testing import CliRunner

import networks
from lull.cli import app
from lull_runtime.artifact import Artifact, read_artifact
from lull_runtime.artifact.sign import verify
from lull_runtime.artifact.tar import Bounds, digest_of, unpack
from lull_runtime.artifact.trust import Signer
from lull_runtime.publish.check import runner
from lull_runtime.publish.forms import Array, made_up, open_form
from lull_runtime.quality.measures import classes_of

TINY_SHAPE = (25, 4)


@dataclass(frozen=True)
class Shipped:
    """What came out of `lull publish`."""

    artifact: Artifact
    printed: dict

    def ask(self, rows: Array) -> dict[str, Array]:
        card = self.artifact.card
        return runner(self.artifact.network.read_bytes(), card.format)({card.inputs[0].name: rows})


def shipped(folder: Path, *arguments: object) -> Shipped:
    tar, into = folder / "model.tar", folder / "model"
    command = ["publish", *map(str, arguments), "--to", str(tar), "--no-measure", "-o", "json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    unpack(tar, into, Bounds())
    return Shipped(read_artifact(into), json.loads(done.stdout))


def refused(folder: Path, *arguments: object) -> str:
    done = CliRunner().invoke(app, ["publish", "--to", str(folder / "model.tar"), *map(str, arguments)])
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output
    return done.stderr


def state_dict(folder: Path) -> list[object]:
    torch.save(networks.tiny().state_dict(), folder / "weights.pt")
    return ["networks:tiny", "--weights", folder / "weights.pt", "--example-shape", "1,4"]


def safetensors(folder: Path) -> list[object]:
    save_file(networks.tiny().state_dict(), folder / "weights.safetensors")
    return ["networks:tiny", "--weights", folder / "weights.safetensors", "--example-shape", "1,4"]


def program(folder: Path) -> list[object]:
    batch = {0: torch.export.Dim("batch", min=1)}
    exported = torch.export.export(networks.tiny(), (torch.zeros(3, 4),), dynamic_shapes=(batch,))
    torch.export.save(exported, folder / "tiny.pt2")
    return [folder / "tiny.pt2"]


def torchscript(folder: Path) -> list[object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(networks.tiny()).save(folder / "tiny.pt")
    return [folder / "tiny.pt", "--example-shape", "1,4"]


def onnx_file(folder: Path) -> list[object]:
    """Of another maker: other names, and the weights in a file beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            networks.tiny(),
            (torch.zeros(3, 4),),
            folder / "plain.onnx",
            dynamo=False,
            input_names=["features"],
            output_names=["scores"],
            dynamic_axes={"features": {0: "n"}, "scores": {0: "n"}},
        )
    path = folder / "tiny.onnx"
    onnx.save(
        onnx.load(folder / "plain.onnx"), path, save_as_external_data=True, location="w", size_threshold=0
    )
    return [path]


@pytest.mark.parametrize("form", [state_dict, safetensors, program, torchscript, onnx_file])
def test_every_form_of_a_torch_network_is_shipped_as_onnx_that_agrees(form: Callable, tmp_path: Path):
    out = shipped(tmp_path, *form(tmp_path))
    assert out.artifact.card.format == "onnx"
    assert out.artifact.card.inputs[0].dims == [-1, 4]
    rows = made_up(TINY_SHAPE)
    with torch.no_grad():
        wanted = networks.tiny()(torch.from_numpy(rows)).numpy()
    for count in (1, 2, len(rows)):
        (answer,) = out.ask(rows[:count]).values()
        np.testing.assert_allclose(answer, wanted[:count], rtol=1e-4, atol=1e-5)


def test_what_onnx_cannot_express_is_shipped_as_an_exported_program_with_a_note(tmp_path: Path):
    out = shipped(tmp_path, "networks:Eigenvalues", "--example-shape", "1,4,4")
    assert out.artifact.card.format == "pt2"
    assert "_linalg_eigh" in out.printed["notes"][0]
    rows = made_up((5, 4, 4))
    with torch.no_grad():
        wanted = networks.Eigenvalues()(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(out.ask(rows)["output"], wanted, rtol=1e-4, atol=1e-5)
    assert str(Path(__file__).parents[2]).encode() not in out.artifact.network.read_bytes()
    (tmp_path / "again").mkdir()
    again = shipped(tmp_path / "again", "networks:Eigenvalues", "--example-shape", "1,4,4")
    assert again.printed["digest"] == out.printed["digest"]


@pytest.mark.parametrize("name", ["tree", "support_vectors", "regression"])
def test_scikit_learn_agrees(name: str, tmp_path: Path):
    out = shipped(tmp_path, f"networks:{name}")
    rows = made_up((20, networks.FEATURES)) * 100
    wanted = getattr(networks, name)().predict(rows)
    np.testing.assert_allclose(next(iter(out.ask(rows).values()))[:, 0], wanted, rtol=1e-5)


def test_classes_with_names_are_named_by_the_card(tmp_path: Path):
    out = shipped(tmp_path, "networks:named_wines")
    labels = out.artifact.card.labels
    rows = made_up((20, networks.FEATURES)) * 100
    told = [labels[one] for one in classes_of(out.ask(rows)["probabilities"])]
    assert told == list(networks.named_wines().predict(rows))


@pytest.mark.parametrize(
    ("of", "more"),
    [
        (networks.simple_cnn_weights, ["lull_runtime.publish.simple_cnn:SimpleCNN", "--weights"]),
        (networks.digit_rows, []),
        (networks.tumours, []),
    ],
    ids=["SimpleCNN", "LSTM-in-Keras", "dense-model.h5"],
)
def test_the_three_networks_tell_what_they_told_before(of: Callable, more: list, tmp_path: Path):
    path, held_out = of()
    np.savez(tmp_path / "held_out.npz", x=held_out.rows, y=held_out.classes)
    out = shipped(tmp_path, *more, path, "--labelled", tmp_path / "held_out.npz")
    what = (more or [path])[0]
    original = open_form(str(what), weights=path if more else None, example=held_out.rows[:3])
    wanted = original.predict(held_out.rows)["output"]
    for count in (1, 3, len(held_out.rows)):
        np.testing.assert_allclose(
            out.ask(held_out.rows[:count])["output"], wanted[:count], rtol=1e-3, atol=1e-4
        )
    assert out.printed["accuracy"] == pytest.approx(held_out.accuracy({"output": wanted}), abs=0.005)
    assert out.printed["accuracy"] > 0.3  # it learned something: chance is 10 % and 50 %


def test_changes_for_size_are_taken_where_they_cost_nothing_and_described(tmp_path: Path):
    path, held_out = networks.tumours()
    np.savez(tmp_path / "held_out.npz", x=held_out.rows.astype(np.float64), y=held_out.classes)
    labelled = ["--labelled", tmp_path / "held_out.npz"]
    out = shipped(tmp_path, path, *labelled, "--optimise", "int8", "--training-energy", "1.5kWh")
    (entry,) = out.artifact.card.optimisation
    assert entry.size_bytes_after < entry.size_bytes_before
    assert entry.size_bytes_after == len(out.artifact.network.read_bytes())
    assert entry.accuracy_after >= entry.accuracy_before - 0.01
    assert out.artifact.card.training.watt_hours == 1500
    golden = out.artifact.card.golden
    assert golden.absolute >= entry.max_difference
    readme = (out.artifact.network.parent / "README.md").read_text()
    assert f"{entry.size_bytes_before:,} → {entry.size_bytes_after:,} bytes" in readme


def test_what_is_signed_is_verified_and_a_folder_is_the_same_digest(tmp_path: Path):
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "signing.key").write_bytes(private)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    command = ["publish", "networks:tree", "--name", "tree", "--sign", str(tmp_path / "signing.key")]
    done = CliRunner().invoke(app, [*command, "--to", str(tmp_path / "laid-out"), "-o", "json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["digest"] == digest_of(tmp_path / "laid-out")
    assert printed["manifest"]["spec"]["model"]["uri"] == "file:///laid-out"
    assert read_artifact(tmp_path / "laid-out").card.measured.latency_milliseconds > 0
    assert verify(tmp_path / "laid-out", [Signer("me", public.decode())]) == "me"


def fixed_batch(folder: Path) -> list[object]:
    torch.export.save(torch.export.export(networks.tiny(), (torch.zeros(3, 4),)), folder / "fixed.pt2")
    return [folder / "fixed.pt2"]


def code_in_weights(folder: Path) -> list[object]:
    class Code:
        def __reduce__(self):
            return (Path.touch, (folder / "ran",))

    torch.save(Code(), folder / "weights.pt")
    return ["networks:tiny", "--weights", folder / "weights.pt", "--example-shape", "1,4"]


def weights_of_another(folder: Path) -> list[object]:
    save_file({"other": torch.zeros(2)}, folder / "w.safetensors")
    return ["networks:tiny", "--weights", folder / "w.safetensors", "--example-shape", "1,4"]


def weights_alone(folder: Path) -> list[object]:
    return state_dict(folder)[2:3]


def pickle_file(folder: Path) -> list[object]:
    (folder / "tree.pkl").write_bytes(b"")
    return [folder / "tree.pkl"]


def lambda_layer(folder: Path) -> list[object]:
    from lull_runtime.publish.from_keras import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2)])
    model.save(folder / "code.keras")
    return [folder / "code.keras"]


def two_inputs(folder: Path) -> list[object]:
    from lull_runtime.publish.from_keras import keras

    one, two = keras.Input((4,)), keras.Input((4,))
    keras.Model([one, two], keras.layers.Add()([one, two])).save(folder / "two.keras")
    return [folder / "two.keras"]


def data_outside(folder: Path) -> list[object]:
    (onnx_path,) = onnx_file(folder)
    model = onnx.load(onnx_path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../w"
    onnx_path.write_bytes(model.SerializeToString())
    return [onnx_path]


def two_rows(folder: Path) -> list[object]:
    np.savez(folder / "l.npz", x=np.zeros((2, 13)), y=np.zeros(2, int))
    return ["networks:tree", "--labelled", folder / "l.npz"]


def cut_off(folder: Path) -> list[object]:
    (folder / "model.h5").write_bytes(networks.tumours()[0].read_bytes()[:500])
    return [folder / "model.h5"]


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (fixed_batch, "batch axis is fixed at 3"),
        (code_in_weights, "cannot be read as weights"),
        (weights_of_another, "does not fit this network"),
        (weights_alone, "module:factory --weights"),
        (pickle_file, "--trust-pickle"),
        (lambda_layer, "Lambda"),
        (two_inputs, "takes 2 inputs"),
        (data_outside, "no ONNX that can be run"),
        (cut_off, "cannot be read as a Keras model"),
        (lambda folder: ["networks:unfitted"], "not fitted"),
        (lambda folder: ["networks:folder", "--example-shape", "1,4"], "should return"),
        (two_rows, "too few"),
        (lambda folder: [folder / "absent.onnx"], "there is no file"),
        (lambda folder: ["networks:tiny"], "--example-shape"),
        (lambda folder: ["networks:tree", "--to", "ftp://x"], "oci://"),
        (lambda folder: ["networks:tree", "--training-energy", "5"], "unit"),
        (lambda folder: ["networks:tree", "--sign", "/nowhere.key"], "nowhere.key"),
    ],
)
def test_what_cannot_be_published_says_what_to_do_and_runs_nothing(of: Callable, says: str, tmp_path: Path):
    assert says in refused(tmp_path, *of(tmp_path))
    assert not (tmp_path / "model.tar").exists()
    assert not (tmp_path / "ran").exists()
