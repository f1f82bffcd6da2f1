"""Copies of requests are compared on a whole cluster, and keep nothing awake."""

import pytest

from e2e import models
from e2e.load import OK, HttpClient
from e2e.report import note
from e2e.rollouts import first_answer, followed, revision_of, roll_out
from e2e.world import Service, World
from lull.kube import MODELGATEWAYS

COMPARED = 20
ASK_SECONDS = 0.05
SHADOW = {
    "steps": [50],
    "pause": "1h",
    "shadowPercent": 100,
    "analysis": {"minRequests": 1_000_000, "disagreePercent": 100},
}


async def counted(lull: World, service: Service, revision: str) -> tuple[int, int]:
    """Return how many answers of a revision the gateways compared, and how many differed."""
    gateways, _ = await lull.kube.list(MODELGATEWAYS)
    key = f"{service.namespace}/{service.name}@{revision}"
    found = [item.get("status", {}).get("traffic", {}).get(key, {}) for item in gateways]
    return sum(one.get("compared", 0) for one in found), sum(one.get("differed", 0) for one in found)


@pytest.mark.timeout(200)
async def test_a_service_in_shadow_falls_asleep_after_its_last_real_request(lull: World) -> None:
    await lull.pool("shadowed", hosts={"min": 2, "max": 2}, emptyAfter="60s")
    service = await lull.service(
        "shadowed", lull.put("shadowed-1.tar", models.scaling(1.0, 1)), pool="shadowed", idleAfter="3s"
    )
    async with HttpClient() as client:

        async def asked() -> None:
            answer = await client.infer(service.targets()[0], 1.0)
            assert answer.outcome == OK, answer
            assert revision_of(answer) != new

        await first_answer(service)
        new = await roll_out(service, lull.put("shadowed-2.tar", models.scaling(2.0, 2)), SHADOW)

        async def compared() -> bool:
            await asked()
            return (await counted(lull, service, new))[0] >= COMPARED

        await lull.until(compared, f"{COMPARED} answers are compared", 60)
    await service.wait("Asleep", 60)
    await followed(service, new, until=["Shadowing"])
    assert not [entry for _, entry, _ in await service.placements() if entry["state"] == "Loaded"]
    total, differed = await counted(lull, service, new)
    assert total == differed, "the new one answers otherwise"
    note(f"{total} answers compared in shadow, all told apart; asleep after the last real request")
