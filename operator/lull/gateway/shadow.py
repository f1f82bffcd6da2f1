"""Shadow traffic: asks both revisions what Envoy copied to us, and counts how often they disagree.

No client sees anything of it: Envoy drops our answer to a copy, and what is too much is not compared. Copies
come of real requests alone and grow old within a second, so no model wakes or is kept awake by them.
"""

import asyncio
import contextlib
import functools
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
from aiohttp import web

from lull.gateway.ask import HEADER_BYTES, INFER_METHOD, Answer, NoAnswerError, Question, ask, session
from lull.gateway.gate import is_grpc
from lull.gateway.metrics import Metrics
from lull.gateway.settings import SHADOW_BODY_BYTES, SHADOW_COPIES, SHADOW_SEND_SECONDS, service_key
from lull.gateway.view import GRPC, HTTP, Lease, Placement, Split, View

log = logging.getLogger(__name__)

ASK_SECONDS = 10.0
"""How long a model may take to answer a copy; a drain may be delayed by so much."""

_PLACES = SHADOW_COPIES // 2
"""Most copies here: being read, waiting, or being asked."""
_AT_ONCE = 4
_REST_SECONDS = 0.04
"""After each comparison: some 100 a second are plenty, and this process has sleepers to wake."""
_DROPPED_SECONDS = 0.1
"""Until Envoy is told so: what is above its own bound meanwhile, it drops itself, which costs us nothing."""
_LONGEST_ANSWER_BYTES = 1024 * 1024  # of the stable revision; one that is twice as long says something else
_OLD_SECONDS = 1.0
_SHUTDOWN_SECONDS = 1.0
_HOST_SUFFIX = "-shadow"  # Envoy's mark on a copy
_KEPT_HEADERS = ("Content-Type", HEADER_BYTES)
# Asked again, a request of a sequence would count twice in the model's state. As a parameter of JSON and of a
# gRPC map it stands there as it is.
_STATEFUL = b"sequence_id"


class _Pair(NamedTuple):
    """Whom to ask: one placement of each revision, both under the one wire name of their service."""

    stable: Placement
    candidate: Placement


class _DroppedError(Exception):
    """A copy is not compared; the message is why, as the metric's label."""


class Shadow:
    """Where Envoy's copies arrive, and those who ask and compare.

    Args:
        compared: called with the service, the candidate's revision, and whether its answer was another one.
        released: called when placements may have left `in_use`.
    """

    def __init__(
        self,
        view: View,
        metrics: Metrics,
        domain: str,
        *,
        compared: Callable[[str, str, bool], None],
        released: Callable[[], None],
    ) -> None:
        self._view = view
        self._metrics = metrics
        self._domain = domain
        self._compared = compared
        self._released = released
        self._taken = 0
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._in_use: Counter[Lease] = Counter()

    @property
    def in_use(self) -> frozenset[Lease]:
        """Placements that are being asked: no request of ours must be cut."""
        return frozenset(self._in_use)

    async def run(self, socket: Path) -> None:
        """Take copies on a Unix socket, and compare, until cancelled."""
        async with session() as asking, _serve(socket, functools.partial(self._receive, asking)):
            await asyncio.Event().wait()

    async def _receive(self, asking: aiohttp.ClientSession, request: web.BaseRequest) -> web.Response:
        """Answer once a copy has been compared, so that Envoy's bound on copies is one on our work too."""
        try:
            with self._place():
                await self._compare(asking, request)
        except _DroppedError as reason:
            self._metrics.shadow_dropped(str(reason))
            await _discard(request)
            await asyncio.sleep(_DROPPED_SECONDS)
        except Exception:
            # Whatever a stranger's answer does to the comparison: this gateway has requests to steer.
            log.exception("two answers could not be compared: a fault of Lull, please report it")
        return web.Response(status=204)

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._taken >= _PLACES:
            raise _DroppedError("Full")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def _compare(self, asking: aiohttp.ClientSession, request: web.BaseRequest) -> None:
        service = service_key(request.host.removesuffix(_HOST_SUFFIX), self._domain)
        question = _question(request, await _read(request), self._pair(service).stable.model)
        taken_at = time.monotonic()
        async with self._turns:
            if time.monotonic() - taken_at > _OLD_SECONDS:
                raise _DroppedError("Late")
            pair = self._pair(service)
            differed = await self._ask_both(asking, pair, question)
            if self._rollout(service).candidate != pair.candidate.revision:
                raise _DroppedError("NotInShadow")  # one that is taken back has a right to fail
            self._metrics.shadow_compared(differed=differed)
            self._compared(service, pair.candidate.revision, differed)
            await asyncio.sleep(_REST_SECONDS)

    async def _ask_both(self, asking: aiohttp.ClientSession, pair: _Pair, question: Question) -> bool:
        with self._using(pair):
            ours, theirs = await asyncio.gather(
                _answer(asking, pair.stable, question, _LONGEST_ANSWER_BYTES),
                _answer(asking, pair.candidate, question, 2 * _LONGEST_ANSWER_BYTES),
            )
        if ours is None:
            raise _DroppedError("StableFailed")
        return await asyncio.to_thread(_differ, question.protocol, ours, theirs)

    def _rollout(self, service: str) -> Split:
        known = self._view.services.get(service)
        rollout = known.rollout if known else None
        if rollout is None or not rollout.running or not rollout.shadow_percent:
            raise _DroppedError("NotInShadow")
        return rollout

    def _pair(self, service: str) -> _Pair:
        rollout = self._rollout(service)
        routed = self._view.routed(service)
        stable = [placement for placement in routed if placement.revision == rollout.stable]
        candidate = [placement for placement in routed if placement.revision == rollout.candidate]
        if not (stable and candidate):
            raise _DroppedError("NotInShadow")
        return _Pair(random.choice(stable), random.choice(candidate))  # noqa: S311  (spreads load; no secret)

    @contextlib.contextmanager
    def _using(self, pair: _Pair) -> Iterator[None]:
        leases = (pair.stable.lease, pair.candidate.lease)
        self._in_use.update(leases)
        try:
            yield
        finally:
            self._in_use -= Counter(leases)  # which drops those at zero
            self._released()


@contextlib.asynccontextmanager
async def _serve(
    socket: Path, handler: Callable[[web.BaseRequest], Awaitable[web.Response]]
) -> AsyncIterator[None]:
    runner = web.ServerRunner(
        web.Server(handler, auto_decompress=False, access_log=None), shutdown_timeout=_SHUTDOWN_SECONDS
    )
    await runner.setup()
    try:
        await web.UnixSite(runner, socket).start()
        _close_off(socket)
        yield
    finally:
        await runner.cleanup()


def _close_off(socket: Path) -> None:
    socket.chmod(0o600)


async def _read(request: web.BaseRequest) -> bytes:
    if (request.content_length or 0) > SHADOW_BODY_BYTES:
        raise _DroppedError("Large")
    body = bytearray()
    try:
        async with asyncio.timeout(SHADOW_SEND_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > SHADOW_BODY_BYTES:
                    raise _DroppedError("Large")
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise _DroppedError("Late") from error
    return bytes(body)


async def _discard(request: web.BaseRequest) -> None:
    """Read on: Envoy slows a client down to the pace at which its copy is taken."""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(SHADOW_SEND_SECONDS):
            async for _ in request.content.iter_any():
                pass


def _question(request: web.BaseRequest, body: bytes, model: str) -> Question:
    """Return what the copy asks, without anything that says who asked."""
    if "Content-Encoding" in request.headers:
        raise _DroppedError("Unreadable")
    if _STATEFUL in body:
        raise _DroppedError("Stateful")
    if is_grpc(request.headers.get("Content-Type", "")):
        if request.path_qs != INFER_METHOD or body[:1] != b"\0" or int.from_bytes(body[1:5]) != len(body) - 5:
            raise _DroppedError("Unreadable")
        return Question(GRPC, body[5:])
    if request.path_qs != f"/v2/models/{model}/infer":
        raise _DroppedError("Unreadable")
    return Question(
        HTTP, body, {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers}
    )


async def _answer(
    asking: aiohttp.ClientSession, placement: Placement, question: Question, longest_bytes: int
) -> Answer | None:
    try:
        return await ask(asking, placement, question, longest_bytes, ASK_SECONDS)
    except NoAnswerError as error:
        log.debug("%s", error)
        return None


def _differ(protocol: str, ours: Answer, theirs: Answer | None) -> bool:
    """Tell whether the candidate answered otherwise than the stable revision, or not at all."""
    if theirs is None:
        return True
    # A gateway that compares nothing spares these 20 MiB.
    from lull.gateway import agree, tensors

    def read(answer: Answer) -> dict[str, tensors.Tensor]:
        if protocol == GRPC:
            return tensors.from_grpc(answer.body)
        return tensors.from_http(answer.body, answer.header_bytes)

    try:
        reference = read(ours)
    except tensors.UnreadableError as error:
        raise _DroppedError("Unreadable") from error
    try:
        return not agree.agree(reference, read(theirs))
    except tensors.UnreadableError:
        return True
