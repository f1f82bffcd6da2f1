"""How few hosts Lull keeps on a trace, beside what its peers would: the frontier of hosts and delays.

Each figure compares with a run of Lull, at some objective, that is no worse than the peer in one of the two:
nothing is interpolated. Seeds that nothing was tuned on. `python -m bench.few_hosts` runs it alone.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.figures import Figure, show, write
from lull.simulate.bound import lower_bound_host_hours
from lull.simulate.outcome import Outcome
from lull.simulate.policies import POLICIES
from lull.simulate.setting import GIB, Setting
from lull.simulate.synthetic import synthetic
from lull.simulate.trace import Trace, read_csv

SEEDS = (10, 11)
TENANTS = (1, 20)
OBJECTIVES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 60)
FIXED_HOSTS = {1: (1, 2, 4), 20: (1,)}
"""Hosts of each tenant that peers with a fixed number keep, by the number of tenants."""
BARS = {
    "knative": (0.25, 0.2),
    "keda": (0.25, 0.2),
    "knative-shared": (None, 0.5),
    "keda-shared": (None, 0.5),
}
"""The most hosts at their delays, and the most delays at their hosts, as shares of theirs."""
SHARES = (0.01, 0.05, 0.2)
TRACES = Path(__file__).parent.parent / "data" / "traces"


def measure(seeds: Sequence[int] = SEEDS) -> list[Figure]:
    """Simulate every policy on made-up traces and on Azure's; takes some minutes."""
    azure = read_csv(sorted(TRACES.glob("*.csv*")), memory_bytes=8 * GIB)
    figures = [*_beside_peers(replace(azure, name="Azure"), 1)]
    for seed in seeds:
        for tenants in TENANTS:
            figures += _beside_peers(synthetic(seed, tenants=tenants), tenants)
    return figures


def _beside_peers(trace: Trace, tenants: int) -> Iterator[Figure]:
    setting = Setting()
    where = trace.name if tenants == 1 else f"{trace.name} of {tenants} tenants"
    shipped = _run("lull", trace, setting)
    runs = [shipped, *(_run("lull", trace, replace(setting, delayed_percent=p)) for p in OBJECTIVES)]
    yield Figure(f"{where}: as shipped, delayed", 100 * shipped.delayed_fraction, "%")
    yield Figure(f"{where}: as shipped, energy", shipped.energy_wh / 1000, "kWh")
    for name, bars in BARS.items():
        yield from _against(where, name, _run(name, trace, setting), runs, *bars)
    for hosts in FIXED_HOSTS[tenants]:
        for name in ("modelmesh", "seldon"):
            peer = _run(name, trace, replace(setting, fixed_hosts=hosts))
            yield from _against(where, f"{name} of {hosts}", peer, runs, 0.5, None)
    for share in SHARES:
        least = lower_bound_host_hours(trace, setting, share)
        ours = _fewest(runs, share)
        if ours:
            name = f"{where}: hosts at {share:.0%} delayed"
            yield Figure(name, ours.host_hours, "h", "perfect foresight, at least", least)


def _against(
    where: str, name: str, peer: Outcome, runs: list[Outcome], hosts: float | None, delays: float | None
) -> Iterator[Figure]:
    told = f"{name} ({100 * peer.delayed_fraction:.1f} % delayed)"
    fewest = _fewest(runs, peer.delayed_fraction)
    if fewest:
        what = f"{where}: hosts at the delays of {name}"
        yield Figure(what, fewest.host_hours, "h", told, peer.host_hours, hosts, of_ratio=True)
        yield Figure(f"{what}, energy", fewest.energy_wh / 1000, "kWh", told, peer.energy_wh / 1000)
    affordable = [run for run in runs if run.host_hours <= peer.host_hours]
    if affordable:
        ours = 100 * min(run.delayed_fraction for run in affordable)
        what = f"{where}: delays at the hosts of {name}"
        told = f"{name} ({peer.host_hours:,.0f} h)"
        yield Figure(what, ours, "%", told, 100 * peer.delayed_fraction, delays, of_ratio=True)


def _fewest(runs: list[Outcome], delayed: float) -> Outcome | None:
    """Return the run with the fewest hosts of those that delay no larger share."""
    fine = (run for run in runs if run.delayed_fraction <= delayed)
    return min(fine, key=lambda run: run.host_hours, default=None)


def _run(policy: str, trace: Trace, setting: Setting) -> Outcome:
    print(f"    {trace.name}: {policy}, {setting.delayed_percent or ''}", file=sys.stderr, flush=True)
    return POLICIES[policy](trace, setting)


if __name__ == "__main__":
    figures = measure([int(seed) for seed in sys.argv[1:]] or SEEDS)
    write(figures, Path("build/few_hosts.json"))
    show(figures)
