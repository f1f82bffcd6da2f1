"""Truth: what Lull reports of a model is what its clients measured and what its power profile makes of that.

The same five models run alone (a host each), two on one host, and five on one host, all under a known load.
Where clients and reports are compared over a window, both end within the agent's sampling period (1 s).
"""

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

import pytest

from e2e.load import OK
from e2e.report import note
from e2e.truth import (
    SETTLED_SECONDS,
    SLOW_EVERY,
    SLOW_SECONDS,
    Asked,
    Object,
    Power,
    Scrape,
    Sleeper,
    apart,
    scrape_all,
)
from e2e.world import NAMESPACE, World, world
from lull.api.names import HOSTS_NAMESPACE
from lull.api.quantities import parse_duration_seconds
from lull.kube import MODELHOSTS, MODELPOOLS, MODELSERVICES, Resource
from lull.local.cluster import Cluster
from lull.policy.packing import HOST_OVERHEAD_BYTES

FIVE = [Sleeper(20, 4.5), Sleeper(25, 4.0), Sleeper(30, 4.0), Sleeper(22, 4.5), Sleeper(28, 4.0)]
"""Together they compute for two thirds of the time: what is asked beyond a host's capacity draws no more."""
COMPANIES: Mapping[str, Sequence[Sleeper]] = {"solo": FIVE, "two": FIVE[:2], "five": FIVE}
MEMORY = {"solo": f"{HOST_OVERHEAD_BYTES // 2**20 + 200}Mi", "two": "2Gi", "five": "2Gi"}
"""Of a host: one model fits, or all."""
ASLEEP = [f"never-asked-{n}" for n in range(5)]
POWER = Power()
WINDOW_SECONDS = 60.0
SUMMARY_SECONDS = 48.0, 60.0
"""Triton's summaries forget in five steps of 12 s: they cover between these."""
SLACK_SECONDS = 3.0
LOAD_SECONDS = 97.0
"""So long that a status, which is written every 30 s, falls where the whole window lies within the load."""
SOAK_SECONDS = 600.0
FIGURES_SECONDS = 30.0
"""Figures alone are written at most this often."""


@dataclass
class Seen:
    """One object at a moment of `time.monotonic()`."""

    at: float
    item: Object


@dataclass
class Run:
    """What was asked and what was reported.

    Attributes:
        asked: services of each company.
        early, late: agents' metrics while the load is steady, a window apart, by host.
        done: the same when the load is over and all is counted.
        hosts, services, pools: these objects before the load, and then after each write of one, by name.
        host_of: the host of each service.
    """

    asked: dict[str, list[Asked]]
    host_of: dict[str, str] = field(default_factory=dict)
    early: dict[str, Scrape] = field(default_factory=dict)
    late: dict[str, Scrape] = field(default_factory=dict)
    done: dict[str, Scrape] = field(default_factory=dict)
    hosts: dict[str, list[Seen]] = field(default_factory=dict)
    services: dict[str, list[Seen]] = field(default_factory=dict)
    pools: dict[str, list[Seen]] = field(default_factory=dict)
    steady: tuple[float, float] = (0.0, 0.0)

    @property
    def all(self) -> list[Asked]:
        return [asked for company in self.asked.values() for asked in company]

    def reported(self, asked: Asked, name: str, at: Mapping[str, Scrape], **labels: str) -> float:
        """Return a figure that an agent's metrics have of a service."""
        return at[self.host_of[asked.service.name]].sum(name, **asked.labels, **labels)

    def gained(self, asked: Asked, name: str, **labels: str) -> float:
        """Return by how much a counter of a service rose between `early` and `late`."""
        return self.reported(asked, name, self.late, **labels) - self.reported(
            asked, name, self.early, **labels
        )

    def span(self, asked: Asked) -> tuple[float, float]:
        """Return the moments of `early` and `late`."""
        host = self.host_of[asked.service.name]
        return self.early[host].at, self.late[host].at

    def whole(self, at: float) -> bool:
        """Whether a window that was told of at a moment lay within the load, some slack included."""
        return self.steady[0] + WINDOW_SECONDS + SLACK_SECONDS <= at <= self.steady[1]

    def told_by_hosts(self, asked: Asked) -> list[tuple[float, Object]]:
        """Return what hosts' statuses said of a service, and when."""
        key = f"{NAMESPACE}/{asked.service.name}"
        return [
            (seen.at, model)
            for seen in self.hosts[self.host_of[asked.service.name]]
            for model in seen.item["status"]["models"]
            if model["service"] == key
        ]


@pytest.fixture(scope="module")
def run(cluster: Cluster, request: pytest.FixtureRequest) -> Run:
    seconds = SOAK_SECONDS if request.config.getoption("--soak") else LOAD_SECONDS
    return asyncio.run(_run(cluster, seconds))


async def _run(cluster: Cluster, seconds: float) -> Run:
    async with world(cluster) as lull:
        run = Run({name: await _apply(lull, name, models) for name, models in COMPANIES.items()})
        for name in ASLEEP:
            await lull.service(name, FIVE[0].publish(lull), pool="truth-five")
        async with AsyncExitStack() as stack:
            for asked in run.all:
                await stack.enter_async_context(asked.client)
            await asyncio.gather(*(_wake(lull, asked) for asked in run.all))
            await lull.until(partial(_placed, run), "every model has its host", 30)
            watching = [
                asyncio.create_task(_follow(lull, MODELHOSTS, HOSTS_NAMESPACE, run.hosts)),
                asyncio.create_task(_follow(lull, MODELSERVICES, NAMESPACE, run.services)),
                asyncio.create_task(_follow(lull, MODELPOOLS, None, run.pools)),
            ]
            await _drive(lull, run, seconds)
            assert not any(task.done() for task in watching), "a watch broke"
            for task in watching:
                task.cancel()
        return run


async def _apply(lull: World, company: str, models: Sequence[Sleeper]) -> list[Asked]:
    pool = f"truth-{company}"
    most = len(models) if company == "solo" else 1
    await lull.pool(pool, memory=MEMORY[company], hosts={"max": most}, power=POWER.spec(), emptyAfter="600s")
    return [
        Asked(
            await lull.service(
                f"{company}-{n}", sleeper.publish(lull), pool=pool, idleAfter="600s", hold={"timeout": "120s"}
            ),
            sleeper,
        )
        for n, sleeper in enumerate(models)
    ]


async def _wake(lull: World, asked: Asked) -> None:
    answer = await asked.client.infer(asked.service.target(lull.gateway), 1.0)
    assert answer.outcome == OK, answer.detail


async def _placed(run: Run) -> bool:
    """Whether every model has a host, and only the solo ones a host of their own."""
    for asked in run.all:
        places = await asked.service.placements()
        if len(places) != 1:
            return False
        run.host_of[asked.service.name] = places[0][0]["metadata"]["name"]
    hosts = {company: {run.host_of[a.service.name] for a in of} for company, of in run.asked.items()}
    return {company: len(of) for company, of in hosts.items()} == {"solo": len(FIVE), "two": 1, "five": 1}


async def _drive(lull: World, run: Run, seconds: float) -> None:
    hosts = [host for host in await lull.hosts() if host["metadata"]["name"] in run.host_of.values()]
    start = time.monotonic()
    run.steady = start, start + seconds
    loads = asyncio.gather(
        *(asked.load(lull.gateway, seconds, seed) for seed, asked in enumerate(run.all, start=1))
    )
    await asyncio.sleep(seconds - WINDOW_SECONDS - 2 * SETTLED_SECONDS)
    run.early = await scrape_all(hosts)
    await asyncio.sleep(start + seconds - SETTLED_SECONDS - time.monotonic())
    run.late = await scrape_all(hosts)
    assert time.monotonic() < start + seconds
    await loads
    run.done = await scrape_all(hosts)


async def _follow(lull: World, kind: Resource, namespace: str | None, seen: dict[str, list[Seen]]) -> None:
    """Keep each state that is written of the objects of a kind."""
    items, version = await lull.kube.list(kind, namespace)
    for item in items:
        seen[item["metadata"]["name"]] = [Seen(time.monotonic(), item)]
    async for event in lull.kube.watch(kind, namespace, version, window_seconds=3600):
        if event["type"] == "MODIFIED":
            seen[event["object"]["metadata"]["name"]].append(Seen(time.monotonic(), event["object"]))


# What is counted.


def test_every_request_is_counted_once(run: Run) -> None:
    for asked in run.all:
        counted = run.reported(asked, "lull_model_requests_total", run.done)
        assert counted == len(asked.client.answers), asked.service.name
        assert run.reported(asked, "lull_model_failures_total", run.done) == 0


def test_requests_a_second_are_within_2_percent_of_what_clients_measured(run: Run) -> None:
    for asked in run.all:
        since, until = run.span(asked)
        rate = run.gained(asked, "lull_model_requests_total") / (until - since)
        measured = len(asked.within(since, until)) / (until - since)
        assert apart(rate, measured) < 0.02, (asked.service.name, rate, measured)


def test_the_busy_share_is_within_5_percent_of_the_known_service_times(run: Run) -> None:
    worst = 0.0
    for asked in run.all:
        busy = run.reported(asked, "lull_model_busy_seconds_total", run.done)
        worst = max(worst, apart(busy, asked.busy_seconds()))
        assert apart(busy, asked.busy_seconds()) < 0.05, (asked.service.name, busy, asked.busy_seconds())
    note(f"busy time of {len(run.all)} models: at most {worst:.1%} from the known service times")


def test_p99_is_within_10_percent_of_what_clients_measured(run: Run) -> None:
    worst = 0.0
    for asked in run.all:
        said = run.reported(asked, "lull_model_latency_seconds", run.late, quantile="0.99")
        _, until = run.span(asked)
        measured = [asked.p99(until - window, until) for window in SUMMARY_SECONDS]
        off = min(apart(said, p99) for p99 in measured)
        worst = max(worst, off)
        assert off < 0.10, (asked.service.name, said, measured)
    note(f"p99 of {len(run.all)} models: at most {worst:.1%} from what clients measured")


# What is drawn.


def test_the_parts_watts_sum_to_the_hosts(run: Run) -> None:
    for scrapes in (run.early, run.late, run.done):
        for host, it in scrapes.items():
            parts = it.sum("lull_model_power_watts") + it.sum("lull_host_unallocated_power_watts")
            assert apart(parts, it.sum("lull_host_power_watts")) < 0.001, host
            joules = it.sum("lull_model_energy_joules_total")
            joules += it.sum("lull_host_unallocated_energy_joules_total")
            assert apart(joules, it.sum("lull_host_energy_joules_total")) < 0.001, host


def test_a_models_energy_in_company_is_that_of_its_solo_run_and_its_share_of_the_idle_draw(run: Run) -> None:
    worst = 0.0
    for company in ("two", "five"):
        for solo, asked in zip(run.asked["solo"], run.asked[company], strict=False):
            since, until = run.span(asked)
            memory = run.reported(asked, "lull_model_memory_bytes", run.late)
            capacity = run.late[run.host_of[asked.service.name]].sum("lull_host_memory_bytes")
            share = POWER.idle_share(memory / capacity, len(run.asked[company]))
            alone = run.gained(solo, "lull_model_energy_joules_total", part="dynamic")
            want = alone + share * (until - since)
            have = run.gained(asked, "lull_model_energy_joules_total")
            worst = max(worst, apart(have, want))
            assert apart(have, want) < 0.15, (asked.service.name, have, want)
            idle = run.gained(asked, "lull_model_energy_joules_total", part="idle")
            assert apart(idle, share * (until - since)) < 0.03, (asked.service.name, idle, share)
    note(f"energy in company: at most {worst:.1%} from solo and the share of the idle draw")


def test_a_solo_run_draws_what_its_power_profile_and_its_service_times_make(run: Run) -> None:
    for solo in run.asked["solo"]:
        since, until = run.span(solo)
        known = POWER.dynamic * solo.busy_seconds(since, until)
        have = run.gained(solo, "lull_model_energy_joules_total", part="dynamic")
        # A window cuts through a slow request at either end.
        assert abs(have - known) < 0.05 * known + POWER.dynamic * SLOW_SECONDS, solo.service.name


# What people read.


def test_the_statuses_of_hosts_say_what_clients_measured(run: Run) -> None:
    for asked in run.all:
        said = [(at, model) for at, model in run.told_by_hosts(asked) if run.whole(at)]
        assert said, f"no status of {asked.service.name} was written in the steady load"
        for at, model in said:
            told = model["utilization"]
            since = at - WINDOW_SECONDS
            requests = len(asked.within(since, at))
            assert abs(told["requestsPerMinute"] - requests) <= 0.02 * requests + 1, (model, requests)
            busy = 100 * asked.busy_seconds(since, at) / WINDOW_SECONDS
            # Rounded to whole percents; a window may cut one slow request more or less.
            cut = 0.5 + 100 * SLOW_SECONDS / WINDOW_SECONDS
            assert abs(told["busyPercent"] - busy) <= 0.05 * busy + cut, (model, busy)
            measured = [asked.p99(at - window, at) for window in SUMMARY_SECONDS]
            assert min(apart(parse_duration_seconds(told["latencyP99"]), p99) for p99 in measured) < 0.10, (
                model,
                measured,
            )


def test_the_status_of_a_service_says_what_its_host_says(run: Run) -> None:
    for asked in run.all:
        hosts = [model for _, model in run.told_by_hosts(asked)]
        said = [seen.item["status"] for seen in run.services[asked.service.name] if run.whole(seen.at)]
        assert said, f"no status of {asked.service.name} was written in the steady load"
        for status in said:
            told = status["utilization"]
            assert _matches(told, hosts, "requestsPerMinute"), (told, hosts)
            assert _matches(told, hosts, "busyPercent"), (told, hosts)
            assert told["busy"] == f"{told['busyPercent']}%"
            assert status["energy"]["basis"] == "Modelled"


def test_the_status_of_a_pool_says_what_its_host_says(run: Run) -> None:
    for company in ("two", "five"):
        host = run.hosts[run.host_of[run.asked[company][0].service.name]]
        watts = {seen.item["status"]["energy"]["milliwatts"] for seen in host}
        said = [seen.item["status"] for seen in run.pools[f"truth-{company}"] if run.whole(seen.at)]
        assert said, f"no status of pool {company} was written in the steady load"
        for status in said:
            assert status["energy"]["basis"] == "Modelled"
            assert status["energy"]["milliwatts"] in watts, (status, watts)
            busy = sum(asked.sleeper.rate * _mean_seconds(asked.sleeper) for asked in run.asked[company])
            assert abs(status["busyPercent"] - 100 * busy) < 0.1 * 100 * busy, (status, busy)


def _mean_seconds(sleeper: Sleeper) -> float:
    return sum(sleeper.seconds(number) for number in range(SLOW_EVERY)) / SLOW_EVERY


# What it costs to tell.


def test_a_sleeping_service_costs_no_writes(run: Run) -> None:
    for name in ASLEEP:
        assert run.services[name][1:] == []


def test_an_awake_service_and_its_host_are_written_at_most_once_in_30_seconds(run: Run) -> None:
    for name, states in [*run.services.items(), *run.hosts.items()]:
        for before, after in itertools.pairwise(states[1:]):
            # A second, as a watch may tell the one late and the other not.
            apart_enough = after.at - before.at > FIGURES_SECONDS - 1
            assert apart_enough or _state(before.item) != _state(after.item), (name, before, after)


def _state(item: Object) -> Object:
    """Return what is no figure: conditions, and the states of placements."""
    status = item["status"]
    models = status.get("models", status.get("placements", []))
    return {"conditions": status["conditions"], "states": [(m["id"], m["state"]) for m in models]}


def _matches(told: Object, hosts: Sequence[Object], name: str) -> bool:
    return any(told[name] == host["utilization"][name] for host in hosts if "utilization" in host)
