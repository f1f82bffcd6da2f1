"""The load client is the judge of what is lost: it is held against servers that fail in known ways."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from e2e.load import OK, HttpClient, Load, Tally, Target, burst, drive


class Server:
    """Answers the n-th request with what `plan` says of n: ok, a status, another's answer, or silence."""

    def __init__(self, plan: dict[int, str]) -> None:
        self.plan = plan
        self.seen = 0
        self.slowest = 0.0

    async def answer(self, request: web.Request) -> web.Response:
        self.seen += 1
        what = self.plan.get(self.seen, OK)
        began = asyncio.get_running_loop().time()
        body = await request.json()
        self.slowest = max(self.slowest, asyncio.get_running_loop().time() - began)
        if what == "cut":
            assert request.transport
            request.transport.close()
            return web.Response()
        if what.isdigit():
            return web.json_response({"error": "no"}, status=int(what), headers={"Retry-After": "1"})
        data = [-1.0] if what == "wrong" else body["inputs"][0]["data"]
        return web.json_response({"outputs": [{"name": "output", "data": data}]})


@pytest.fixture
async def served() -> AsyncIterator[tuple[Server, Target]]:
    server = Server({3: "503", 5: "wrong", 7: "cut"})
    app = web.Application()
    app.router.add_post("/{tail:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = f"127.0.0.1:{runner.addresses[0][1]}"
    yield server, Target(address, "demo", "a", "a")
    await runner.cleanup()


async def test_every_request_has_one_outcome(served: tuple[Server, Target]) -> None:
    server, target = served
    async with HttpClient() as client:
        tally = await drive(client, Load([target], rate=200, seconds=0.5, slow_share=0.0))
    assert tally.total == server.seen > 20
    assert tally.outcomes["503"] == 1
    assert tally.outcomes["another's answer"] == 1
    assert tally.outcomes["ServerDisconnectedError"] == 1
    assert tally.failed == len(tally.failures) == 3
    assert tally.outcomes[OK] == tally.total - 3


async def test_a_slow_upload_takes_its_time_and_is_not_counted_as_latency(
    served: tuple[Server, Target],
) -> None:
    server, target = served
    server.plan = {}
    async with HttpClient() as client:
        tally = await drive(client, Load([target], rate=100, seconds=0.1, slow_share=1.0))
    assert tally.outcomes[OK] == tally.total == tally.slow
    assert server.slowest > 0.8
    assert tally.percentile(50) < 0.5


async def test_a_burst_is_sent_at_once(served: tuple[Server, Target]) -> None:
    server, target = served
    server.plan = {}
    async with HttpClient() as client:
        tally, answers = await burst(client, target, 50)
    assert tally.outcomes[OK] == len(answers) == 50


async def test_nobody_there_is_an_outcome_too() -> None:
    async with HttpClient() as client:
        answer = await client.infer(Target("127.0.0.1:9", "demo", "a", "a"), 1.0)
    assert answer.outcome == "ClientConnectorError"


def test_load_is_for_loopback_only() -> None:
    with pytest.raises(AssertionError):
        Target("10.0.0.1:80", "demo", "a", "a")


def test_an_empty_tally_can_be_printed() -> None:
    assert "nothing" in str(Tally())


def test_a_steady_load_has_the_same_number_in_any_minute_and_still_queues() -> None:
    dues = list(Load([], rate=5, seconds=600, steady=True).dues(random.Random(1)))
    assert abs(len(dues) - 3000) <= 1
    minutes = [sum(start <= due < start + 60 for due in dues) for start in range(0, 540, 7)]
    assert max(abs(count - 300) for count in minutes) <= 1
    assert sum(later - due < 0.02 for due, later in itertools.pairwise(dues)) > 10
