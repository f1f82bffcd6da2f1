"""Probes of a container: httpGet, tcpSocket, grpc and exec, with the kubelet's defaults."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from lull.local.node.environment import Object

PERIOD_SECONDS = 10
TIMEOUT_SECONDS = 1
FAILURE_THRESHOLD = 3

Execute = Callable[[Sequence[str]], Awaitable[int]]
"""Runs a command as the container would and returns its exit code."""


@dataclass(frozen=True)
class Target:
    """What a probe is sent to: the Pod's address, the container's named ports, and how to exec in it."""

    address: str
    ports: Mapping[str, int]
    execute: Execute

    def port(self, wanted: int | str) -> int:
        """The number of a port given by number or by name."""
        return wanted if isinstance(wanted, int) else self.ports[wanted]


async def follow(probe: Object, target: Target, on_result: Callable[[bool, str], None]) -> None:
    """Probes until cancelled; reports each crossing of the success or failure threshold.

    `on_result(good, why)` is called when the probe's verdict is reached the first time, and again
    whenever it is reached anew: for a liveness probe each failure verdict asks for a restart.
    """
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    successes = failures = 0
    while True:
        why = await problem(probe, target)
        successes, failures = (successes + 1, 0) if why is None else (0, failures + 1)
        if why is None and successes == probe.get("successThreshold", 1):
            on_result(True, "")
        elif why is not None and failures >= probe.get("failureThreshold", FAILURE_THRESHOLD):
            on_result(False, why)
        await asyncio.sleep(probe.get("periodSeconds", PERIOD_SECONDS))


async def problem(probe: Object, target: Target) -> str | None:
    """Probes once; None is success, else what went wrong. Never raises for the target's faults."""
    kind = next((kind for kind in _KINDS if kind in probe), None)
    if kind is None:
        return "the probe has no handler that process nodes know"
    try:
        async with asyncio.timeout(probe.get("timeoutSeconds", TIMEOUT_SECONDS)):
            return await _KINDS[kind](probe[kind], target)
    except TimeoutError:
        return f"{kind}: no answer in time"
    except (OSError, aiohttp.ClientError, KeyError, ValueError) as error:
        return f"{kind}: {error!r}"


async def _http_get(action: Object, target: Target) -> str | None:
    scheme = action.get("scheme", "HTTP").lower()
    host = action.get("host") or target.address
    url = f"{scheme}://{host}:{target.port(action['port'])}{action.get('path', '/')}"
    headers = {header["name"]: header["value"] for header in action.get("httpHeaders", [])}
    # A connection of its own each time: a server that hangs up between probes is not a failure.
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False, force_close=True)) as session,
        session.get(url, headers=headers, allow_redirects=False) as answer,
    ):
        return None if 200 <= answer.status < 400 else f"httpGet {url}: {answer.status}"


async def _tcp_socket(action: Object, target: Target) -> str | None:
    host = action.get("host") or target.address
    _, writer = await asyncio.open_connection(host, target.port(action["port"]))
    writer.close()
    return None


async def _grpc(action: Object, target: Target) -> str | None:
    """Asks grpc.health.v1.Health/Check; its two messages have one field each, written out here."""
    import grpc  # only Pods with such a probe need it

    service = (action.get("service") or "").encode()
    request = b"\x0a" + bytes([len(service)]) + service if service else b""
    async with grpc.aio.insecure_channel(f"{target.address}:{target.port(action['port'])}") as channel:
        try:
            answer: Any = await channel.unary_unary("/grpc.health.v1.Health/Check")(request)
        except grpc.aio.AioRpcError as error:
            return f"grpc: {error.code().name} {error.details()}"
    return None if answer == b"\x08\x01" else "grpc: not serving"


async def _exec(action: Object, target: Target) -> str | None:
    code = await target.execute(action["command"])
    return None if code == 0 else f"exec {action['command'][0]}: exit code {code}"


async def _sleep(action: Object, _target: Target) -> str | None:
    """Not a probe but a lifecycle hook's action; hooks take the others as well."""
    await asyncio.sleep(action["seconds"])
    return None


async def run_command(command: Sequence[str], environment: Mapping[str, str], folder: str) -> int:
    """Runs a command in a session of its own to its end; kills all of it when cancelled."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


_KINDS: dict[str, Callable[[Object, Target], Awaitable[str | None]]] = {
    "httpGet": _http_get,
    "tcpSocket": _tcp_socket,
    "grpc": _grpc,
    "exec": _exec,
    "sleep": _sleep,
}
