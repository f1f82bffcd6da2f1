"""A request to a sleeping service waits, and is answered by the model."""

import asyncio

from integration.gateway.harness import until
from unit.gateway.objects import placement


async def test_a_held_request_is_answered_after_the_wake(gateway, upstream):
    gateway.service("digits")
    request = asyncio.create_task(gateway.infer(data=b"x" * 5_000_000))
    await until(lambda: "demo/digits" in gateway.pilot.held(), "the service is demanded")
    assert len(gateway.journal.urgent_at) == 1
    gateway.host(upstream.address, placement("digits-1", "demo/digits"))
    status, _, body = await request
    assert (status, body["bytes"]) == (200, 5_000_000)
    assert not set(gateway.pilot.held())
    await gateway.routed("demo/digits")
    status, _, _ = await gateway.infer()
    assert status == 200
