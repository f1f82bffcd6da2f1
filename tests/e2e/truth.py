"""What is known of a load beforehand, what its clients measured, and what Lull reports of it."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from e2e.load import OK, Answer, HttpClient, Load, Target, drive
from e2e.world import NAMESPACE, Published, Service, World
from lull.api.names import AGENT_PORT

Object = dict[str, Any]

SLEEPER = Path(__file__).parents[1] / "data" / "repository" / "sleeper"
SLOW_EVERY, SLOW_SECONDS = 20, 0.2
SCRAPE_TIMEOUT_SECONDS = 5.0
SETTLED_SECONDS, POLL_SECONDS = 15.0, 0.25


@dataclass(frozen=True)
class Power:
    """A pool's power profile, in watts; `node` is the share of one host."""

    idle: int = 50
    context: int = 40
    most: int = 300
    node: int = 25

    def spec(self) -> Object:
        """Return it as a pool has it, for a node of four hosts."""
        watts = {"idleWatts": self.idle, "contextWatts": self.context, "maxWatts": self.most}
        return watts | {"nodeWatts": 4 * self.node, "hostsPerNode": 4}

    def idle_share(self, memory_share: float, residents: int) -> float:
        """Return what one of `residents` models draws when nobody computes (power.md's split)."""
        return (self.idle + self.node) * memory_share + self.context / residents

    @property
    def dynamic(self) -> float:
        """What a second of computing draws above idle."""
        return self.most - self.idle - self.context


@dataclass(frozen=True)
class Sleeper:
    """A model with a known service time, and how often it is asked.

    Attributes:
        rate: requests a second.
    """

    milliseconds: int
    rate: float

    def seconds(self, number: int) -> float:
        """Return the service time of the request with this number."""
        return SLOW_SECONDS if number % SLOW_EVERY == 0 else self.milliseconds / 1000

    def publish(self, lull: World) -> Published:
        """Put it into the files folder."""
        config = (SLEEPER / "config.pbtxt").read_text().replace('"30"', f'"{self.milliseconds}"')
        return lull.publish(f"sleeper-{self.milliseconds}.tar", SLEEPER, {"config.pbtxt": config})


class Recorder(HttpClient):
    """A client that keeps every answer with the number of its request."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[int, Answer]] = []

    async def infer(self, target: Target, value: float, upload_seconds: float = 0.0) -> Answer:
        """Send one inference."""
        answer = await super().infer(target, value, upload_seconds)
        self.answers.append((int(value), answer))
        return answer


@dataclass
class Asked:
    """One service under load, as its clients know it."""

    service: Service
    sleeper: Sleeper
    client: Recorder = field(default_factory=Recorder)

    @property
    def labels(self) -> Mapping[str, str]:
        return {"modelservice_namespace": NAMESPACE, "modelservice": self.service.name}

    def within(self, since: float, until: float) -> list[tuple[int, Answer]]:
        """Return what was answered between two moments of `time.monotonic()`."""
        return [(number, a) for number, a in self.client.answers if since < a.done <= until]

    def busy_seconds(self, since: float = -math.inf, until: float = math.inf) -> float:
        """Return the service time of what was answered, as it is known beforehand."""
        return sum(self.sleeper.seconds(number) for number, _ in self.within(since, until))

    def p99(self, since: float, until: float) -> float:
        """Return the 99th percentile that its clients measured, in seconds."""
        latencies = [answer.seconds for _, answer in self.within(since, until)]
        return quantiles(latencies, n=100, method="inclusive")[98]

    async def load(self, gateway: str, seconds: float, seed: int) -> None:
        """Ask it steadily; every request must be answered."""
        load = Load(
            [self.service.target(gateway)],
            self.sleeper.rate,
            seconds,
            slow_share=0.0,
            seed=seed,
            steady=True,
        )
        tally = await drive(self.client, load)
        assert tally.outcomes[OK] == tally.total, tally


@dataclass(frozen=True)
class Scrape:
    """All series of one program at a moment of `time.monotonic()`."""

    at: float
    series: Sequence[tuple[str, Mapping[str, str], float]]

    def all(self, name: str, **labels: str) -> list[float]:
        """Return the values of the series of this name that have these labels."""
        return [v for n, have, v in self.series if n == name and labels.items() <= have.items()]

    def sum(self, name: str, **labels: str) -> float:
        """Return their sum; there must be one at least."""
        found = self.all(name, **labels)
        assert found, f"no {name}{labels} among {sorted({n for n, _, _ in self.series})}"
        return sum(found)


async def scrape(address: str, port: int = AGENT_PORT) -> Scrape:
    """Read the metrics of one program.

    Raises:
        aiohttp.ClientError, TimeoutError: it does not answer.
    """
    timeout = aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        began = time.monotonic()
        async with session.get(f"http://{address}:{port}/metrics") as answer:
            text = await answer.text()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return Scrape(began, [(s.name, s.labels, s.value) for s in samples])


async def scrape_all(hosts: Sequence[Object]) -> dict[str, Scrape]:
    """Read the metrics of hosts' agents, each just settled, by the hosts' names."""
    found = await asyncio.gather(*(just_settled(host["status"]["address"]) for host in hosts))
    return {host["metadata"]["name"]: it for host, it in zip(hosts, found, strict=True)}


async def just_settled(address: str) -> Scrape:
    """Return the metrics of a moment at which the agent has just charged what was drawn (every 10 s)."""
    name, deadline = "lull_host_energy_joules_total", time.monotonic() + SETTLED_SECONDS
    first = (await scrape(address)).sum(name)
    while (seen := await scrape(address)).sum(name) == first:
        assert time.monotonic() < deadline, f"{name} stood still for {SETTLED_SECONDS:g} s"
        await asyncio.sleep(POLL_SECONDS)
    return seen


def apart(have: float, want: float) -> float:
    """Return how far a figure is from the truth, as a share of it."""
    return abs(have - want) / want
