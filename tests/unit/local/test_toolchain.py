"""Where the binaries come from."""

from pathlib import Path

import pytest

from lull.local import toolchain
from lull.local.errors import LocalClusterError

NAMES = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"}


def test_existing_binaries_are_used_when_they_are_asked_for(tmp_path, monkeypatch):
    for name in NAMES:
        (tmp_path / name).touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert toolchain.binaries() == {name: tmp_path / name for name in NAMES}


def test_an_incomplete_folder_of_binaries_is_refused_with_what_it_lacks(tmp_path, monkeypatch):
    for name in NAMES - {"kube-scheduler"}:
        (tmp_path / name).touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(LocalClusterError, match="lacks kube-scheduler"):
        toolchain.binaries()


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("LULL_CACHE", raising=False)
    assert toolchain.cache_folder() == tmp_path / "lull"
    monkeypatch.setenv("LULL_CACHE", str(tmp_path / "own"))
    assert toolchain.cache_folder() == tmp_path / "own"


def test_a_build_that_fails_leaves_nothing_behind_and_says_what_to_do(monkeypatch, tmp_path):
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    go.chmod(0o755)
    cache = tmp_path / "cache"
    monkeypatch.setenv("LULL_CACHE", str(cache))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr(toolchain, "_go", lambda _progress: go)
    with pytest.raises(LocalClusterError, match=r"no network[\s\S]*GOPROXY"):
        toolchain.binaries(lambda _line: None)
    assert [path.name for path in cache.iterdir()] == [".etcd.lock"]


def test_a_build_that_hangs_tells_how_long_it_takes_and_is_ended_at_its_deadline(monkeypatch, tmp_path):
    monkeypatch.setattr(toolchain, "PROGRESS_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(toolchain, "BUILD_TIMEOUT_SECONDS", 0.3)
    told = []
    hangs = ["sh", "-c", "echo $$ > pid; echo one module >&2; exec sleep 60"]
    with pytest.raises(LocalClusterError, match=r"kubectl took longer than 0 s\. Run the command again"):
        toolchain._run_go(hangs, tmp_path, "kubectl", told.append)
    assert "kubectl: 1 after 0 s" in told
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_what_go_keeps_goes_to_the_cache_where_home_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.setenv("LULL_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    monkeypatch.setenv("GOPATH", "/the/users/own")
    monkeypatch.delenv("GOCACHE", raising=False)
    environment = toolchain._go_env()
    assert environment["GOCACHE"] == str(tmp_path / "go-build")
    assert environment["GOPATH"] == "/the/users/own"


def test_prometheus_is_built_only_when_it_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("LULL_CACHE", str(tmp_path))
    for folder, names in (("etcd", NAMES), ("kubernetes", NAMES), ("prometheus", {"prometheus", "promtool"})):
        tool = getattr(toolchain, folder.upper())
        (tmp_path / f"{tool.name}-{tool.version}").mkdir()
        assert tool.packages.keys() <= names
    assert toolchain.binaries().keys() == NAMES
    assert toolchain.prometheus_binaries().keys() == {"prometheus", "promtool"}


def test_a_version_of_prometheus_is_named_as_its_module_names_it():
    (line,) = [
        line for line in toolchain.PROMETHEUS.go_mod(Path(), print).splitlines() if "prometheus" in line
    ]
    assert line == "require github.com/prometheus/prometheus v0.311.3"
