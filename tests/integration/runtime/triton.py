"""A real Triton on a loopback address of its own."""

import os
import random
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lull_runtime.agent.settings import control_key
from lull_runtime.backend.install import install


@dataclass
class TritonProcess:
    """A `lull-triton` that can be killed and started again."""

    address: str
    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen | None = None

    @classmethod
    def within(cls, folder: Path) -> Self:
        """Return one, not started yet, whose models, keys and logs are in a folder of its own."""
        for name in ("files", "artifacts", "repository", "control"):
            (folder / name).mkdir()
        control_key(folder / "control")
        address = _free_address()
        environment = (
            os.environ
            | install()
            | {
                "POD_IP": address,
                "LULL_CONTROL": str(folder / "control"),
                "LULL_REPOSITORY": str(folder / "repository"),
            }
        )
        return cls(address, folder, environment)

    @property
    def backends(self) -> Path:
        return Path(self.environment["LULL_TRITON_BACKENDS"])

    def start(self) -> None:
        log = (self.folder / "triton.log").open("ab")
        command = [sys.executable, "-m", "lull_runtime.triton"]
        self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()


def _free_address() -> str:
    """A loopback address on which nothing listens."""
    while True:
        address = f"127.{random.randint(64, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"
        with socket.socket() as probe:
            if probe.connect_ex((address, 8001)) != 0:
                return address
