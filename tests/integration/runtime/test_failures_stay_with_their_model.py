"""What cannot be served says why, and disturbs no neighbour."""

import json
import tarfile
from pathlib import Path

import pytest

from lull_runtime.agent.host import Limits
from lull_runtime.artifact.format import CARD
from lull_runtime.artifact.pack import _write as write_artifact
from lull_runtime.measure.memory import stub_bytes

from .conftest import IDENTITY, Bench, eventually, model

NEVER = """
import time
class TritonPythonModel:
    def initialize(self, args):
        time.sleep(3600)
    def execute(self, requests):
        return []
"""


@pytest.fixture
async def with_neighbour(bench: Bench):
    """A host on which a healthy model is served."""
    digest = bench.put("identity.tar", IDENTITY)
    bench.neighbour = model("identity", digest)
    bench.host.set_desired([bench.neighbour])
    await bench.until("identity-1", "Ready")
    return bench


async def failed(bench: Bench, bad, reason: str) -> str:
    bench.host.set_desired([bench.neighbour, bad])
    status = await bench.until(bad.id, "Failed")
    assert status.reason == reason, status.message
    assert bench.status("identity-1").state == "Ready"
    return status.message


async def test_a_wrong_digest(with_neighbour: Bench, digits):
    with_neighbour.put("digits.tar", digits.path)
    message = await failed(with_neighbour, model("digits", "sha256:" + "0" * 64), "DigestMismatch")
    assert digits.digest in message


async def test_a_file_that_is_not_there(with_neighbour: Bench):
    await failed(with_neighbour, model("digits", "sha256:" + "0" * 64), "Unreachable")


async def test_a_file_beyond_the_files_volume(with_neighbour: Bench):
    bad = model("digits", "sha256:" + "0" * 64, uri="file:///../key")
    await failed(with_neighbour, bad, "UriNotAllowed")


async def test_a_tar_that_is_no_model(with_neighbour: Bench, tmp_path: Path):
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "readme.txt").write_text("nothing to serve")
    digest = with_neighbour.put("junk.tar", tmp_path / "junk")
    await failed(with_neighbour, model("junk", digest), "NotAModel")


async def test_a_network_that_onnx_runtime_refuses(with_neighbour: Bench, digits, tmp_path: Path):
    digest = altered(with_neighbour, digits, {"model.onnx": b"not a network"})
    message = await failed(with_neighbour, model("altered", digest), "NotAModel")
    assert "onnx" in message.lower()


async def test_an_artifact_whose_card_promises_other_shapes(with_neighbour: Bench, digits):
    card = member(digits.path, CARD)
    fields = json.loads(card)
    fields["outputs"][0]["dims"] = [-1, 7]
    for case in fields["golden"]["cases"]:
        case["outputs"][0]["shape"][1] = 7
    digest = altered(with_neighbour, digits, {CARD: json.dumps(fields).encode()})

    await failed(with_neighbour, model("altered", digest), "WrongShapes")
    await eventually(lambda: stub_bytes(with_neighbour.folder / "repository" / "altered") is None)


async def test_an_artifact_that_answers_otherwise_than_when_it_was_published(with_neighbour: Bench, digits):
    golden = bytearray(member(digits.path, "golden.bin"))
    golden[:4096] = bytes(4096)  # its first input is black now
    digest = altered(with_neighbour, digits, {"golden.bin": bytes(golden)})

    message = await failed(with_neighbour, model("altered", digest), "GoldenMismatch")
    assert "golden case 0: output[0, " in message


async def test_a_directory_that_is_to_be_served_under_another_name(with_neighbour: Bench):
    digest = with_neighbour.put("copy.tar", IDENTITY)
    message = await failed(with_neighbour, model("copy", digest), "NotAModel")
    assert "spec.model.name" in message


async def test_a_configuration_that_leaves_its_inputs_out(with_neighbour: Bench, tmp_path: Path):
    folder = repository(tmp_path, "partial", 'backend: "python"', (IDENTITY / "1" / "model.py").read_text())
    message = await failed(
        with_neighbour, model("partial", with_neighbour.put("partial.tar", folder)), "NotAModel"
    )
    assert "LULL_TRITON_COMPLETE" in message


async def test_a_model_larger_than_the_host(triton, digits):
    bench = Bench(triton.folder, triton, Limits(memory_bytes=1 << 20))
    triton.start()
    bench.start_agent()
    bench.put("digits.tar", digits.path)
    bench.host.set_desired([model("digits", digits.digest)])
    assert (await bench.until("digits-1", "Failed")).reason == "TooLarge"
    await bench.stop_agent()


async def test_code_in_a_pool_that_allows_none(triton):
    bench = Bench(triton.folder, triton, allow_code=False)
    triton.start()
    bench.start_agent()
    bench.host.set_desired([model("identity", bench.put("identity.tar", IDENTITY))])
    status = await bench.until("identity-1", "Failed")
    assert status.reason == "CodeNotAllowed"
    assert not (bench.folder / "repository" / "identity").exists()
    await bench.stop_agent()


async def test_a_load_that_never_returns_ends_at_its_deadline_and_stays_charged(triton, tmp_path: Path):
    bench = Bench(triton.folder, triton, Limits(load_seconds=1.0))
    triton.start()
    bench.start_agent()
    folder = repository(
        tmp_path, "never", (IDENTITY / "config.pbtxt").read_text().replace('name: "identity"', ""), NEVER
    )
    never = model("never", bench.put("never.tar", folder), memory="100Mi")
    identity = model("identity", bench.put("identity.tar", IDENTITY))

    bench.host.set_desired([never, identity])
    status = await bench.until("never-1", "Failed")

    assert status.reason == "LoadTimeout", status.message
    assert status.memory == "100Mi"
    await bench.until("identity-1", "Ready")
    bench.host.set_desired([identity])
    await bench.until("never-1", "Unloading")
    assert bench.status("never-1").memory == "100Mi"
    await bench.stop_agent()
    triton.kill()


def member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as tar:
        return tar.extractfile(name).read()


def altered(bench: Bench, published, changes: dict[str, bytes]) -> str:
    with tarfile.open(published.path) as tar:
        members = {name: member(published.path, name) for name in tar.getnames()} | changes
    return write_artifact(bench.folder / "files" / "altered.tar", members)


def repository(folder: Path, name: str, config: str, code: str) -> Path:
    model_folder = folder / f"{name}-source"
    (model_folder / "1").mkdir(parents=True)
    (model_folder / "config.pbtxt").write_text(config)
    (model_folder / "1" / "model.py").write_text(code)
    return model_folder
