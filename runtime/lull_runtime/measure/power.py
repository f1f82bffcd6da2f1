"""What a host draws: as its accelerator's sensor says, or by a model of it where there is none."""

import json
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class PowerProfile:
    """What is known beforehand of a host's draw, all its accelerators together, in watts.

    Attributes:
        idle: of the bare device.
        context: what a process that holds a context adds.
        max: at full load; None where nobody knows: then nothing is modelled.
        node: the host's share of its node's draw: configured, never measured.
    """

    idle: float = 0.0
    context: float = 0.0
    max: float | None = None
    node: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "PowerProfile":
        """Read the JSON that the controller writes; what it leaves out is unknown.

        Raises:
            ValueError: it is no object of numbers.
        """
        fields = json.loads(text or "{}")
        if not isinstance(fields, dict):
            raise ValueError(f"LULL_POWER is no JSON object of watts: {text}")
        known = {key: fields[key] for key in ("idle", "context", "max", "node") if key in fields}
        for key, watts in known.items():
            if isinstance(watts, bool) or not isinstance(watts, int | float) or not 0 <= watts < math.inf:
                raise ValueError(f"LULL_POWER: {key} is no number of watts: {watts!r}")
        return cls(**{key: float(watts) for key, watts in known.items()})


@dataclass(frozen=True)
class Draw:
    """What a host drew, by cause: microjoules of a stretch of time, or microwatts of a moment.

    Whole numbers, so that what is split adds up again to what was split.

    Attributes:
        bare: of the device without any process.
        node: the share of the node.
        context: of Triton's hold on the device.
        dynamic: of computing.
    """

    bare: int
    node: int
    context: int
    dynamic: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.bare + self.node + self.context + self.dynamic


def measured(device: int, profile: PowerProfile, seconds: float) -> Draw:
    """Split what the sensor says by cause: what is neither idle nor context is dynamic.

    Args:
        device: microjoules of all the host's devices.
        profile: of the host.
        seconds: in which they were drawn; 1 makes all of it microwatts.
    """
    bare, context = _micro(profile.idle * seconds), _micro(profile.context * seconds)
    node = _micro(profile.node * seconds)
    if device < bare + context:  # the profile says too much: scale it, so that the sum is the sensor's
        bare = device * bare // (bare + context)
        context = device - bare
    return Draw(bare, node, context, device - bare - context)


def modelled(busy_ratio: float, profile: PowerProfile, seconds: float, *, context: bool) -> Draw:
    """What a host without a sensor draws, by `idle + context + (max - idle - context) * busy`.

    Args:
        busy_ratio: of all its models together.
        profile: of the host; its `max` is known.
        seconds: how long.
        context: whether a process holds the device.
    """
    held = profile.context if context else 0.0
    span = max(0.0, (profile.max or 0.0) - profile.idle - profile.context)
    return Draw(
        _micro(profile.idle * seconds),
        _micro(profile.node * seconds),
        _micro(held * seconds),
        _micro(span * min(1.0, busy_ratio) * seconds),
    )


def _micro(value: float) -> int:
    return round(max(0.0, value) * 1e6)
