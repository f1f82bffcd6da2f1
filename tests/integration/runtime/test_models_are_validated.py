"""Nothing reaches a user before it answered rightly and fast enough, nor once its process has died."""

import asyncio
import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from crafted import PT2, artifact_tar
from lull_runtime.agent.triton import TritonError
from lull_runtime.artifact.card import Card, Golden, TensorSpec
from lull_runtime.artifact.pack import pack_artifact, pack_golden
from lull_runtime.artifact.tar import digest_of
from lull_runtime.measure.memory import stub_bytes

from .conftest import IDENTITY, Bench, model
from .test_failures_stay_with_their_model import repository

CRASHING = """
import os
import triton_python_backend_utils as pb
class TritonPythonModel:
    def initialize(self, args):
        self.answers = 3
        {on_load}
    def execute(self, requests):
        self.answers -= 1
        if self.answers < 0:
            os._exit(1)
        x = [pb.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("y", one)]) for one in x]
"""
CONFIG = """
backend: "python" max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""
ONE = np.ones((1, 2), np.float32)


def network(*nodes: onnx.NodeProto, domain: str = "", width: int = 2, **weights: np.ndarray) -> bytes:
    """An ONNX network from `x` to `y`, both of rows of `width` figures."""
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["batch", width]) for end in "xy"]
    values = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], values)
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def publish(bench: Bench, content: bytes, x: np.ndarray, y: np.ndarray, form: str = "onnx") -> str:
    """Offer an artifact, which answered `y` to `x` where it was published, as file:///net.tar."""
    cases, golden = pack_golden([({"x": x}, {"y": y}), ({"x": 2 * x}, {"y": 2 * y})])
    ends = [TensorSpec(name=end, datatype="FP32", dims=[-1, x.shape[1]]) for end in "xy"]
    card = Card(
        name="net",
        format=form,
        inputs=ends[:1],
        outputs=ends[1:],
        memory_bytes=1 << 20,
        golden=Golden(cases=cases),
    )
    return pack_artifact(bench.folder / "files" / "net.tar", card, content, golden)


def scaled(by: float) -> bytes:
    return network(helper.make_node("Mul", ["x", "by"], ["y"]), by=np.array([by], np.float32))


@pytest.fixture
async def with_neighbour(bench: Bench):
    """A host on which a healthy model is served."""
    bench.neighbour = model("identity", bench.put("identity.tar", IDENTITY))
    bench.host.set_desired([bench.neighbour])
    await bench.until("identity-1", "Ready")
    yield bench
    bench.triton.kill()  # its own way out takes seconds


async def failed(bench: Bench, bad) -> tuple[str | None, str]:
    bench.host.set_desired([bench.neighbour, bad])
    status = await bench.until(bad.id, "Failed")
    assert bench.status("identity-1").state == "Ready"
    return status.reason, status.message


async def test_a_network_that_answers_otherwise_is_refused_with_the_case_and_what_it_answered(with_neighbour):
    digest = publish(with_neighbour, scaled(3), ONE, 3 * ONE)
    with_neighbour.host.set_desired([with_neighbour.neighbour, model("net", digest)])
    await with_neighbour.until("net-1", "Ready")
    with_neighbour.host.set_desired([with_neighbour.neighbour])
    await with_neighbour.until("net-1", None)

    digest = publish(with_neighbour, scaled(3), ONE, np.array([[3, 2.5]], np.float32))
    reason, message = await failed(with_neighbour, model("net", digest, placement="net-2"))
    assert reason == "GoldenMismatch"
    assert "golden case 0: y[0, 1] is 3 here and was 2.5 when it was published (1 of 2 values" in message


async def test_a_network_slower_than_its_service_promises_is_refused_and_one_that_is_not_is_served(
    with_neighbour,
):
    weights = np.full((512, 512), 1 / 512, np.float32)
    names = ["x", *(f"h{number}" for number in range(11)), "y"]
    layers = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in itertools.pairwise(names)]
    x = np.ones((64, 512), np.float32)
    digest = publish(with_neighbour, network(*layers, width=512, w=weights), x, x)
    reason, message = await failed(with_neighbour, model("net", digest, latency="1ms"))
    assert reason == "TooSlow"
    assert "golden case 0 took" in message
    assert "spec.objective.latency is 1ms" in message

    slow = model("net", digest, placement="net-2", latency="20s")
    with_neighbour.host.set_desired([with_neighbour.neighbour, slow])
    await with_neighbour.until("net-2", "Ready")
    await with_neighbour.host.metering.look_last()
    assert with_neighbour.meter.accounts["net-2"].totals.requests == 0, "the agent's own runs are no traffic"


async def test_an_operator_that_nobody_knows_is_named(with_neighbour):
    evil = network(helper.make_node("Nope", ["x"], ["y"], domain="evil"), domain="evil")
    reason, message = await failed(with_neighbour, model("net", publish(with_neighbour, evil, ONE, ONE)))
    assert (reason, "evil:Nope" in message) == ("UnknownOperator", True)


async def test_a_model_whose_process_dies_as_it_loads_fails_alone(with_neighbour, tmp_path: Path):
    folder = repository(tmp_path, "crash", CONFIG, CRASHING.format(on_load="os._exit(1)"))
    reason, message = await failed(with_neighbour, model("crash", with_neighbour.put("crash.tar", folder)))
    assert (reason, "process died" in message) == ("LoadFailed", True), message


@pytest.mark.parametrize("seen", [True, False])
async def test_a_model_whose_process_died_is_said_to_be_and_leaves_its_name_and_memory(
    with_neighbour, tmp_path: Path, monkeypatch, seen: bool
):
    """Triton calls it ready for ever, makes each request wait for a second, and never unloads it."""
    bench = with_neighbour
    if not seen:
        monkeypatch.setattr("lull_runtime.agent.host.stub_bytes", lambda _: None)
    folder = repository(tmp_path, "crash", CONFIG, CRASHING.format(on_load=""))
    digest = bench.put("crash.tar", folder)
    bench.host.set_desired([bench.neighbour, model("crash", digest)])
    await bench.until("crash-1", "Ready")
    asking = asyncio.create_task(ask_until_failed(bench))
    status = await bench.until("crash-1", "Failed")
    asking.cancel()
    assert (status.reason, "process died" in status.message) == ("LoadFailed", True)
    assert bench.status("identity-1").state == "Ready"

    bench.host.set_desired([bench.neighbour, model("crash", digest, placement="crash-2")])
    await bench.until("crash-2", "Ready")
    assert stub_bytes(bench.folder / "repository" / "crash")
    assert bench.status("crash-1") is None


async def ask_until_failed(bench: Bench) -> None:
    while True:
        try:
            await bench.driver.infer("crash", {"x": ONE}, {"x": "FP32"})
        except TritonError:
            await asyncio.sleep(0)


async def test_a_program_of_torch_export_is_served(with_neighbour):
    tar = artifact_tar(with_neighbour.folder / "files" / "net.tar", PT2.read_bytes(), format="pt2")
    with_neighbour.host.set_desired([with_neighbour.neighbour, model("net", digest_of(tar))])
    await with_neighbour.until("net-1", "Ready", 120)
    rows = np.random.default_rng(1).random((4, 3), np.float32)
    asked = [with_neighbour.driver.infer("net", {"input": row[None]}, {"input": "FP32"}) for row in rows]
    answers = np.concatenate([answer["output"] for answer in await asyncio.gather(*asked)])
    together = await with_neighbour.driver.infer("net", {"input": rows}, {"input": "FP32"})
    np.testing.assert_allclose(answers, rows, rtol=1e-6)
    np.testing.assert_allclose(together["output"], answers, rtol=1e-6)
