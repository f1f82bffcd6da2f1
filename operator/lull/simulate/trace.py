"""Traces: who was asked, when, and for how long it computed."""

from __future__ import annotations  # array takes no parameter at run time before Python 3.12

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TracedModel:
    """A model of a trace; `key` is `tenant/name`. Models of different tenants share no host."""

    key: str
    memory_bytes: int

    @property
    def tenant(self) -> str:
        """Who it belongs to."""
        return self.key.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their arrival, as columns of one length.

    Attributes:
        at_seconds: arrival; the first is near 0.
        model: index into `models`.
        duration_seconds: how long the model computes it.
        length_seconds: from 0 to the end of the observation, at or after the last arrival.
    """

    name: str
    models: Sequence[TracedModel]
    at_seconds: array[float] = field(default_factory=lambda: array("d"))
    model: array[int] = field(default_factory=lambda: array("l"))
    duration_seconds: array[float] = field(default_factory=lambda: array("d"))
    length_seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.at_seconds)
