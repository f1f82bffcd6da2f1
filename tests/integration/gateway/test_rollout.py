"""A rollout in the gateway: each revision gets its share, and what a candidate fails no client sees."""

import asyncio
from collections import Counter

import grpc
import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2

from integration.gateway.harness import DOMAIN, Upstream, until
from integration.gateway.test_fence import claimed, slow_upload
from lull.api.latency import BINS, EDGES_SECONDS
from lull.api.names import REVISION_HEADER
from lull.gateway import routes
from unit.gateway.objects import placement, rollout

SERVICE = "demo/digits"
HOST = f"digits.demo.{DOMAIN}"


@pytest_asyncio.fixture
async def candidate():
    running = await Upstream({"digits"}).start()
    yield running
    await running.stop()


@pytest_asyncio.fixture
async def other():
    running = await Upstream({"digits"}).start()
    yield running
    await running.stop()


class World:
    """A service in a rollout: `r1` on one host, `r2` on another."""

    def __init__(self, gateway, stable, candidate):
        self.gateway, self.stable, self.candidate = gateway, stable, candidate

    async def says(self, phase="Stepping", *, percent=0, shadow_percent=0):
        """Let the service's status say this, and wait until Envoy follows."""
        self.gateway.service("digits", rollout=rollout(phase, percent=percent, shadow_percent=shadow_percent))
        await self.settled()

    async def settled(self):
        """Wait until Envoy has acknowledged the table that follows from what the pilot knows."""
        pilot = self.gateway.pilot
        await until(lambda: not pilot._stale and not pilot._routes_due.is_set(), "the table is made")
        await until(lambda: pilot._routed() == pilot.targets(SERVICE).leases, "Envoy follows")
        await until(lambda: len(pilot.ads.possible(*_TABLE)) == 1, "Envoy uses the newest table alone")

    def place(self, *, stable="Ready", candidate="Ready", candidate_state="Loaded"):
        self.gateway.host(self.stable.address, placement("digits-1", SERVICE, status=stable))
        self.gateway.host(
            self.candidate.address,
            placement("digits-2", SERVICE, status=candidate, state=candidate_state, revision="r2"),
        )

    async def ask(self, count, **more):
        """Return how many answers had which status and came of which revision, by HTTP."""
        seen = Counter()
        for _ in range(count):
            status, headers, _ = await self.gateway.infer(**more)
            seen[status, headers.get(REVISION_HEADER)] += 1
        return seen

    async def call(self, count, *, revision=None):
        """Return the same by gRPC, errors by their code."""
        stub, channel = self.gateway.stub(HOST)
        metadata = [(REVISION_HEADER, revision)] if revision else None
        seen = Counter()
        async with channel:
            for _ in range(count):
                call = stub.ModelInfer(
                    service_pb2.ModelInferRequest(model_name="digits"), metadata=metadata, timeout=20
                )
                told = {**dict(await call.initial_metadata()), **dict(await call.trailing_metadata())}
                seen[await call.code(), told.get(REVISION_HEADER)] += 1
        return seen

    async def counts(self, ready):
        """Return what was counted of `r1` and `r2`, once `ready` of it."""

        def told():
            totals = self.gateway.pilot.traffic.totals()
            entries = [totals.get(f"{SERVICE}@{revision}") for revision in ("r1", "r2")]
            return entries if ready(*entries) else None

        return await until(told, f"counted: {self.gateway.pilot.traffic.totals()}")


@pytest_asyncio.fixture
async def world(gateway, upstream, candidate):
    made = World(gateway, upstream, candidate)
    gateway.service("digits", rollout=rollout("Validating"))
    made.place()
    await gateway.routed(SERVICE)
    await until(lambda: SERVICE in gateway.pilot.traffic._candidates, "what was before is not counted")
    return made


_TABLE = ("type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "lull")


def within(count, total, share):
    """Tell whether a count is within five standard deviations of its share: missed once in two million."""
    return abs(count - share * total) < 5 * (total * share * (1 - share)) ** 0.5


async def test_each_revision_gets_its_share_and_an_answer_names_its_revision(world):
    assert await world.ask(20) == {(200, "r1"): 20}
    for percent in (10, 50):
        await world.says(percent=percent)
        seen = await world.ask(400)
        assert seen.keys() == {(200, "r1"), (200, "r2")}
        assert within(seen[200, "r2"], 400, percent / 100), seen
        seen = await world.call(200)
        assert seen.keys() == {(grpc.StatusCode.OK, "r1"), (grpc.StatusCode.OK, "r2")}
        assert within(seen[grpc.StatusCode.OK, "r2"], 200, percent / 100), seen
    assert {model for _, model, _ in world.candidate.seen} == {"digits"}


async def test_a_share_is_of_the_revision_however_many_replicas_either_has(world, gateway, other):
    gateway.host(
        world.stable.address, placement("digits-1", SERVICE), placement("digits-3", SERVICE, epoch=2)
    )
    gateway.host(other.address, placement("digits-4", SERVICE, revision="r2"))
    await world.says(percent=40)
    seen = await world.ask(600)
    assert within(seen[200, "r2"], 600, 0.4), seen
    assert within(len(other.seen), 600, 0.2), len(other.seen)
    assert within(len(world.candidate.seen), 600, 0.2), len(world.candidate.seen)


@pytest.mark.parametrize("fault", ["fails", "refuses", "resets", "cuts off"])
async def test_what_a_candidate_fails_no_client_sees(world, fault):
    await world.says(percent=50)
    world.candidate.fault = fault
    assert await world.ask(40) == {(200, "r1"): 40}
    assert (await world.gateway.infer(data=b"x" * (3 * 2**20)))[2]["bytes"] == 3 * 2**20
    assert len(world.candidate.seen) > 5
    requests = await world.counts(lambda _, new: new and new["requests"] > 5)
    assert requests[1]["failures"] == requests[1]["requests"]


@pytest.mark.parametrize("fault", ["fails", "refuses"])
async def test_nor_does_one_over_grpc(world, fault):
    await world.says(percent=50)
    world.candidate.fault = fault
    assert await world.call(40) == {(grpc.StatusCode.OK, "r1"): 40}
    assert len(world.candidate.seen) > 5


async def test_nor_what_its_process_leaves_undone_when_it_dies(world):
    await world.says(percent=50)
    world.candidate.delay_seconds = 60.0
    under_way = [asyncio.create_task(world.ask(1)) for _ in range(12)]
    under_way += [asyncio.create_task(world.call(1)) for _ in range(12)]
    await until(lambda: sum(not task.done() for task in under_way) == len(world.candidate.seen) > 0, "asked")
    await world.candidate._grpc.stop(0)
    await world.candidate._runner.shutdown()
    for site in world.candidate._runner.sites:
        await site.stop()
    for connection in world.candidate._runner.server.connections:
        connection.transport.abort()
    seen = sum([await task for task in under_way], Counter())
    assert seen == {(200, "r1"): 12, (grpc.StatusCode.OK, "r1"): 12}
    assert await world.ask(20) == {(200, "r1"): 20}  # nobody listens there any more


async def test_a_candidate_that_hangs_has_failed(world, monkeypatch):
    monkeypatch.setattr(routes, "SILENCE_SECONDS", 1)
    await world.says(percent=100)
    world.candidate.delay_seconds = 60.0
    both = await asyncio.gather(world.ask(1), world.call(1))
    assert both == [{(200, "r1"): 1}, {(grpc.StatusCode.OK, "r1"): 1}]
    _, new = await world.counts(lambda _, new: new and new["requests"] == 2)
    assert new["failures"] == 2


async def test_what_is_too_large_to_be_asked_again_fails_once(world):
    await world.says(percent=100)
    world.candidate.fault = "fails"
    assert await world.ask(1, data=b"x" * (5 * 2**20)) == {(500, "r2"): 1}
    _, new = await world.counts(lambda _, new: new and new["requests"])
    assert (new["requests"], new["failures"]) == (1, 1)


async def test_a_request_that_names_a_revision_is_answered_by_it_even_at_no_share(world):
    for revision in ("r1", "r2"):
        assert await world.ask(3, headers={REVISION_HEADER: revision}) == {(200, revision): 3}
        assert await world.call(3, revision=revision) == {(grpc.StatusCode.OK, revision): 3}
        answer = await world.gateway.ask("/demo/digits/v2/models/digits", headers={REVISION_HEADER: revision})
        assert answer[1][REVISION_HEADER] == revision


async def test_what_it_named_is_not_asked_of_another_when_that_fails(world):
    await world.says(percent=50)
    world.candidate.fault = "fails"
    assert await world.ask(5, headers={REVISION_HEADER: "r2"}) == {(500, "r2"): 5}


async def test_a_revision_that_does_not_answer_is_refused_in_words(world):
    status, headers, body = await world.gateway.infer(headers={REVISION_HEADER: "r9"})
    assert (status, headers.get(REVISION_HEADER)) == (404, None)
    assert "'r9' of demo/digits" in body["error"]
    assert await world.call(1, revision="r9") == {(grpc.StatusCode.NOT_FOUND, None): 1}
    world.place(candidate="Loading")
    await world.settled()
    status, headers, body = await world.gateway.infer(headers={REVISION_HEADER: "r2"})
    assert (status, headers["Retry-After"]) == (503, "1")
    assert "not ready yet" in body["error"]
    await world.says("Rejected")
    assert (await world.gateway.infer(headers={REVISION_HEADER: "r2"}))[0] == 404


async def test_both_revisions_are_counted_with_how_long_they_took(world):
    await world.says(percent=50)
    world.candidate.delay_seconds = 0.2
    seen = await world.ask(30) + await world.call(30)
    old, new = (
        sum(count for (_, revision), count in seen.items() if revision == name) for name in ("r1", "r2")
    )
    told = await world.counts(lambda a, b: a and b and sum(a["latency"]) >= old and sum(b["latency"]) >= new)
    assert [(entry["requests"], entry["failures"]) for entry in told] == [(old, 0), (new, 0)]
    assert [sum(entry["latency"]) for entry in told] == [old, new]
    slower = next(i for i, edge in enumerate(EDGES_SECONDS) if edge >= 0.2)
    assert sum(told[1]["latency"][:slower]) == 0
    assert len(told[1]["latency"]) <= BINS
    # The own revision's failures are its own, over either protocol.
    world.stable.fault = "fails"
    failed = await world.ask(20) + await world.call(20)
    failures = failed[500, "r1"] + failed[grpc.StatusCode.INTERNAL, "r1"]
    told = await world.counts(lambda a, _: a["failures"] >= failures)
    assert told[0]["failures"] == failures


async def test_what_the_candidate_failed_is_not_counted_as_asked_of_the_other(world):
    await world.says(percent=50)
    world.candidate.fault = world.stable.fault = "fails"
    await world.ask(40)
    _, new = await world.counts(lambda a, b: a and b and a["requests"] + b["requests"] >= 40)
    old, new = await world.counts(lambda a, b: b["failures"] == b["requests"] == new["requests"])
    assert old["requests"] + new["requests"] == 40, "each once"
    assert old["failures"] == old["requests"]


async def test_nothing_reaches_a_candidate_once_it_is_rejected_though_it_is_loaded_still(world):
    await world.says(percent=50)
    assert (await world.ask(30))[200, "r2"]
    await world.says("Rejected", percent=50)
    world.candidate.seen.clear()
    assert await world.ask(50) == {(200, "r1"): 50}
    assert await world.call(20) == {(grpc.StatusCode.OK, "r1"): 20}
    assert world.candidate.seen == []
    await until(lambda: not world.gateway.pilot.traffic.totals(), "it is counted no more")


async def test_a_candidate_alone_serves_nothing_and_requests_wait_for_the_stable_revision(world):
    await world.says(percent=50)
    world.place(stable="Loading")
    await until(lambda: world.gateway.pilot._routed() == frozenset(), "nothing is routed")
    request = asyncio.create_task(world.ask(1))
    await until(lambda: world.gateway.pilot.holding, "held")
    world.place()
    assert await request == {(200, "r1"): 1}


async def test_promoted_it_serves_alone_and_the_old_one_only_where_it_cannot(world):
    await world.says("Promoted")
    assert await world.ask(20) == {(200, "r2"): 20}
    world.place(candidate="Loading")
    await world.settled()
    assert await world.ask(5) == {(200, "r1"): 5}


async def test_a_rejected_candidate_and_a_stable_one_that_moves_lose_no_slow_upload(world, gateway, other):
    """Drains of both, with second tries between them; each host goes deaf to the model once it is fenced."""
    await world.says(percent=50)
    failures, answered, stop = [], 0, False

    async def client():
        nonlocal answered
        while not stop:
            status, body = await slow_upload(gateway, chunks=3, pause_seconds=0.1)
            answered += 1
            if status != 200:
                failures.append((status, body))

    clients = [asyncio.create_task(client()) for _ in range(8)]
    for epoch in range(1, 4):
        seen = len(world.candidate.seen)
        await until(lambda seen=seen: len(world.candidate.seen) > seen + 4, "the candidate is asked")
        # The stable revision moves to another host, the candidate begins to fail, and is rejected.
        gateway.host(other.address, placement("digits-3", SERVICE, epoch=epoch))
        old = placement("digits-1", SERVICE, epoch=epoch, state="Draining")
        gateway.host(world.stable.address, old)
        world.candidate.fault = "fails"
        await claimed(gateway, f"digits-1.{epoch}")
        world.stable.models.clear()
        await asyncio.sleep(0.3)
        gateway.service("digits", rollout=rollout("Rejected"))
        gone = placement("digits-2", SERVICE, epoch=epoch, state="Draining", revision="r2")
        gateway.host(world.candidate.address, gone)
        await claimed(gateway, f"digits-2.{epoch}")
        world.candidate.models.clear()
        await asyncio.sleep(0.3)
        # And all from the start.
        for upstream in (world.stable, world.candidate):
            upstream.models.add("digits")
        world.candidate.fault = None
        gateway.host(world.stable.address, placement("digits-1", SERVICE, epoch=epoch + 1))
        again = placement("digits-2", SERVICE, epoch=epoch + 1, revision="r2")
        gateway.host(world.candidate.address, again)
        gateway.service("digits", rollout=rollout(percent=50))
        gateway.host(other.address, placement("digits-3", SERVICE, epoch=epoch, state="Draining"))
        await claimed(gateway, f"digits-3.{epoch}")
    stop = True
    await asyncio.gather(*clients)
    assert failures == []
    assert answered > 30


async def test_what_a_candidate_fails_late_goes_where_the_stable_revision_is_by_then(world, gateway, other):
    await world.says(percent=100)
    world.candidate.fault, world.candidate.delay_seconds = "fails", 4.0
    late = asyncio.create_task(world.ask(1))
    await until(lambda: world.candidate.seen, "the candidate is asked")
    gateway.host(other.address, placement("digits-3", SERVICE))
    gateway.host(world.stable.address, placement("digits-1", SERVICE, state="Draining"))
    await claimed(gateway, "digits-1.1")
    world.stable.models.clear()
    assert not late.done()
    assert await late == {(200, "r1"): 1}
    assert other.seen
