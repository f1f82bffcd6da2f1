"""What a folder holds: an artifact, a Triton model directory, or no model."""

from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from pydantic import ValidationError
from tritonclient.grpc import model_config_pb2

from crafted import ROWS, artifact, card, edit_card, onnx_network
from lull.api.host import HostModel
from lull.api.reasons import Reason
from lull_runtime.agent.placement import Placement
from lull_runtime.agent.repository import configuration
from lull_runtime.agent.store import Model
from lull_runtime.artifact import Format, ModelError, detect, inspect_repository, read_artifact
from lull_runtime.artifact.card import V1, Card, Measured, Source, Training, tensor
from lull_runtime.artifact.pack import pack_artifact
from lull_runtime.artifact.tar import Bounds, unpack

ONNX = 'platform: "onnxruntime_onnx" input [ { name: "x" } ] output [ { name: "y" } ]'


def directory(folder: Path, config: str = ONNX, **files: str) -> Path:
    (folder / "1").mkdir(exist_ok=True)
    (folder / "config.pbtxt").write_text(config)
    for name, content in files.items():
        (folder / "1" / name.replace("_", ".")).write_text(content)
    return folder


def reason(call) -> Reason:
    with pytest.raises(ModelError) as caught:
        call()
    return caught.value.reason


def test_an_artifact_reads_back_and_its_golden_tensors_too(tmp_path: Path):
    found = read_artifact(artifact(tmp_path / "m", beside={"README.md": b"# M"}))
    assert (found.network.name, found.data) == ("model.onnx", None)
    assert "README.md" in found.card.files
    case = found.card.golden.cases[1]
    blob = found.golden.read_bytes()
    assert tensor(blob, case.inputs[0]).tolist() == ROWS.tolist()
    assert tensor(blob, case.outputs[0]).dtype == np.float32


def test_an_artifact_of_the_first_version_is_still_read(tmp_path: Path):
    folder = artifact(tmp_path / "m")
    later = ("files", "optimisation", "labels")
    edit_card(folder, lambda card: [card.pop(field) for field in later] and card.update(version=V1))
    found = read_artifact(folder)
    assert (found.card.version, found.card.labels, found.network.name) == (V1, [], "model.onnx")


def test_a_card_says_where_a_network_came_from_what_was_measured_and_what_it_cost(tmp_path: Path):
    said = {
        "source": Source(framework="keras", form="h5"),
        "measured": Measured(load_seconds=0.5, latency_milliseconds=0.1, memory_bytes=5, on="a CPU"),
        "training": Training(watt_hours=3.5, source="codecarbon"),
        "labels": ["0", "1", "2"],
    }
    made, golden = card(**said)
    pack_artifact(tmp_path / "m.tar", made, onnx_network().SerializeToString(), golden)
    unpack(tmp_path / "m.tar", tmp_path / "m", Bounds())
    found = read_artifact(tmp_path / "m").card
    assert {field: getattr(found, field) for field in said} == said


@pytest.mark.parametrize("field", ["inputs", "golden", "memory_bytes", "name"])
def test_a_card_without_a_field_is_no_model_and_the_message_names_the_field(tmp_path: Path, field: str):
    folder = artifact(tmp_path / "m")
    edit_card(folder, lambda card: card.pop(field))
    with pytest.raises(ModelError, match=field):
        read_artifact(folder)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("model.py", "is too much"),
        ("README.md", "is too much"),
        ("model.pt2", "is too much"),
        ("model.onnx.data", "is too much"),
        ("weights.pkl", "is too much"),
    ],
)
def test_files_that_the_card_does_not_list_are_refused(tmp_path: Path, name: str, wrong: str):
    folder = artifact(tmp_path / "m")
    (folder / name).write_text("")
    with pytest.raises(ModelError, match=f"{name} {wrong}"):
        read_artifact(folder)


@pytest.mark.parametrize("name", ["model.onnx", "README.md"])
def test_files_that_the_card_lists_and_that_are_not_there_are_missed(tmp_path: Path, name: str):
    folder = artifact(tmp_path / "m", beside={"README.md": b"# M"})
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        read_artifact(folder)


@pytest.mark.parametrize("name", ["model.onnx", "golden.bin"])
def test_a_card_lists_its_network_and_its_golden_file(tmp_path: Path, name: str):
    folder = artifact(tmp_path / "m")
    edit_card(folder, lambda card: card["files"].pop(name))
    assert reason(lambda: read_artifact(folder)) in (Reason.NOT_A_MODEL, Reason.NO_GOLDEN_CASES)


def test_a_folder_in_a_signature_s_place_is_too_much(tmp_path: Path):
    (artifact(tmp_path / "m") / "model.sig").mkdir()
    with pytest.raises(ModelError, match=r"model\.sig is too much"):
        read_artifact(tmp_path / "m")


def test_a_link_is_no_file_of_an_artifact(tmp_path: Path):
    folder = artifact(tmp_path / "m", beside={"README.md": b"# M"})
    (folder / "README.md").rename(tmp_path / "README.md")
    (folder / "README.md").symlink_to(tmp_path / "README.md")
    with pytest.raises(ModelError, match=r"README\.md is missing"):
        read_artifact(folder)


@pytest.mark.parametrize("name", ["model.pt2", "model.py", "../model.onnx"])
def test_a_card_cannot_list_what_no_artifact_holds(tmp_path: Path, name: str):
    folder = artifact(tmp_path / "m")
    (folder / name).write_bytes((folder / "model.onnx").read_bytes())
    edit_card(folder, lambda card: card["files"].update({name: "sha256:" + "0" * 64}))
    assert reason(lambda: read_artifact(folder)) is Reason.NOT_A_MODEL


def test_the_generated_configuration_is_one_that_triton_parses(tmp_path: Path):
    config = text_format.Parse(configuration(card()[0], "onnxruntime"), model_config_pb2.ModelConfig())
    assert list(config.input[0].dims) == [3]
    assert config.output[0].data_type == model_config_pb2.TYPE_FP32
    assert config.max_batch_size > 0


def test_both_formats_are_detected_and_a_wrong_declaration_is_refused(tmp_path: Path):
    (tmp_path / "r" / "top").mkdir(parents=True)
    artifact(tmp_path / "a")
    directory(tmp_path / "r" / "top")
    assert detect(tmp_path / "a")[0] == "Artifact"
    assert detect(tmp_path / "r") == ("TritonRepository", tmp_path / "r" / "top")
    assert reason(lambda: detect(tmp_path / "a", "TritonRepository")) is Reason.NOT_A_MODEL


def test_an_onnx_directory_is_data(tmp_path: Path):
    assert inspect_repository(directory(tmp_path, model_onnx=""), "m", allow_code=False) is False


def test_tensors_may_be_called_as_onnx_calls_them_and_harmless_parameters_set(tmp_path: Path):
    config = (
        'backend: "onnxruntime" input [ { name: "/in/x..0" } ] output [ { name: "/fc/Gemm_output_0" } ] '
        'parameters { key: "intra_op_thread_count" value { string_value: "1" } }'
    )
    assert inspect_repository(directory(tmp_path, config, model_onnx=""), "m", allow_code=False) is False


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ('backend: "python"', {"model_py": ""}),
        ('backend: "mine"', {"libtriton_mine_so": ""}),
        ('platform: "pytorch_libtorch"', {"model_pt": ""}),
        ("", {"model_onnx": ""}),
        (ONNX, {"model_onnx": "", "extra_so": ""}),
        (ONNX, {"model_onnx": "", "helper_py": ""}),
        (ONNX + ' model_operations { op_library_filename: "x" }', {"model_onnx": ""}),
        (ONNX + ' runtime: "weights.bin"', {"model_onnx": ""}),
        (ONNX + ' parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "x" } }', {}),
        (
            ONNX + ' optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" '
            'parameters { key: "extension" value: "x" } } } }',
            {},
        ),
        ('backend: "openvino"', {"model_xml": ""}),
        (ONNX + ' backend: "python"', {"model_onnx": ""}),
        (ONNX, {"model_onnx": "", "weights_bin": "\x7fELF\x02"}),
    ],
)
def test_what_runs_code_is_code(tmp_path: Path, config: str, files: dict[str, str]):
    folder = directory(tmp_path, config, **files)
    assert reason(lambda: inspect_repository(folder, "m", allow_code=False)) is Reason.CODE_NOT_ALLOWED
    assert inspect_repository(folder, "m", allow_code=True) is True


@pytest.mark.parametrize(
    "config",
    [
        ONNX + ' default_model_filename: "../../other/1/model.onnx"',
        ONNX + r' default_model_filename: "\056\056/other/1/model.onnx"',
        ONNX + ' default_model_filename: "." "./other/1/model.onnx"',
        ONNX + ' default_model_filename: "/etc/passwd"',
        ONNX + ' cc_model_filenames { key: "name" value: "/etc/passwd" }',
        ONNX + " a_field_of_a_newer_triton: 1",
        ONNX + ' name: "other"',
        ONNX + " ensemble_scheduling { }",
        ONNX + " model_repository_agents { }",
        "this is { no configuration",
    ],
)
def test_configurations_that_reach_beyond_their_model_are_refused(tmp_path: Path, config: str):
    folder = directory(tmp_path, config, model_onnx="")
    assert reason(lambda: inspect_repository(folder, "m", allow_code=True)) is Reason.NOT_A_MODEL


def test_a_directory_without_a_version_is_no_model(tmp_path: Path):
    (tmp_path / "config.pbtxt").write_text(ONNX)
    assert reason(lambda: inspect_repository(tmp_path, "m", allow_code=True)) is Reason.NOT_A_MODEL


@pytest.mark.parametrize(
    "said", [{"memory_bytes": 10**40}, {"training": {"watt_hours": 1e300, "source": "declared"}}]
)
def test_a_card_of_absurd_figures_is_refused_and_never_told_of(said: dict[str, object]):
    """The API would refuse the status of the whole host, with all its neighbours."""
    with pytest.raises(ValidationError, match="less than or equal"):
        Card.model_validate(card()[0].model_dump() | said)


def test_what_a_served_artifact_took_to_train_is_told(tmp_path: Path):
    made, golden = card(training=Training(watt_hours=3.5, source="declared"))
    pack_artifact(tmp_path / "m.tar", made, onnx_network().SerializeToString(), golden)
    unpack(tmp_path / "m.tar", tmp_path / "m", Bounds())
    want = HostModel(id="m-1", service="demo/m", name="m", revision="1", uri="", state="Loaded")
    placement = Placement(
        want, model=Model("", tmp_path, Format.ARTIFACT, read_artifact(tmp_path / "m"), False)
    )
    assert placement.status().training_watt_hours == "3.500"
