"""Which policies run, on which settings, and how they are run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lull.simulate.bound import lower_bound_host_hours
from lull.simulate.clairvoyant import SHIPPED_DELAYED_PERCENT, clairvoyant, clairvoyant_at
from lull.simulate.outcome import Outcome
from lull.simulate.policies import FIXED, POLICIES, Simulate
from lull.simulate.setting import Setting
from lull.simulate.trace import Trace

LULL, BOUND = "lull", "clairvoyant"
OBJECTIVE = (LULL, BOUND)
"""Policies that take an objective."""
SIMULATORS: Mapping[str, Simulate] = {**POLICIES, BOUND: clairvoyant}
BOUND_SHARES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Delayed shares at which the curve of the bound is asked."""


@dataclass(frozen=True, slots=True)
class Run:
    """One policy on one setting; the name says the objective or the hosts that it was given."""

    name: str
    policy: str
    setting: Setting

    @property
    def delayed_percent(self) -> int:
        """The objective, as shipped where none is given."""
        given = self.setting.delayed_percent
        return SHIPPED_DELAYED_PERCENT if given is None else given


def wanted(
    policies: Sequence[str], base: Setting, delayed_percents: Sequence[int], fixed_hosts: Sequence[int]
) -> list[Run]:
    """Return a run for each policy, several of those that take an objective or a number of hosts."""
    runs = []
    for policy in policies:
        if policy in OBJECTIVE and delayed_percents:
            settings = {f"{p}%": replace(base, delayed_percent=p) for p in delayed_percents}
        elif policy in FIXED and fixed_hosts:
            settings = {f"x{n}": replace(base, fixed_hosts=n) for n in fixed_hosts}
        else:
            settings = {"": base}
        runs += [
            Run(f"{policy} {variant}".rstrip(), policy, setting) for variant, setting in settings.items()
        ]
    return runs


def headline(runs: Sequence[Run]) -> Run | None:
    """Return the run of Lull whose objective is nearest to the shipped one, whatever came of it."""
    of_lull = [run for run in runs if run.policy == LULL]
    return min(of_lull, key=lambda run: abs(run.delayed_percent - SHIPPED_DELAYED_PERCENT), default=None)


def outcome(trace: Trace, run: Run) -> Outcome:
    """Run one; its outcome bears the run's name and the lower bound at its own share of delayed requests."""
    found = SIMULATORS[run.policy](trace, run.setting)
    bound = lower_bound_host_hours(trace, run.setting, found.delayed_fraction, may_drop=found.dropped > 0)
    return replace(found, policy=run.name, lower_bound_host_hours=bound)


def bound_curve(trace: Trace, setting: Setting) -> list[Outcome]:
    """Return the bound at several shares of delayed requests."""
    return [clairvoyant_at(trace, setting, share) for share in BOUND_SHARES]
