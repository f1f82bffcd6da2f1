"""What it costs to keep everybody informed: writes, CPU and scrapes with 1,000 active services.

The API server, the controller and a gateway are real; the hosts of the fleet are simulated (see `simulated`),
as 50 Tritons do not fit on this machine. All of them share its cores with the simulation. What a real agent
costs is measured on one real host beside it.
"""

import asyncio
import os
import re
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import aiohttp

from bench.figures import Figure, percentile
from bench.simulated import REPORT_SECONDS, SCHEDULER, Agents
from e2e.load import HttpClient, Load, drive
from e2e.world import NAMESPACE, World, lull_cluster
from lull.api.names import SYSTEM_NAMESPACE
from lull.kube import MODELSERVICES, Kube
from lull.local import processes
from lull.local.cluster import Cluster
from lull.policy.packing import HOST_OVERHEAD_BYTES

Object = dict[str, Any]

ACTIVE, SLEEPING, PER_HOST = 1000, 1000, 20
MEASURED_SECONDS = 120.0
SETTLE_TIMEOUT_SECONDS = 600.0
SCRAPE_SECONDS = 15.0
"""As often as a Prometheus asks."""
AGENT_SECONDS = 30.0
AGENT_RATE = 40.0
"""Requests a second at the real host, to all its models together."""
FLEET_POOL, REAL_POOL = "bench-fleet", "bench-agent"
POWER = {"idleWatts": 60, "contextWatts": 40, "maxWatts": 300, "nodeWatts": 100, "hostsPerNode": 4}
_CREATED_AT_ONCE = 8
_HERTZ = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_REQUESTS = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_WRITING = {"APPLY", "CREATE", "DELETE", "PATCH", "POST", "PUT", "UPDATE"}


def measure(folder: Path) -> list[Figure]:
    """Measure the agent of a real host, then the fleet, on a cluster of their own."""
    with lull_cluster(folder, gateways=1, name="cost") as cluster:
        return asyncio.run(_measure(cluster))


async def _measure(cluster: Cluster) -> list[Figure]:
    # Not tidied: it all ends with the cluster.
    async with await Kube.connect(timeout_seconds=20.0) as kube:
        lull = World(cluster, kube)
        return [*await measure_agent(lull), *await measure_fleet(lull)]


# One real agent.


async def measure_agent(lull: World) -> list[Figure]:
    """Return the CPU of the agent of a host with 20 models: idle, and under load."""
    await lull.pool(REAL_POOL, memory="4Gi", emptyAfter="600s", power=POWER)
    model = lull.publish()
    services = [
        await lull.service(f"real-{n}", model, pool=REAL_POOL, replicas={"min": 1}) for n in range(PER_HOST)
    ]
    for service in services:
        await service.wait("Serving", 120)
    (host,) = await lull.hosts(REAL_POOL)
    (agent,) = lull.running(host["status"]["address"], "lull-agent")
    idle = await _cpu_percent(agent, AGENT_SECONDS)
    targets = [service.target(lull.gateway) for service in services]
    async with HttpClient() as client:
        load = Load(targets, AGENT_RATE, AGENT_SECONDS + 2, slow_share=0.0)
        driving = asyncio.create_task(drive(client, load))
        await asyncio.sleep(1)
        busy = await _cpu_percent(agent, AGENT_SECONDS)
        await driving
    name = f"agent's CPU, {PER_HOST} models"
    return [
        Figure(f"{name}, idle", idle, "% of a core"),
        Figure(f"{name}, {AGENT_RATE:g} requests/s", busy, "% of a core", "idle", idle),
        Figure("agent's memory (RSS)", _resident_bytes(agent) / 2**20, "MiB"),
    ]


async def _cpu_percent(pid: int, seconds: float) -> float:
    before, began = _cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return 100 * (_cpu_seconds(pid) - before) / (time.monotonic() - began)


# A thousand services.


@dataclass
class Seen:
    """Every write to the services, as a watch tells it: when, and whether it changed more than figures."""

    written: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    changed: Counter[str] = field(default_factory=Counter)
    _states: dict[str, Object] = field(default_factory=dict)

    def take(self, item: Object) -> None:
        """Take in a state of a service."""
        name, state = item["metadata"]["name"], _state(item)
        if name in self._states:
            if self._states[name] == state:
                self.written[name].append(time.monotonic())
            else:
                self.changed[name] += 1
        self._states[name] = state

    def forget(self) -> None:
        """Begin to count."""
        self.written.clear()
        self.changed.clear()

    def most_within(self, seconds: float) -> int:
        """Return the most writes of figures alone that any one service got in any such time."""
        return max((_most_within(moments, seconds) for moments in self.written.values()), default=0)

    def count(self, prefix: str) -> int:
        """Return the writes to the services whose names begin so, changes of state included."""
        figures = sum(len(moments) for name, moments in self.written.items() if name.startswith(prefix))
        return figures + sum(n for name, n in self.changed.items() if name.startswith(prefix))


@dataclass(frozen=True)
class Scrape:
    """One scrape of the controller, and how long its loop kept each probe waiting meanwhile."""

    seconds: float
    size_bytes: int
    probe_seconds: Sequence[float]


async def measure_fleet(lull: World) -> list[Figure]:
    """Bring a fleet to rest, then count for two minutes."""
    async with _following(lull) as seen, _agents(lull) as agents:
        await _fleet(lull)
        await lull.until(lambda: _at_rest(lull), "every service is served", SETTLE_TIMEOUT_SECONDS)
        await _quiet(seen)
        seen.forget()
        pids = await _programs(lull)
        writes, requests, cpu = agents.writes, _api_writes(lull), _all_cpu(pids)
        began = time.monotonic()
        scrapes = await _scrape_for(lull, MEASURED_SECONDS)
        took = time.monotonic() - began
        cpu = {name: 100 * (now - cpu[name]) / took for name, now in _all_cpu(pids).items()}
        wrote = _api_writes(lull)
        wrote.subtract(requests)
        return [
            *_bounds(seen),
            *_writes(wrote, agents.writes - writes, took),
            *_loads(cpu, pids),
            *_scraped(scrapes),
        ]


async def _fleet(lull: World) -> None:
    """Apply the services: as many that are kept awake as many that sleep, and never wake."""
    hosts = -(-ACTIVE // PER_HOST)
    await lull.pool(
        FLEET_POOL,
        memory=str(PER_HOST * (128 << 20) + HOST_OVERHEAD_BYTES),
        hosts={"max": hosts + 10},
        power=POWER,
        template={"spec": {"schedulerName": SCHEDULER}},
    )
    model = lull.publish()
    gate = asyncio.Semaphore(_CREATED_AT_ONCE)

    async def one(name: str, least: int) -> None:
        async with gate:
            await lull.service(name, model, pool=FLEET_POOL, replicas={"min": least})

    await asyncio.gather(*(one(f"sleeping-{n}", 0) for n in range(SLEEPING)))
    await asyncio.gather(*(one(f"active-{n}", 1) for n in range(ACTIVE)))


async def _at_rest(lull: World) -> bool:
    """Whether every service is where it should be; asked rarely, as the answer is long."""
    await asyncio.sleep(2)
    items, _ = await lull.kube.list(MODELSERVICES, NAMESPACE)
    states = Counter(_active(item) for item in items if not item["metadata"]["name"].startswith("real-"))
    return states == {"Serving": ACTIVE, "Asleep": SLEEPING}


async def _quiet(seen: Seen) -> None:
    """Wait until a whole period has passed in which no service changed its state, and all had figures."""
    while True:
        seen.forget()
        await asyncio.sleep(REPORT_SECONDS + 5)
        if not seen.changed:
            return


@asynccontextmanager
async def _following(lull: World) -> AsyncIterator[Seen]:
    seen = Seen()

    async def follow() -> None:
        items, version = await lull.kube.list(MODELSERVICES, NAMESPACE)
        for item in items:
            seen.take(item)
        while True:
            async for event in lull.kube.watch(MODELSERVICES, NAMESPACE, version):
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] in ("ADDED", "MODIFIED"):
                    seen.take(event["object"])

    task = asyncio.create_task(follow())
    try:
        yield seen
        if task.done():
            task.result()
    finally:
        task.cancel()


@asynccontextmanager
async def _agents(lull: World) -> AsyncIterator[Agents]:
    agents = Agents(lull.kube)
    task = asyncio.create_task(agents.run())
    try:
        yield agents
    finally:
        task.cancel()


async def _programs(lull: World) -> dict[str, int]:
    """Return the process ids of the programs that bear the cost."""
    (pod,) = await lull.pods(SYSTEM_NAMESPACE, "app.kubernetes.io/name=lull-controller")
    (controller,) = lull.running(pod["status"]["podIP"], "lull-controller")
    pids = {"controller": controller}
    for record in processes.strays(lull.cluster.folder):
        if (name := _program(record.pid)) in ("kube-apiserver", "etcd"):
            pids[name] = record.pid
    return pids


def _program(pid: int) -> str:
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return Path(os.fsdecode(command[0])).name


async def _scrape_for(lull: World, seconds: float) -> list[Scrape]:
    (pod,) = await lull.pods(SYSTEM_NAMESPACE, "app.kubernetes.io/name=lull-controller")
    base = f"http://{pod['status']['podIP']}:8080"
    until, scrapes = time.monotonic() + seconds, []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        while time.monotonic() < until:
            began = time.monotonic()
            scrapes.append(await _scrape(session, base))
            await asyncio.sleep(max(0.0, min(began + SCRAPE_SECONDS, until) - time.monotonic()))
    return scrapes


async def _scrape(session: aiohttp.ClientSession, base: str) -> Scrape:
    """Scrape as Prometheus does, and probe all the while: both are answered by one loop."""
    waits: list[float] = []

    async def probe() -> None:
        while True:
            asked = time.monotonic()
            async with session.get(f"{base}/healthz") as answer:
                await answer.read()
            waits.append(time.monotonic() - asked)
            await asyncio.sleep(0.005)

    probing = asyncio.create_task(probe())
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    began = time.monotonic()
    async with session.get(f"{base}/metrics", headers=accept) as answer:
        body = await answer.read()
    took = time.monotonic() - began
    probing.cancel()
    return Scrape(took, len(body), waits)


def _api_writes(lull: World) -> Counter[str]:
    """Return the API server's own count of writes, by resource."""
    found: Counter[str] = Counter()
    for match in _REQUESTS.finditer(lull.cluster.kubectl("get", "--raw", "/metrics")):
        labels = dict(_LABEL.findall(match["labels"]))
        if labels["verb"] in _WRITING:
            found["/".join(filter(None, (labels["resource"], labels["subresource"])))] += int(
                float(match["value"])
            )
    return found


def _bounds(seen: Seen) -> list[Figure]:
    return [
        Figure(
            f"most writes to one of {ACTIVE} active services in any {REPORT_SECONDS:g} s, state unchanged",
            seen.most_within(REPORT_SECONDS),
            "writes",
            bar=1,
        ),
        Figure("active services whose state changed meanwhile", len(seen.changed), "services"),
        Figure(f"writes to {SLEEPING} sleeping services", seen.count("sleeping-"), "writes", bar=0),
    ]


def _writes(wrote: Mapping[str, int], simulated: int, seconds: float) -> list[Figure]:
    """Return the writes a second: services' and pools' statuses are the controller's, hosts' the agents'."""
    whole = sum(wrote.values())
    figures = [
        Figure("API writes, all", whole / seconds, "1/s"),
        Figure("  of which by simulated agents", simulated / seconds, "1/s"),
    ]
    for resource, count in Counter(wrote).most_common(8):
        if count:
            figures.append(Figure(f"  {resource}", count / seconds, "1/s"))
    return figures


def _loads(cpu: Mapping[str, float], pids: Mapping[str, int]) -> list[Figure]:
    figures = [Figure(f"{name}'s CPU, {ACTIVE} active", cpu[name], "% of a core") for name in sorted(pids)]
    resident = _resident_bytes(pids["controller"]) / 2**20
    return [*figures, Figure("controller's memory (RSS)", resident, "MiB")]


def _scraped(scrapes: Sequence[Scrape]) -> list[Figure]:
    seconds = [1000 * it.seconds for it in scrapes]
    waits = [1000 * wait for it in scrapes for wait in it.probe_seconds]
    return [
        Figure("a scrape of the controller, mean", mean(seconds), "ms"),
        Figure("a scrape of the controller, p95", percentile(seconds, 95), "ms"),
        Figure("a scrape of the controller, size", mean(it.size_bytes for it in scrapes) / 2**20, "MiB"),
        Figure(f"a probe meanwhile, p50 of {len(waits)}", percentile(waits, 50), "ms"),
        Figure("a probe meanwhile, longest", max(waits), "ms"),
    ]


def _most_within(moments: Sequence[float], seconds: float) -> int:
    """Return the most of sorted moments that lie that close together; the watch may lag by a second."""
    return max((bisect_right(moments, start + seconds - 1) - n for n, start in enumerate(moments)), default=0)


def _state(item: Object) -> Object:
    """Return what of a service is not figures: where it is and what its conditions say."""
    status = item.get("status") or {}
    conditions = [(c["type"], c["status"], c["reason"]) for c in status.get("conditions", [])]
    return {
        "generation": item["metadata"]["generation"],
        "conditions": conditions,
        "placements": status.get("placements"),
        "url": status.get("url"),
    }


def _active(item: Object) -> str:
    conditions = (item.get("status") or {}).get("conditions", [])
    return next((str(c["reason"]) for c in conditions if c["type"] == "Active"), "")


def _all_cpu(pids: Mapping[str, int]) -> dict[str, float]:
    return {name: _cpu_seconds(pid) for name, pid in pids.items()}


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, user and system."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _HERTZ


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
