"""What a folder holds: an artifact, a Triton model directory, or no model."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from lull.api.reasons import Reason
from lull_runtime.agent.repository import configuration
from lull_runtime.artifact import Card, Golden, ModelError, TensorSpec, detect, inspect_repository, read_card
from lull_runtime.artifact.card import tensor
from lull_runtime.artifact.pack import pack_golden

ONNX = 'platform: "onnxruntime_onnx" input [ { name: "x" } ] output [ { name: "y" } ]'


def artifact(folder: Path) -> dict:
    x, y = np.ones((1, 3), np.float32), np.ones((1, 2), np.int64)
    cases, blob = pack_golden([({"x": x}, {"y": y})])
    card = Card(
        name="m",
        inputs=[TensorSpec(name="x", datatype="FP32", dims=[-1, 3])],
        outputs=[TensorSpec(name="y", datatype="INT64", dims=[-1, 2])],
        memory_bytes=1,
        golden=Golden(cases=cases),
    )
    (folder / "lull.json").write_text(card.model_dump_json())
    (folder / "model.onnx").write_bytes(b"")
    (folder / "golden.bin").write_bytes(blob)
    return json.loads(card.model_dump_json())


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


def test_a_card_reads_back_and_its_golden_tensors_too(tmp_path: Path):
    artifact(tmp_path)
    card = read_card(tmp_path)
    [case] = card.golden.cases
    blob = (tmp_path / "golden.bin").read_bytes()
    assert tensor(blob, case.inputs[0]).tolist() == [[1, 1, 1]]
    assert tensor(blob, case.outputs[0]).dtype == np.int64


@pytest.mark.parametrize("field", ["inputs", "golden", "memory_bytes", "name"])
def test_a_card_without_a_field_is_no_model_and_the_message_names_the_field(tmp_path: Path, field: str):
    card = artifact(tmp_path)
    del card[field]
    (tmp_path / "lull.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=field):
        read_card(tmp_path)


def test_a_golden_file_that_is_too_short_is_no_model(tmp_path: Path):
    artifact(tmp_path)
    (tmp_path / "golden.bin").write_bytes(b"x")
    assert reason(lambda: read_card(tmp_path)) is Reason.NOT_A_MODEL


def test_a_card_whose_golden_tensor_claims_terabytes_is_no_model(tmp_path: Path):
    card = artifact(tmp_path)
    card["golden"]["cases"][0]["inputs"][0]["shape"] = [2**40, 2**40]
    (tmp_path / "lull.json").write_text(json.dumps(card))
    assert reason(lambda: read_card(tmp_path)) is Reason.NOT_A_MODEL


def test_a_golden_file_that_would_fill_the_agent_s_memory_is_no_model(tmp_path: Path):
    artifact(tmp_path)
    os.truncate(tmp_path / "golden.bin", (64 << 20) + 1)
    with pytest.raises(ModelError, match="fewer examples"):
        read_card(tmp_path)


def test_files_that_no_artifact_has_are_refused(tmp_path: Path):
    artifact(tmp_path)
    (tmp_path / "model.py").write_text("")
    with pytest.raises(ModelError, match=r"model\.py is too much"):
        read_card(tmp_path)


def test_the_generated_configuration_is_one_that_triton_parses(tmp_path: Path):
    artifact(tmp_path)
    config = text_format.Parse(
        configuration(read_card(tmp_path), "onnxruntime"), model_config_pb2.ModelConfig()
    )
    assert list(config.input[0].dims) == [3]
    assert config.output[0].data_type == model_config_pb2.TYPE_INT64
    assert config.max_batch_size > 0


def test_both_formats_are_detected_and_a_wrong_declaration_is_refused(tmp_path: Path):
    (tmp_path / "a").mkdir()
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
