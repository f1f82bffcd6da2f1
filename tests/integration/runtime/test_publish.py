"""`lull publish`: what it writes, and what it refuses to write."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml
from torch import nn
from typer.testing import CliRunner

import networks
from lull.api.service import ModelServiceSpec
from lull.cli import app
from lull_runtime.artifact import Format, detect, read_artifact
from lull_runtime.artifact.card import tensor
from lull_runtime.artifact.tar import Bounds, digest_of, unpack
from lull_runtime.publish.digits import load_digits
from lull_runtime.publish.export import NotPublishableError, publish_network
from lull_runtime.publish.simple_cnn import SimpleCNN, accuracy

from .conftest import IDENTITY


class Flattened(nn.Module):
    """Right for 32 × 32, and wrong without an error for 25 images of 28 × 28."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.dense = nn.Linear(400, 10)

    def forward(self, x):
        return self.dense(self.features(x).view(-1, 400))


def test_the_sample_tells_97_percent_of_digits_it_has_never_seen():
    training, held_out = load_digits()
    assert not {i.tobytes() for i in training.images} & {i.tobytes() for i in held_out.images}
    assert accuracy(networks.simple_cnn(), held_out) >= 0.97


def test_the_same_network_is_the_same_digest(tmp_path: Path):
    network, example = SimpleCNN(), np.zeros((3, 1, 32, 32), np.float32)
    one, two = (publish_network(network, example, "m", tmp_path / name).digest for name in ("one", "two"))
    assert one == two == digest_of(tmp_path / "one")


def test_an_artifact_tells_nothing_of_the_machine_that_made_it(digits):
    assert str(Path(__file__).parents[3]).encode() not in digits.path.read_bytes()


def test_golden_cases_are_what_the_network_answers(digits, tmp_path: Path):
    unpack(digits.path, tmp_path, Bounds())
    assert detect(tmp_path) == (Format.ARTIFACT, tmp_path)
    card = read_artifact(tmp_path).card
    blob = (tmp_path / "golden.bin").read_bytes()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for case in card.golden.cases:
        [x], [y] = case.inputs, case.outputs
        answer = session.run([y.name], {x.name: tensor(blob, x)})[0]
        np.testing.assert_allclose(answer, tensor(blob, y), rtol=1e-3, atol=1e-3)
    assert {case.inputs[0].shape[0] for case in card.golden.cases} == {1, 3}


def test_a_network_that_does_not_keep_the_batch_axis_is_refused(tmp_path: Path):
    example = np.zeros((25, 1, 28, 28), np.float32)
    with pytest.raises(NotPublishableError, match=r"\(25, 1, 28, 28\) the network gives \(16, 10\)"):
        publish_network(Flattened(), example, "m", tmp_path / "m.tar")
    assert not (tmp_path / "m.tar").exists()


def test_a_directory_is_published_with_a_manifest_that_the_schema_takes(tmp_path: Path):
    out, manifest = tmp_path / "identity.tar", tmp_path / "identity.yaml"
    arguments = ["publish", "--repository", str(IDENTITY), "--to", str(out), "--manifest", str(manifest)]
    done = CliRunner().invoke(app, [*arguments, "-o", "json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["digest"] == digest_of(out)
    assert printed["manifest"] == yaml.safe_load(manifest.read_text())
    spec = ModelServiceSpec.model_validate(printed["manifest"]["spec"])
    assert (spec.model.uri, spec.model.digest) == ("file:///identity.tar", printed["digest"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say what to publish"),
        (["--sample", "cats"], "digits"),
        (["--repository", "/nowhere"], "no directory"),
        (["module"], "module:factory"),
        (["torch.nn:Identity"], "--example-shape"),
        (["no_such_module:factory", "--example-shape", "1,3"], "no_such_module"),
        (["torch.nn:Identity", "--example-shape", "3"], "batch axis"),
    ],
)
def test_what_cannot_be_published_is_one_line_that_says_why(arguments: list[str], says: str):
    done = CliRunner().invoke(app, ["publish", *arguments])
    assert done.exit_code in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.output
