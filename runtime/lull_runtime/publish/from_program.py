"""PyTorch's exported programs, `.pt2`."""

from collections.abc import Sequence
from pathlib import Path

import torch

from lull_runtime.artifact import ModelError
from lull_runtime.artifact.card import Source
from lull_runtime.artifact.pt2 import check_pt2
from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.forms import Array, Form, NetworkFormat
from lull_runtime.publish.from_torch import inputs_of, run, served


def open_file(path: Path, name: str, example: Array | None) -> Form:
    """Return the program of a `.pt2`, which says itself what it takes.

    Raises:
        NotPublishableError: it cannot be read, would run code on being read, or has a fixed batch axis.
    """
    try:
        check_pt2(path)
        program = torch.export.load(path)
    except ModelError as error:
        raise NotPublishableError(f"{path.name}: {error.message}") from error
    except Exception as error:
        raise NotPublishableError(f"{path.name} cannot be read as an exported program: {error}") from error
    inputs = inputs_of(program)
    network = program.module()

    def to_served(rows: Array, outputs: Sequence[str]) -> tuple[bytes, NetworkFormat, list[str]]:
        return served(program, outputs)

    source = Source(framework="torch", form="pt2")
    return Form(name, network, lambda rows: run(network, rows), inputs, source, to_served)
