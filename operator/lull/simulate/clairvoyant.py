"""Perfect foresight as an outcome: no run, every figure is one that no policy can go below."""

from lull.api.service import Objective
from lull.simulate.bound import lower_bound_host_hours
from lull.simulate.outcome import Outcome
from lull.simulate.setting import SECONDS_PER_HOUR, Setting
from lull.simulate.trace import Trace

SHIPPED_DELAYED_PERCENT = Objective().delayed_percent
"""The default of `spec.objective.delayedPercent`."""


def clairvoyant(trace: Trace, setting: Setting) -> Outcome:
    """Return the bound at the share of delayed requests that Lull is given as its objective."""
    percent = SHIPPED_DELAYED_PERCENT if setting.delayed_percent is None else setting.delayed_percent
    return clairvoyant_at(trace, setting, percent / 100)


def clairvoyant_at(trace: Trace, setting: Setting, delayed_fraction: float) -> Outcome:
    """Return the bound at a share of delayed requests.

    From the bound of host-hours follows that of node-hours: a node has so many GPUs at most. What requests
    compute and loads draw is left out: batches may overlap, and always on models were loaded before. Nor are
    there delays: how long the delayed ones wait is not bounded.
    """
    delayed = int(delayed_fraction * len(trace))
    host_hours = lower_bound_host_hours(trace, setting, delayed / len(trace) if delayed else 0.0)
    node_hours = host_hours / setting.gpus_per_node
    if setting.nodes == "fixed" and host_hours:
        node_hours = max(node_hours, trace.length_seconds / SECONDS_PER_HOUR)
    power = setting.power
    return Outcome(
        policy="clairvoyant",
        requests=len(trace),
        delayed=delayed,
        delay_seconds=None,
        dropped=0,
        host_hours=host_hours,
        node_hours=node_hours,
        idle_wh=node_hours * (setting.gpus_per_node * power.idle_watts + power.node_watts),
        context_wh=host_hours * power.context_watts,
        dynamic_wh=0.0,
        load_wh=0.0,
        moves=0,
        loads=0,
        lower_bound_host_hours=host_hours,
    )
