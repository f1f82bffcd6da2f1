"""Artifacts as `lull publish` writes them, small, for tests to bend."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from lull_runtime.artifact.card import Card, Golden, TensorSpec
from lull_runtime.artifact.pack import pack_artifact, pack_golden
from lull_runtime.artifact.tar import Bounds, unpack

PT2 = Path(__file__).parent / "data" / "multiply.pt2"
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def onnx_network(weights: TensorProto | None = None) -> ModelProto:
    """A network that multiplies rows of 3 by a matrix, which may lie wherever the tensor says."""
    matrix = weights or numpy_helper.from_array(np.eye(3, dtype=np.float32), "weights")
    x = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "weights"], ["output"])], "network", [x], [y], [matrix]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def external(location: str) -> TensorProto:
    """A tensor whose values lie in another file."""
    tensor = TensorProto(
        name="weights", data_type=TensorProto.FLOAT, dims=[3, 3], data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value=location)
    return tensor


def card(**fields: Any) -> tuple[Card, bytes]:
    """A card of that network, and its golden file."""
    cases, golden = pack_golden([({"input": ROWS[:rows]}, {"output": ROWS[:rows]}) for rows in (1, 2)])
    specs = {
        "inputs": [TensorSpec(name="input", datatype="FP32", dims=[-1, 3])],
        "outputs": [TensorSpec(name="output", datatype="FP32", dims=[-1, 3])],
    }
    return Card(name="m", memory_bytes=1 << 20, golden=Golden(cases=cases), **{**specs, **fields}), golden


def artifact_tar(out: Path, network: bytes | None = None, **options: Any) -> Path:
    """Write an artifact; `options` are those of `pack_artifact`, and `format` the card's."""
    made, golden = card(format=options.pop("format", "onnx"))
    content = onnx_network().SerializeToString() if network is None else network
    pack_artifact(out, made, content, golden, **options)
    return out


def artifact(folder: Path, network: bytes | None = None, **options: Any) -> Path:
    """Lay an artifact out in a folder."""
    folder.mkdir(exist_ok=True)
    tar = artifact_tar(folder.with_suffix(".tar"), network, **options)
    unpack(tar, folder, Bounds())
    tar.unlink()
    return folder


def edit_card(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the card of an unpacked artifact."""
    path = folder / "lull.json"
    fields = json.loads(path.read_text())
    edit(fields)
    path.write_text(json.dumps(fields))


def pt2_members() -> dict[str, bytes]:
    """The members of a `.pt2` of the same network, as torch.export.save of PyTorch 2.15 wrote them."""
    with zipfile.ZipFile(PT2) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def pt2(members: Mapping[str, bytes], **options: Any) -> bytes:
    """A zip file of these members, stored unless the options say otherwise."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def pt2_with(member: str, edit: Callable[[Any], object]) -> bytes:
    """That `.pt2` with one of its JSON members changed."""
    members = pt2_members()
    fields = json.loads(members[f"multiply/{member}"])
    edit(fields)
    return pt2({**members, f"multiply/{member}": json.dumps(fields).encode()})


def torch_save(pickled: bytes) -> bytes:
    """A file of torch.save that holds this pickle."""
    return pt2({"archive/data.pkl": pickled, "archive/byteorder": b"little", "archive/version": b"3\n"})


def signing_key(folder: Path, name: str) -> tuple[Path, str]:
    """A fresh private key's file, and its public key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    path = folder / f"{name}.key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return path, public.decode()


def contents(folder: Path) -> Mapping[str, bytes]:
    """All files beneath a folder, by their relative names."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
