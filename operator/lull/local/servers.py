"""A real OCI registry and a real S3 server on this machine: loopback only, without root, in one folder."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from lull.local import processes
from lull.local.errors import LocalClusterError
from lull.local.toolchain import Progress, store_binaries, to_stderr

USER, PASSWORD = "lull", "s3cret"  # of what this machine alone can reach
_HTPASSWD = "lull:$2b$04$pn/q0NagTMGjQxZtblolIuZh9tMaEUq2o0FwzxAXEIZrICX2FHBbm\n"

READY_TIMEOUT_SECONDS = 30
STOP_GRACE_SECONDS = 5
POLL_SECONDS = 0.02
_PORTS = range(20000, 32000)  # beneath those that the kernel gives to clients
_ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """A store that can be started, ended and started again at the same place, with what it holds."""

    name: str
    folder: Path
    port: int
    command: Sequence[str | Path]
    environment: Mapping[str, str] = field(repr=False)

    @property
    def host(self) -> str:
        """Its address and port."""
        return f"{_ADDRESS}:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            LocalClusterError: it ended, or was not ready within 30 s; with the end of its log.
        """
        log = self.folder / f"{self.name}.log"
        environment = {**os.environ, **self.environment}
        record = processes.start(self._record, self.command, log, environment, mark=self.folder)
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while not self._answers():
            if not record.alive() or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                self.stop()
                raise LocalClusterError(f"{self.name} did not start. The end of {log}:\n{tail}")
            time.sleep(POLL_SECONDS)

    def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """End it; no grace is a crash. What it holds stays."""
        if record := processes.Record.load(self._record):
            processes.stop([record], grace_seconds)
            self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.folder / f"{self.name}.json"

    def _answers(self) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex((_ADDRESS, self.port)) == 0


def registry(folder: Path, progress: Progress = to_stderr) -> Server:
    """An OCI registry whose blobs lie in a folder; it asks for USER and PASSWORD.

    Raises:
        LocalClusterError: it cannot be built.
    """
    folder, port = folder.absolute(), _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "htpasswd").write_text(_HTPASSWD)
    configuration = folder / "registry.yaml"
    configuration.write_text(
        "version: 0.1\n"
        "log: {level: warn, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{folder}/blobs'}}}}\n"
        f"http: {{addr: '{_ADDRESS}:{port}'}}\n"
        f"auth: {{htpasswd: {{realm: lull, path: '{folder}/htpasswd'}}}}\n"
    )
    command: list[str | Path] = [store_binaries(progress)["registry"], "serve", configuration]
    return Server("registry", folder, port, command, {"OTEL_TRACES_EXPORTER": "none"})


def s3(folder: Path, buckets: Iterable[str], progress: Progress = to_stderr) -> Server:
    """An S3 server whose buckets are folders; its keys are USER and PASSWORD.

    Raises:
        LocalClusterError: it cannot be built.
    """
    folder, port = folder.absolute(), _free_port()
    for bucket in buckets:
        (folder / "buckets" / bucket).mkdir(parents=True, exist_ok=True)
    (folder / "iam").mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [store_binaries(progress)["versitygw"], "--port", f"{_ADDRESS}:{port}"]
    command += ["--iam-dir", folder / "iam", "--quiet", "posix", folder / "buckets"]
    keys = {"ROOT_ACCESS_KEY": USER, "ROOT_SECRET_KEY": PASSWORD}
    return Server("s3", folder, port, command, keys)


def _free_port() -> int:
    for port in random.sample(_PORTS, 100):
        with closing(socket.socket()) as probe:
            if probe.connect_ex((_ADDRESS, port)) != 0:
                return port
    raise LocalClusterError("No port between 20000 and 32000 is free on 127.0.0.1; end what listens there.")
