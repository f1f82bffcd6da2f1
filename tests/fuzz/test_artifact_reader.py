"""Whatever an artifact holds, its reader gives it or refuses it with a reason: it never fails in another way.

`--fuzz-seconds N` goes on for N seconds with each test, with new inputs (`make soak`).
"""

import io
import json
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import strategies as st
from onnx.external_data_helper import _get_all_tensors

from crafted import (
    PT2,
    artifact,
    artifact_tar,
    contents,
    external,
    onnx_network,
    pt2,
    pt2_members,
    signing_key,
)
from lull_runtime.artifact import ModelError, read_artifact
from lull_runtime.artifact.card import tensor
from lull_runtime.artifact.onnx_file import check_onnx
from lull_runtime.artifact.pt2 import check_pt2
from lull_runtime.artifact.sign import verify
from lull_runtime.artifact.tar import Bounds, unpack
from lull_runtime.artifact.trust import Signer

from .conftest import Fuzz
from .mutations import BENDS, EDITS, HEADERS, bent, bent_json, bent_tar

BOUNDS = Bounds(files=100, total_bytes=1 << 20)
SAMPLE = "multiply/data/sample_inputs/model.pt"
HARMLESS = {("torch._utils", "_rebuild_tensor_v2"), ("collections", "OrderedDict")}


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A folder in memory, where there is one: most of the time would else be the disk's."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def read_whole(folder: Path) -> None:
    """Read an artifact, and what an agent reads of one that is accepted."""
    found = read_artifact(folder)
    golden = found.golden.read_bytes()
    for case in found.card.golden.cases:
        for entry in (*case.inputs, *case.outputs):
            assert list(tensor(golden, entry).shape) == entry.shape


def accepted(call: Any, *arguments: Any) -> bool:
    """Whether a call does not refuse; what it refuses, it does in words."""
    try:
        call(*arguments)
    except ModelError as error:
        message = error.message
    else:
        return True
    assert 0 < len(message) < 2000
    return False


def test_tars(fuzz: Fuzz, scratch: Path):
    good = artifact_tar(scratch / "good.tar").read_bytes()

    def check(case: Any) -> None:
        headers, bends = case
        (scratch / "t.tar").write_bytes(bent(bent_tar(good, headers), bends))
        before = set(scratch.iterdir()) | {scratch / "into"}
        into = empty(scratch / "into")
        if accepted(unpack, scratch / "t.tar", into, BOUNDS):
            accepted(read_whole, into)
        assert set(scratch.iterdir()) == before
        assert not any(path.is_symlink() for path in into.rglob("*"))
        assert sum(map(len, contents(into).values())) <= BOUNDS.total_bytes

    fuzz(st.tuples(HEADERS, BENDS | st.just([])), check)


def test_cards(fuzz: Fuzz, scratch: Path):
    folder = artifact(empty(scratch / "card"))
    card = json.loads((folder / "lull.json").read_text())

    def check(case: Any) -> None:
        edits, bends = case
        text = json.dumps(bent_json(card, edits)).encode()
        (folder / "lull.json").write_bytes(bent(text, bends))
        accepted(read_whole, folder)

    fuzz(st.tuples(EDITS, BENDS | st.just([])), check)


def test_golden_files(fuzz: Fuzz, scratch: Path):
    folder = artifact(empty(scratch / "golden"))
    card, golden = json.loads((folder / "lull.json").read_text()), (folder / "golden.bin").read_bytes()

    def check(case: Any) -> None:
        edits, bends = case
        card["golden"], kept = bent_json(card["golden"], edits), card["golden"]
        (folder / "lull.json").write_text(json.dumps(card))
        card["golden"] = kept
        (folder / "golden.bin").write_bytes(bent(golden, bends))
        accepted(read_whole, folder)

    fuzz(st.tuples(EDITS, BENDS | st.just([])), check)


class Unpickler(pickle.Unpickler):
    """Python's own, which says what a pickle would call."""

    def find_class(self, module: str, name: str) -> Any:
        assert (module, name) in HARMLESS or (module == "torch" and name.endswith("Storage")), (module, name)
        return lambda *_: None

    def persistent_load(self, pid: Any) -> Any:
        return pid


def hold_no_code(path: Path) -> None:
    """Whether what was accepted is harmless by other readers than the one that accepted it."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("sample_inputs/model.pt")]
        program = [name for name in archive.namelist() if name.endswith("models/model.json")]
        with zipfile.ZipFile(io.BytesIO(archive.read(names[0]))) as sample:
            pickled = sample.read(next(name for name in sample.namelist() if name.endswith("data.pkl")))
        text = archive.read(program[0]).decode()
    try:
        Unpickler(io.BytesIO(pickled)).load()
    except AssertionError:
        raise
    except Exception:  # a pickle that cannot be read harms nobody
        pass
    graph = json.loads(text, object_hook=lambda fields: {**fields, "metadata": None})
    assert "os.system" not in json.dumps(graph)
    assert "__class__" not in json.dumps(graph)


def test_pt2_files(fuzz: Fuzz, scratch: Path):
    path = scratch / "model.pt2"
    members, whole = pt2_members(), PT2.read_bytes()
    texts = sorted(name for name in members if name.endswith(".json"))

    def check(case: Any) -> None:
        name, edits, pickle_bends, bends, genuine = case
        changed = dict(members)
        changed[name] = json.dumps(bent_json(json.loads(members[name]), edits)).encode()
        with zipfile.ZipFile(io.BytesIO(members[SAMPLE])) as sample:
            inner = {one: sample.read(one) for one in sample.namelist()}
        inner["archive/data.pkl"] = bent(inner["archive/data.pkl"], pickle_bends)
        changed[SAMPLE] = pt2(inner)
        path.write_bytes(bent(whole if genuine else pt2(changed), bends))
        if accepted(check_pt2, path):
            hold_no_code(path)

    none = st.just([])
    fuzz(st.tuples(st.sampled_from(texts), EDITS | none, BENDS | none, BENDS | none, st.booleans()), check)


def test_onnx_files(fuzz: Fuzz, scratch: Path):
    path = scratch / "model.onnx"
    networks = [
        onnx_network().SerializeToString(),
        onnx_network(external("model.onnx.data")).SerializeToString(),
    ]

    def check(case: Any) -> None:
        which, bends = case
        content = bent(networks[which], bends)
        path.write_bytes(content)
        if not accepted(check_onnx, path, "model.onnx.data"):
            return
        try:
            model = onnx.load_from_string(content)
        except Exception:  # what onnx cannot read reads no file
            return
        for one in _get_all_tensors(model):
            locations = [pair.value for pair in one.external_data if pair.key == "location"]
            assert set(locations) <= {"model.onnx.data"}

    fuzz(st.tuples(st.integers(0, 1), BENDS), check)


def test_signatures(fuzz: Fuzz, scratch: Path):
    key, public = signing_key(scratch, "ana")
    folder = artifact(empty(scratch / "signed"), key=key)
    good = dict(contents(folder))
    signature = json.loads(good["model.sig"])

    def check(case: Any) -> None:
        edits, bends, name, file_bends = case
        bundle = json.dumps(bent_json(signature, edits)).encode()
        (folder / "model.sig").write_bytes(bent(bundle, bends))
        (folder / name).write_bytes(bent(good[name], file_bends))
        if accepted(verify, folder, [Signer("ana", public)]):
            assert (folder / name).read_bytes() == good[name]
        (folder / name).write_bytes(good[name])

    none = st.just([])
    names = st.sampled_from(["lull.json", "model.onnx", "golden.bin"])
    fuzz(st.tuples(EDITS | none, BENDS | none, names, BENDS | none), check)
