"""Probes against real servers on loopback."""

import asyncio

import grpc
import pytest
from aiohttp import web

from lull.local.node import probes

ADDRESS = "127.0.0.1"


@pytest.fixture
async def port():
    async def answer(request):
        return web.Response(status=int(request.match_info["status"]))

    over = asyncio.Event()

    async def hang(_request):
        await over.wait()

    app = web.Application()
    app.router.add_get("/status/{status}", answer)
    app.router.add_get("/hang", hang)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, ADDRESS, 0)
    await site.start()
    yield runner.addresses[0][1]
    over.set()
    await runner.cleanup()


def target(**ports):
    return probes.Target(
        ADDRESS, ports, lambda words: probes.run_command(words, {"PATH": "/usr/bin:/bin"}, "/")
    )


@pytest.mark.parametrize(
    ("status", "good"), [(200, True), (302, True), (399, True), (404, False), (500, False)]
)
async def test_http_is_good_from_200_to_399(port, status, good):
    probe = {"httpGet": {"path": f"/status/{status}", "port": "web"}}
    assert (await probes.problem(probe, target(web=port)) is None) == good


async def test_a_hanging_server_fails_at_the_timeout(port):
    probe = {"httpGet": {"path": "/hang", "port": port}, "timeoutSeconds": 0.1}
    assert "no answer in time" in await probes.problem(probe, target())


async def test_tcp_is_good_where_somebody_listens(port):
    assert await probes.problem({"tcpSocket": {"port": port}}, target()) is None
    assert "refused" in (await probes.problem({"tcpSocket": {"port": 1}}, target())).lower()


async def test_exec_is_good_with_exit_code_zero():
    assert await probes.problem({"exec": {"command": ["true"]}}, target()) is None
    assert "exit code 1" in await probes.problem({"exec": {"command": ["false"]}}, target())
    assert "FileNotFound" in await probes.problem({"exec": {"command": ["no-such-program"]}}, target())


async def test_an_exec_that_hangs_is_killed():
    probe = {"exec": {"command": ["sleep", "60"]}, "timeoutSeconds": 0.1}
    assert "no answer in time" in await probes.problem(probe, target())


async def test_an_unknown_port_or_handler_is_a_failure_and_no_crash():
    assert "nope" in await probes.problem({"httpGet": {"port": "nope"}}, target())
    assert "no handler" in await probes.problem({"other": {}}, target())


async def test_verdicts_come_at_their_thresholds():
    codes = iter([1, 0, 0, 1, 1, 1, 0, 0])
    verdicts = []

    async def execute(_words):
        try:
            return next(codes)
        except StopIteration:
            raise asyncio.CancelledError from None

    probe = {"exec": {"command": ["x"]}, "periodSeconds": 0, "successThreshold": 2, "failureThreshold": 3}
    with pytest.raises(asyncio.CancelledError):
        await probes.follow(probe, probes.Target(ADDRESS, {}, execute), lambda good, _: verdicts.append(good))
    assert verdicts == [True, False, True]


async def test_grpc_health_is_asked_over_the_wire():
    asked = []

    async def check(request, _context):
        asked.append(request)
        return b"\x08\x01" if request else b"\x08\x02"

    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
    server = grpc.aio.server(handlers=[handler])
    number = server.add_insecure_port(f"{ADDRESS}:0")
    await server.start()
    try:
        assert await probes.problem({"grpc": {"port": number, "service": "abc"}}, target()) is None
        assert asked == [b"\x0a\x03abc"]
        assert "not serving" in await probes.problem({"grpc": {"port": number}}, target())
    finally:
        await server.stop(None)
