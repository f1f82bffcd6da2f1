"""`lull-pilot`: the process beside Envoy. `lull-pilot drain` is the Envoy container's preStop hook."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import yaml

from lull.api.names import HOSTS_NAMESPACE
from lull.gateway import probes, server
from lull.gateway.admin import Admin, AdminError
from lull.gateway.bootstrap import bootstrap
from lull.gateway.pilot import Pilot
from lull.gateway.record import PodGoneError, Record
from lull.gateway.settings import HOLD_LIMIT_SECONDS, Settings
from lull.kube import MODELHOSTS, MODELSERVICES, ApiError, Kube, Reflector

log = logging.getLogger(__name__)

_API_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_POLL_SECONDS = 0.1
_FINISH_SECONDS = 25.0
"""How long the pilot lets held requests finish after SIGTERM; below the Pod's grace period."""
_LEAVE_SECONDS = 5.0
"""How long clients and load balancers get to notice that this gateway leaves."""
_DRAIN_SECONDS = HOLD_LIMIT_SECONDS + 20
"""How long `drain` waits for clients' requests, the longest hold included; below the Pod's grace period."""


def main() -> None:
    """Run the pilot until SIGTERM, or drain its Envoy (`lull-pilot drain`)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings.from_environment()
    # What is imported lives as long as the process; a collection that walks it (25 ms) may meet a wake.
    gc.freeze()
    match sys.argv[1:]:
        case []:
            asyncio.run(run(settings))
        case ["drain"]:
            asyncio.run(drain(settings))
        case _:
            raise SystemExit("usage: lull-pilot [drain]")


async def run(settings: Settings) -> None:
    """Steer this Pod's Envoy until SIGTERM.

    Raises:
        ExceptionGroup: a part died; the process ends so that its container is started anew.
    """
    terminated = asyncio.Event()
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_, terminated.set)
    _write_bootstrap(settings)
    async with contextlib.AsyncExitStack() as stack:
        admin = Admin(settings.admin_socket)
        stack.push_async_callback(admin.close)
        pilot = Pilot(settings.pod_name, settings.domain, admin)
        runner = await probes.serve(
            settings.address,
            settings.probe_port,
            pilot.metrics.registry,
            lambda: _why_not_ready(pilot, admin),
        )
        stack.push_async_callback(runner.cleanup)
        kube = await stack.enter_async_context(await Kube.connect(timeout_seconds=_API_SECONDS))
        steering = asyncio.create_task(_steer(settings, kube, pilot))
        stopping = asyncio.create_task(terminated.wait())
        await asyncio.wait({steering, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not steering.done():
            log.info("SIGTERM: %d requests are held; ending once none is", pilot.holding)
            await _finish(pilot, steering)
        stopping.cancel()
        steering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await steering


async def drain(settings: Settings) -> None:
    """Have clients leave this Pod's Envoy, and wait until none of their requests is under way."""
    admin = Admin(settings.admin_socket)
    start = time.monotonic()
    try:
        await admin.drain()
        await asyncio.sleep(_LEAVE_SECONDS)
        while await admin.active_requests() and time.monotonic() < start + _DRAIN_SECONDS:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)  # Envoy can only be asked
    except AdminError as error:
        log.warning("nothing to drain: %s", error)
    finally:
        await admin.close()


async def _steer(settings: Settings, kube: Kube, pilot: Pilot) -> None:
    """Make the ModelGateway, then read everything, and only then route: the controller knows every router."""
    record = Record(
        kube,
        settings.pod_name,
        settings.pod_namespace,
        address=settings.address,
        held=pilot.held,
        drained=pilot.drained,
        delays=pilot.delays,
        traffic=pilot.traffic,
    )
    pilot.journal = record
    await _until_made(record)
    services = Reflector(kube, MODELSERVICES, on_change=pilot.on_service)
    hosts = Reflector(kube, MODELHOSTS, HOSTS_NAMESPACE, on_change=pilot.on_host)
    async with asyncio.TaskGroup() as tasks:
        shadow = pilot.shadow.run(settings.shadow_socket)
        for part in (services.run(), hosts.run(), record.run(), shadow):
            tasks.create_task(_must_not_end(part))
        await services.synced.wait()
        await hosts.synced.wait()
        envoy = await server.serve(settings.xds_socket, pilot.ads, pilot.checker)
        log.info("serving Envoy on %s", settings.xds_socket)
        try:
            await pilot.run()
        finally:
            await envoy.stop(grace=0.5)


async def _until_made(record: Record) -> None:
    while True:
        try:
            await record.ensure()
        except (ApiError, PodGoneError) as error:
            log.warning("the ModelGateway is not made yet: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


async def _must_not_end(part: Coroutine[Any, Any, None]) -> None:
    await part
    raise RuntimeError("a part that runs for ever ended; starting anew")


async def _finish(pilot: Pilot, steering: asyncio.Task[None]) -> None:
    """Let held requests be answered. In a Pod that ends Envoy is gone before us, and nothing is held."""
    end = time.monotonic() + _FINISH_SECONDS
    while pilot.holding and not steering.done() and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)  # an event a held request is not worth it: this is the end


async def _why_not_ready(pilot: Pilot, admin: Admin) -> str:
    if not pilot.serving:
        return "Envoy has no route table of this pilot yet"
    return "" if await admin.ready() else "Envoy is not ready"


def _write_bootstrap(settings: Settings) -> None:
    """Write Envoy's bootstrap in one step: Envoy may be starting anew while we do."""
    settings.run.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(bootstrap(settings), sort_keys=False)
    descriptor, path = tempfile.mkstemp(dir=settings.run, prefix=".envoy")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(path).chmod(0o644)
    Path(path).replace(settings.bootstrap_file)


if __name__ == "__main__":
    main()
