"""What the agent is told by its environment."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lull_runtime.agent.fetch import Sources
from lull_runtime.agent.host import Limits
from lull_runtime.measure.power import PowerProfile


@dataclass(frozen=True)
class Settings:
    """The agent's environment, read once.

    Attributes:
        pod_name: of the Pod, and so of the ModelHost.
        pod_namespace: of both.
        pool: of the host; its ModelPool says what may run here.
        pod_ip: where Triton listens, and what the agent's own probes are bound to.
        artifacts: folder of the model cache, which the agents of a node may share.
        artifacts_bytes: bound of that cache.
        control: folder of the control key.
        backends: folder of Triton's backends.
        sources: where models of which scheme are, and how much of them is taken.
        limits: what one model gets.
        power: what is known of the host's draw.
    """

    pod_name: str
    pod_namespace: str
    pool: str
    pod_ip: str
    artifacts: Path
    artifacts_bytes: int
    control: Path
    backends: Path
    sources: Sources
    limits: Limits
    power: PowerProfile

    @property
    def hosts(self) -> Path:
        """Folder of what each host has of its own, on the cache's volume: models are linked, never copied."""
        return self.artifacts / "hosts"

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the environment.

        Raises:
            KeyError: a variable is missing; the controller sets them all.
            ValueError: one does not hold what it should.
        """
        memory = environment.get("LULL_MEMORY_BYTES", "")
        most_bytes = int(environment.get("LULL_ARTIFACTS_BYTES", 64 << 30))
        return cls(
            pod_name=environment["POD_NAME"],
            pod_namespace=environment["POD_NAMESPACE"],
            pool=environment["LULL_POOL"],
            pod_ip=environment["POD_IP"],
            artifacts=Path(environment["LULL_ARTIFACTS"]),
            artifacts_bytes=most_bytes,
            control=Path(environment["LULL_CONTROL"]),
            backends=Path(environment.get("LULL_TRITON_BACKENDS", "/opt/tritonserver/backends")),
            sources=Sources(
                files=Path(environment["LULL_FILES"]),
                most_bytes=most_bytes,
                deadline_seconds=float(environment.get("LULL_FETCH_DEADLINE_SECONDS", "600")),
                claims={
                    claim: Path(folder)
                    for claim, folder in json.loads(environment.get("LULL_CLAIMS", "{}")).items()
                },
                credentials=_path(environment.get("LULL_CREDENTIALS")),
            ),
            limits=Limits(
                load_seconds=float(environment.get("LULL_LOAD_DEADLINE_SECONDS", "120")),
                memory_bytes=int(memory or 0) or None,
            ),
            power=PowerProfile.parse(environment.get("LULL_POWER", "")),
        )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def control_key(folder: Path) -> str:
    """Return the key that Triton's control API asks for: made once a Pod, for every agent that runs in it."""
    path = folder / "key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / ".key"
        fresh.write_text(secrets.token_hex(32))
        fresh.chmod(0o600)
        fresh.replace(path)
    return path.read_text().strip()
