"""Hosts without machines: their Pods are never started, and their agents' words are made up.

They write what real agents write, as often as these may: at once when the models change, and else once in
30 s, each time with other figures. So what reads them does all its work, on a fleet of any size.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from lull.api.names import HOSTS_NAMESPACE
from lull.kube import MODELHOSTS, PODS, ApiError, Kube, Reflector

Object = dict[str, Any]

SCHEDULER = "nobody"
"""Who schedules these Pods."""
REPORT_SECONDS = 30.0
IDLE_WATTS, DYNAMIC_WATTS = 100, 200
_TICK_SECONDS = 0.1
_CONCURRENT_WRITES = 4
_SINCE = "2026-01-01T00:00:00Z"


@dataclass
class _Host:
    """What a made-up agent remembers: when it wrote, of what spec, and its counters by placement."""

    address: str
    due: float = 0.0
    generation: int = 0
    ready: bool = False
    joules: float = 0.0
    counted: dict[str, dict[str, int]] = field(default_factory=dict)


class Agents:
    """The agents (and kubelets) of all hosts of pools that have `SCHEDULER` in their template.

    Attributes:
        writes: how often they wrote a ModelHost's status.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._hosts: dict[str, _Host] = {}
        self._dice = random.Random(1)
        self._seen = Reflector(kube, MODELHOSTS, HOSTS_NAMESPACE)
        self._pods = Reflector(kube, PODS, HOSTS_NAMESPACE)
        self._writing = asyncio.Semaphore(_CONCURRENT_WRITES)
        self.writes = 0

    async def run(self) -> None:
        """Play them until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._seen.run())
            group.create_task(self._pods.run())
            while True:
                await asyncio.gather(*(self._visit(item) for item in list(self._seen.objects.values())))
                await asyncio.sleep(_TICK_SECONDS)

    async def _visit(self, item: Object) -> None:
        name = item["metadata"]["name"]
        host = self._hosts.setdefault(
            name, _Host(f"127.77.{len(self._hosts) // 250}.{len(self._hosts) % 250 + 1}")
        )
        pod = self._pods.objects.get((HOSTS_NAMESPACE, name))
        if pod is None or pod["spec"].get("schedulerName") != SCHEDULER:
            return
        async with self._writing:
            if not host.ready:
                host.ready = await self._attempt(lambda: self._start(name, host))
            generation, now = item["metadata"]["generation"], time.monotonic()
            if generation != host.generation or now >= host.due:
                status = self._status(item, host)
                if await self._attempt(lambda: self._write(name, status)):
                    self.writes += 1
                    # The first one anywhere within the period, so that hosts do not write in step.
                    spread = self._dice.random() if host.due == 0.0 else 1.0
                    host.generation, host.due = generation, now + REPORT_SECONDS * spread

    async def _start(self, name: str, host: _Host) -> None:
        conditions = [
            {"type": type_, "status": "True", "lastTransitionTime": _SINCE}
            for type_ in ("PodScheduled", "Initialized", "Ready")
        ]
        status = {"phase": "Running", "podIP": host.address, "conditions": conditions}
        await self._kube.merge_patch(PODS, name, HOSTS_NAMESPACE, {"status": status}, subresource="status")

    async def _write(self, name: str, status: Object) -> None:
        body = {"status": status}
        await self._kube.merge_patch(MODELHOSTS, name, HOSTS_NAMESPACE, body, subresource="status")

    async def _attempt(self, write: Callable[[], Awaitable[None]]) -> bool:
        try:
            await write()
        except ApiError:  # the object went, or the server is busy: the next tick tries again
            return False
        return True

    def _status(self, item: Object, host: _Host) -> Object:
        models = [
            self._model(entry, host, len(item["spec"]["models"])) for entry in item["spec"].get("models", [])
        ]
        milliwatts = sum(m["energy"]["idleMilliwatts"] + m["energy"]["dynamicMilliwatts"] for m in models)
        host.joules += milliwatts / 1000 * REPORT_SECONDS
        ready = {"type": "Ready", "status": "True", "reason": "TritonServing", "message": ""}
        return {
            "address": host.address,
            "models": models,
            "busyPercent": sum(m["utilization"]["busyPercent"] for m in models),
            "watts": str(milliwatts // 1000),
            "energy": {"basis": "Modelled", "milliwatts": milliwatts, "joules": int(host.joules)},
            "conditions": [ready | {"lastTransitionTime": _SINCE}],
        }

    def _model(self, entry: Object, host: _Host, residents: int) -> Object:
        """Return what is said of a model that had some requests in the last window."""
        counted = host.counted.setdefault(entry["id"], {"requests": 0, "idle": 0, "dynamic": 0})
        per_minute, busy = self._dice.randint(10, 600), self._dice.randint(1, 90) // residents + 1
        idle_milliwatts = 1000 * IDLE_WATTS // residents
        dynamic_milliwatts = 10 * DYNAMIC_WATTS * busy
        counted["requests"] += per_minute // 2
        counted["idle"] += int(idle_milliwatts / 1000 * REPORT_SECONDS)
        counted["dynamic"] += int(dynamic_milliwatts / 1000 * REPORT_SECONDS)
        return {
            "id": entry["id"],
            "service": entry["service"],
            "revision": entry["revision"],
            "state": "Ready",
            "memory": entry["memory"],
            "loadSeconds": "0.5",
            "code": False,
            "counters": {"requests": counted["requests"], "failures": 0},
            "utilization": {
                "window": "60s",
                "requestsPerMinute": per_minute,
                "busyPercent": busy,
                "queueMilliseconds": self._dice.randint(0, 9),
                "latencyP50": "12ms",
                "latencyP95": f"{self._dice.randint(20, 40)}ms",
                "latencyP99": f"{self._dice.randint(40, 90)}ms",
            },
            "energy": {
                "idleMilliwatts": idle_milliwatts,
                "dynamicMilliwatts": dynamic_milliwatts,
                "idleJoules": counted["idle"],
                "dynamicJoules": counted["dynamic"],
            },
        }
