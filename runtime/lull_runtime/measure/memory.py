"""Resident memory of one Python-backend model: that of its stub processes, one an instance.

Seen only where the stubs share the agent's view of /proc: on process nodes, and in pods with
`shareProcessNamespace`. Elsewhere the agent falls back to the accelerator's own figure, or to the estimate.
"""

import os
from pathlib import Path

_STUB = b"triton_python_backend_stub"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def stub_bytes(model_directory: Path, proc: Path = Path("/proc")) -> int | None:
    """Return the resident bytes of the stubs that serve a model directory; None where none can be seen.

    Pages that stubs share (libraries) count in each: an upper bound, as admission wants it.
    """
    sizes = [_resident_bytes(process) for process in _stubs(model_directory, proc)]
    return sum(sizes) or None


def _stubs(model_directory: Path, proc: Path) -> list[Path]:
    inside = os.fsencode(f"{model_directory}/")
    found = []
    for process in proc.iterdir():
        if process.name.isdecimal():
            arguments = _read(process / "cmdline").split(b"\0")
            if _STUB in arguments[0] and any(argument.startswith(inside) for argument in arguments[1:]):
                found.append(process)
    return found


def _resident_bytes(process: Path) -> int:
    fields = _read(process / "statm").split()
    return int(fields[1]) * _PAGE_BYTES if len(fields) > 1 else 0


def _read(path: Path) -> bytes:
    """What a file of /proc says; nothing where the process is gone or is another user's."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
