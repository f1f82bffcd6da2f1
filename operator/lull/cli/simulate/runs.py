"""Which policies run, on which settings, and how they are run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lull.simulate.bound import lower_bound_host_hours
from lull.simulate.clairvoyant import clairvoyant, clairvoyant_at
from lull.simulate.outcome import Outcome
from lull.simulate.policies import POLICIES as SIMULATORS
from lull.simulate.setting import Setting
from lull.simulate.trace import Trace

LULL, BOUND = "lull", "clairvoyant"
POLICIES = (*SIMULATORS, BOUND)
FIXED = ("modelmesh", "seldon")
"""Policies that keep a number of hosts that somebody chose."""
BOUND_SHARES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Delayed shares at which the curve of the bound is asked."""

Simulate = Callable[[Trace, Setting], Outcome]


@dataclass(frozen=True, slots=True)
class Run:
    """One policy on one setting; the name tells it from its siblings with other objectives or hosts."""

    name: str
    policy: str
    setting: Setting


def simulators() -> Mapping[str, Simulate]:
    """Return what simulates, by policy."""
    return {**SIMULATORS, BOUND: clairvoyant}


def wanted(
    policies: Sequence[str], base: Setting, delayed_percents: Sequence[int], fixed_hosts: Sequence[int]
) -> list[Run]:
    """Return a run for each policy, several of those that take an objective or a number of hosts."""
    runs = []
    for policy in policies:
        if policy in (LULL, BOUND) and delayed_percents:
            settings = {f"{p}%": replace(base, delayed_percent=p) for p in delayed_percents}
        elif policy in FIXED:
            settings = {f"x{n}": replace(base, fixed_hosts=n) for n in fixed_hosts or [base.fixed_hosts]}
        else:
            settings = {"": base}
        for variant, setting in settings.items():
            name = f"{policy} {variant}" if len(settings) > 1 else policy
            runs.append(Run(name, policy, setting))
    return runs


def outcome(simulate: Simulate, trace: Trace, run: Run) -> Outcome:
    """Run one; its outcome bears the run's name and the lower bound at its own share of delayed requests."""
    found = simulate(trace, run.setting)
    bound = lower_bound_host_hours(trace, run.setting, found.delayed_fraction, may_drop=found.dropped > 0)
    return replace(found, policy=run.name, lower_bound_host_hours=bound)


def bound_curve(trace: Trace, setting: Setting) -> list[Outcome]:
    """Return the bound at several shares of delayed requests."""
    return [clairvoyant_at(trace, setting, share) for share in BOUND_SHARES]
