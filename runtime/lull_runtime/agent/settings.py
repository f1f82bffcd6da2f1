"""What the agent is told by its environment."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult

from lull.api.pool import Trust
from lull_runtime.agent.fetch import Sources
from lull_runtime.agent.host import Limits
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.trust import Rule, Signer
from lull_runtime.artifact.uris import clear
from lull_runtime.measure.power import PowerProfile


@dataclass(frozen=True)
class Settings:
    """The agent's environment, read once.

    Attributes:
        pod_name: of the Pod, and so of the ModelHost.
        pod_namespace: of both.
        pod_ip: where Triton listens, and what the agent's own probes are bound to.
        artifacts: folder of the model cache, which the agents of a node may share.
        artifacts_bytes: bound of that cache.
        control: folder of the control key.
        backends: folder of Triton's backends.
        allow_code: whether models that are code may run here.
        sources: where models may come from.
        limits: what one model gets.
        power: what is known of the host's draw.
        trust: who must have signed what may run here.
    """

    pod_name: str
    pod_namespace: str
    pod_ip: str
    artifacts: Path
    artifacts_bytes: int
    control: Path
    backends: Path
    allow_code: bool
    sources: Sources
    limits: Limits
    power: PowerProfile
    trust: tuple[Rule, ...]

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
            pod_ip=environment["POD_IP"],
            artifacts=Path(environment["LULL_ARTIFACTS"]),
            artifacts_bytes=most_bytes,
            control=Path(environment["LULL_CONTROL"]),
            backends=Path(environment.get("LULL_TRITON_BACKENDS", "/opt/tritonserver/backends")),
            allow_code=environment.get("LULL_ALLOW_CODE", "false") == "true",
            sources=Sources(
                files=Path(environment["LULL_FILES"]),
                allowed=[str(prefix) for prefix in json.loads(environment.get("LULL_ALLOW_URIS") or "[]")],
                most_bytes=most_bytes,
                deadline_seconds=float(environment.get("LULL_FETCH_DEADLINE_SECONDS", "600")),
                claims=_path(environment.get("LULL_CLAIMS")),
                credentials=_path(environment.get("LULL_CREDENTIALS")),
            ),
            limits=Limits(
                load_seconds=float(environment.get("LULL_LOAD_DEADLINE_SECONDS", "120")),
                memory_bytes=int(memory or 0) or None,
            ),
            power=PowerProfile.parse(environment.get("LULL_POWER", "")),
            trust=rules(environment.get("LULL_TRUST") or "[]"),
        )


def rules(text: str) -> tuple[Rule, ...]:
    """Return a pool's rules of trust, which it says as `spec.trust` does.

    Raises:
        ValueError: it says them otherwise: then nothing is run rather than what nobody trusts.
    """
    return tuple(
        Rule(
            _place(rule.prefix),
            frozenset(rule.namespaces),
            tuple(Signer(signer.name, signer.public_key) for signer in rule.signed_by),
        )
        for rule in map(Trust.model_validate, json.loads(text))
    )


def _place(prefix: str) -> SplitResult:
    """A prefix that no model could be beneath would leave what it is for to a weaker rule."""
    try:
        return clear(prefix)
    except ModelError as error:
        raise ValueError(f"spec.trust: {error.message}") from error


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
