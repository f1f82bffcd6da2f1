"""What Triton and what runs in it say of a model that they do not take, in our words."""

import re

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError

DIED = "is not healthy"
"""What Triton says of a request to a Python-backend model whose process is gone."""

_NO_OPERATOR = (
    "No Op registered for",
    "is not a registered function/op",
    "Could not find an implementation for",
    "Opset .* is under development",
    "max supported IR version",
)
_NO_MEMORY = (
    "bad[_ ]alloc",
    "[Oo]ut of memory",
    "OUT_OF_MEMORY",
    "Failed to allocate memory",
    "can't allocate memory",
    "MemoryError",
)
_NO_NETWORK = (
    "INVALID_PROTOBUF",
    "INVALID_GRAPH",
    "No graph was found",
    "Invalid model",
    "ShapeInferenceError",
    "Out of bounds dimensions",
    "PytorchStreamReader",
    "[Ss]chema version",
)
_TABLE: tuple[tuple[tuple[str, ...], Reason, str], ...] = (
    (
        _NO_OPERATOR,
        Reason.UNKNOWN_OPERATOR,
        "it uses an operator that the runtime here does not know: publish it without, or for an older opset",
    ),
    (
        ("[Ee]xternal data",),
        Reason.EXTERNAL_DATA,
        "its weights lie in a file that is not part of it: publish it again, with its weights inside",
    ),
    (
        _NO_MEMORY,
        Reason.TOO_LARGE,
        "it takes more memory than this host has left: use a pool with more, or set spec.resources.memory",
    ),
    (
        _NO_NETWORK,
        Reason.NOT_A_MODEL,
        "the runtime here cannot read it as a network: it is damaged, or not of the format that it claims",
    ),
    (
        ("No module named 'torch'",),
        Reason.LOAD_FAILED,
        "Triton's image of this pool has no PyTorch, which .pt2 needs: publish it as ONNX, or bring PyTorch",
    ),
    (
        (DIED,),
        Reason.LOAD_FAILED,
        "its process died: it crashed, or took more memory than its container has",
    ),
)
"""By what is said (regular expressions): the reason, and what to do. The first that fits holds."""


def refusal(said: str, otherwise: Reason = Reason.LOAD_FAILED) -> ModelError:
    """Return why a model is not taken, by what was said; the words themselves stay in the message.

    Args:
        said: by Triton, or by what runs in it.
        otherwise: the reason where these words are not known.
    """
    for patterns, reason, advice in _TABLE:
        if any(re.search(pattern, said) for pattern in patterns):
            return ModelError(reason, f"{advice} ({said})")
    return ModelError(otherwise, said)
