"""`lull-triton`: become the real Triton server, with the flags that Lull's safety rests on.

Standard library only: the container that runs it is Triton's own image. It waits for the control key that
the agent writes, then `exec`s `tritonserver`, so signals, exit status and memory are Triton's own.

Environment
    POD_IP                 the only address that is listened on
    LULL_CONTROL           folder of the control key (`key`)
    LULL_REPOSITORY        folder of the models, written by the agent
    LULL_TRITON_SERVER     the binary, default `/opt/tritonserver/bin/tritonserver` (NVIDIA's images)
    LULL_TRITON_BACKENDS   its backends, default `/opt/tritonserver/backends`
    LULL_TRITON_PACKAGES   folder of the Python packages that Python-backend models import, where Triton's
                           image does not have them where its interpreter looks
    LULL_TRITON_LIBRARIES  what goes in front of LD_LIBRARY_PATH, default nothing
    LULL_TRITON_COMPLETE   `true` lets Triton complete a model's config.pbtxt. For pools of models whose
                           configuration leaves inputs and outputs out. Every load is slower by it: the Python
                           backend starts, and takes down, a process more (1.2 s, where a load is 0.1 s)
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002
KEY_HEADER = "lull-control"
"""The header (HTTP) and metadata key (gRPC, behind Triton's own prefix) that carries the control key."""
GRPC_KEY_HEADER = f"triton-grpc-protocol-{KEY_HEADER}"

_RESTRICTED = "model-repository,model-config,shared-memory,statistics,trace,logging"
ROUTED = "routed"
"""The file beside the key that is there while the ModelHost's spec says that a model is routed."""
_KEY_WAIT_SECONDS = 120.0
_DRAIN_SECONDS = 300.0
"""Within the Pod's grace period, with time left for Triton's own exit."""
_EXIT_SECONDS = 30

_WHERE_SUPPORTED = (
    "--allow-client-shm=false",
    "--allow-sagemaker=false",
    "--allow-vertex-ai=false",
    "--metrics-config=summary_latencies=true",
    "--metrics-config=summary_quantiles=0.5:0.01,0.95:0.005,0.99:0.001",
)
"""Flags that not every version of Triton knows: doors that are shut, and latencies beside the counters."""


def main() -> None:
    """Wait for the control key, then become Triton; `lull-triton drain` is the container's preStop hook."""
    environment = dict(os.environ)
    if sys.argv[1:] == ["drain"]:
        wait_until_unrouted(Path(environment["LULL_CONTROL"]) / ROUTED, _DRAIN_SECONDS)
        return
    lodge(Path(environment["LULL_REPOSITORY"]))
    key = wait_for_key(Path(environment["LULL_CONTROL"]) / "key", _KEY_WAIT_SECONDS)
    server = environment.get("LULL_TRITON_SERVER", "/opt/tritonserver/bin/tritonserver")
    libraries = [environment.get(name, "") for name in ("LULL_TRITON_LIBRARIES", "LD_LIBRARY_PATH")]
    environment["LD_LIBRARY_PATH"] = ":".join(path for path in libraries if path)
    if packages := environment.get("LULL_TRITON_PACKAGES"):
        # The backend's interpreter is isolated: of all that could tell it, it heeds only the directory.
        os.chdir(packages)
    arguments = [server, *flags(environment, key, _help_of(server, environment))]
    os.execve(server, arguments, environment)  # noqa: S606  no shell is wanted


def lodge(repository: Path) -> None:
    """Lock the repository for as long as Triton lives, lest a neighbour's agent take it for a dead host's.

    Exits where one just did: what is mounted here then is a folder that nobody else sees any more.
    """
    descriptor = os.open(repository, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if os.fstat(descriptor).st_nlink == 0:
        sys.exit(f"lull-triton: {repository} was removed; once started again it has the new one")
    os.set_inheritable(descriptor, True)


def wait_until_unrouted(marker: Path, timeout_seconds: float) -> None:
    """Keep Triton alive while a gateway may still send it requests: the agent takes the marker away."""
    deadline = time.monotonic() + timeout_seconds
    while marker.exists() and time.monotonic() < deadline:
        time.sleep(0.1)


def wait_for_key(path: Path, timeout_seconds: float) -> str:
    """The control key, once the agent has written it. Exits with a message when it does not come."""
    deadline = time.monotonic() + timeout_seconds
    while not path.is_file():
        if time.monotonic() > deadline:
            sys.exit(
                f"lull-triton: no control key at {path} after {timeout_seconds:g} s: is the agent running?"
            )
        time.sleep(0.02)
    return path.read_text().strip()


def flags(environment: Mapping[str, str], key: str, supported: str) -> list[str]:
    """Triton's flags; those that not every version has, where its `--help` (`supported`) has them."""
    address = environment["POD_IP"]
    backends = environment.get("LULL_TRITON_BACKENDS", "/opt/tritonserver/backends")
    complete = environment.get("LULL_TRITON_COMPLETE", "false") == "true"
    return [
        f"--model-repository={environment['LULL_REPOSITORY']}",
        f"--backend-directory={backends}",
        "--model-control-mode=explicit",
        "--strict-readiness=false",
        f"--http-address={address}",
        f"--http-port={HTTP_PORT}",
        f"--grpc-address={address}",
        f"--grpc-port={GRPC_PORT}",
        f"--metrics-address={address}",
        f"--metrics-port={METRICS_PORT}",
        f"--http-restricted-api={_RESTRICTED}:{KEY_HEADER}={key}",
        f"--grpc-restricted-protocol={_RESTRICTED}:{KEY_HEADER}={key}",
        f"--exit-timeout-secs={_EXIT_SECONDS}",
        *([] if complete else ["--disable-auto-complete-config"]),
        *(flag for flag in _WHERE_SUPPORTED if flag.partition("=")[0] in supported),
    ]


def _help_of(server: str, environment: Mapping[str, str]) -> str:
    command = [server, "--help"]
    done = subprocess.run(  # noqa: S603  the command is ours
        command, env=dict(environment), capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
