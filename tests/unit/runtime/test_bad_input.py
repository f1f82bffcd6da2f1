"""What bad artifacts get: a named reason each, nothing of them run, nothing written beyond their folder."""

import io
import os
import pickle
import resource
import tarfile
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from crafted import (
    PT2,
    artifact,
    artifact_tar,
    contents,
    edit_card,
    external,
    onnx_network,
    pt2,
    pt2_members,
    signing_key,
    torch_save,
)
from lull.api.reasons import Reason
from lull_runtime.artifact import Artifact, ModelError, read_artifact
from lull_runtime.artifact.onnx_file import check_onnx
from lull_runtime.artifact.sign import verify
from lull_runtime.artifact.tar import Bounds, digest_of, unpack, write_tar
from lull_runtime.artifact.trust import Signer

BOUNDS = Bounds(total_bytes=1 << 20)


class Evil:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def receive(tar: Path, into: Path, signers: tuple[Signer, ...] = ()) -> Artifact:
    """What an agent does with a tar before anything loads it."""
    into.mkdir()
    unpack(tar, into, BOUNDS)
    if signers:
        verify(into, signers)
    return read_artifact(into)


def with_card(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        edit_card(artifact(folder / "bent"), edit)
        return packed(folder / "bent")

    return make


def with_file(name: str, content: bytes | None) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = artifact(folder / "bent") / name
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        return packed(folder / "bent")

    return make


def with_network(network: bytes, **options: Any) -> Callable[[Path], Path]:
    return lambda folder: artifact_tar(folder / "bent.tar", network, **options)


def with_member(member: tarfile.TarInfo, content: bytes = b"") -> Callable[[Path], Path]:
    """A tar of an artifact with one more member, which no library would write."""

    def make(folder: Path) -> Path:
        tar = artifact_tar(folder / "bent.tar")
        with tarfile.open(tar, "a") as archive:
            archive.addfile(member, io.BytesIO(content))
        return tar

    return make


def packed(folder: Path) -> Path:
    with folder.with_suffix(".tar").open("wb") as out:
        write_tar(out, contents(folder))
    return folder.with_suffix(".tar")


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def claiming(size_bytes: int, kind: bytes = tarfile.REGTYPE) -> Callable[[Path], Path]:
    """A tar whose first header claims that much, and that has nothing of it."""

    def make(folder: Path) -> Path:
        tar = artifact_tar(folder / "bent.tar")
        header = entry("a", kind, size=size_bytes).tobuf(tarfile.GNU_FORMAT)
        tar.write_bytes(header + tar.read_bytes())
        return tar

    return make


def compressed(mode: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with tarfile.open(folder / "bent.tar", mode) as archive:
            archive.addfile(entry("model.onnx", size=16 << 20), io.BytesIO(bytes(16 << 20)))
        return folder / "bent.tar"

    return make


def sparse(folder: Path) -> Path:
    """A terabyte of nothing in a few bytes."""
    member = entry("model.onnx")
    member.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": str(1 << 40),
    }
    with tarfile.open(folder / "bent.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        content = b"1\n0\n1099511627776\n".ljust(512, b"\0")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return folder / "bent.tar"


def truncated(folder: Path) -> Path:
    tar = artifact_tar(folder / "bent.tar")
    os.truncate(tar, len(tar.read_bytes().rstrip(b"\0")) // 2)
    return tar


def golden_tensor(card: dict[str, Any], side: str = "inputs") -> dict[str, Any]:
    return card["golden"]["cases"][0][side][0]


def in_subgraph() -> bytes:
    """External data in a constant of a branch of a branch."""

    def branch(inner: Any) -> Any:
        return helper.make_graph([inner], "branch", [], [helper.make_empty_tensor_value_info("c")])

    constant = helper.make_node("Constant", [], ["c"], value=external("../secret"))
    condition = helper.make_node(
        "If", ["x"], ["c"], then_branch=branch(constant), else_branch=branch(constant)
    )
    network = onnx_network()
    network.graph.node.add().CopyFrom(
        helper.make_node("If", ["x"], ["c"], then_branch=branch(condition), else_branch=branch(condition))
    )
    return network.SerializeToString()


def in_function() -> bytes:
    network = onnx_network()
    constant = helper.make_node("Constant", [], ["c"], value=external("/etc/passwd"))
    network.functions.add().node.add().CopyFrom(constant)
    return network.SerializeToString()


def hidden_by_merging() -> bytes:
    """Two graphs, which protobuf would merge into one."""
    other = onnx_network()
    return onnx_network().SerializeToString() + other.SerializeToString()


PICKLED = pickle.dumps(Evil(Path("mark")))
ONNX = onnx_network().SerializeToString()

TABLE: dict[str, tuple[Callable[[Path], Path], Reason]] = {
    "truncated": (truncated, Reason.NOT_A_MODEL),
    "empty": (lambda folder: (folder / "bent.tar").touch() or folder / "bent.tar", Reason.NOT_A_MODEL),
    "zip-slip up": (with_member(entry("../mark")), Reason.NOT_A_MODEL),
    "zip-slip absolute": (with_member(entry("/tmp/mark")), Reason.NOT_A_MODEL),
    "zip-slip through a link": (
        with_member(entry("d", tarfile.SYMTYPE, linkname="..")),
        Reason.NOT_A_MODEL,
    ),
    "a hard link out": (with_member(entry("d", tarfile.LNKTYPE, linkname="/etc/passwd")), Reason.NOT_A_MODEL),
    "a device": (with_member(entry("d", tarfile.CHRTYPE)), Reason.NOT_A_MODEL),
    "bomb: gzip": (compressed("w:gz"), Reason.NOT_A_MODEL),
    "bomb: bzip2": (compressed("w:bz2"), Reason.NOT_A_MODEL),
    "bomb: xz": (compressed("w:xz"), Reason.NOT_A_MODEL),
    "bomb: sparse": (sparse, Reason.NOT_A_MODEL),
    "a member that claims gigabytes": (claiming(100 << 30), Reason.TOO_LARGE),
    "a name that claims gigabytes": (claiming(8 << 30, tarfile.GNUTYPE_LONGNAME), Reason.NOT_A_MODEL),
    "attributes that claim gigabytes": (claiming(8 << 30, tarfile.XHDTYPE), Reason.NOT_A_MODEL),
    "no card": (with_file("lull.json", None), Reason.NOT_A_MODEL),
    "a card that is no JSON": (with_file("lull.json", b"{"), Reason.NOT_A_MODEL),
    "a card that is no text": (with_file("lull.json", b"\xff\xfe"), Reason.NOT_A_MODEL),
    "a card that is nested deep": (with_file("lull.json", b"[" * 500_000), Reason.NOT_A_MODEL),
    "a card with a number without end": (with_file("lull.json", b"9" * 500_000), Reason.NOT_A_MODEL),
    "a card of another version": (
        with_card(lambda card: card.update(version="lull.dev/artifact/v9")),
        Reason.NOT_A_MODEL,
    ),
    "a card that says more": (with_card(lambda card: card.update(run="rm")), Reason.NOT_A_MODEL),
    "no network": (with_file("model.onnx", None), Reason.NOT_A_MODEL),
    "a pickle beside": (with_file("weights.pkl", PICKLED), Reason.NOT_A_MODEL),
    "source beside": (with_file("model.py", b"open('mark', 'w')"), Reason.NOT_A_MODEL),
    "a pickle as ONNX": (with_network(PICKLED), Reason.NOT_A_MODEL),
    "a pickle as .pt2": (with_network(PICKLED, format="pt2"), Reason.NOT_A_MODEL),
    "a .pt2 with a pickle that is code": (
        with_network(
            pt2({**pt2_members(), "multiply/data/sample_inputs/model.pt": torch_save(PICKLED)}), format="pt2"
        ),
        Reason.CODE_NOT_ALLOWED,
    ),
    "a .pt2 with a pickle more": (
        with_network(pt2({**pt2_members(), "multiply/data/weights/model.pt": PICKLED}), format="pt2"),
        Reason.CODE_NOT_ALLOWED,
    ),
    "a .pt2 that is cut off": (with_network(PT2.read_bytes()[:-100], format="pt2"), Reason.NOT_A_MODEL),
    "ONNX that is empty": (with_network(b""), Reason.NOT_A_MODEL),
    "ONNX that is cut off": (with_network(ONNX[:-20]), Reason.NOT_A_MODEL),
    "ONNX that claims gigabytes": (with_network(b"\x3a\xff\xff\xff\xff\x07" + ONNX), Reason.NOT_A_MODEL),
    "ONNX without a graph": (with_network(b"\x08\x09"), Reason.NOT_A_MODEL),
    "ONNX with two graphs": (with_network(hidden_by_merging()), Reason.NOT_A_MODEL),
    "ONNX with a group": (with_network(ONNX + b"\x0b\x0c"), Reason.NOT_A_MODEL),
    "ONNX with a number without end": (with_network(ONNX + b"\x08" + b"\xff" * 20), Reason.NOT_A_MODEL),
    "ONNX with external data above": (
        with_network(onnx_network(external("../secret")).SerializeToString()),
        Reason.EXTERNAL_DATA,
    ),
    "ONNX with external data anywhere": (
        with_network(onnx_network(external("/etc/passwd")).SerializeToString()),
        Reason.EXTERNAL_DATA,
    ),
    "ONNX with external data in the artifact that it does not list": (
        with_network(onnx_network(external("model.onnx.data")).SerializeToString()),
        Reason.EXTERNAL_DATA,
    ),
    "ONNX with external data in its golden file": (
        with_network(onnx_network(external("golden.bin")).SerializeToString()),
        Reason.EXTERNAL_DATA,
    ),
    "ONNX with external data in a branch": (with_network(in_subgraph()), Reason.EXTERNAL_DATA),
    "ONNX with external data in a function": (with_network(in_function()), Reason.EXTERNAL_DATA),
    "no golden file": (with_file("golden.bin", None), Reason.NO_GOLDEN_CASES),
    "no golden case": (with_card(lambda card: card["golden"]["cases"].clear()), Reason.NO_GOLDEN_CASES),
    "no word of golden cases": (with_card(lambda card: card.pop("golden")), Reason.NO_GOLDEN_CASES),
    "a golden file that is cut off": (with_file("golden.bin", b"x"), Reason.NOT_A_MODEL),
    "a golden tensor that claims terabytes": (
        with_card(lambda card: golden_tensor(card).update(shape=[2**40, 2**40])),
        Reason.NOT_A_MODEL,
    ),
    "a golden input of another name": (
        with_card(lambda card: golden_tensor(card).update(name="x")),
        Reason.WRONG_SHAPES,
    ),
    "a golden input of another shape": (
        with_card(lambda card: golden_tensor(card).update(shape=[3, 1])),
        Reason.WRONG_SHAPES,
    ),
    "a golden output of another type": (
        with_card(lambda card: golden_tensor(card, "outputs").update(datatype="INT32")),
        Reason.WRONG_SHAPES,
    ),
    "a golden case without one of its tensors": (
        with_card(lambda card: card["inputs"].append({**card["inputs"][0], "name": "x"})),
        Reason.WRONG_SHAPES,
    ),
    "a golden case with a tensor twice": (
        with_card(lambda card: card["golden"]["cases"][0]["inputs"].append(golden_tensor(card))),
        Reason.WRONG_SHAPES,
    ),
}


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be left as it is, which is the working folder, and where a mark would appear."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize("case", TABLE)
def test_bad_input_gets_its_reason_and_leaves_no_trace(case: str, tmp_path: Path, watched: Path):
    make, reason = TABLE[case]
    tar = make(tmp_path)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ModelError) as caught:
        receive(tar, tmp_path / "home" / "into")
    assert caught.value.reason is reason, caught.value.message
    assert 10 < len(caught.value.message) < 1000
    beyond = {path for path in tmp_path.rglob("*") if not path.is_relative_to(watched / "into")}
    assert beyond == before


def test_the_good_ones_among_the_bad_pass(tmp_path: Path, watched: Path):
    assert receive(artifact_tar(tmp_path / "a.tar"), tmp_path / "a").card.name == "m"
    exported = artifact_tar(tmp_path / "b.tar", PT2.read_bytes(), format="pt2")
    assert receive(exported, tmp_path / "b").network.name == "model.pt2"
    data = np.eye(3, dtype=np.float32).tobytes()
    network = onnx_network(external("model.onnx.data")).SerializeToString()
    beside = artifact_tar(tmp_path / "c.tar", network, beside={"model.onnx.data": data})
    assert receive(beside, tmp_path / "c").data == tmp_path / "c" / "model.onnx.data"


def test_unsigned_and_wrongly_signed_artifacts_are_told_apart(tmp_path: Path):
    ana, public = signing_key(tmp_path, "ana")
    ben, _ = signing_key(tmp_path, "ben")
    signers = (Signer("ana", public),)
    receive(artifact_tar(tmp_path / "a.tar", key=ana), tmp_path / "a", signers)
    for key, reason in ((None, Reason.UNSIGNED), (ben, Reason.WRONGLY_SIGNED)):
        with pytest.raises(ModelError) as caught:
            receive(artifact_tar(tmp_path / "b.tar", key=key), tmp_path / reason, signers)
        assert caught.value.reason is reason


def test_each_byte_of_a_tar_is_in_its_digest(tmp_path: Path):
    tar = artifact_tar(tmp_path / "m.tar")
    content, digest = tar.read_bytes(), digest_of(tar)
    for at in range(0, len(content), 997):
        tar.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert digest_of(tar) != digest


def test_a_tar_that_is_cut_off_anywhere_before_its_end_is_no_model(tmp_path: Path):
    tar = artifact_tar(tmp_path / "m.tar")
    content = tar.read_bytes()
    last = len(content.rstrip(b"\0"))
    for number, at in enumerate(range(0, last, 512)):
        tar.write_bytes(content[:at])
        with pytest.raises(ModelError):
            receive(tar, tmp_path / str(number))


def test_a_network_of_too_many_fields_ends_in_bounded_time(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("lull_runtime.artifact.onnx_file._FIELDS", 1000)
    with pytest.raises(ModelError, match="more than 1000 fields"):
        receive(artifact_tar(tmp_path / "m.tar", b"\x08\x00" * 1001), tmp_path / "m")


def wrapped(field: int, content: bytes) -> bytes:
    """A field of protobuf that holds bytes."""
    length, size = b"", len(content)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([field << 3 | 2]) + length + bytes([size]) + content


TENSOR, EXTERNAL = 5, 13


@pytest.mark.parametrize(
    "network",
    [
        wrapped(7, wrapped(1, b"") * 100_000),
        wrapped(7, wrapped(TENSOR, wrapped(EXTERNAL, wrapped(2, bytes(16 << 20))))),
        wrapped(7, wrapped(TENSOR, wrapped(EXTERNAL, wrapped(1, b"location") + wrapped(2, bytes(16 << 20))))),
        wrapped(7, wrapped(TENSOR, wrapped(EXTERNAL, wrapped(1, bytes(16 << 20))))),
    ],
    ids=["many siblings", "a long value", "a long location", "a long key"],
)
def test_a_network_takes_no_memory_to_look_at_however_it_is_made(tmp_path: Path, network: bytes):
    (tmp_path / "model.onnx").write_bytes(network)
    tracemalloc.start()
    try:
        with suppress(ModelError):
            check_onnx(tmp_path / "model.onnx", None)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_network_of_too_deep_messages_is_no_model(tmp_path: Path):
    network = b""
    for field in (6, 5, 1) * 40:  # a graph in an attribute, in a node, in a graph
        network = wrapped(field, network)
    (tmp_path / "model.onnx").write_bytes(wrapped(7, network))
    with pytest.raises(ModelError, match="100 deep"):
        check_onnx(tmp_path / "model.onnx", None)


def test_claims_of_gigabytes_take_no_memory(tmp_path: Path):
    """Within 256 MiB more than this process has, in which a gigabyte cannot be had."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limit = (int(status["VmSize"].split()[0]) << 10) + (256 << 20)
    before = resource.getrlimit(resource.RLIMIT_AS)
    cases = [case for case in TABLE if "gigabytes" in case or "terabytes" in case or "sparse" in case]
    tars = []
    for case in cases:
        (tmp_path / case.replace(" ", "-")).mkdir()
        tars.append(TABLE[case][0](tmp_path / case.replace(" ", "-")))
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        for tar in tars:
            with pytest.raises(ModelError):
                receive(tar, tar.parent / "into")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
