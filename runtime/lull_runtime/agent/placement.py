"""One model on this host and how it stands."""

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lull.api.host import HostModel, HostModelStatus
from lull.api.quantities import parse_duration_seconds
from lull_runtime.agent.activity import Activity
from lull_runtime.agent.pulse import Pulse
from lull_runtime.agent.reconcile import Phase
from lull_runtime.agent.rules import Rules
from lull_runtime.agent.store import Model

IDLE_AFTER_SECONDS = 300.0
"""When a model counts as idle where its placement does not say."""
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


@dataclass
class Placement:
    """One model on this host and how it stands."""

    want: HostModel
    phase: Phase = Phase.FETCHING
    held: bool = False
    model: Model | None = None
    rules: Rules | None = None
    """By which it was asked whether it may run."""
    code: bool | None = None
    reason: str | None = None
    message: str | None = None
    memory_bytes: int | None = None
    short: bool = False
    """It is open, and needs more memory than is reserved for it."""
    load_seconds: float | None = None
    crashes: int = 0
    stuck: bool = False
    """Triton did not unload it in good time, and may still hold it."""
    stubs: bool = False
    """Its processes were seen once it was loaded."""
    pulse: Pulse = field(default_factory=Pulse)
    activity: Activity = field(default_factory=Activity)
    task: asyncio.Task[None] | None = None

    @property
    def idle_after_seconds(self) -> float:
        """After how long without a request it is idle."""
        return parse_duration_seconds(self.want.idle_after) if self.want.idle_after else IDLE_AFTER_SECONDS

    @property
    def latency_seconds(self) -> float | None:
        """What its service promises; None: nothing."""
        return parse_duration_seconds(self.want.latency) if self.want.latency else None

    @property
    def namespace(self) -> str:
        """That of its service."""
        return self.want.service.partition("/")[0]

    @property
    def digest(self) -> str | None:
        """Of its artifact; None where neither the spec nor the URI says one."""
        digest = self.want.digest or self.want.uri.rpartition("@")[2]
        return digest if _DIGEST.match(digest) else None

    def status(self) -> HostModelStatus:
        """How it stands, as the API says it; what it uses is the meter's to say."""
        ready = self.phase is Phase.READY
        return HostModelStatus(
            id=self.want.id,
            service=self.want.service,
            revision=self.want.revision,
            state="Loading" if self.phase is Phase.WAITING else self.phase.value,
            reason=self.reason,
            message=self.message and self.message[:1024],
            memory=None if self.memory_bytes is None else f"{mebibytes(self.memory_bytes)}Mi",
            load_seconds=None if self.load_seconds is None else f"{self.load_seconds:.4f}",
            idle_since=_rfc3339(self.activity.idle_since) if ready else None,
            code=self.code,
            training_watt_hours=self._training_watt_hours(),
        )

    def _training_watt_hours(self) -> str | None:
        card = self.model.artifact.card if self.model and self.model.artifact else None
        return f"{card.training.watt_hours:.3f}" if card and card.training else None


def mebibytes(size_bytes: int) -> int:
    """Return a size in MiB, rounded up, so that what is reserved for it is never too little."""
    return -(-size_bytes // 2**20)


def _rfc3339(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
