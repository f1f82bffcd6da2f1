"""How long the controller holds its event loop at ten thousand services, with a fiftieth of them blocked.

The controller's own parts, on an API that answers at once: a thousand full hosts report, and each plan looks
at those that are blocked. It is CPU time from one look for news to the next: so long a wake waits at most.
"""

import asyncio
import gc
import itertools
import time
from random import Random
from selectors import DefaultSelector
from statistics import median
from typing import Any

from bench.figures import Figure, percentile
from lull.api.names import HOSTS_NAMESPACE
from lull.controller.main import Parts, Settings, build
from lull.controller.wire import Object, placement_to, service_from
from lull.kube import MODELHOSTS, MODELPOOLS, MODELSERVICES, PODS, Resource
from lull.policy import Placement, State
from lull.policy.packing import HOST_OVERHEAD_BYTES

SERVICES, BLOCKED, PER_HOST = 10_000, 200, 10
GIB, IDLE_AFTER_SECONDS = 2**30, 300.0
ROUNDS, ROUND_SECONDS, REPORTS = 40, 0.25, 3
HOLD_BAR_MS = 20.0
SHORT_MS = 1.0
"""Turns of the loop that took less are not counted: they decided nothing."""
POWER = {"idleWatts": 60, "contextWatts": 40, "maxWatts": 300, "nodeWatts": 100, "hostsPerNode": 4}


class Api:
    """Takes every write of a status at once; nothing else is written to a fleet that is full."""

    def __init__(self) -> None:
        self.items: dict[tuple[Resource, str], Object] = {}
        self._version = itertools.count(1)

    def put(self, kind: Resource, key: str, item: Object) -> Object:
        """Take an object's new state."""
        version = str(next(self._version))
        metadata = {"uid": f"{kind.plural}/{key}", "generation": 1} | item["metadata"]
        fresh = item | {"metadata": metadata | {"resourceVersion": version}}
        self.items[kind, key] = fresh
        return fresh

    async def apply(self, kind: Resource, body: Object, **_: object) -> Object:
        """Write a status."""
        await asyncio.sleep(0)
        metadata = body["metadata"]
        key = "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))
        return self.put(kind, key, self.items[kind, key] | {"status": body["status"]})


class Turns(DefaultSelector):
    """Notes how long each turn of the loop takes."""

    def __init__(self) -> None:
        super().__init__()
        self.took_ms: list[float] = []
        self._began = time.thread_time()

    def select(self, timeout: float | None = None) -> Any:
        """Look for news."""
        self.took_ms.append(1000 * (time.thread_time() - self._began))
        found = super().select(timeout)
        self._began = time.thread_time()
        return found

    def taken(self) -> list[float]:
        """Return those since the last time that were not short."""
        taken, self.took_ms = self.took_ms, []
        return [took for took in taken if took > SHORT_MS]


def measure() -> list[Figure]:
    """Return the figures."""
    turns = Turns()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
        started, reported = runner.run(_measure(turns))
    of = f"{SERVICES:,} services, {BLOCKED} of them blocked"
    return [
        Figure(f"the loop held while all is planned after a start, p50, {of}", median(started), "ms"),
        Figure("  p99", percentile(started, 99), "ms"),
        Figure("  longest", max(started), "ms"),
        Figure(f"the loop held as hosts report, p99, {of}", percentile(reported, 99), "ms"),
        Figure("  longest", max(reported), "ms", bar=HOLD_BAR_MS),
    ]


async def _measure(turns: Turns) -> tuple[list[float], list[float]]:
    api = Api()
    parts = build(api, Settings("127.0.0.1", "bench"), time.time)  # type: ignore[arg-type]
    _fleet(api)
    for (kind, key), item in api.items.items():
        parts.planner.see(kind, key, item)
    gc.collect()
    gc.freeze()  # as it is none of the planner's what was built here
    running = [asyncio.create_task(part()) for part in (parts.planner.run, parts.planner._statuses.run)]
    await asyncio.sleep(0)
    turns.taken()
    await _rest(parts)
    started = turns.taken()
    dice = Random(1)
    for number in range(ROUNDS):
        for host in dice.sample(range((SERVICES - BLOCKED) // PER_HOST), REPORTS):
            item = _said(api.items[MODELHOSTS, f"host-{host}"], busy_percent=5 * (number % 19 + 1))
            parts.planner.see(MODELHOSTS, f"host-{host}", api.put(MODELHOSTS, f"host-{host}", item))
        await asyncio.sleep(ROUND_SECONDS)
    for task in running:
        task.cancel()
    return started, turns.taken()


async def _rest(parts: Parts) -> None:
    calm = 0
    while calm < 10:
        await asyncio.sleep(0.05)
        calm = calm + 1 if parts.planner.resting else 0


def _fleet(api: Api) -> None:
    """Have all kept awake on hosts that are full, but for those that find none."""
    memory = PER_HOST * GIB + HOST_OVERHEAD_BYTES
    hosts = (SERVICES - BLOCKED) // PER_HOST
    spec: Object = {"hosts": {"max": hosts}, "memory": str(memory), "power": POWER}
    api.put(MODELPOOLS, "pool", {"metadata": {"name": "pool"}, "spec": spec})
    items = [_service(api, number) for number in range(SERVICES)]
    for number in range(hosts):
        _host(api, f"host-{number}", items[number * PER_HOST : (number + 1) * PER_HOST])


def _service(api: Api, number: int) -> Object:
    name, namespace = f"model-{number}", f"team-{number % 20}"
    spec = {
        "model": {"uri": f"file:///{name}.tar", "digest": f"sha256:{number:064x}"},
        "pool": "pool",
        "resources": {"memory": "1Gi"},
        "replicas": {"min": 1},
        "idleAfter": f"{IDLE_AFTER_SECONDS:g}s",
    }
    item = {"metadata": {"name": name, "namespace": namespace}, "spec": spec}
    return api.put(MODELSERVICES, f"{namespace}/{name}", item)


def _host(api: Api, name: str, items: list[Object]) -> None:
    services = [service_from(item) for item in items]
    placements = (
        Placement(f"{s.model.name}-p", s.key, s.model, GIB, IDLE_AFTER_SECONDS, State.LOADED)
        for s in services
    )
    models = [placement_to(p, s) for p, s in zip(placements, services, strict=True)]
    metadata: Object = {"name": name, "namespace": HOSTS_NAMESPACE}
    host = api.put(
        MODELHOSTS, name, _said({"metadata": metadata, "spec": {"pool": "pool", "models": models}})
    )
    owners = [{"uid": host["metadata"]["uid"]}]
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    api.put(PODS, name, {"metadata": metadata | {"ownerReferences": owners}, "status": status})


def _said(host: Object, busy_percent: int = 0) -> Object:
    """Return a ModelHost with what its agent says: all is loaded, and so busy."""
    models = [
        {
            "id": entry["id"],
            "service": entry["service"],
            "revision": entry["revision"],
            "state": "Ready",
            "memory": "1Gi",
            "utilization": {"window": "60s", "requestsPerMinute": 2, "busyPercent": busy_percent},
            "energy": {"idleJoules": 1, "dynamicJoules": 1},
        }
        for entry in host["spec"]["models"]
    ]
    energy = {"basis": "Modelled", "milliwatts": 42_000, "joules": 100, "dynamicJoules": 10}
    return host | {"status": {"address": "127.0.0.9", "models": models, "busyPercent": 30, "energy": energy}}
