"""Answers Envoy about a request to a service that is not routed: pass it, hold it, or refuse it."""

import random
import time
from collections.abc import Sequence
from typing import Protocol

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2
from envoy.type.v3 import http_status_pb2

from lull.api.names import REVISION_HEADER
from lull.api.reasons import Reason
from lull.gateway import gate
from lull.gateway.bootstrap import PILOT_CLUSTER
from lull.gateway.gate import Call, Refused
from lull.gateway.hold import Bell, FullError, Ledger
from lull.gateway.metrics import Metrics
from lull.gateway.proto import Message
from lull.gateway.routes import CLUSTER_HEADER, MODEL_HEADER
from lull.gateway.settings import service_key
from lull.gateway.view import GRPC, HTTP, Lease, Refusal, Service, View

UNGUARDED = "*"
"""Tells the guard to let any name pass."""

_FULL_RETRY_SECONDS = 1
_TIMEOUT_RETRY_SECONDS = 5
_TERMINAL_RETRY_SECONDS = 30
_LONGEST_MESSAGE = 1024


class Desk(Protocol):
    """What the checker needs of the pilot around it."""

    def open_leases(self, service: str, revision: str | None = None) -> Sequence[Lease]:
        """Return where a request of the service may be sent now; if it names a revision, to one of that."""

    def sent(self, lease: Lease) -> None:
        """Take note that an OK for the lease is about to leave."""

    def demanded(self, service: str) -> None:
        """Take note that a request waits for the service."""

    def demanded_in_vain(self, service: str) -> None:
        """Take note that a stalled service was asked for, and refused."""

    def rested(self, service: str, seconds: float) -> None:
        """Take note that a request that waited so long waits no more, whatever became of it."""


class Checker:
    """The authority behind the catch-all virtual host."""

    def __init__(
        self, desk: Desk, view: View, ledger: Ledger, bell: Bell, metrics: Metrics, domain: str
    ) -> None:
        self._desk = desk
        self._view = view
        self._ledger = ledger
        self._bell = bell
        self._metrics = metrics
        self._domain = domain

    async def check(self, request: Message, _context: grpc.aio.ServicerContext) -> Message:
        """Serve `Authorization/Check`: an OK with the cluster to take, or the answer to give."""
        http = request.attributes.request.http
        grpc_call = gate.is_grpc(http.headers.get("content-type", ""))
        verdict = await self._judge(http.host, http.path, grpc_call, http.headers.get(REVISION_HEADER))
        if isinstance(verdict, Refused):
            self._metrics.refused(verdict.reason)
            return _denied(verdict)
        self._metrics.oks.inc()
        return verdict

    async def _judge(self, host: str, path: str, grpc_call: bool, revision: str | None) -> Message | Refused:
        key = service_key(host, self._domain)
        service = self._view.services.get(key)
        if service is None:
            return gate.unknown_service(host, self._domain)
        call = gate.judge_grpc(path) if grpc_call else gate.judge_http(path, service.model)
        if isinstance(call, Refused):
            return call
        open_now = self._open(service, revision, grpc_call)
        if open_now is not None:
            return open_now
        if service.refusal and call is not Call.LIVE:
            if call is Call.MODEL and service.refusal.reason != Reason.SUSPENDED:
                self._desk.demanded_in_vain(key)
            return _terminal(service.key, service.refusal)
        if call is Call.MODEL:
            return await self._hold(service, grpc_call, revision)
        return _health_ok(service) if grpc_call else _healthy()

    async def _hold(self, service: Service, grpc_call: bool, revision: str | None) -> Message | Refused:
        try:
            self._ledger.enter(service.key, service.hold_max)
        except FullError as full:
            return _unavailable("HoldLimit", str(full), _FULL_RETRY_SECONDS)
        self._desk.demanded(service.key)
        self._metrics.held.inc()
        start = time.monotonic()
        try:
            return await self._wait(service, grpc_call, revision, start)
        finally:
            # Also where the client hung up, which cancels the check.
            waited = time.monotonic() - start
            self._metrics.held.dec()
            self._metrics.hold_seconds.observe(waited)
            self._ledger.leave(service.key)
            self._desk.rested(service.key, waited)

    async def _wait(
        self, service: Service, grpc_call: bool, revision: str | None, start: float
    ) -> Message | Refused:
        key = service.key
        while True:
            current = self._view.services.get(key)
            if current is None:
                return gate.unknown_service(key, self._domain)
            if current.model != service.model:
                # The request was judged by the old name, which may be a neighbour's where the service is now.
                return gate.other_model(current.model)
            open_now = self._open(current, revision, grpc_call)
            if open_now is not None:
                return open_now
            if current.refusal:
                return _terminal(key, current.refusal)
            try:
                await self._bell.wait(key, start + service.hold_seconds - time.monotonic())
            except TimeoutError:
                return _unavailable(
                    "HoldTimeout",
                    f"{key} did not wake within {service.hold_seconds:g} s (spec.hold.timeout); "
                    f"{current.waiting}",
                    _TIMEOUT_RETRY_SECONDS,
                )

    def _open(self, service: Service, revision: str | None, grpc_call: bool) -> Message | Refused | None:
        """Let a request pass, or refuse one for a revision that is not there; None: nothing is routed."""
        leases = self._desk.open_leases(service.key, revision)
        if not leases:
            awake = revision is not None and self._desk.open_leases(service.key)
            return _no_such_revision(service, revision or "") if awake else None
        lease = random.choice(leases)  # noqa: S311  (spreads load; no secret)
        self._desk.sent(lease)
        return _pass({CLUSTER_HEADER: lease.cluster(GRPC if grpc_call else HTTP)}, service.model)


def _pass(headers: dict[str, str], model: str) -> Message:
    overwrite = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    response = external_auth_pb2.CheckResponse(
        ok_response=external_auth_pb2.OkHttpResponse(
            headers=[
                base_pb2.HeaderValueOption(
                    header=base_pb2.HeaderValue(key=key, value=value), append_action=overwrite
                )
                for key, value in headers.items()
            ]
        )
    )
    response.dynamic_metadata.update({"model": model})
    return response


def _health_ok(service: Service) -> Message:
    return _pass({CLUSTER_HEADER: PILOT_CLUSTER, MODEL_HEADER: service.model}, UNGUARDED)


def _healthy() -> Message:
    return _answer(200, {}, "")


def _denied(refused: Refused) -> Message:
    message = " ".join(refused.message.split())[:_LONGEST_MESSAGE]
    # Over HTTP these two are headers like any other; over gRPC Envoy takes them for its own.
    headers = {"grpc-status": str(refused.grpc_status)}
    if refused.retry_after_seconds is not None:
        headers["retry-after"] = str(refused.retry_after_seconds)
    return _answer(refused.http_status, headers, message)


def _answer(status: int, headers: dict[str, str], body: str) -> Message:
    response = external_auth_pb2.CheckResponse(
        denied_response=external_auth_pb2.DeniedHttpResponse(
            status=http_status_pb2.HttpStatus(code=status),
            headers=[
                base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=key, value=value))
                for key, value in headers.items()
            ],
            body=body,
        )
    )
    response.status.code = gate.GRPC_PERMISSION_DENIED
    return response


def _no_such_revision(service: Service, revision: str) -> Refused:
    rollout = service.rollout
    if rollout and rollout.running and revision == rollout.candidate:
        message = f"revision {revision!r} of {service.key} is not ready yet; try again, or watch its rollout"
        return _unavailable("NotReady", message, _FULL_RETRY_SECONDS)
    return gate.unknown_revision(service.key, revision)


def _terminal(service: str, refusal: Refusal) -> Refused:
    message = f"{service} cannot wake: {refusal.reason}: {refusal.message}"
    return _unavailable(refusal.reason, message, _TERMINAL_RETRY_SECONDS)


def _unavailable(reason: str, message: str, retry_seconds: int) -> Refused:
    return Refused(503, gate.GRPC_UNAVAILABLE, message, reason, retry_seconds)
