"""How few hosts Lull keeps on a trace, beside what its peers would: the frontier of hosts and delays.

Each figure compares with a run of Lull, at an objective that it names, that is no worse than the peer in one
of the two: nothing is interpolated. Where no run is, the figure has no value, and its bar is missed. Energy
is compared as shipped too, with the draw of an idle context as published, and with what low idle clocks make
of it. Seeds that nothing was tuned on. `python -m bench.few_hosts` runs it alone.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.figures import Figure, show, write
from bench.timeouts import hindsight, one_timeout
from lull.simulate.bound import lower_bound_host_hours
from lull.simulate.outcome import Outcome
from lull.simulate.peers.pods import KNATIVE_WINDOW_SECONDS, scaled_pods
from lull.simulate.policies import FIXED, POLICIES, Simulate
from lull.simulate.setting import GIB, Setting
from lull.simulate.synthetic import synthetic
from lull.simulate.trace import Trace, read_csv

SEEDS = (10, 11)
TENANTS = (1, 20)
OBJECTIVES = (1, 3, 5, 7, 10, 15, 20, 24, 28, 40, 50, 55)
FIXED_HOSTS = {1: (1, 2, 4), 20: (1,)}
"""Hosts of each tenant that peers with a fixed number keep, by the number of tenants."""
BARS: Mapping[str, tuple[float | None, float | None]] = {
    "knative": (0.25, 0.2),
    "keda": (0.25, 0.2),
    "knative-shared": (None, 0.5),
    "keda-shared": (None, 0.5),
    "modelmesh": (0.5, None),
    "seldon": (0.5, None),
}
"""The most hosts at their delays, and the most delays at their hosts, as shares of theirs."""
SHORT = "knative without grace"
SHORTER: Mapping[str, Simulate] = {
    SHORT: partial(scaled_pods, SHORT, KNATIVE_WINDOW_SECONDS, False),
    f"{SHORT}, shared": partial(scaled_pods, f"{SHORT}, shared", KNATIVE_WINDOW_SECONDS, True),
}
"""Knative at 60 s instead of the 90 s that the bars are of; only reported."""
LOW_CONTEXT_WATTS = 2.0
"""What an idle context draws once the clocks are low."""
SHARES = (0.01, 0.05, 0.2)
TIMEOUTS_SECONDS = (60, 120, 300, 1200)
PRICES_SECONDS = (100, 300, 1000)
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
    print(f"    {where}", file=sys.stderr, flush=True)
    low = replace(setting, power=replace(setting.power, context_watts=LOW_CONTEXT_WATTS))
    at = {f"lull at {percent} %": replace(setting, delayed_percent=percent) for percent in OBJECTIVES}
    saving, *runs = _lull(trace, {"lull, low": low, "lull as shipped": setting, **at})
    shipped = runs[0]
    yield Figure(f"{where}: as shipped, hosts", shipped.host_hours, "h")
    yield Figure(f"{where}: as shipped, delayed", 100 * shipped.delayed_fraction, "%")
    yield Figure(f"{where}: as shipped, energy", shipped.energy_wh / 1000, "kWh")
    yield from _low_context(where, saving, trace, low)
    for peer in _peers(trace, setting, tenants):
        bars = BARS.get(peer.policy.partition(" of ")[0], (None, None))
        yield from _against(where, peer, runs, *bars)
    yield from _beside_timeouts(where, trace, setting, runs)
    for share in SHARES:
        least = lower_bound_host_hours(trace, setting, share)
        ours = _fewest(runs, share)
        yield Figure(
            f"{where}: hosts at {share:.0%} delayed",
            ours.host_hours if ours else None,
            "h",
            f"perfect foresight, at least; {_by(ours)}",
            least,
        )


def _peers(trace: Trace, setting: Setting, tenants: int) -> Iterator[Outcome]:
    for name, simulate in POLICIES.items():
        if name in FIXED:
            for hosts in FIXED_HOSTS[tenants]:
                told = simulate(trace, replace(setting, fixed_hosts=hosts))
                yield replace(told, policy=f"{name} of {hosts}")
        elif name in BARS:
            yield simulate(trace, setting)
    for simulate in SHORTER.values():
        yield simulate(trace, setting)


def _low_context(where: str, ours: Outcome, trace: Trace, low: Setting) -> Iterator[Figure]:
    """Compare the energy of all policies, as shipped, where an idle context draws little."""
    for peer in (simulate(trace, low) for name, simulate in POLICIES.items() if name != "lull"):
        yield Figure(
            f"{where}: as shipped with {LOW_CONTEXT_WATTS:g} W a context, energy",
            ours.energy_wh / 1000,
            "kWh",
            peer.policy,
            peer.energy_wh / 1000,
        )


def _against(
    where: str, peer: Outcome, runs: Sequence[Outcome], hosts: float | None, delays: float | None
) -> Iterator[Figure]:
    """Compare with the run of fewest hosts at the peer's delays, and that of fewest delays at its hosts.

    Args:
        where: which trace.
        peer: whom with.
        runs: Lull's.
        hosts: the most that our hosts may be of its.
        delays: the most that our delays may be of its.
    """
    ours = _fewest(runs, peer.delayed_fraction)
    what = f"{where}: hosts at the delays of {peer.policy}"
    told = f"{100 * peer.delayed_fraction:.1f} % delayed; {_by(ours)}"
    kept, drawn = (ours.host_hours, ours.energy_wh / 1000) if ours else (None, None)
    yield Figure(what, kept, "h", told, peer.host_hours, hosts, of_ratio=True)
    yield Figure(f"{what}, energy", drawn, "kWh", told, peer.energy_wh / 1000)
    affordable = [run for run in runs if run.host_hours <= peer.host_hours]
    ours = min(affordable, key=lambda run: run.delayed_fraction, default=None)
    yield Figure(
        f"{where}: delays at the hosts of {peer.policy}",
        100 * ours.delayed_fraction if ours else None,
        "%",
        f"{peer.host_hours:,.0f} h; {_by(ours)}",
        100 * peer.delayed_fraction,
        delays,
        of_ratio=True,
    )


def _beside_timeouts(where: str, trace: Trace, setting: Setting, runs: Sequence[Outcome]) -> Iterator[Figure]:
    """Compare with a crude sketch, and with what no timeout could go below if it were told in hindsight."""
    sketches = (one_timeout(trace, setting, seconds) for seconds in TIMEOUTS_SECONDS)
    told = (hindsight(trace, setting, price) for price in PRICES_SECONDS)
    for point in (*sketches, *told):
        ours = _fewest(runs, point.delayed_fraction)
        yield Figure(
            f"{where}: hosts at the delays of {point.name}",
            ours.host_hours if ours else None,
            "h",
            f"{100 * point.delayed_fraction:.1f} % delayed; {_by(ours)}",
            point.host_hours,
        )


def _fewest(runs: Sequence[Outcome], delayed: float) -> Outcome | None:
    """Return the run with the fewest hosts of those that delay no larger share."""
    fine = (run for run in runs if run.delayed_fraction <= delayed)
    return min(fine, key=lambda run: run.host_hours, default=None)


def _by(ours: Outcome | None) -> str:
    return ours.policy if ours else "no run of Lull qualifies"


def _lull(trace: Trace, settings: Mapping[str, Setting]) -> list[Outcome]:
    """Run Lull on several settings, by the names that the outcomes bear; on all cores, as each run is one."""
    with ProcessPoolExecutor() as pool:
        told = list(pool.map(partial(POLICIES["lull"], trace), settings.values()))
    return [replace(one, policy=name) for name, one in zip(settings, told, strict=True)]


if __name__ == "__main__":
    figures = measure([int(seed) for seed in sys.argv[1:]] or SEEDS)
    write(figures, Path("build/few_hosts.json"))
    show(figures)
