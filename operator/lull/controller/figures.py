"""What is known of each service and pool in numbers: at full resolution for metrics, rounded for status."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceFigures:
    """One service, now. Totals never fall while the service lives, over restarts of the controller too.

    Attributes:
        pool: the name of its ModelPool.
        state: Asleep, Waking, Serving, Draining or Suspended.
        stalled: the reason of its Stalled condition; empty while it is not stalled.
        rollout: the phase of its last rollout; empty before the first.
        hold_timeout_seconds: how long its requests are held at most.
        wake_seconds: how long its last wake took; None before the first that this controller saw.
        requests: total that Triton answered.
        delayed: total that waited for a wake, as its status keeps it: a restart may lose what came after, and
            what comes while no controller is here, but a total that was shown never falls.
        objective_delayed_ratio: share of its requests that may wait, by its objective; None without one.
        watts: its present draw; None where the draw of its pool's hosts is unknown, as are the next five.
        idle_joules: total that it was charged whether it computed or not.
        dynamic_joules: total that its computing drew.
        baseline_joules: total that it would have drawn always on, on the fewest hosts; grows every moment.
        overhead_joules: its part by memory of the total that its pool's hosts drew for none of their models.
        carbon_grams: total of CO2 equivalent; None where the pool has no carbon intensity.
    """

    pool: str
    state: str
    stalled: str
    rollout: str
    hold_timeout_seconds: float
    wake_seconds: float | None
    requests: int
    delayed: int
    objective_delayed_ratio: float | None
    watts: float | None
    idle_joules: float | None
    dynamic_joules: float | None
    baseline_joules: float | None
    overhead_joules: float | None
    carbon_grams: float | None


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """One pool, now. What is unknown is None.

    Attributes:
        supply_bytes: memory that its hosts keep for models.
        used_bytes: memory that models take of it.
        memory_ratio: used of kept, 0 to 1; None without hosts.
        busy_ratio: computing time used of computing time kept, 0 to 1; None without figures of any host.
        watts: present draw of its hosts, models' and unallocated parts together.
        joules: total that its hosts drew.
        baseline_joules: total that the fewest hosts that hold every service would have drawn, always on.
        carbon_grams: total of CO2 equivalent.
        grams_per_request: CO2 equivalent of a request over the last window; None without requests.
        grams_per_request_packed: the same, were what is loaded packed perfectly.
    """

    supply_bytes: int
    used_bytes: int
    memory_ratio: float | None
    busy_ratio: float | None
    watts: float | None
    joules: float | None
    baseline_joules: float | None
    carbon_grams: float | None
    grams_per_request: float | None
    grams_per_request_packed: float | None


Services = Mapping[str, ServiceFigures]
"""By `namespace/name`."""
Pools = Mapping[str, PoolFigures]
"""By name."""
