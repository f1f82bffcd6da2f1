"""What a model is shipped as: one tar file, named by the SHA-256 of its bytes.

Two formats. An *artifact* is Lull's own: `lull.json` (its card), a network (ONNX, or `.pt2` of torch.export),
golden cases, and what its card lists besides; never a pickle. Either may bear a signature, `model.sig`. A
*TritonRepository* is one model directory as Triton's users already have them, served unedited.
"""

from lull_runtime.artifact.card import Card, Golden, GoldenCase, GoldenTensor, TensorSpec
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.format import (
    Artifact,
    Format,
    detect,
    inspect_repository,
    read_artifact,
)

__all__ = [
    "Artifact",
    "Card",
    "Format",
    "Golden",
    "GoldenCase",
    "GoldenTensor",
    "ModelError",
    "TensorSpec",
    "detect",
    "inspect_repository",
    "read_artifact",
]
