"""Writes the two kinds of model tars."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lull_runtime.artifact.card import Card, GoldenCase, GoldenTensor, Member, datatype_of
from lull_runtime.artifact.format import CARD, GOLDEN, NETWORKS
from lull_runtime.artifact.sign import sign
from lull_runtime.artifact.tar import digest_of, tree, write_tar

Arrays = Mapping[str, NDArray[np.generic]]


def pack_artifact(
    out: Path,
    card: Card,
    network: bytes | Path,
    golden: bytes,
    *,
    beside: Mapping[Member, bytes | Path] = MappingProxyType({}),
    key: Path | None = None,
) -> str:
    """Write an artifact and return its digest.

    Args:
        out: the tar to write.
        card: what it says of itself; its list of files is filled in here.
        network: in the card's format.
        golden: comes from `pack_golden`, as the card's cases do.
        beside: its model card (`README.md`), weights, and what else an artifact may hold.
        key: whose signature it shall bear.

    Raises:
        ValueError: the key cannot sign.
    """
    members: dict[Member, bytes | Path] = dict(beside)
    members |= {NETWORKS[card.format]: network, GOLDEN: golden}
    files = {name: _digest(content) for name, content in sorted(members.items())}
    text = card.model_copy(update={"files": files}).model_dump_json(indent=1, exclude_none=True) + "\n"
    whole: dict[str, bytes | Path] = {CARD: text.encode()}
    whole.update(members.items())
    return _write(out, whole, key)


def pack_repository(out: Path, folder: Path, key: Path | None = None) -> str:
    """Write a Triton model directory, unedited, and return its digest: without a key the folder's own too.

    Raises:
        ModelError: there is a link or a device in it.
        ValueError: the key cannot sign.
    """
    return _write(out, tree(folder), key)


def pack_golden(cases: Sequence[tuple[Arrays, Arrays]]) -> tuple[list[GoldenCase], bytes]:
    """Lay (inputs, outputs) pairs out in one run of bytes; return where each tensor lies, and the bytes."""
    blob = bytearray()

    def put(arrays: Arrays) -> list[GoldenTensor]:
        entries = []
        for name, array in arrays.items():
            entries.append(
                GoldenTensor(
                    name=name, datatype=datatype_of(array), shape=list(array.shape), offset=len(blob)
                )
            )
            blob.extend(array.astype(array.dtype.newbyteorder("<"), order="C").tobytes())
        return entries

    return [GoldenCase(inputs=put(inputs), outputs=put(outputs)) for inputs, outputs in cases], bytes(blob)


def _write(out: Path, members: Mapping[str, bytes | Path], key: Path | None = None) -> str:
    """Write a tar that appears whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        if key is not None:
            members = _signed(Path(scratch) / "model", members, key)
        fresh = Path(scratch) / "tar"
        with fresh.open("wb") as file:
            digest = write_tar(file, members)
        fresh.chmod(0o644)
        fresh.replace(out)
    return digest


def _signed(folder: Path, members: Mapping[str, bytes | Path], key: Path) -> dict[str, Path]:
    """Lay the members out in a folder, as they are when somebody verifies them, and sign that."""
    for name, content in members.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            shutil.copyfile(content, path)
    sign(folder, key)
    return tree(folder)


def _digest(content: bytes | Path) -> str:
    return (
        f"sha256:{hashlib.sha256(content).hexdigest()}" if isinstance(content, bytes) else digest_of(content)
    )
