"""What makes `lull simulate` worth believing: a real cluster keeps the hosts that it predicts.

Thirty models of three tenants on four nodes, asked as a compressed trace says. The simulator is then given
the same trace, and what loads and starts of hosts took in that very run.

Once the services' idleAfter and the pool's emptyAfter are set, on the cluster and in the simulator alike, so
that a day fits into minutes. Once neither is: a rush, and the quiet after it, in which hosts go by what was
learned of silences and of the price of a delay. That price begins high; so that it gets low within the test,
all requests may wait, by the services' own objective.
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

MODELS, TENANTS, NODES = 30, 3, 4
MODEL_BYTES, HOST_BYTES = 128 * 2**20, 2**30
"""Half of a host is for Triton itself: four models fit beside it."""
MOST_HOSTS = 12
POWER = PowerProfile(idle_watts=16.0, context_watts=21.0, max_watts=72.0)
SQUEEZE = 60
"""So much faster than the people whose habits the trace has."""
SHORT_SECONDS, LONG_SECONDS = 90.0, 620.0
RUSH_SECONDS, QUIET_SECONDS, LONG_QUIET_SECONDS = 60.0, 120.0, 560.0
STEADY_PER_SECOND = 4
"""Requests to the one model that is asked in the quiet too: they are what lowers the price of a delay."""
COMPUTE_SECONDS = 0.005
AGREEMENT = 0.15


@dataclass(frozen=True)
class Rules:
    """What people say of letting go, on the cluster and in the simulator alike.

    Attributes:
        pool: the pool that it is tried in.
        idle_after_seconds, empty_after_seconds: of services and the pool; None leaves it to what is learned.
        delayed_percent: the services' objective.
    """

    pool: str
    idle_after_seconds: float | None = None
    empty_after_seconds: float | None = None
    delayed_percent: int | None = None

    @property
    def of_pool(self) -> dict:
        return {} if self.empty_after_seconds is None else {"emptyAfter": f"{self.empty_after_seconds:.0f}s"}

    @property
    def of_service(self) -> dict:
        idle_after, percent = self.idle_after_seconds, self.delayed_percent
        return ({} if idle_after is None else {"idleAfter": f"{idle_after:.0f}s"}) | (
            {} if percent is None else {"objective": {"delayedPercent": percent}}
        )


SAID = Rules("said", idle_after_seconds=2.0, empty_after_seconds=10.0)
LEARNED = Rules("learned", delayed_percent=100)


@dataclass
class Kept:
    """What a watcher of ModelHosts saw of a pool, in seconds of `time.monotonic()`."""

    pool: str
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
        if host["spec"]["pool"] != self.pool:
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
    await compare(four_nodes, compressed(LONG_SECONDS if soak else SHORT_SECONDS), SAID)


@pytest.mark.timeout(1200)
async def test_a_cluster_lets_hosts_go_by_what_it_learns_as_the_simulator_predicts(
    four_nodes: Cluster, soak: bool
) -> None:
    trace = with_quiet(compressed(RUSH_SECONDS), LONG_QUIET_SECONDS if soak else QUIET_SECONDS)
    predicted = await compare(four_nodes, trace, LEARNED)
    most, left = max(count for _, count in predicted.kept), predicted.kept[-1][1]
    assert left <= most / 2, "hosts that stay to the end hold nobody to what was learned"


async def compare(cluster: Cluster, trace: Trace, rules: Rules) -> Outcome:
    """Hold what a cluster keeps on a trace to what the simulator predicts; return the prediction."""
    async with world(cluster) as lull:
        kept, began, tally = await replayed(lull, trace, rules)
    assert not tally.failed, str(tally)
    real = kept.curve(began, began + trace.length_seconds)
    setting = measured(kept, rules)
    predicted = simulate_lull(trace, setting)
    told(trace, kept, real, predicted, tally, setting)
    assert host_seconds(real, trace.length_seconds) == pytest.approx(
        predicted.host_hours * 3600, rel=AGREEMENT
    )
    return predicted


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


def with_quiet(rush: Trace, seconds: float) -> Trace:
    """Return a trace and the quiet after it, in all of which its hottest model is asked steadily."""
    length_seconds = rush.length_seconds + seconds
    steady = ((at / STEADY_PER_SECOND, 0) for at in range(round(length_seconds * STEADY_PER_SECOND)))
    requests = sorted([*zip(rush.at_seconds, rush.model, strict=True), *steady])
    return replace(
        rush,
        at_seconds=array("d", (at for at, _ in requests)),
        model=array("l", (model for _, model in requests)),
        duration_seconds=array("d", [COMPUTE_SECONDS] * len(requests)),
        length_seconds=length_seconds,
    )


async def replayed(lull: World, trace: Trace, rules: Rules) -> tuple[Kept, float, Tally]:
    """Replay a trace; return what was kept, when it began, and what became of the requests."""
    await lull.pool(
        rules.pool,
        hosts={"max": MOST_HOSTS},
        memory=str(HOST_BYTES),
        sharing="Namespace",
        power={"idleWatts": 16, "contextWatts": 21, "maxWatts": 72},
        **rules.of_pool,
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
                pool=rules.pool,
                resources={"memory": str(MODEL_BYTES)},
                **rules.of_service,
            )
        )
    for service in services:
        await service.wait("Asleep")
    targets = {at: cycle(service.targets()) for at, service in enumerate(services)}
    requests = [(at, next(targets[m])) for at, m in zip(trace.at_seconds, trace.model, strict=True)]
    async with watched(lull.kube, rules.pool) as kept:
        began = time.monotonic()
        tally = await replay(HttpClient(), requests)
        await asyncio.sleep(max(0.0, began + trace.length_seconds - time.monotonic()))
    return kept, began, tally


def measured(kept: Kept, rules: Rules) -> Setting:
    """Return the machine as it was in that run."""
    loads = [seconds for of_one in kept.loads.values() for seconds in of_one]
    return Setting(
        gpu_memory_bytes=HOST_BYTES,
        load_seconds=median(loads),
        loads={service: median(of_one) for service, of_one in kept.loads.items()},
        host_start_seconds=median(kept.starts.values()),
        power=POWER,
        delayed_percent=rules.delayed_percent,
        idle_after_seconds=rules.idle_after_seconds,
        empty_after_seconds=rules.empty_after_seconds,
    )


def host_seconds(steps: Steps, length_seconds: float) -> float:
    """Return the integral of a curve."""
    ends = [at for at, _ in steps[1:]] + [length_seconds]
    return sum(count * (end - at) for (at, count), end in zip(steps, ends, strict=True))


def told(trace: Trace, kept: Kept, real: Steps, predicted: Outcome, tally: Tally, setting: Setting) -> None:
    """Have the agreement printed."""
    seconds = trace.length_seconds
    was, said = host_seconds(real, seconds), predicted.host_hours * 3600
    note(
        f"simulator, {kept.pool}: {was:.0f} host-seconds kept in {seconds:.0f} s, {said:.0f} predicted "
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
async def watched(kube: Kube, pool: str) -> AsyncIterator[Kept]:
    """Watch the hosts of a pool."""
    kept = Kept(pool)
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
