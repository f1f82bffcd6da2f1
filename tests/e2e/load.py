"""Open-loop load: requests leave when they are due, however slow the answers are; every outcome is counted.

Latencies run from the moment a request was due, so a server that stalls cannot hide it by slowing clients.
Loopback only, and bounded: by a number of requests, by a time, and by how many may wait at once.
"""

import asyncio
import itertools
import json
import random
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import quantiles
from types import TracebackType
from typing import Any, Self

import aiohttp
import grpc
from tritonclient.grpc import service_pb2

OK = "ok"
DOMAIN = "lull.localhost"
MOST_WAITING = 5000
ANSWER_TIMEOUT_SECONDS = 90.0
"""Longer than any hold: a client of these never gives up before the gateway does."""
FAILURES_KEPT = 20
PIECES = 8
METHOD = "/inference.GRPCInferenceService/ModelInfer"
_FLOAT = struct.Struct("<f")


@dataclass(frozen=True)
class Target:
    """A service as its clients see it: `address` is `ip:port` of one gateway."""

    address: str
    namespace: str
    name: str
    model: str

    def __post_init__(self) -> None:
        assert self.address.startswith("127."), "load is for loopback only"

    @property
    def url(self) -> str:
        """Its URL by path."""
        return f"http://{self.address}/{self.namespace}/{self.name}/v2/models/{self.model}/infer"

    @property
    def host(self) -> str:
        """Its host name."""
        return f"{self.name}.{self.namespace}.{DOMAIN}"

    @property
    def url_by_host(self) -> str:
        """Its URL for those who name it in `Host`."""
        return f"http://{self.address}/v2/models/{self.model}/infer"


@dataclass(frozen=True)
class Answer:
    """One request's end. `due` and `done` are of `time.monotonic()`."""

    outcome: str
    due: float
    done: float
    detail: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.done - self.due


@dataclass
class Tally:
    """What became of all requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    failures: list[Answer] = field(default_factory=list)
    slow: int = 0
    """How many were slow uploads."""
    latest_ok: float = 0.0

    def add(self, answer: Answer) -> None:
        self.outcomes[answer.outcome] += 1
        if answer.outcome == OK:
            self.latencies.append(answer.seconds)
            self.latest_ok = max(self.latest_ok, answer.done)
        elif len(self.failures) < FAILURES_KEPT:
            self.failures.append(answer)

    @property
    def total(self) -> int:
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        return self.total - self.outcomes[OK]

    def percentile(self, percent: int) -> float:
        """Return a percentile of the answered requests' latencies, in seconds."""
        if len(self.latencies) < 2:
            return self.latencies[0] if self.latencies else 0.0
        return quantiles(self.latencies, n=100, method="inclusive")[percent - 1]

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())
        times = ", ".join(f"p{p} {self.percentile(p) * 1000:.1f} ms" for p in (50, 99))
        lines = [f"{counts or 'nothing'} ({self.slow} slow uploads; {times})"]
        lines += [f"  {a.seconds:6.2f} s: {a.outcome}: {a.detail[:300]}" for a in self.failures]
        return "\n".join(lines)


class HttpClient:
    """Inference over HTTP, by path or by host name."""

    def __init__(self, *, by_host: bool = False) -> None:
        self._by_host = by_host

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_SECONDS),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def infer(self, target: Target, value: float, upload_seconds: float = 0.0) -> Answer:
        """Send one inference; with `upload_seconds`, its body in pieces over that time."""
        due = time.monotonic()
        body = _http_body(value, pad=64 * 1024 if upload_seconds else 0)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        if self._by_host:
            headers["Host"] = target.host
        url = target.url_by_host if self._by_host else target.url
        data = _pieces(body, upload_seconds) if upload_seconds else body
        try:
            async with self._session.post(url, data=data, headers=headers) as response:
                text = await response.text()
                outcome, detail = _judge_http(response.status, text, value)
                return Answer(outcome, due, time.monotonic(), detail, dict(response.headers))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Answer(type(error).__name__, due, time.monotonic(), str(error))


class GrpcClient:
    """Inference over gRPC, by host name (`:authority`)."""

    def __init__(self) -> None:
        self._channels: dict[tuple[str, str], grpc.aio.Channel] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def infer(self, target: Target, value: float, upload_seconds: float = 0.0) -> Answer:
        """Send one inference; with `upload_seconds`, its message that long after its headers."""
        due = time.monotonic()
        infer = self._channel(target).stream_unary(
            METHOD,
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        call = infer(
            _late(_grpc_request(target.model, value), upload_seconds), timeout=ANSWER_TIMEOUT_SECONDS
        )
        try:
            response = await call
            headers = {k: str(v) for k, v in await call.initial_metadata() or ()}
        except grpc.aio.AioRpcError as error:
            trailers = {k: str(v) for k, v in (error.trailing_metadata() or ())}
            return Answer(error.code().name, due, time.monotonic(), error.details() or "", trailers)
        have = _floats(response.raw_output_contents[0]) if response.raw_output_contents else []
        outcome = OK if have == [value] else "another's answer"
        return Answer(outcome, due, time.monotonic(), f"sent {value}, got {have}"[:200], headers)

    def _channel(self, target: Target) -> grpc.aio.Channel:
        key = target.address, target.host
        if key not in self._channels:
            options = [
                ("grpc.default_authority", target.host),
                ("grpc.enable_retries", 0),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ]
            self._channels[key] = grpc.aio.insecure_channel(target.address, options=options)
        return self._channels[key]


Client = HttpClient | GrpcClient


@dataclass(frozen=True)
class Load:
    """A stream of requests, spread over `targets` in turn.

    Attributes:
        rate: requests a second, on the mean; they arrive at random (Poisson).
        seconds: for how long.
        slow_share: the share of slow uploads.
        steady: each at a random moment of a beat of its own: some come close enough to queue, and yet any
            minute has the same number of them.
    """

    targets: Sequence[Target]
    rate: float
    seconds: float
    slow_share: float = 0.1
    seed: int = 1
    steady: bool = False

    def dues(self, dice: random.Random) -> Iterator[float]:
        """Yield when each request is due, in seconds from the start."""
        due = 0.0
        for number in itertools.count():
            due = (number + dice.random()) / self.rate if self.steady else due + dice.expovariate(self.rate)
            if due > self.seconds:
                return
            yield due


async def drive(client: Client, load: Load, stop: asyncio.Event | None = None) -> Tally:
    """Send a load and return when its last request has ended; `stop` ends the sending early."""
    dice = random.Random(load.seed)
    tally = Tally()
    waiting: set[asyncio.Task[None]] = set()
    targets = itertools.cycle(load.targets)
    start = time.monotonic()
    for number, after in enumerate(load.dues(dice), start=1):
        if stop and stop.is_set():
            break
        due = start + after
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        upload_seconds = dice.uniform(1.0, 2.0) if dice.random() < load.slow_share else 0.0
        tally.slow += bool(upload_seconds)
        if len(waiting) >= MOST_WAITING:
            tally.add(Answer("not sent: too many wait", due, time.monotonic()))
            continue
        task = asyncio.create_task(_one(client, next(targets), number, upload_seconds, due, tally))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)
    return tally


async def replay(client: Client, requests: Sequence[tuple[float, Target]]) -> Tally:
    """Send requests when they are due, in seconds from now and in order, and return when all have ended."""
    tally = Tally()
    start = time.monotonic()
    async with client, asyncio.TaskGroup() as waiting:
        for number, (after, target) in enumerate(requests, start=1):
            await asyncio.sleep(max(0.0, start + after - time.monotonic()))
            waiting.create_task(_one(client, target, number, 0.0, start + after, tally))
    return tally


async def burst(client: Client, target: Target, count: int) -> tuple[Tally, list[Answer]]:
    """Send `count` requests at once and return when the last has ended."""
    assert count <= MOST_WAITING
    answers = await asyncio.gather(*(client.infer(target, float(n)) for n in range(count)))
    tally = Tally()
    for answer in answers:
        tally.add(answer)
    return tally, list(answers)


async def drive_all(loads: Sequence[tuple[Client, Load]], stop: asyncio.Event | None = None) -> list[Tally]:
    """Drive several loads side by side, each over a client of its own."""
    async with AsyncExitStack() as stack:
        for client, _ in loads:
            await stack.enter_async_context(client)
        return list(await asyncio.gather(*(drive(client, load, stop) for client, load in loads)))


async def _one(
    client: Client, target: Target, number: int, upload_seconds: float, due: float, tally: Tally
) -> None:
    answer = await client.infer(target, float(number), upload_seconds)
    done = answer.done - upload_seconds  # what the client itself took is not the server's
    tally.add(Answer(answer.outcome, due, done, f"{target.address} {answer.detail}", answer.headers))


def _http_body(value: float, pad: int) -> bytes:
    inputs = [{"name": "input", "shape": [1, 1], "datatype": "FP32", "data": [value]}]
    return json.dumps({"inputs": inputs}).encode() + b" " * pad


async def _pieces(body: bytes, seconds: float) -> AsyncIterator[bytes]:
    size = -(-len(body) // PIECES)
    for start in range(0, len(body), size):
        yield body[start : start + size]
        await asyncio.sleep(seconds / PIECES)


async def _late(message: Any, seconds: float) -> AsyncIterator[Any]:
    await asyncio.sleep(seconds)
    yield message


def _judge_http(status: int, text: str, value: float) -> tuple[str, str]:
    if status != 200:
        return str(status), text
    have = json.loads(text)["outputs"][0]["data"]
    return (OK, "") if have == [value] else ("another's answer", f"sent {value}, got {have}"[:200])


def _grpc_request(model: str, value: float) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="input", datatype="FP32", shape=[1, 1])
    request.raw_input_contents.append(_FLOAT.pack(value))
    return request


def _floats(raw: bytes) -> list[float]:
    return [value for (value,) in _FLOAT.iter_unpack(raw)]
