"""A local Triton, laid out from the `nvidia-pytriton` wheel.

The wheel carries a real `tritonserver` 2.51 and its Python backend, but keeps the backend's stubs apart, one
for each version of Python; Triton wants the right one beside the backend. The wheel itself is left as it is.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

VERSION = "2.51.0"
"""Of the Triton in `nvidia-pytriton` 0.7.0, the version that pyproject.toml pins."""

_SYSTEM_FOLDERS = (
    f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
)


class TritonNotInstalledError(RuntimeError):
    """The wheel with Triton is not in this environment."""


def install(cache: Path | None = None) -> dict[str, str]:
    """Lay out the backends and return the environment in which `lull-triton` finds this Triton.

    Idempotent, and safe when several do it at once: the folder appears whole or not at all.

    Args:
        cache: folder of everything that Lull keeps; default `$LULL_CACHE`, else `lull` in the user's cache.

    Raises:
        TritonNotInstalledError: the wheel is not in this environment, or this Python has no shared library.
    """
    wheel = _wheel()
    site_packages = wheel.parent
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = (cache or _default_cache()) / f"triton-{VERSION}-py{python}"
    if not home.is_dir():
        _lay_out(wheel / "tritonserver", python, home)
    libraries = (_libpython().parent, site_packages / "nvidia_pytriton.libs")
    return {
        "LULL_TRITON_SERVER": str(wheel / "tritonserver" / "bin" / "tritonserver"),
        "LULL_TRITON_BACKENDS": str(home / "backends"),
        # Without the second the backend's stub dies, and the load that waits for it never returns.
        "LULL_TRITON_LIBRARIES": ":".join(map(str, libraries)),
        # The stub's interpreter is isolated: it knows neither PYTHONPATH nor a virtual environment.
        "LULL_TRITON_PACKAGES": str(site_packages),
    }


def _wheel() -> Path:
    spec = find_spec("pytriton")  # not imported: its own dependencies are not wanted
    if spec is None or not spec.submodule_search_locations:
        raise TritonNotInstalledError("there is no Triton in this environment: install lull[local]")
    return Path(spec.submodule_search_locations[0])


def _default_cache() -> Path:
    """The folder that lull.local keeps its tools in."""
    if own := os.environ.get("LULL_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lull"


def _libpython() -> Path:
    """The shared library of this very Python: without it the backend's stub dies, and every load hangs."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    configured = [sysconfig.get_config_var(key) for key in ("LIBDIR", "LIBPL")]
    for folder in filter(None, [*configured, str(Path(sys.base_prefix) / "lib"), *_SYSTEM_FOLDERS]):
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    package = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
    raise TritonNotInstalledError(
        f"there is no {name}, which Triton's Python backend needs: install {package} (Debian, Ubuntu), or "
        "use a Python that is built with --enable-shared"
    )


def _lay_out(triton: Path, python: str, home: Path) -> None:
    stub = triton / "python_backend_stubs" / python / "triton_python_backend_stub"
    if not stub.is_file():
        raise TritonNotInstalledError(
            f"nvidia-pytriton carries no stub for Python {python}; use 3.11, 3.12 or 3.13"
        )
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
        fresh = Path(scratch) / "triton"
        shutil.copytree(triton / "backends", fresh / "backends")
        shutil.copy2(stub, fresh / "backends" / "python")
        try:
            fresh.rename(home)
        except OSError:
            if not home.is_dir():  # else another process was first, with the same content
                raise
