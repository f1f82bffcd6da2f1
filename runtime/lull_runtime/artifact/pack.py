"""Writes the two kinds of model tars."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lull_runtime.artifact.card import Card, GoldenCase, GoldenTensor, datatype_of
from lull_runtime.artifact.format import CARD, GOLDEN, NETWORK
from lull_runtime.artifact.tar import tree, write_tar

Arrays = Mapping[str, NDArray[np.generic]]


def pack_artifact(out: Path, card: Card, network: bytes, golden: bytes) -> str:
    """Write an artifact and return its digest. `golden` comes from `pack_golden`, as the card's cases do."""
    text = card.model_dump_json(indent=1) + "\n"
    return _write(out, {CARD: text.encode(), NETWORK: network, GOLDEN: golden})


def pack_repository(out: Path, folder: Path) -> str:
    """Write a Triton model directory, unedited, and return its digest: that of the folder itself too.

    Raises:
        ModelError: there is a link or a device in it.
    """
    return _write(out, tree(folder))


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


def _write(out: Path, members: Mapping[str, bytes | Path]) -> str:
    """Write a tar that appears whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            digest = write_tar(file, members)
        os.chmod(scratch, 0o644)
        os.replace(scratch, out)
    except BaseException:
        os.unlink(scratch)
        raise
    return digest
