"""kill -9 of every program in turn, under load: what fails, for how long, and what must not fail at all."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from e2e import models
from e2e.load import OK, Answer, GrpcClient, HttpClient, Load, Tally, drive_all
from e2e.report import note
from e2e.world import NAMESPACE, Service, World
from lull.api.names import SYSTEM_NAMESPACE
from lull.kube import MODELGATEWAYS

RATE = 10.0
"""Requests a second, of each of two clients at each of two gateways."""
LOAD_SECONDS = 2.0
"""How long the model loads that requests are held for when the kill comes."""
SETTLED_SECONDS = 3.0
RECOVERED_SECONDS = 30.0


@dataclass(frozen=True)
class Aftermath:
    """What clients saw. The keys of `tallies` are gateways; times are seconds after the kill."""

    killed_at: float
    tallies: Mapping[str, list[Tally]]
    held: list[Answer]
    wake: Answer

    def failed(self, gateway: str) -> int:
        return sum(tally.failed for tally in self.tallies[gateway])

    @property
    def outage_seconds(self) -> float:
        """From the kill until the last request of the awake model that failed was due."""
        last = [a.due for tallies in self.tallies.values() for t in tallies for a in t.failures]
        return max([0.0, *(due - self.killed_at for due in last)])

    def row(self, program: str, gateways: list[str]) -> str:
        total = sum(t.total for tallies in self.tallies.values() for t in tallies)
        failed = " + ".join(str(self.failed(gateway)) for gateway in gateways)
        held = max(answer.done for answer in self.held) - self.killed_at
        return (
            f"kill -9 {program:15} of {total:4} requests of the awake model failed {failed:7} "
            f"for {self.outage_seconds:5.2f} s; held ones answered {held:5.2f} s after the kill, "
            f"a new wake {self.wake.done - self.killed_at:5.2f} s"
        )


@pytest.mark.parametrize("program", ["lull-controller", "lull-agent", "lull-pilot", "envoy", "tritonserver"])
async def test_the_fleet_recovers_from_kill_dash_nine(lull: World, program: str) -> None:
    await lull.pool("struck", memory="4Gi", emptyAfter="60s")
    awake = await lull.service("awake", lull.publish(), pool="struck", idleAfter="60s")
    slow = lull.put("slow.tar", models.loading_for(LOAD_SECONDS))
    held = await lull.service("held", slow, pool="struck", idleAfter="60s")
    woken = await lull.service("woken", lull.publish(), pool="struck", idleAfter="60s")
    gateways = lull.gateways()
    async with HttpClient() as client:
        assert (await client.infer(awake.target(gateways[0]), 1.0)).outcome == OK
    after = await strike(lull, program, gateways, awake, held, woken)
    note(after.row(program, gateways))
    assert {answer.outcome for answer in after.held} <= {OK} or program == "envoy", after.held
    assert after.wake.outcome == OK, after.wake
    assert after.outage_seconds < RECOVERED_SECONDS
    if program in ("lull-controller", "lull-agent", "lull-pilot"):
        assert not any(after.failed(gateway) for gateway in gateways), failures(after)
    if program == "envoy":
        assert not after.failed(gateways[1]), failures(after)
        assert after.held[1].outcome == OK, after.held


async def strike(
    lull: World, program: str, gateways: list[str], awake: Service, held: Service, woken: Service
) -> Aftermath:
    """Kill a program (of the first gateway, where it is one of a gateway's) under load."""
    stop = asyncio.Event()
    clients = [(gateway, kind()) for gateway in gateways for kind in (HttpClient, GrpcClient)]
    loads = [
        (client, Load([awake.target(gateway)], RATE, 120, slow_share=0.1, seed=seed))
        for seed, (gateway, client) in enumerate(clients)
    ]
    traffic = asyncio.create_task(drive_all(loads, stop))
    try:
        async with HttpClient() as client:
            await asyncio.sleep(1.0)  # traffic before the kill
            waiting = [asyncio.create_task(client.infer(held.target(gateway), 1.0)) for gateway in gateways]
            await lull.until(lambda: holding(lull, held, len(gateways)), "every gateway holds a request", 10)
            killed_at = lull.kill(await address_of(lull, program, gateways), program)
            # Through the other gateway: what is new must not depend on the one that was struck.
            wake = await client.infer(woken.target(gateways[1]), 2.0)
            answers = list(await asyncio.gather(*waiting))
            await lull.until(
                lambda: answered(client, awake, gateways), "every gateway answers", RECOVERED_SECONDS
            )
        await asyncio.sleep(max(0.0, killed_at + SETTLED_SECONDS - time.monotonic()))  # traffic after it
    finally:
        stop.set()
        tallies = await traffic
    by_gateway: dict[str, list[Tally]] = {gateway: [] for gateway in gateways}
    for (gateway, _), tally in zip(clients, tallies, strict=True):
        by_gateway[gateway].append(tally)
    return Aftermath(killed_at, by_gateway, answers, wake)


async def holding(lull: World, service: Service, count: int) -> bool:
    """Whether so many gateways hold requests for a service."""
    items, _ = await lull.kube.list(MODELGATEWAYS, SYSTEM_NAMESPACE)
    key = f"{NAMESPACE}/{service.name}"
    return sum(key in item.get("status", {}).get("held", []) for item in items) >= count


async def answered(client: HttpClient, service: Service, gateways: list[str]) -> bool:
    answers = await asyncio.gather(*(client.infer(service.target(gateway), 3.0) for gateway in gateways))
    return all(answer.outcome == OK for answer in answers)


async def address_of(lull: World, program: str, gateways: list[str]) -> str:
    """Return the address of the Pod whose program is to be killed."""
    if program in ("lull-pilot", "envoy"):
        return gateways[0].partition(":")[0]
    if program == "lull-controller":
        (pod,) = await lull.pods(SYSTEM_NAMESPACE, "app.kubernetes.io/name=lull-controller")
        return str(pod["status"]["podIP"])
    (host,) = await lull.hosts("struck")
    return str(host["status"]["address"])


def failures(after: Aftermath) -> str:
    return "\n".join(str(tally) for tallies in after.tallies.values() for tally in tallies)
