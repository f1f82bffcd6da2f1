"""The first answer from no host at all, and what it is made of, as a watcher of the API sees it."""

import asyncio
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from bench.figures import Figure
from e2e.load import OK, HttpClient
from e2e.world import Service, World
from lull.api.names import HOSTS_NAMESPACE
from lull.kube import MODELHOSTS, PODS, Kube, Resource

TURNS = 5
POOL = "bench-cold"
STEPS = {
    "made": "host and Pod made",
    "started": "agent up, Triton's process started",
    "ready": "Triton up, and the model loaded",
    "answered": "routed and answered",
}
Seen = dict[str, float]


async def measure(lull: World) -> list[Figure]:
    """Return the median first answer, and its parts in their order."""
    await lull.pool(POOL, emptyAfter="0s")
    service = await lull.service("first", lull.publish(), pool=POOL, idleAfter="1s")
    turns = []
    async with HttpClient() as client:
        for _ in range(TURNS):
            await service.wait("Asleep")
            await lull.until(lambda: _no_host(lull), "no host is left")
            turns.append(await _one(lull, client, service))
    whole = median(turn["began"] for turn in turns)
    loads = median(turn["load"] for turn in turns)
    figures = [Figure(f"first answer from no host, median of {TURNS}", whole, "s", "Triton's load", loads)]
    return figures + [
        Figure(f"  {text}", median(turn[step] for turn in turns), "s") for step, text in STEPS.items()
    ]


async def _no_host(lull: World) -> bool:
    return not await lull.hosts(POOL)


async def _one(lull: World, client: HttpClient, service: Service) -> dict[str, float]:
    """Return the seconds of each step of a first answer; `began` has their sum, `load` the agent's own."""
    seen: Seen = {}
    watches = [
        asyncio.create_task(_watch(lull.kube, PODS, lambda item: _of_pod(seen, item))),
        asyncio.create_task(_watch(lull.kube, MODELHOSTS, lambda item: _of_host(seen, item))),
    ]
    try:
        await asyncio.sleep(0.3)  # until the watches stand
        began = time.monotonic()
        answer = await client.infer(service.target(lull.gateway), 1.0)
        seen["answered"] = time.monotonic()
        await asyncio.sleep(0.3)  # until the last events are here
    finally:
        for watch in watches:
            watch.cancel()
    assert answer.outcome == OK, answer
    ((_, _, said),) = await service.placements()
    steps, at = {}, began
    for step in STEPS:
        then = max(at, seen.get(step, at))
        steps[step], at = then - at, then
    return steps | {"began": seen["answered"] - began, "load": float(said["loadSeconds"])}


async def _watch(kube: Kube, kind: Resource, look: Callable[[dict[str, Any]], None]) -> None:
    _, version = await kube.list(kind, HOSTS_NAMESPACE)
    async for event in kube.watch(kind, HOSTS_NAMESPACE, version):
        if event["type"] in ("ADDED", "MODIFIED"):
            look(event["object"])


def _of_pod(seen: Seen, item: dict[str, Any]) -> None:
    seen.setdefault("made", time.monotonic())
    for container in item.get("status", {}).get("containerStatuses", []):
        if "running" in container.get("state", {}):
            seen.setdefault("started", time.monotonic())


def _of_host(seen: Seen, item: dict[str, Any]) -> None:
    for model in item.get("status", {}).get("models", []):
        if model["state"] == "Ready":
            seen.setdefault("ready", time.monotonic())
