"""What makes `lull simulate` worth believing: a real cluster keeps the hosts that it predicts.

Thirty models of three tenants on four nodes, asked as a compressed trace says. The simulator is then given
the same trace, and what loads and starts of hosts took in that very run. So that a day fits into minutes, the
services' idleAfter and the pool's emptyAfter are set, on the cluster and in the simulator alike; all else is
left to Lull.
"""

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from statistics import median

import pytest

from e2e.load import HttpClient, Tally, replay
from e2e.report import note
from e2e.world import World, lull_cluster, world
from lull.api.names import HOSTS_NAMESPACE
from lull.kube import MODELHOSTS, ApiError, Kube
from lull.local.cluster import Cluster
from lull.policy.power import PowerProfile
from lull.simulate.lull import simulate_lull
from lull.simulate.outcome import Outcome, Steps
from lull.simulate.setting import Setting
from lull.simulate.synthetic import synthetic
from lull.simulate.trace import Trace

POOL = "traced"
MODELS, TENANTS, NODES = 30, 3, 4
MODEL_BYTES, HOST_BYTES = 128 * 2**20, 2**30
"""Half of a host is for Triton itself: four models fit beside it."""
MOST_HOSTS = 12
IDLE_AFTER_SECONDS, EMPTY_AFTER_SECONDS = 2.0, 10.0
POWER = PowerProfile(idle_watts=16.0, context_watts=21.0, max_watts=72.0)
SQUEEZE = 60
"""So much faster than the people whose habits the trace has."""
SHORT_SECONDS, LONG_SECONDS = 90.0, 620.0
COMPUTE_SECONDS = 0.005
AGREEMENT = 0.15


@dataclass
class Kept:
    """What a watcher of ModelHosts saw of a pool, in seconds of `time.monotonic()`."""

    made: dict[str, float] = field(default_factory=dict)
    leaving: dict[str, float] = field(default_factory=dict)
    """When it was decided that each host goes; its Pod ends then, which the simulator takes for a moment."""
    gone: dict[str, float] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)
    """How long each host took until it could load: until its first model was ready, less the load."""
    loads: dict[str, list[float]] = field(default_factory=dict)
    """Load times of services."""
    _told: set[str] = field(default_factory=set)

    def look(self, host: dict, gone: bool) -> None:
        """Take in the newest state of a host."""
        name, now = host["metadata"]["name"], time.monotonic()
        if host["spec"]["pool"] != POOL:
            return
        self.made.setdefault(name, now)
        if host["metadata"].get("deletionTimestamp"):
            self.leaving.setdefault(name, now)
        if gone:
            self.gone[name] = now
        for model in host.get("status", {}).get("models", []):
            if model["state"] == "Ready" and model["id"] not in self._told:
                self._told.add(model["id"])
                load = float(model["loadSeconds"])
                self.starts.setdefault(name, now - self.made[name] - load)
                self.loads.setdefault(model["service"], []).append(load)

    def curve(self, begin: float, end: float) -> Steps:
        """Return how many were kept from each moment on, in seconds after `begin`."""
        turns = [(at, 1) for at in self.made.values()] + [(at, -1) for at in self.gone.values()]
        count, steps = 0, []
        for at, turn in sorted(turns):
            count += turn
            if at < end:
                steps.append((max(0.0, at - begin), count))
        return steps


@pytest.fixture(scope="module")
def four_nodes(home: Path) -> Iterator[Cluster]:
    with lull_cluster(home, cpu_nodes=NODES, name="four") as it:
        for tenant in range(TENANTS):
            it.kubectl("create", "namespace", f"tenant-{tenant}")
        yield it


@pytest.mark.timeout(1200)
async def test_a_cluster_keeps_the_hosts_that_the_simulator_predicts(four_nodes: Cluster, soak: bool) -> None:
    trace = compressed(LONG_SECONDS if soak else SHORT_SECONDS)
    async with world(four_nodes) as lull:
        kept, began, tally = await replayed(lull, trace)
    assert not tally.failed, str(tally)
    real = kept.curve(began, began + trace.length_seconds)
    predicted = simulate_lull(trace, measured(kept))
    told(trace, kept, real, predicted, tally)
    assert host_seconds(real, trace.length_seconds) == pytest.approx(
        predicted.host_hours * 3600, rel=AGREEMENT
    )


def compressed(length_seconds: float) -> Trace:
    """Return the habits of the synthetic trace's people, so much faster; one request a second on the mean."""
    whole = synthetic(
        1,
        tenants=TENANTS,
        memory_bytes=MODEL_BYTES,
        days=length_seconds * SQUEEZE / 86_400,
        models=MODELS,
        requests=round(length_seconds),
    )
    return replace(
        whole,
        at_seconds=array("d", (at / SQUEEZE for at in whole.at_seconds)),
        duration_seconds=array("d", [COMPUTE_SECONDS] * len(whole)),
        length_seconds=length_seconds,
    )


async def replayed(lull: World, trace: Trace) -> tuple[Kept, float, Tally]:
    """Replay a trace; return what was kept, when it began, and what became of the requests."""
    await lull.pool(
        POOL,
        hosts={"max": MOST_HOSTS},
        memory=str(HOST_BYTES),
        sharing="Namespace",
        emptyAfter=f"{EMPTY_AFTER_SECONDS:.0f}s",
        power={"idleWatts": 16, "contextWatts": 21, "maxWatts": 72},
    )
    model = lull.publish()
    services = []
    for traced in trace.models:
        namespace, _, name = traced.key.partition("/")
        services.append(
            await lull.service(
                name,
                model,
                namespace=namespace,
                pool=POOL,
                idleAfter=f"{IDLE_AFTER_SECONDS:.0f}s",
                resources={"memory": str(MODEL_BYTES)},
            )
        )
    for service in services:
        await service.wait("Asleep")
    targets = {at: cycle(service.targets()) for at, service in enumerate(services)}
    requests = [(at, next(targets[m])) for at, m in zip(trace.at_seconds, trace.model, strict=True)]
    async with watched(lull.kube) as kept:
        began = time.monotonic()
        tally = await replay(HttpClient(), requests)
        await asyncio.sleep(max(0.0, began + trace.length_seconds - time.monotonic()))
    return kept, began, tally


def measured(kept: Kept) -> Setting:
    """Return the machine as it was in that run."""
    loads = [seconds for of_one in kept.loads.values() for seconds in of_one]
    return Setting(
        gpu_memory_bytes=HOST_BYTES,
        load_seconds=median(loads),
        loads={service: median(of_one) for service, of_one in kept.loads.items()},
        host_start_seconds=median(kept.starts.values()),
        power=POWER,
        idle_after_seconds=IDLE_AFTER_SECONDS,
        empty_after_seconds=EMPTY_AFTER_SECONDS,
    )


def host_seconds(steps: Steps, length_seconds: float) -> float:
    """Return the integral of a curve."""
    ends = [at for at, _ in steps[1:]] + [length_seconds]
    return sum(count * (end - at) for (at, count), end in zip(steps, ends, strict=True))


def told(trace: Trace, kept: Kept, real: Steps, predicted: Outcome, tally: Tally) -> None:
    """Have the agreement printed."""
    setting, seconds = measured(kept), trace.length_seconds
    was, said = host_seconds(real, seconds), predicted.host_hours * 3600
    note(
        f"simulator: {was:.0f} host-seconds kept in {seconds:.0f} s, {said:.0f} predicted "
        f"({was / said - 1:+.1%}); most at once {max(n for _, n in real)}, predicted "
        f"{max(n for _, n in predicted.kept)}; hosts made {len(kept.made)}, predicted "
        f"{sum(b > a for (_, a), (_, b) in zip([(0, 0), *predicted.kept], predicted.kept, strict=False))}"
    )
    ends = sum(kept.gone[name] - at for name, at in kept.leaving.items() if name in kept.gone)
    note(
        f"  {ends:.0f} of the host-seconds are ends of Pods, which the simulator takes for moments; without "
        f"them {(was - ends) / said - 1:+.1%}"
    )
    note(
        f"  {tally.failed} of {tally.total} requests failed; {len(trace.models)} models; measured: start "
        f"{setting.host_start_seconds:.2f} s, load {setting.load_seconds:.2f} s; "
        f"{predicted.delayed_fraction:.1%} predicted to be delayed, "
        f"{sum(s > 0.1 for s in tally.latencies) / tally.total:.1%} took over 100 ms"
    )


@asynccontextmanager
async def watched(kube: Kube) -> AsyncIterator[Kept]:
    """Watch the hosts of the pool."""
    kept = Kept()
    task = asyncio.create_task(_watch(kube, kept))
    try:
        yield kept
    finally:
        task.cancel()


async def _watch(kube: Kube, kept: Kept) -> None:
    while True:
        items, version = await kube.list(MODELHOSTS, HOSTS_NAMESPACE)
        for item in items:
            kept.look(item, gone=False)
        for name in kept.made.keys() - {item["metadata"]["name"] for item in items}:
            kept.gone.setdefault(name, time.monotonic())
        try:
            async for event in kube.watch(MODELHOSTS, HOSTS_NAMESPACE, version):
                if event["type"] != "BOOKMARK":
                    kept.look(event["object"], gone=event["type"] == "DELETED")
        except ApiError:
            await asyncio.sleep(0.1)
