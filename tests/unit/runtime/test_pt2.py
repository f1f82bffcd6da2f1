"""`.pt2` files: those that torch.export writes pass, those that could run something do not."""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from crafted import PT2, pt2, pt2_members, pt2_with, torch_save
from lull.api.reasons import Reason
from lull_runtime.artifact import ModelError
from lull_runtime.artifact.pt2 import _is_plain_tree, _leaves, check_pt2

PROGRAM, SAMPLE = "models/model.json", "multiply/data/sample_inputs/model.pt"


def refused(tmp_path: Path, content: bytes) -> Reason:
    (tmp_path / "model.pt2").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        check_pt2(tmp_path / "model.pt2")
    return caught.value.reason


def is_code(tmp_path: Path, content: bytes) -> bool:
    return refused(tmp_path, content) is Reason.CODE_NOT_ALLOWED


def test_what_torch_export_wrote_is_data(tmp_path: Path):
    check_pt2(PT2)
    (tmp_path / "again.pt2").write_bytes(pt2(pt2_members()))
    check_pt2(tmp_path / "again.pt2")


class Evil:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, protocol: int):
    mark = tmp_path / "mark"
    sample = torch_save(pickle.dumps(Evil(mark), protocol))
    assert is_code(tmp_path, pt2({**pt2_members(), SAMPLE: sample}))
    assert not mark.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n.",
        b"(S'id'\nios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x82\x01.",
        b"ctorch\nos.system\n.",
        b"ctorch.serialization\nload\n.",
        b"cbuiltins\neval\n.",
        b"}b.",
    ],
)
def test_a_pickle_holds_tensors_and_nothing_else(tmp_path: Path, pickled: bytes):
    assert is_code(tmp_path, pt2({**pt2_members(), SAMPLE: torch_save(pickled)}))


@pytest.mark.parametrize("pickled", [b"", b"\x80", b"X\xff\xff\xff\x7fx", b"\xff"])
def test_a_damaged_pickle_is_no_model(tmp_path: Path, pickled: bytes):
    assert refused(tmp_path, pt2({**pt2_members(), SAMPLE: torch_save(pickled)})) is Reason.NOT_A_MODEL


def test_sample_inputs_that_are_torchscript_are_code(tmp_path: Path):
    script = pt2({"a/data.pkl": b"\x80\x02).", "a/constants.pkl": b"\x80\x02).", "a/code/x.py": b""})
    assert is_code(tmp_path, pt2({**pt2_members(), SAMPLE: script}))


@pytest.mark.parametrize(
    "member", ["data/weights/model_weights_config", "data/constants/model_constants_config"]
)
def test_weights_that_are_pickles_are_code(tmp_path: Path, member: str):
    def pickled(config: Any) -> None:
        for entry in config["config"].values():
            entry["use_pickle"] = True

    assert is_code(tmp_path, pt2_with(f"{member}.json", pickled))


@pytest.mark.parametrize("name", ["opaque_obj_0", "custom_obj_0", "../x", 5])
def test_constants_that_are_objects_are_code(tmp_path: Path, name: Any):
    def move(config: Any) -> None:
        next(iter(config["config"].values()))["path_name"] = name

    assert is_code(tmp_path, pt2_with("data/constants/model_constants_config.json", move))


@pytest.mark.parametrize(
    "name",
    [
        "data/weights/model.pt",
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/aotinductor/model/x.so",
        "models/other.json",
        "extra/x.py",
        "../x",
        "data/weights/weight_0/../../x",
    ],
)
def test_members_that_pytorch_would_run_or_that_nobody_knows_are_code(tmp_path: Path, name: str):
    assert is_code(tmp_path, pt2({**pt2_members(), f"multiply/{name}": b""}))


def _node(program: Any) -> Any:
    return program["graph_module"]["graph"]["nodes"][3]


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.load",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.__class__.mro",
        "torch.ops.mine.op.default",
        "torch.ops.aten.relu.default\n",
        "_operator.call",
        "_operator.methodcaller",
        "math.__loader__.load_module",
        "#mine:op",
        "print",
    ],
)
def test_operators_that_are_not_pytorch_s_arithmetic_are_code(tmp_path: Path, target: str):
    assert is_code(tmp_path, pt2_with(PROGRAM, lambda program: _node(program).update(target=target)))


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('id')",
        "Symbol('s0').__class__",
        "Symbol('s0', cls=True)('x')",
        "Function('x')",
        "lambda: 0",
        "exec(1)",
        "s0 if 1 else 2",
        "Float('1', precision=5).x",
        "Add(Integer(1), " * 500,
        "(" * 3000,
        "1" * 50_000,
    ],
)
def test_symbolic_sizes_are_arithmetic_since_they_are_evaluated(tmp_path: Path, expression: str):
    def size(program: Any) -> None:
        _node(program)["inputs"][1]["arg"] = {
            "as_sym_int": {"as_expr": {"expr_str": expression, "hint": None}}
        }

    assert is_code(tmp_path, pt2_with(PROGRAM, size))


@pytest.mark.parametrize("key", ["as_operator", "as_graph", "as_custom_obj"])
def test_arguments_that_are_code_are_refused(tmp_path: Path, key: str):
    def argument(program: Any) -> None:
        _node(program)["inputs"][1]["arg"] = {key: "torch.relu"}

    assert is_code(tmp_path, pt2_with(PROGRAM, argument))


@pytest.mark.parametrize("name", ["x: exec('0')", "x, y=print(1)", "x\n    import os", "a'b", "__import__"])
def test_names_stay_names_when_they_are_written_as_source(tmp_path: Path, name: str):
    def rename(program: Any) -> None:
        program["graph_module"]["graph"]["inputs"][3]["as_tensor"]["name"] = name

    assert is_code(tmp_path, pt2_with(PROGRAM, rename))


def test_guards_are_code_since_they_are_compiled(tmp_path: Path):
    assert is_code(tmp_path, pt2_with(PROGRAM, lambda program: program.update(guards_code=["1"])))


def _tree(kind: str | None, context: Any, **more: Any) -> str:
    return json.dumps([1, {"type": kind, "context": context, "children_spec": [], **more}])


@pytest.mark.parametrize(
    "spec",
    [
        _tree("collections.deque", "null"),
        _tree("collections.defaultdict", '{"default_factory_module": "os"}'),
        _tree("builtins.dict", '[{"__enum__": true, "fqn": "os:x"}]'),
        _tree("builtins.dict", '["a b"]'),
        _tree("builtins.tuple", "{}"),
        _tree("builtins.tuple", 5),
        _tree("builtins.tuple", "5"),
        _tree(None, None, __enum__=[], fqn=[]),
        "[" * 5000,
        "x",
    ],
)
def test_inputs_and_outputs_are_plain_containers_since_others_name_what_to_import(tmp_path: Path, spec: str):
    def replace(program: Any) -> None:
        program["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = spec

    assert is_code(tmp_path, pt2_with(PROGRAM, replace))


@pytest.mark.parametrize(
    "note",
    [
        {"custom": '{"a": 1}'},
        {"source_fn_stack": "x,torch.__class__.mro"},
        {"source_fn_stack": "x,torch.load('x')"},
        {"stack_trace": ["x y"]},
    ],
)
def test_notes_that_pytorch_looks_up_are_held_to_names(tmp_path: Path, note: dict[str, Any]):
    assert is_code(tmp_path, pt2_with(PROGRAM, lambda program: _node(program).update(metadata=note)))


def test_notes_that_nothing_looks_up_may_be_any_text(tmp_path: Path):
    notes = {
        "stack_trace": 'File "x", line 1\n  y = f(x)',
        "source_fn_stack": "y,torch.nn.modules.linear.Linear",
    }
    content = pt2_with(PROGRAM, lambda program: _node(program).update(metadata=notes))
    (tmp_path / "m.pt2").write_bytes(content)
    check_pt2(tmp_path / "m.pt2")


def test_compressed_members_are_no_model_since_they_could_inflate(tmp_path: Path):
    content = pt2(pt2_members(), compression=zipfile.ZIP_DEFLATED)
    assert refused(tmp_path, content) is Reason.NOT_A_MODEL


@pytest.mark.parametrize("member", [PROGRAM, "data/weights/model_weights_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 10_000, b" " * (17 << 20)])
def test_what_should_be_json_and_is_not_is_no_model(tmp_path: Path, member: str, content: bytes):
    bent = pt2({**pt2_members(), f"multiply/{member}": content})
    assert refused(tmp_path, bent) is Reason.NOT_A_MODEL


@pytest.mark.parametrize(
    "member", [PROGRAM, "data/sample_inputs/model.pt", "data/weights/model_weights_config.json"]
)
def test_a_missing_member_is_no_model(tmp_path: Path, member: str):
    members = pt2_members()
    del members[f"multiply/{member}"]
    assert refused(tmp_path, pt2(members)) is Reason.NOT_A_MODEL


def _twice(content: bytes) -> bytes:
    """Two members of one name, of which two readers may see different ones."""
    out = io.BytesIO(content)
    with zipfile.ZipFile(out, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("multiply/byteorder", b"big")
    return out.getvalue()


def _with_entry(content: bytes, offset: int, value: bytes) -> bytes:
    """The first entry of the directory with another value in it."""
    end = content.rindex(b"PK\x05\x06")
    at = int.from_bytes(content[end + 16 : end + 20], "little") + offset
    return content[:at] + value + content[at + len(value) :]


def _deflated_says_the_directory(content: bytes) -> bytes:
    return _with_entry(content, 10, b"\x08")


def _encrypted(content: bytes) -> bytes:
    content = _with_entry(content, 8, bytes([content[6] | 1]))
    return content[:6] + bytes([content[6] | 1]) + content[7:]


def _claiming_exabytes(content: bytes) -> bytes:
    """The first member is said to be longer than any file may be."""
    end = content.rindex(b"PK\x05\x06")
    at = int.from_bytes(content[end + 16 : end + 20], "little")
    name_bytes = int.from_bytes(content[at + 28 : at + 30], "little")
    extra = struct.pack("<HH2Q", 1, 16, 2**63 + 5, 2**63 + 5)
    head = content[at : at + 20] + b"\xff" * 8 + content[at + 28 : at + 30] + struct.pack("<H", len(extra))
    name = content[at + 46 : at + 46 + name_bytes]
    entry = head + content[at + 32 : at + 46] + name + extra
    size_bytes = int.from_bytes(content[end + 12 : end + 16], "little") + len(extra)
    tail = content[end : end + 12] + struct.pack("<I", size_bytes) + content[end + 16 :]
    return content[:at] + entry + content[at + 46 + name_bytes : end] + tail


@pytest.mark.parametrize(
    "bend",
    [
        lambda content: b"x" + content,
        lambda content: content + b"x",
        lambda content: content + content,
        lambda content: content[:-1] + b"\x01",
        lambda content: content.replace(b"PK\x01\x02", b"xPK\x01\x02", 1),
        lambda content: content.replace(b"multiply/byteorder", b"multiply/byteordex", 1),
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        _claiming_exabytes,
        _deflated_says_the_directory,
        _encrypted,
        _twice,
    ],
)
def test_a_zip_file_of_which_readers_could_see_different_members_is_no_model(tmp_path: Path, bend):
    assert refused(tmp_path, bend(pt2(pt2_members()))) is Reason.NOT_A_MODEL
    assert refused(tmp_path, bend(PT2.read_bytes())) is Reason.NOT_A_MODEL


@pytest.mark.parametrize("member", [PROGRAM, "data/weights/model_weights_config.json"])
def test_json_of_more_containers_than_a_graph_has_is_not_parsed(tmp_path: Path, member: str):
    content = b"[" + b"{}," * 500_000 + b"1]"
    (tmp_path / "m.pt2").write_bytes(pt2({**pt2_members(), f"multiply/{member}": content}))
    with pytest.raises(ModelError, match="more than 500000 lists"):
        check_pt2(tmp_path / "m.pt2")


def test_a_walk_over_a_long_list_takes_no_memory():
    tree = [1] * 200_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in _leaves(tree)) == len(tree)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_longer_tree_than_inputs_are_is_no_plain_one():
    assert _is_plain_tree("null")
    assert not _is_plain_tree("null" + " " * (1 << 20))


@pytest.mark.parametrize("zip64", [False, True])
def test_a_directory_of_more_than_a_network_has_is_not_read(tmp_path: Path, zip64: bool, monkeypatch):
    entries, size_bytes = (0xFFFF, 0xFFFFFFFF) if zip64 else (1, 9 << 20)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, entries, entries, size_bytes, 0, 0)
    if zip64:
        end64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 100_001, 100_001, 5 << 20, 0)
        end = end64 + struct.pack("<4sIQI", b"PK\6\7", 0, 9 << 20, 1) + end
    monkeypatch.setattr(zipfile, "ZipFile", lambda _: pytest.fail("it is read"))
    (tmp_path / "m.pt2").write_bytes(bytes(9 << 20) + end)
    with pytest.raises(ModelError, match="more than 100000 members"):
        check_pt2(tmp_path / "m.pt2")
