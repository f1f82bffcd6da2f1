"""A burst at one sleeping service: every request is answered, or refused by the hold's own limit."""

import pytest

from e2e.load import OK, HttpClient, burst
from e2e.report import note
from e2e.world import Service, World

BURST = 2000


@pytest.fixture
async def sleeper(lull: World) -> Service:
    await lull.pool("burst", emptyAfter="1s")
    return await lull.service("sleeper", lull.publish(), pool="burst")


async def test_all_of_it_is_answered_where_the_limit_allows(sleeper: Service) -> None:
    await sleeper.patch(hold={"max": BURST})
    await sleeper.wait("Asleep")
    async with HttpClient() as client:
        tally, _ = await burst(client, sleeper.targets()[0], BURST)
    note(f"burst: {tally}")
    assert tally.outcomes[OK] == BURST, tally


async def test_what_is_above_the_limit_is_told_when_to_come_back(sleeper: Service) -> None:
    await sleeper.patch(hold={"max": 100})
    await sleeper.wait("Asleep")
    async with HttpClient() as client:
        tally, answers = await burst(client, sleeper.targets()[0], BURST)
    note(f"burst: {tally}")
    assert set(tally.outcomes) == {OK, "503"}, tally
    assert tally.outcomes[OK] >= 100
    refused = [answer for answer in answers if answer.outcome == "503"]
    assert refused
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
