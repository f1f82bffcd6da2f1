"""What a wake costs beside Triton's own work: the answer time of a held request, less load and inference."""

import time
from functools import partial
from statistics import median

import aiohttp

from bench.figures import Figure, percentile
from e2e.load import OK, HttpClient
from e2e.world import NAMESPACE, Service, World
from lull.kube import Resource

SERVICES = 10
ROUNDS = 6
P50_BAR_MS, P99_BAR_MS = 25.0, 75.0
API_WRITES = 200
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
POOL = "bench-wake"


async def measure_asleep(lull: World) -> list[Figure]:
    """Wakes of models that a serving host does not hold: their artifact is on it, Triton has to load them."""
    services = await _services(lull, idle_after="300s")
    overheads, loads, infers = [], [], []
    async with HttpClient() as client:
        for turn in range(ROUNDS + 1):
            for service in services:
                answered = await _timed(client, service)
                ((host, entry, said),) = await service.placements()
                load_ms = 1000 * float(said["loadSeconds"])
                infer_ms = await _infer_ms(host["status"]["address"], entry["name"])
                if turn:  # the first round fetches
                    overheads.append(answered - load_ms - infer_ms)
                    loads.append(load_ms)
                    infers.append(infer_ms)
            await _put_to_sleep(lull, services)
    first = Figure("  Triton's first inference after a load, p50", median(infers), "ms")
    return [*_figures("wake overhead, asleep", overheads, "Triton's load", median(loads)), first]


async def measure_resident(lull: World) -> list[Figure]:
    """Wakes of models that are still loaded: a hop through the controller, and no load."""
    services = await _services(lull, idle_after="2s")
    overheads, warm = [], []
    async with HttpClient() as client:
        for service in services:
            await _timed(client, service)
        for _ in range(ROUNDS):
            # All of them first, so that no drain of one falls into the wake of another.
            for service in services:
                await lull.until(partial(_is_resident, service), f"{service.name} is Resident")
            for service in services:
                answered = await _timed(client, service)
                warm_ms = await _warm_ms(client, service)
                overheads.append(answered - warm_ms)
                warm.append(warm_ms)
    return _figures("wake overhead, Resident", overheads, "a warm request", median(warm))


async def measure_api(lull: World) -> list[Figure]:
    """What one write to the API server takes here: a wake is two of them, and three with a load."""
    took = []
    for number in range(API_WRITES):
        began = time.perf_counter()
        body = {"metadata": {"annotations": {"bench": str(number)}}}
        await lull.kube.merge_patch(NAMESPACES, NAMESPACE, None, body)
        took.append(1000 * (time.perf_counter() - began))
    return [Figure(f"one write to the API server, p{p}", percentile(took, p), "ms") for p in (50, 99)]


async def _services(lull: World, idle_after: str) -> list[Service]:
    """Return sleeping services of one pool, whose host a keeper keeps serving."""
    await lull.pool(POOL, memory="6Gi", emptyAfter="300s")
    model = lull.publish()
    keeper = await lull.service("keeper", model, pool=POOL, replicas={"min": 1})
    await keeper.wait("Serving")
    named = [f"napper-{n}" for n in range(SERVICES)]
    services = [await lull.service(name, model, pool=POOL, idleAfter=idle_after) for name in named]
    for service in services:
        await service.wait("Asleep")
    return services


async def _put_to_sleep(lull: World, services: list[Service]) -> None:
    """Have services unloaded, and wait until they can be woken again."""
    for service in services:
        await service.patch(suspend=True)

    async def unloaded() -> bool:
        hosts = await lull.hosts(POOL)
        held = [m["service"] for host in hosts for m in host["status"].get("models", [])]
        return len(held) == 1  # the keeper

    await lull.until(unloaded, "all but the keeper are unloaded")
    for service in services:
        await service.patch(suspend=False)
    for service in services:
        await service.wait("Asleep")


async def _timed(client: HttpClient, service: Service) -> float:
    """Return how long one answer took, in milliseconds."""
    target = service.target(service.world.gateway)
    began = time.perf_counter()
    answer = await client.infer(target, 1.0)
    took = time.perf_counter() - began
    if answer.outcome != OK:
        raise AssertionError(f"{service.name}: {answer}")
    return 1000 * took


async def _warm_ms(client: HttpClient, service: Service) -> float:
    return median([await _timed(client, service) for _ in range(5)])


async def _infer_ms(address: str, model: str) -> float:
    """Return the time that Triton itself took for a model's requests since its load, from its own counter."""
    counter = f'nv_inference_request_duration_us{{model="{model}",'
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}:8002/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(counter)) / 1000


async def _is_resident(service: Service) -> bool:
    found = await service.placements()
    return bool(found) and all(entry["state"] == "Resident" for _, entry, _ in found)


def _figures(name: str, overheads: list[float], reference: str, reference_ms: float) -> list[Figure]:
    bars = {50: P50_BAR_MS, 99: P99_BAR_MS}
    return [
        Figure(
            f"{name}, p{p} of {len(overheads)}", percentile(overheads, p), "ms", reference, reference_ms, bar
        )
        for p, bar in bars.items()
    ]
