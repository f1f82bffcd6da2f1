"""Which policies run, on which settings, and how they are run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lull.simulate.outcome import Outcome
from lull.simulate.policies import POLICIES as SIMULATORS
from lull.simulate.setting import Setting
from lull.simulate.trace import Trace

POLICIES = tuple(SIMULATORS)
LULL = "lull"
FIXED = ("modelmesh", "seldon")
"""Policies that keep a number of hosts that somebody chose."""
BOUND_SHARES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Delayed shares at which the curve of the bound is asked."""

Simulate = Callable[[Trace, Setting], Outcome]
Bound = Callable[[Trace, Setting, float], float]


@dataclass(frozen=True, slots=True)
class Engine:
    """What simulates: policies by name, and the least host-hours at a delayed share."""

    policies: Mapping[str, Simulate]
    bound: Bound


@dataclass(frozen=True, slots=True)
class Run:
    """One policy on one setting; the name tells it from its siblings with other objectives or hosts."""

    name: str
    policy: str
    setting: Setting


def engine() -> Engine:
    """Return the simulators that there are."""
    return Engine(SIMULATORS, lambda _trace, _setting, _share: 0.0)


def wanted(
    policies: Sequence[str], base: Setting, delayed_percents: Sequence[int], fixed_hosts: Sequence[int]
) -> list[Run]:
    """Return a run for each policy, of Lull for each objective, of fixed hosts for each number of them."""
    runs = []
    for policy in policies:
        if policy == LULL and delayed_percents:
            settings = {f"{p}%": replace(base, delayed_percent=p) for p in delayed_percents}
        elif policy in FIXED:
            settings = {f"x{n}": replace(base, fixed_hosts=n) for n in fixed_hosts or [base.fixed_hosts]}
        else:
            settings = {"": base}
        for variant, setting in settings.items():
            name = f"{policy} {variant}" if len(settings) > 1 else policy
            runs.append(Run(name, policy, setting))
    return runs


def outcome(using: Engine, trace: Trace, run: Run) -> Outcome:
    """Run one; its outcome bears the run's name and the lower bound."""
    found = using.policies[run.policy](trace, run.setting)
    bound = using.bound(trace, run.setting, found.delayed_fraction)
    return replace(found, policy=run.name, lower_bound_host_hours=bound)


def bound_curve(using: Engine, trace: Trace, setting: Setting) -> list[tuple[float, float]]:
    """Return (delayed share, least host-hours) pairs."""
    return [(share, using.bound(trace, setting, share)) for share in BOUND_SHARES]
