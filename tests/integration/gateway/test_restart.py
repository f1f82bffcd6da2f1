"""A pilot that is killed: awake models do not notice, held requests are answered, no claim comes too soon."""

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path

import pytest

from integration.gateway.harness import DEADLINE_SECONDS, Gateway, until
from unit.gateway.objects import host_object, placement, service_object

SCRIPT = Path(__file__).with_name("pilot_process.py")


class KillableGateway(Gateway):
    """A gateway whose pilot is a process of its own."""

    services, hosts = (), ()

    async def run_pilot(self):
        self.process = await asyncio.create_subprocess_exec(sys.executable, str(SCRIPT), str(self.folder))

    async def kill_pilot(self):
        self.process.kill()
        await self.process.wait()

    def show(self, *hosts, services=("digits",)):
        view = {"services": [service_object(name) for name in services], "hosts": hosts}
        fresh = self.folder / "view.new"
        fresh.write_text(json.dumps(view))
        fresh.replace(self.folder / "view.json")

    async def routed(self, service):
        """Wait until Envoy has the service's virtual host: the pilot is not here to be asked."""
        end = time.monotonic() + DEADLINE_SECONDS
        query = {"resource": "dynamic_route_configs"}
        while f'"{service}"'.encode() not in await self.admin._ask("GET", "/config_dump", query):
            assert time.monotonic() < end, f"{service} is not routed"
            await asyncio.sleep(0.01)

    def record(self):
        path = self.folder / "record.json"
        return json.loads(path.read_text()) if path.exists() else {"held": [], "drained": []}


@pytest.fixture
async def killable():
    running = KillableGateway()
    running.show()
    await running.run_pilot()
    try:
        yield await running.start(pilot=False)
    finally:
        await running.kill_pilot()
        await running.stop()


async def test_a_held_request_survives_kill_9_of_the_pilot(killable, upstream):
    request = asyncio.create_task(killable.infer(data=b"x" * 1_000_000))
    await until(lambda: killable.record()["held"] == ["demo/digits"], "held")
    await killable.kill_pilot()
    (killable.folder / "record.json").unlink()
    await asyncio.sleep(0.3)
    assert not request.done()
    await killable.run_pilot()
    await until(lambda: killable.record()["held"] == ["demo/digits"], "demanded again")
    killable.show(host_object(upstream.address, placement("digits-1", "demo/digits")))
    status, _, body = await request
    assert (status, body["bytes"]) == (200, 1_000_000)


async def test_awake_models_do_not_notice_that_the_pilot_is_gone(killable, upstream):
    killable.show(host_object(upstream.address, placement("digits-1", "demo/digits")))
    assert (await killable.infer())[0] == 200

    async def answered_without_pilot():
        await killable.kill_pilot()
        for _ in range(50):
            assert (await killable.infer())[0] == 200

    await killable.routed("demo/digits")  # the virtual host follows the first answer
    await answered_without_pilot()
    await killable.run_pilot()
    for _ in range(50):
        assert (await killable.infer())[0] == 200
        await asyncio.sleep(0.01)


async def test_a_new_pilot_claims_nothing_before_envoy_let_go_of_the_old_ones_routes(killable, upstream):
    host = host_object(upstream.address, placement("digits-1", "demo/digits"))
    killable.show(host)
    assert (await killable.infer())[0] == 200

    async def slow_body():
        for _ in range(30):
            yield b"x"
            await asyncio.sleep(0.1)

    upload = asyncio.create_task(killable.infer(data=slow_body()))
    await asyncio.sleep(0.3)
    await killable.kill_pilot()
    killable.show(host_object(upstream.address, placement("digits-1", "demo/digits", state="Draining")))
    started = time.monotonic()
    await killable.run_pilot()
    while not upload.done():
        assert not killable.record()["drained"]
        await asyncio.sleep(0.01)
    assert (await upload)[0] == 200
    await until(lambda: killable.record()["drained"] == ["digits-1.1"], "claimed in the end")
    assert time.monotonic() - started > 1


async def test_envoy_looks_for_its_pilot_every_second_however_long_it_is_gone(gateway):
    looks = []

    def look(_reader, writer):
        looks.append(time.monotonic())
        writer.close()

    await gateway.server.stop(0)
    gateway.settings.xds_socket.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(look, gateway.settings.xds_socket)
    await until(lambda: len(looks) >= 15, "Envoy looked 15 times", seconds=20)
    server.close()
    await server.wait_closed()
    assert max(later - earlier for earlier, later in itertools.pairwise(looks)) < 2


async def test_envoy_stays_connected_to_a_pilot_that_has_nothing_to_say(gateway):
    stream = gateway.pilot.ads.stream
    await asyncio.sleep(2.5)  # longer than its pause between two looks for the pilot
    assert (gateway.pilot.ads.connected, gateway.pilot.ads.stream) == (True, stream)
