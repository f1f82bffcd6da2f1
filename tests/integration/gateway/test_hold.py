"""How requests wait: bounded in number and time, woken by one write, and never left behind."""

import asyncio

import aiohttp

from integration.gateway.harness import DEADLINE_SECONDS, DOMAIN, Upstream, until
from lull.api.names import DELAYED_SECONDS
from lull.gateway import main
from lull.gateway.view import Lease
from unit.gateway.objects import host_object, placement

HOST = f"digits.demo.{DOMAIN}"


async def test_many_waiters_are_one_demand_and_all_answered(gateway, upstream):
    gateway.service("digits", hold={"timeout": "60s", "max": 5000})
    requests = [asyncio.create_task(gateway.infer(data=b"x" * 100)) for _ in range(1500)]
    await until(lambda: gateway.pilot.holding == 1500, "all are held")
    assert len(gateway.journal.urgent_at) == 1
    await asyncio.sleep(DELAYED_SECONDS)  # so long at least has each of them waited then
    gateway.host(upstream.address, placement("digits-1", "demo/digits"))
    answers = await asyncio.gather(*requests)
    assert [status for status, _, _ in answers] == [200] * 1500
    assert not set(gateway.pilot.held())
    assert gateway.pilot.delays.totals() == {"demo/digits": 1500}


async def test_above_the_limit_the_answer_is_503_at_once_with_retry_after(gateway, upstream):
    gateway.service("digits", hold={"timeout": "60s", "max": 2})
    held = [asyncio.create_task(gateway.infer()) for _ in range(2)]
    await until(lambda: gateway.pilot.holding == 2, "two are held")
    status, headers, body = await gateway.infer()
    assert (status, headers["retry-after"]) == (503, "1")
    assert "spec.hold.max" in body["error"]
    gateway.host(upstream.address, placement("digits-1", "demo/digits"))
    assert [status for status, _, _ in await asyncio.gather(*held)] == [200, 200]


async def test_a_hold_ends_at_its_timeout_with_what_is_known(gateway):
    gateway.service("review", hold={"timeout": "60s", "max": 2})
    gateway.service("digits", hold={"timeout": "300ms", "max": 2})
    longer = asyncio.create_task(gateway.infer("review"))
    shorter = asyncio.create_task(gateway.infer())
    await until(lambda: gateway.pilot.holding == 2, "both are held")
    status, headers, body = await asyncio.wait_for(shorter, DEADLINE_SECONDS)
    assert (status, headers["retry-after"]) == (503, "5")
    assert "did not wake within 0.3 s" in body["error"]
    assert set(gateway.pilot.held()) == {"demo/review"}
    assert gateway.pilot.delays.totals()["demo/digits"] == 1
    longer.cancel()


async def test_a_suspended_service_is_refused_and_not_demanded(gateway):
    gateway.service("digits", suspend=True)
    status, headers, body = await gateway.infer()
    assert status == 503
    assert headers["retry-after"]
    assert "Suspended" in body["error"]
    assert not set(gateway.pilot.held())
    assert not gateway.pilot.delays.totals()


async def test_a_service_that_stalls_while_requests_wait_lets_them_go(gateway):
    gateway.service("digits")
    request = asyncio.create_task(gateway.infer())
    await until(lambda: gateway.pilot.holding, "held")
    condition = {"type": "Stalled", "status": "True", "reason": "NoSuchPool", "message": "make the pool"}
    gateway.pilot.on_service(
        ("demo", "digits"),
        {
            "metadata": {"name": "digits", "generation": 3},
            "spec": {"model": {"uri": "x"}},
            "status": {"conditions": [{**condition, "observedGeneration": 3}]},
        },
    )
    status, _, body = await request
    assert status == 503
    assert "NoSuchPool: make the pool" in body["error"]


async def test_a_service_that_is_deleted_while_requests_wait_answers_404(gateway):
    gateway.service("digits")
    request = asyncio.create_task(gateway.infer())
    await until(lambda: gateway.pilot.holding, "held")
    gateway.pilot.on_service(("demo", "digits"), None)
    assert (await request)[0] == 404


async def test_a_client_that_hangs_up_gives_its_place_back(gateway):
    gateway.service("digits")
    request = asyncio.create_task(gateway.infer())
    await until(lambda: gateway.pilot.holding, "held")
    request.cancel()
    await until(lambda: not gateway.pilot.holding, "the place is given back")
    assert not set(gateway.pilot.held())


async def test_requests_are_spread_over_all_replicas(gateway, upstream):
    from integration.gateway.harness import Upstream

    second = await Upstream({"digits"}).start()
    try:
        gateway.service("digits")
        gateway.host(upstream.address, placement("digits-1", "demo/digits"))
        gateway.host(second.address, placement("digits-2", "demo/digits"))
        await gateway.routed("demo/digits")
        for _ in range(60):
            assert (await gateway.infer())[0] == 200
        assert min(len(upstream.seen), len(second.seen)) >= 10
    finally:
        await second.stop()


async def test_each_of_many_wakes_in_a_row_is_demanded_and_answered_once(gateway, upstream):
    gateway.service("digits")
    for epoch in range(1, 6):
        request = asyncio.create_task(gateway.infer())
        await until(lambda: gateway.pilot.holding, "held")
        assert len(gateway.journal.urgent_at) >= epoch
        gateway.host(upstream.address, placement("digits-1", "demo/digits", epoch=epoch))
        assert (await request)[0] == 200
        assert len(upstream.seen) == epoch
        gateway.host(upstream.address, placement("digits-1", "demo/digits", epoch=epoch, state="Draining"))
        await until(lambda e=epoch: f"digits-1.{e}" in set(gateway.pilot.drained()), "drained")


async def test_one_bad_object_stops_nothing(gateway, upstream):
    gateway.service("digits")
    gateway.pilot.on_service(("demo", "bad"), {"metadata": {"name": "bad"}, "spec": {}})
    gateway.pilot.on_host(("lull-hosts", "bad"), {"metadata": {"name": "bad"}, "spec": {"models": [{}]}})
    gateway.pilot.on_host(
        ("lull-hosts", "odd"), host_object("not an address", placement("digits-9", "demo/digits"))
    )
    gateway.host(upstream.address, placement("digits-1", "demo/digits"))
    assert (await gateway.infer())[0] == 200


async def test_a_connection_full_of_held_uploads_still_carries_an_awake_service(gateway, upstream):
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    gateway.service("digits")
    gateway.service("review")
    gateway.host(upstream.address, placement("review-1", "demo/review"))
    await gateway.routed("demo/review")
    options = [("grpc.use_local_subchannel_pool", 0)]
    asleep = grpc.aio.insecure_channel(gateway.target, [*options, ("grpc.default_authority", HOST)])
    stub = service_pb2_grpc.GRPCInferenceServiceStub(asleep)
    message = service_pb2.ModelInferRequest(model_name="digits", raw_input_contents=[b"x" * 300_000])
    held = [asyncio.ensure_future(stub.ModelInfer(message)) for _ in range(200)]
    await until(lambda: gateway.pilot.holding == 200, "all are held")
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        url = f"{gateway.url}/demo/review/v2/models/review/infer"
        async with session.post(url, data=b"x" * 300_000) as response:
            assert response.status == 200
    gateway.host(upstream.address, placement("review-1", "demo/review"), placement("digits-1", "demo/digits"))
    assert all(answer.model_name == "digits" for answer in await asyncio.gather(*held))
    await asleep.close()


async def test_renaming_a_model_after_its_neighbour_does_not_lead_there(gateway, upstream):
    gateway.service("digits")
    gateway.service("review", namespace="victim")
    gateway.host(
        upstream.address, placement("digits-1", "demo/digits"), placement("review-1", "victim/review")
    )
    await gateway.routed("demo/digits")
    gateway.service("digits", model="review")
    await until(
        lambda: gateway.pilot._routed() == {Lease("review-1", 1)}, "the old placement is routed no more"
    )
    infer = gateway.ask("/v2/models/review/infer", host=HOST, method="POST", data=b"{}")
    request = asyncio.create_task(infer)
    await until(lambda: set(gateway.pilot.held()) == {"demo/digits"}, "held until the new name is loaded")
    assert not upstream.seen
    alone = await Upstream({"review"}).start()
    gateway.host(alone.address, placement("digits-2", "demo/digits", "review"))
    assert (await request)[0] == 200
    await alone.stop()
    assert (len(alone.seen), upstream.seen) == (1, [])


async def test_a_request_held_under_an_old_name_does_not_wake_into_a_neighbour(gateway, upstream):
    gateway.service("digits", model="review")
    request = asyncio.create_task(
        gateway.ask("/v2/models/review/infer", host=HOST, method="POST", data=b"{}")
    )
    await until(lambda: gateway.pilot.holding, "held")
    gateway.service("digits")
    gateway.host(
        upstream.address, placement("digits-1", "demo/digits"), placement("review-1", "victim/review")
    )
    status, _, body = await request
    assert status == 404
    assert "'digits'" in body["error"]
    assert not upstream.seen


async def test_a_leaving_gateway_waits_to_be_noticed_and_for_its_held_requests(
    gateway, upstream, monkeypatch
):
    monkeypatch.setattr(main, "_LEAVE_SECONDS", 60)
    unnoticed = asyncio.create_task(main.drain(gateway.settings))
    assert not (await asyncio.wait({unnoticed}, timeout=0.5))[0]
    unnoticed.cancel()
    monkeypatch.setattr(main, "_LEAVE_SECONDS", 0)
    await asyncio.wait_for(main.drain(gateway.settings), DEADLINE_SECONDS)
    gateway.service("digits")
    request = asyncio.create_task(gateway.infer())
    await until(lambda: gateway.pilot.holding, "held")
    leaving = asyncio.create_task(main.drain(gateway.settings))
    assert not (await asyncio.wait({leaving}, timeout=1.5))[0]
    gateway.host(upstream.address, placement("digits-1", "demo/digits"))
    assert (await request)[0] == 200
    await asyncio.wait_for(leaving, DEADLINE_SECONDS)
