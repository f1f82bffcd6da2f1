"""Where the local Triton is laid out, and what it needs of this Python."""

import sys
from pathlib import Path

import pytest

from lull_runtime.backend import install as install_module
from lull_runtime.backend.install import TritonNotInstalledError

LIBPYTHON = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"


@pytest.fixture
def bare_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python without a shared library, and a system whose library folder is this one."""
    monkeypatch.setattr(install_module.sysconfig, "get_config_var", lambda name: str(tmp_path / name))
    monkeypatch.setattr(install_module.sys, "base_prefix", str(tmp_path / "base"))
    monkeypatch.setattr(install_module, "_SYSTEM_FOLDERS", [str(tmp_path / "system")])
    return tmp_path


def test_a_python_without_a_shared_library_is_told_what_to_install(bare_python: Path):
    with pytest.raises(TritonNotInstalledError, match=r"install libpython3\.\d+"):
        install_module._libpython()


@pytest.mark.parametrize("folder", ["LIBDIR", "system"])
def test_the_shared_library_is_found_where_it_usually_is(bare_python: Path, folder: str):
    (bare_python / folder).mkdir()
    (bare_python / folder / LIBPYTHON).touch()
    assert install_module._libpython() == bare_python / folder / LIBPYTHON


def test_triton_is_kept_where_the_other_tools_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LULL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert install_module._default_cache() == Path("/caches/lull")
    monkeypatch.setenv("LULL_CACHE", "/own")
    assert install_module._default_cache() == Path("/own")
