"""The machine that every policy runs on: the same for all, so that only decisions differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lull.policy.power import PowerProfile

GIB = 2**30
SECONDS_PER_HOUR = 3600.0

HOLD_SECONDS = 60.0
"""No request waits longer: the default of `spec.hold.timeout`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What hosts are, take and draw.

    Attributes:
        gpu_memory_bytes: memory of one host (one GPU) for models and what Triton itself takes.
        load_seconds: a model's load; one at a time on a host.
        loads: load seconds of those models, by key, that take another time.
        host_start_seconds: from the wish for a host until it can load; its GPU is kept meanwhile.
        gpus_per_node: hosts of one node.
        nodes: elastic: a node is on while a host is on it; fixed: as many as are ever needed are always on.
        power: of one host; `node_watts` is the whole node's own idle draw here.
        fixed_hosts: hosts (of each tenant) of the policies that keep a fixed number.
        delayed_percent: the objective that Lull is given; None leaves the shipped default.
        idle_after_seconds, empty_after_seconds: what people set of services and pools; None leaves it open.
        seed: of whatever is random.
    """

    gpu_memory_bytes: int = 80 * GIB
    load_seconds: float = 20.0
    host_start_seconds: float = 30.0
    gpus_per_node: int = 8
    nodes: Literal["elastic", "fixed"] = "elastic"
    power: PowerProfile = PowerProfile(72.0, 50.0, 700.0, 0.0)  # noqa: RUF009  frozen; an H100 of power.md
    fixed_hosts: int = 1
    delayed_percent: int | None = None
    idle_after_seconds: float | None = None
    empty_after_seconds: float | None = None
    seed: int = 0
    loads: Mapping[str, float] = field(default_factory=dict)

    def load_seconds_of(self, key: str) -> float:
        """Return how long a model takes to load."""
        return self.loads.get(key, self.load_seconds)
