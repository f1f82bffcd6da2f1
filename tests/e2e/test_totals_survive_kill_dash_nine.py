"""kill -9 of the agent and of the controller under load: totals lose nothing, double nothing, never fall.

Equal means: requests to the last one; energy, which goes on accruing while nobody looks, to what the power
profile makes of the whole time and of all service times, the gap included; and once the models are let go
of, the services' ledgers to the last totals that their host reported, to the joule.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

import aiohttp

from e2e.load import OK
from e2e.report import note
from e2e.truth import Asked, Object, Power, Scrape, Sleeper, apart, just_settled, scrape
from e2e.world import World
from lull.api.names import HOSTS_NAMESPACE, SYSTEM_NAMESPACE
from lull.kube import MODELHOSTS

PAIR = [Sleeper(30, 5.0), Sleeper(40, 5.0)]
POOL = "survivor"
POWER = Power()
AGENT_AT_SECONDS, CONTROLLER_AT_SECONDS, LOAD_SECONDS = 4.0, 9.0, 18.0
BACK_SECONDS = 30.0
QUIET_SECONDS = 2.5
POLL_SECONDS = 0.25
COUNTERS = ("lull_model_requests_total", "lull_model_busy_seconds_total", "lull_model_energy_joules_total")


@dataclass
class Watcher:
    """Sees that no total ever falls: agents' by service and name, ledgers' by service and field."""

    lull: World
    address: str
    asked: list[Asked]
    totals: dict[tuple[str, str], float] = field(default_factory=dict)
    fell: list[str] = field(default_factory=list)
    ledgers: dict[str, Object] = field(default_factory=dict)
    last: dict[str, Object] = field(default_factory=dict)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(POLL_SECONDS)

    async def follow_hosts(self) -> None:
        """See every status that a host writes: the last one of a model stands for a moment only."""
        _, version = await self.lull.kube.list(MODELHOSTS, HOSTS_NAMESPACE)
        async for event in self.lull.kube.watch(MODELHOSTS, HOSTS_NAMESPACE, version):
            for model in event["object"].get("status", {}).get("models", []):
                self._host(model)

    async def look(self) -> None:
        """Look once: what does not answer is not looked at."""
        with suppress(aiohttp.ClientError, TimeoutError):
            self._metrics(await scrape(self.address))
        for asked in self.asked:
            ledger = (await asked.service.get())["status"].get("ledger")
            if ledger:
                self.ledgers[asked.service.name] = ledger
                for name in ("requests", "idleJoules", "dynamicJoules", "baselineJoules"):
                    self._rose(asked.service.name, f"ledger.{name}", ledger.get(name, 0))

    def _metrics(self, seen: Scrape) -> None:
        for asked in self.asked:
            for name in COUNTERS:
                if found := seen.all(name, **asked.labels):
                    self._rose(asked.service.name, name, sum(found))

    def _host(self, model: Object) -> None:
        name = model["service"].partition("/")[2]
        if name not in {one.service.name for one in self.asked}:
            return
        counters, energy = model.get("counters"), model.get("energy")
        if counters and energy:
            self.last[name] = model
            self._rose(name, "status.requests", counters["requests"])
            self._rose(name, "status.dynamicJoules", energy["dynamicJoules"])
            self._rose(name, "status.idleJoules", energy["idleJoules"])

    def _rose(self, service: str, name: str, value: float) -> None:
        before = self.totals.get((service, name), 0.0)
        if value < before:
            self.fell.append(f"{service} {name}: {before} -> {value}")
        self.totals[service, name] = max(value, before)


async def test_totals_are_equal_across_kill_dash_nine_of_agent_and_controller(lull: World) -> None:
    await lull.pool(POOL, memory="2Gi", power=POWER.spec(), emptyAfter="600s")
    asked = [
        Asked(await lull.service(f"{POOL}-{n}", it.publish(lull), pool=POOL, idleAfter="600s"), it)
        for n, it in enumerate(PAIR)
    ]
    async with AsyncExitStack() as stack:
        for one in asked:
            await stack.enter_async_context(one.client)
            answer = await one.client.infer(one.service.target(lull.gateway), 1.0)
            assert answer.outcome == OK, answer.detail
        (host,) = await lull.hosts(POOL)
        watcher = Watcher(lull, host["status"]["address"], asked)
        watching = asyncio.gather(watcher.run(), watcher.follow_hosts())
        try:
            await check_totals(lull, asked, host["status"]["address"])
            await let_go(lull, asked)
            await lull.until(
                partial(settled, watcher, asked), f"{watcher.ledgers} hold the totals of {watcher.last}", 30
            )
        finally:
            watching.cancel()
    assert not watcher.fell, watcher.fell


async def check_totals(lull: World, asked: list[Asked], address: str) -> None:
    """Kill both under load, and compare what was counted meanwhile with what is known."""
    before = await just_settled(address)
    loads = asyncio.gather(*(one.load(lull.gateway, LOAD_SECONDS, n) for n, one in enumerate(asked)))
    await strike(lull, address)
    await loads
    await asyncio.sleep(QUIET_SECONDS)
    after = await just_settled(address)
    for one in asked:
        assert after.sum("lull_model_requests_total", **one.labels) == len(one.client.answers)
        check_energy(one, before, after, len(asked))
    for seen in (before, after):
        parts = seen.sum("lull_model_energy_joules_total")
        parts += seen.sum("lull_host_unallocated_energy_joules_total")
        assert apart(parts, seen.sum("lull_host_energy_joules_total")) < 0.001


async def strike(lull: World, address: str) -> None:
    """Kill the agent, then the controller, and wait until each is back."""
    start = time.monotonic()
    await asyncio.sleep(AGENT_AT_SECONDS)
    killed = lull.kill(address, "lull-agent")
    await lull.until(partial(answers, address), "the agent is back", BACK_SECONDS)
    note(f"the agent's totals were back {time.monotonic() - killed:.1f} s after its kill -9")
    await asyncio.sleep(max(0.0, start + CONTROLLER_AT_SECONDS - time.monotonic()))
    (pod,) = await lull.pods(SYSTEM_NAMESPACE, "app.kubernetes.io/name=lull-controller")
    lull.kill(pod["status"]["podIP"], "lull-controller")


async def answers(address: str) -> bool:
    """Whether the agent has its models' totals."""
    try:
        return bool((await scrape(address)).all("lull_model_requests_total"))
    except (aiohttp.ClientError, TimeoutError):
        return False


def check_energy(one: Asked, before: Scrape, after: Scrape, residents: int) -> None:
    """The gap in which nobody looked is in the totals, once."""
    name = "lull_model_energy_joules_total"
    seconds = after.at - before.at  # each up to a poll late
    memory = after.sum("lull_model_memory_bytes", **one.labels) / after.sum("lull_host_memory_bytes")
    idle = after.sum(name, part="idle", **one.labels) - before.sum(name, part="idle", **one.labels)
    share = POWER.idle_share(memory, residents)
    assert abs(idle - share * seconds) < 0.02 * share * seconds + share, (idle, share, seconds)
    dynamic = after.sum(name, part="dynamic", **one.labels) - before.sum(name, part="dynamic", **one.labels)
    known = POWER.dynamic * one.busy_seconds(since=before.at)
    assert apart(dynamic, known) < 0.05, (dynamic, known)


async def let_go(lull: World, asked: list[Asked]) -> None:
    """Have the models unloaded: their last totals are written then."""
    for one in asked:
        await one.service.patch(suspend=True)
    for one in asked:
        await one.service.wait("Suspended")
        await one.service.wait_gone()


async def settled(watcher: Watcher, asked: list[Asked]) -> bool:
    """Whether each service's ledger equals the last that its host said, and what its clients counted."""
    return all(
        _equal(watcher.ledgers.get(one.service.name, {}), watcher.last.get(one.service.name, {}), one)
        for one in asked
    )


def _equal(ledger: Mapping[str, int], last: Object, one: Asked) -> bool:
    return (
        ledger.get("requests") == last["counters"]["requests"] == len(one.client.answers)
        and abs(ledger.get("idleJoules", 0) - last["energy"]["idleJoules"]) <= 1
        and abs(ledger.get("dynamicJoules", 0) - last["energy"]["dynamicJoules"]) <= 1
    )
