"""Tells whether a `.pt2` (torch.export) is data alone, without PyTorch: loading one may run what it holds."""

from pathlib import Path

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError


def check_pt2(path: Path) -> None:
    """Check that loading and running an exported program runs no code but PyTorch's own operators.

    Raises:
        ModelError: CodeNotAllowed, or NotAModel: it is not what torch.export.save writes.
    """
    raise ModelError(Reason.CODE_NOT_ALLOWED, f"{path.name}: .pt2 is not served yet")
