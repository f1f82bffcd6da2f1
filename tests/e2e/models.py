"""Models that misbehave in known ways, as the tars that a user would publish."""

import io
import tarfile
import tempfile
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from lull_runtime.artifact.card import Card, Golden, TensorSpec
from lull_runtime.artifact.pack import pack_artifact, pack_golden

_CONFIG = """\
backend: "python"
max_batch_size: 64
input [ { name: "input" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "output" data_type: TYPE_FP32 dims: [ -1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
_MODEL = """\
import os, sys, time
sys.path.append(os.environ.get("LULL_SITE_PACKAGES", ""))
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        {initialize}

    def execute(self, requests):
        {execute}
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("output", pb_utils.get_input_tensor_by_name(request, "input").as_numpy())]
            )
            for request in requests
        ]
"""


def loading_for(seconds: float) -> bytes:
    """Return an identity model whose load takes this long."""
    return _repository(f"time.sleep({seconds})")


def raising(message: str) -> bytes:
    """Return a model whose load raises."""
    return _repository(f"raise RuntimeError({message!r})")


def wrong_shapes(name: str) -> bytes:
    """Return an artifact whose card promises other outputs than its network gives."""
    return identity(name, np.ones((1, 3), np.float32))


def identity(name: str, answered: np.ndarray) -> bytes:
    """Return an artifact that gives what it gets, and that answered this to ones when it was published."""
    x = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["output"])], name, [x], [y])
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    one = np.ones((1, 4), np.float32)
    cases, golden = pack_golden([({"input": one}, {"output": answered})])
    card = Card(
        name=name,
        inputs=[TensorSpec(name="input", datatype="FP32", dims=[-1, 4])],
        outputs=[TensorSpec(name="output", datatype="FP32", dims=[-1, answered.shape[1]])],
        memory_bytes=64 << 20,
        golden=Golden(cases=cases),
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.tar"
        pack_artifact(out, card, network.SerializeToString(), golden)
        return out.read_bytes()


def scaling(factor: float, version: int, key: Path | None = None) -> bytes:
    """Return an artifact that multiplies what it gets, as its golden cases say, signed by a key.

    Args:
        factor: by what.
        version: makes it another artifact of the same network.
        key: the publisher's; unsigned without.
    """
    x = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1])
    y = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 1])
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [1], [factor])
    node = helper.make_node("Mul", ["input", "scale"], ["output"])
    graph = helper.make_graph([node], f"version-{version}", [x], [y], [scale])
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    one = np.ones((1, 1), np.float32)
    cases, golden = pack_golden([({"input": one}, {"output": one * np.float32(factor)})])
    card = Card(
        name="scaling",
        inputs=[TensorSpec(name="input", datatype="FP32", dims=[-1, 1])],
        outputs=[TensorSpec(name="output", datatype="FP32", dims=[-1, 1])],
        memory_bytes=64 << 20,
        golden=Golden(cases=cases),
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.tar"
        pack_artifact(out, card, network.SerializeToString(), golden, key=key)
        return out.read_bytes()


def answering_after(seconds: float) -> bytes:
    """Return an identity model that takes this long for each request, four at a time."""
    return _repository("pass", execute=f"time.sleep({seconds} * len(requests))", instances=4)


def dying_after(requests: int) -> bytes:
    """Return an identity model whose process dies while it answers this one of its requests."""
    count = "self.left -= len(requests)\n        if self.left <= 0: os._exit(1)"
    return _repository(f"self.left = {requests}", execute=count)


def dying() -> bytes:
    """Return a model whose process dies while it is loaded."""
    return _repository("os._exit(1)")


def template_with(**agent_env: str) -> dict[str, Any]:
    """Return a pool's template with variables for its agents."""
    env = [{"name": name, "value": value} for name, value in agent_env.items()]
    claim = {"name": "files", "persistentVolumeClaim": {"claimName": "lull-files"}}
    agent = {"initContainers": [{"name": "agent", "env": env}]} if env else {}
    return {"spec": {"volumes": [claim], **agent}}


def _repository(initialize: str, execute: str = "pass", instances: int = 1) -> bytes:
    out = io.BytesIO()
    model = dedent(_MODEL).replace("{initialize}", initialize).replace("{execute}", execute)
    config = _CONFIG.replace("count: 1", f"count: {instances}")
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in (("config.pbtxt", config), ("1/model.py", model)):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()
