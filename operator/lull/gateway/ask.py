"""Asks one placement a client's question, directly at its host's Triton."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
import grpc

from lull.api.names import TRITON_GRPC_PORT, TRITON_HTTP_PORT
from lull.gateway.gate import GRPC_SERVICE
from lull.gateway.view import GRPC, Placement

HEADER_BYTES = "Inference-Header-Content-Length"
"""Where the JSON of a body ends and its binary tensors begin."""
INFER_METHOD = f"/{GRPC_SERVICE}/ModelInfer"

_CONNECT_SECONDS = 2.0


class NoAnswerError(Exception):
    """The model refused, failed, said too much, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks of a model.

    Attributes:
        body: over HTTP the body, over gRPC the one message.
        headers: those of HTTP that say how to read the body; no others, which may hold credentials.
    """

    protocol: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said.

    Attributes:
        body: over HTTP the body, over gRPC the message.
        header_bytes: how much of an HTTP body is JSON; None: all of it.
    """

    body: bytes
    header_bytes: int | None = None


async def ask(
    session: aiohttp.ClientSession,
    placement: Placement,
    question: Question,
    longest_bytes: int,
    seconds: float,
) -> Answer:
    """Ask and return the answer.

    Raises:
        NoAnswerError: there is none of at most `longest_bytes` within `seconds`.
    """
    by_protocol = _ask_grpc if question.protocol == GRPC else _ask_http
    try:
        async with asyncio.timeout(seconds):
            return await by_protocol(session, placement, question, longest_bytes)
    except (aiohttp.ClientError, grpc.aio.AioRpcError, TimeoutError, OSError, ValueError) as error:
        raise NoAnswerError(f"{placement.lease.name}: {error!r}") from error


async def _ask_http(
    session: aiohttp.ClientSession, placement: Placement, question: Question, longest_bytes: int
) -> Answer:
    url = f"http://{_target(placement, TRITON_HTTP_PORT)}/v2/models/{placement.model}/infer"
    headers = {**question.headers, "Accept-Encoding": "identity"}
    async with session.post(url, data=question.body, headers=headers, allow_redirects=False) as response:
        if response.status != 200:
            raise NoAnswerError(f"{placement.lease.name} answered {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > longest_bytes:
                raise NoAnswerError(f"{placement.lease.name} answered more than {longest_bytes} bytes")
        length = response.headers.get(HEADER_BYTES)
        return Answer(bytes(body), None if length is None else max(0, int(length)))


async def _ask_grpc(
    _session: aiohttp.ClientSession, placement: Placement, question: Question, longest_bytes: int
) -> Answer:
    options = [
        ("grpc.max_receive_message_length", longest_bytes),
        ("grpc.use_local_subchannel_pool", 1),  # closed with this channel: hosts come and go
        ("grpc.enable_http_proxy", 0),
    ]
    async with grpc.aio.insecure_channel(_target(placement, TRITON_GRPC_PORT), options) as channel:
        return Answer(await channel.unary_unary(INFER_METHOD)(question.body))


def session() -> aiohttp.ClientSession:
    """Return a session for `ask`; its connections end with their answers, as hosts come and go."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, limit=0),
        timeout=aiohttp.ClientTimeout(connect=_CONNECT_SECONDS),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _target(placement: Placement, port: int) -> str:
    address = placement.address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
