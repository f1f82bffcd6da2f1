"""The first answer from each depth of sleep, side by side, and what `status.wake.expected` said before it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

from bench.figures import Figure
from e2e.load import OK, HttpClient
from e2e.world import Published, Service, World
from lull.api.quantities import parse_duration_seconds

TURNS = 5
FIRST_TURNS, FIRST_STARTS = 1, 2
"""Wakes that do not count: nothing is learned yet. The first start of a host on a new cluster takes longer
than the next ones, and it takes some of these until the average has forgotten it."""
SETTLED_SECONDS = 1.5
"""How long `expected` has to stand before it is taken for what is said of the next wake."""
OFF_BAR_PERCENT = 25.0
KEPT_POOL, EMPTY_POOL = "bench-kept", "bench-empty"
RIDERS = 3
"""With the one that keeps the host, they fill it: 4 x 128 MiB beside the 512 MiB of Triton itself."""


@dataclass(frozen=True)
class Turn:
    """One wake: what was expected of it, and when its first answer came, in seconds."""

    expected: float
    took: float


async def measure(lull: World) -> list[Figure]:
    """Return the median first answer of each level, and by how much the expected wake was off it."""
    model = lull.publish()
    turns = {"from no host": await _none(lull, model)}
    await lull.pool(KEPT_POOL, memory="1Gi", emptyAfter="600s")
    keeper = await lull.service("level-keeper", model, pool=KEPT_POOL, replicas={"min": 1})
    await keeper.wait("Serving")
    sleeper = await lull.service("level-sleeper", model, pool=KEPT_POOL, idleAfter="1s")
    await sleeper.wait("Asleep")
    turns["still loaded"] = await _turns(sleeper, lambda: _resident(sleeper))
    turns["from a serving host with room"] = await _turns(sleeper, lambda: _unloaded(sleeper))
    named = [f"level-rider-{n}" for n in range(RIDERS)]
    riders = [await lull.service(name, model, pool=KEPT_POOL, idleAfter="1s") for name in named]
    for rider in riders:
        await rider.wait("Asleep")
    turns["from a host that must evict"] = await _turns(sleeper, lambda: _crowded(sleeper, riders))
    order = sorted(turns, key=lambda level: median(turn.took for turn in turns[level]))
    return [figure for level in order for figure in _figures(level, turns[level])]


def _figures(level: str, turns: list[Turn]) -> list[Figure]:
    took, expected = median(turn.took for turn in turns), median(turn.expected for turn in turns)
    off = 100 * abs(expected - took) / took
    return [
        Figure(f"first answer {level}, median of {len(turns)}", took, "s", "wake.expected", expected),
        Figure("  status.wake.expected is off by", off, "%", bar=OFF_BAR_PERCENT),
    ]


async def _none(lull: World, model: Published) -> list[Turn]:
    await lull.pool(EMPTY_POOL, emptyAfter="0s")
    service = await lull.service("level-first", model, pool=EMPTY_POOL, idleAfter="1s")

    async def no_host() -> None:
        await service.wait("Asleep")

        async def gone() -> bool:
            return not await lull.hosts(EMPTY_POOL)

        await lull.until(gone, "no host is left")

    return await _turns(service, no_host, uncounted=FIRST_STARTS)


async def _turns(
    service: Service, prepare: Callable[[], Awaitable[None]], uncounted: int = FIRST_TURNS
) -> list[Turn]:
    """Wake a service again and again; the first wakes do not count."""
    turns = []
    async with HttpClient() as client:
        for _ in range(uncounted + TURNS):
            await prepare()
            expected = await _expected(service)
            turns.append(Turn(expected, await _answered(client, service)))
    return turns[uncounted:]


async def _answered(client: HttpClient, service: Service) -> float:
    """Return how long one answer took, in seconds."""
    began = time.perf_counter()
    answer = await client.infer(service.target(service.world.gateway), 1.0)
    took = time.perf_counter() - began
    assert answer.outcome == OK, f"{service.name}: {answer}"
    return took


async def _expected(service: Service) -> float:
    """Return what `status.wake.expected` says once it has stood for a while, in seconds."""
    said, since = "", time.monotonic()

    async def settled() -> bool:
        nonlocal said, since
        now = (await service.get()).get("status", {}).get("wake", {}).get("expected", "")
        if now != said:
            said, since = now, time.monotonic()
        return bool(said) and time.monotonic() - since > SETTLED_SECONDS

    await service.world.until(settled, f"{service.name} says what a wake would take", 20)
    return parse_duration_seconds(said)


async def _resident(service: Service) -> None:
    """Have a service asleep, and still loaded."""
    async with HttpClient() as client:
        await _answered(client, service)

    async def so() -> bool:
        found = await service.placements()
        return bool(found) and all(entry["state"] == "Resident" for _, entry, _ in found)

    await service.world.until(so, f"{service.name} is Resident")
    await service.wait("Asleep")


async def _unloaded(service: Service) -> None:
    """Have a service asleep, and not loaded."""
    await _suspended(service)
    await service.patch(suspend=False)
    await service.wait("Asleep")


async def _suspended(service: Service) -> None:
    """Have a service not loaded, and nobody able to wake it."""
    await service.patch(suspend=True)

    async def so() -> bool:
        hosts = await service.world.hosts(KEPT_POOL)
        key = f"{service.namespace}/{service.name}"
        return all(m["service"] != key for host in hosts for m in host.get("status", {}).get("models", []))

    await service.world.until(so, f"{service.name} is unloaded")


async def _crowded(service: Service, riders: list[Service]) -> None:
    """Have a service not loaded, and its host full of others that are asleep.

    It may be woken again only then: what is expected is told of the moment when it falls asleep.
    """
    await _suspended(service)
    await asyncio.gather(*(_resident(rider) for rider in riders))
    await service.patch(suspend=False)
    await service.wait("Asleep")
