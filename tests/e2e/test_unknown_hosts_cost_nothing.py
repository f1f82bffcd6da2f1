"""Whoever knocks at random gets 404, and neither Envoy nor the pilot remembers."""

import asyncio
import random
import string
from pathlib import Path

import aiohttp

from e2e.load import OK, HttpClient
from e2e.report import note
from e2e.world import World

AT_ONCE = 50
WARM_UP = 1000
FLAT_BYTES = 6 * 2**20
"""What allocators and the metrics of a process may add; one entry kept for each of 2,000 would be more."""


async def test_random_hosts_and_paths_are_404_and_memory_stays_flat(lull: World, soak: bool) -> None:
    gateway = lull.gateways()[0]
    address = gateway.partition(":")[0]
    await lull.pool("quiet", emptyAfter="1s")
    service = await lull.service("known", lull.publish(), pool="quiet")
    dice = random.Random(7)
    async with HttpClient() as client:
        assert (await client.infer(service.target(gateway), 1.0)).outcome == OK
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        assert await _knock(session, gateway, dice, WARM_UP) == {404}
        before = _resident_bytes(lull, address)
        assert await _knock(session, gateway, dice, 10_000 if soak else 2000) == {404}
        after = _resident_bytes(lull, address)
    for program in before:
        note(f"random hosts: {program} {before[program] >> 10} KiB before, {after[program] >> 10} KiB after")
    assert all(after[program] - before[program] < FLAT_BYTES for program in before), (before, after)


async def _knock(session: aiohttp.ClientSession, gateway: str, dice: random.Random, count: int) -> set[int]:
    """Ask for random hosts and random paths in turn; return the statuses that came back."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> int:
        name, namespace = _word(dice), _word(dice)
        by_host = f"{name}.{namespace}.lull.localhost", f"/v2/models/{name}/infer"
        host, path = by_host if number % 2 else (gateway, f"/{namespace}/{name}/v2/models/{name}/infer")
        async with slots, session.post(f"http://{gateway}{path}", headers={"Host": host}, data=b"{}") as got:
            await got.read()
            return got.status

    return set(await asyncio.gather(*(one(number) for number in range(count))))


def _word(dice: random.Random) -> str:
    return "".join(dice.choices(string.ascii_lowercase, k=12))


def _resident_bytes(lull: World, address: str) -> dict[str, int]:
    programs = {program: lull.running(address, program)[0] for program in ("envoy", "lull-pilot")}
    return {program: _rss_bytes(pid) for program, pid in programs.items()}


def _rss_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
