"""The hot path: what the gateway's Envoy adds to a request of an awake model, beside a bare Envoy.

The upstream is trivial, so that the proxies are what differs, and the pairs are interleaved, so that whatever
else the machine does strikes both alike.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import envoys
from bench.envoys import Running
from bench.figures import Figure, percentile
from bench.wire import Connection
from lull.gateway.view import Service

PAIRS = 10_000
CONNECTIONS = 8
BLOCKS, BLOCK_REQUESTS, AT_ONCE = 24, 2_000, 16
BODY = b'{"inputs":[{"name":"input","shape":[1,1],"datatype":"FP32","data":[1.0]}]}'
ANSWER = '{"outputs":[{"name":"output","shape":[1,1],"datatype":"FP32","data":[1.0]}]}'
SERVICE = Service("bench/digits", "digits", 60.0, 1000, None)
PATH = "/v2/models/digits/infer"
HOST = f"digits.bench.{envoys.DOMAIN}"
UPSTREAM, BARE, GATEWAY = ("127.0.77.1", 8000), ("127.0.77.2", 8080), ("127.0.77.3", 8080)


def measure(folder: Path) -> list[Figure]:
    """Return the hot path's figures."""
    with ExitStack() as stack:

        def start(config: envoys.Config, name: str, address: tuple[str, int]) -> Running:
            return stack.enter_context(envoys.running(config, folder, name, address, workers=2))

        start(envoys.upstream(UPSTREAM, ANSWER), "upstream", UPSTREAM)
        bare = start(envoys.bare(BARE, UPSTREAM), "bare", BARE)
        gateway = start(envoys.gateway(folder, GATEWAY, UPSTREAM[0], SERVICE), "gateway", GATEWAY)
        return [
            *_latencies(bare, gateway),
            *asyncio.run(_throughput(bare, gateway, HOST, PATH, "by host name", bar=1.10)),
            *asyncio.run(_throughput(bare, gateway, "x", f"/bench/digits{PATH}", "by path", bar=None)),
        ]


def _latencies(bare: Running, gateway: Running) -> list[Figure]:
    """One request at a time, in turn through each proxy, over several connections to meet all workers."""
    took: dict[str, list[float]] = {"bare": [], "gateway": []}
    for _ in range(CONNECTIONS):
        with (
            Connection(bare.address, HOST, PATH, BODY) as plain,
            Connection(gateway.address, HOST, PATH, BODY) as ours,
        ):
            for n in range(PAIRS // CONNECTIONS):
                order = (
                    (("bare", plain), ("gateway", ours)) if n % 2 else (("gateway", ours), ("bare", plain))
                )
                for name, connection in order:
                    took[name].append(connection.ask())
    ms = {name: [1000 * seconds for seconds in values] for name, values in took.items()}
    return [
        Figure(
            f"hot path, p{p}",
            percentile(ms["gateway"], p),
            "ms",
            "bare Envoy",
            percentile(ms["bare"], p),
            bar=1.10 if p == 50 else None,
            of_ratio=True,
        )
        for p in (50, 99)
    ]


async def _throughput(
    bare: Running, gateway: Running, host: str, path: str, how: str, bar: float | None
) -> list[Figure]:
    """Blocks of requests in turn through each proxy; CPU time of each Envoy, and requests a second."""
    cpu = {bare.pid: 0.0, gateway.pid: 0.0}
    took = {bare.pid: 0.0, gateway.pid: 0.0}
    for block in range(BLOCKS):
        for proxy in (bare, gateway) if block % 2 else (gateway, bare):
            before, began = proxy.cpu_seconds(), time.perf_counter()
            await _block(proxy.address, host, path)
            if block > 1:  # the first pair warms up
                took[proxy.pid] += time.perf_counter() - began
                cpu[proxy.pid] += proxy.cpu_seconds() - before
    count = (BLOCKS - 2) * BLOCK_REQUESTS
    us = {pid: 1e6 * seconds / count for pid, seconds in cpu.items()}
    rate = {pid: count / seconds for pid, seconds in took.items()}
    reference = "bare Envoy"
    return [
        Figure(
            f"hot path, CPU a request, {how}",
            us[gateway.pid],
            "us",
            reference,
            us[bare.pid],
            bar,
            of_ratio=True,
        ),
        Figure(f"hot path, requests/s, {how}", rate[gateway.pid], "/s", reference, rate[bare.pid]),
    ]


async def _block(address: tuple[str, int], host: str, path: str) -> None:
    """Send a block's requests over several connections, each as soon as the one before it is answered."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(AT_ONCE):
        _, client = await loop.create_connection(
            lambda: _Client(request, BLOCK_REQUESTS // AT_ONCE), *address
        )
        clients.append(client)
    async with asyncio.timeout(60):
        await _all(client.done for client in clients)


async def _all(futures: Sequence[asyncio.Future[None]]) -> None:
    await asyncio.gather(*futures)


class _Client(asyncio.Protocol):
    """Sends one request after the other; answers are known to come whole and of one size."""

    def __init__(self, request: bytes, count: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._left = count
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if not self._seen.endswith(ANSWER.encode()):
            return
        if not self._seen.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(AssertionError(f"not 200: {self._seen[:200]!r}"))
            return
        self._seen = b""
        self._left -= 1
        if self._left:
            self._transport.write(self._request)
        else:
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"cut off after {self._seen[:200]!r}"))
