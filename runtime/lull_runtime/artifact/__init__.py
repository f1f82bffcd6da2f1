"""What a model is shipped as: one tar file, named by the SHA-256 of its bytes.

Two formats. An *artifact* is Lull's own: `lull.json` (its card), `model.onnx` and golden cases. A
*TritonRepository* is one model directory as Triton's users already have them, served unedited.
"""

from lull_runtime.artifact.card import Card, Golden, GoldenCase, GoldenTensor, TensorSpec
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.format import Format, detect, inspect_repository, read_card

__all__ = [
    "Card",
    "Format",
    "Golden",
    "GoldenCase",
    "GoldenTensor",
    "ModelError",
    "TensorSpec",
    "detect",
    "inspect_repository",
    "read_card",
]
