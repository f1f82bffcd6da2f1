"""What HTTP clients meet: who is served, who is refused, and in which words."""

import asyncio
import socket

import pytest

from integration.gateway.harness import DOMAIN, until
from unit.gateway.objects import placement

HOST = f"digits.demo.{DOMAIN}"


@pytest.fixture
async def awake(gateway, upstream):
    gateway.service("digits")
    gateway.service("review")
    gateway.host(upstream.address, placement("digits-1", "demo/digits"), placement("review-1", "demo/review"))
    await gateway.routed("demo/digits")
    await gateway.routed("demo/review")
    return gateway


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/digits",
        "/v2/models/digits/ready",
        "/v2/models/digits/infer",
        "/v2/models/digits/infer?x=1",
        "/v2/models/digits/generate",
        "/v2/models/digits/generate_stream",
        "/v2/models/digits/versions/1",
        "/v2/models/digits/versions/1/infer",
        "/v2/models/digits/versions/1/ready",
    ],
)
async def test_inference_metadata_and_health_pass(awake, upstream, path):
    status, _, body = await awake.ask(path, host=HOST)
    assert (status, body["path"]) == (200, path.partition("?")[0])
    assert upstream.seen


@pytest.mark.parametrize("asleep", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/index",
        "/v2/repository/models/digits/unload",
        "/v2/models/digits/config",
        "/v2/models/digits/stats",
        "/v2/models/digits/versions/1/stats",
        "/v2/models/digits/trace/setting",
        "/v2/models/stats",
        "/v2/systemsharedmemory/status",
        "/v2/systemsharedmemory/region/x/register",
        "/v2/cudasharedmemory/status",
        "/v2/trace/setting",
        "/v2/logging",
    ],
)
async def test_what_steers_triton_is_refused(awake, upstream, path, asleep):
    awake.service("tiny")
    host = f"tiny.demo.{DOMAIN}" if asleep else HOST
    status, headers, body = await awake.ask(path, host=host, method="POST")
    assert status == 403
    assert headers["content-type"] == "application/json"
    assert "refused" in body["error"]
    assert not upstream.seen
    assert not set(awake.pilot.held())


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/review/infer",
        "/v2/models/review",
        "/v2/models/digits/../review/infer",
        "/v2/models/digits/versions/x/infer",
        "/metrics",
        "/",
        "/v2/models",
    ],
)
async def test_another_model_or_path_is_not_found(awake, upstream, path):
    status, _, body = await awake.ask(path, host=HOST)
    assert status == 404
    assert body["error"]
    assert not upstream.seen


@pytest.mark.parametrize("path", ["/v2/models/digits%2finfer", "/v2/models%2fdigits/infer"])
async def test_an_escaped_slash_is_refused(awake, upstream, path):
    reader, writer = await asyncio.open_connection(*awake.target.split(":"))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.split()[1] in (b"400", b"404")
    assert not upstream.seen


@pytest.mark.parametrize("asleep", [False, True])
async def test_a_client_cannot_choose_its_cluster(awake, upstream, asleep):
    awake.service("tiny")
    host = f"tiny.demo.{DOMAIN}" if asleep else HOST
    headers = {"x-lull-cluster": "review-1.1|http", "X-Lull-Model": "review"}
    path = "/v2/repository/index" if asleep else "/v2/models/digits/infer"
    status, _, _ = await awake.ask(path, host=host, headers=headers)
    assert status == (403 if asleep else 200)
    assert all(model == "digits" for _, model, _ in upstream.seen)
    assert not any(name.lower().startswith("x-lull") for seen in upstream.headers for name in seen)


async def test_the_internal_headers_do_not_reach_the_model_after_a_wake(gateway, upstream):
    gateway.service("digits")
    request = asyncio.create_task(gateway.infer(headers={"x-lull-cluster": "nowhere"}))
    await until(lambda: gateway.pilot.holding, "held")
    gateway.host(upstream.address, placement("digits-1", "demo/digits"))
    assert (await request)[0] == 200
    assert not any(name.lower().startswith("x-lull") for name in upstream.headers[0])


@pytest.mark.parametrize("host", [HOST.upper(), f"{HOST}:8080", f"{HOST}.", f"Digits.DEMO.{DOMAIN}:1"])
@pytest.mark.parametrize("asleep", [False, True])
async def test_spellings_of_a_host_are_one_host(gateway, upstream, host, asleep):
    gateway.service("digits")
    if not asleep:
        gateway.host(upstream.address, placement("digits-1", "demo/digits"))
        await gateway.routed("demo/digits")
    request = asyncio.create_task(
        gateway.ask("/v2/models/digits/infer", host=host, method="POST", data=b"{}")
    )
    if asleep:
        await until(lambda: gateway.pilot.holding, "held")
        gateway.host(upstream.address, placement("digits-1", "demo/digits"))
    assert (await request)[0] == 200


def ask_by_path(gateway):
    return gateway.ask("/demo/digits/v2/models/digits/infer?a=b", method="POST", data=b"x" * 100_000)


def is_answered(answer):
    status, _, body = answer
    return (status, body["bytes"], body["path"]) == (200, 100_000, "/v2/models/digits/infer")


async def test_a_service_that_sleeps_answers_by_path(gateway, upstream):
    gateway.service("digits")
    request = asyncio.create_task(ask_by_path(gateway))
    await until(lambda: gateway.pilot.holding, "held")
    gateway.host(upstream.address, placement("digits-1", "demo/digits"))
    assert is_answered(await request)


async def test_no_python_is_on_the_path_of_a_request_to_an_awake_model(awake):
    passed = awake.pilot.metrics.oks._value
    async with asyncio.timeout(10):
        before = -1
        while passed.get() != before:  # a worker may hear of a route after Envoy has acknowledged it
            before = passed.get()
            assert is_answered(await ask_by_path(awake))
    for _ in range(10):
        assert is_answered(await ask_by_path(awake))
    assert passed.get() == before


@pytest.mark.parametrize(
    "path", ["/demo/nobody/v2", "/demo/digits/v1", "/v2/digits/v2/health/live", "/demo/digits"]
)
async def test_a_path_to_nobody_is_not_found(awake, upstream, path):
    status, _, body = await awake.ask(path)
    assert status == 404
    assert body["error"]


@pytest.mark.parametrize("rest", ["", "/", "?a=b"])
async def test_a_path_ends_after_its_version_or_goes_on_with_a_slash(awake, rest):
    assert (await awake.ask(f"/demo/digits/v2{rest}"))[0] == 200
    status, _, body = await awake.ask(f"/demo/digits/v2evil{rest}")
    assert status == 404
    assert "no service" in body["error"]


@pytest.mark.parametrize("host", [HOST, HOST.upper(), f"review.demo.{DOMAIN}", f"nobody.demo.{DOMAIN}"])
@pytest.mark.parametrize("asleep", [False, True])
async def test_a_services_own_host_takes_no_path_to_a_service(gateway, upstream, host, asleep):
    gateway.service("digits")
    gateway.service("review")
    if not asleep:
        gateway.host(upstream.address, placement("digits-1", "demo/digits"))
        await gateway.routed("demo/digits")
    status, _, body = await gateway.ask("/demo/digits/v2/health/live", host=host)
    assert status == 404
    assert body["error"]
    assert not upstream.seen


async def test_random_hosts_and_paths_are_not_found_and_leave_nothing(gateway):
    gateway.service("digits")

    def resident_kib():
        with open(f"/proc/{gateway.envoy.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    async def ask(i):
        path = f"/nobody-{i}/x/v2/models/m/infer" if i % 2 else "/v2/models/m/infer"
        status, _, _ = await gateway.ask(path, host=f"nobody-{i}.demo.{DOMAIN}")
        assert status == 404

    async def burst(first, count):
        for start in range(first, first + count, 50):
            await asyncio.gather(*(ask(i) for i in range(start, start + 50)))

    await burst(0, 1000)
    before = resident_kib()
    await burst(1000, 3000)
    assert resident_kib() - before < 4096
    assert not set(gateway.pilot.held())


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/digits/ready"])
async def test_asleep_is_healthy_and_asking_wakes_nothing(gateway, path):
    gateway.service("digits")
    status, _, body = await gateway.ask(path, host=HOST)
    assert (status, body) == (200, "")
    assert not gateway.journal.urgent_at


async def test_a_scrape_wakes_nothing(gateway):
    gateway.service("digits")
    status, _, _ = await gateway.ask("/metrics", host=HOST)
    assert status == 404
    assert not gateway.journal.urgent_at


async def test_garbage_is_answered_with_400_and_hurts_nobody(awake):
    with socket.create_connection((awake.settings.address, 8080), timeout=5) as raw:
        raw.sendall(b"\x00\x01garbage\r\n\r\n")
        assert b"400" in raw.recv(1000)
    assert (await awake.infer())[0] == 200
