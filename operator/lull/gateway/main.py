"""`lull-pilot`: steer the Envoy of this Pod. `lull-pilot drain`: Envoy's preStop hook."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from typing import Any

import yaml

from lull.api.names import HOSTS_NAMESPACE
from lull.gateway import probes, server
from lull.gateway.admin import Admin, AdminError
from lull.gateway.bootstrap import bootstrap
from lull.gateway.pilot import Pilot
from lull.gateway.record import Record
from lull.gateway.settings import Settings
from lull.kube import MODELHOSTS, MODELSERVICES, Kube, Reflector

log = logging.getLogger(__name__)

LEAVE_SECONDS = 5.0
"""How long clients and load balancers get to notice that this gateway leaves, before it may end."""
_POLL_SECONDS = 0.25


async def run(settings: Settings) -> None:
    """Be known to the controller, then know the fleet, then route; until cancelled or a part dies.

    The order matters: a gateway that routed before its ModelGateway exists could be fenced over.
    """
    admin = Admin(settings.admin_socket)
    async with await Kube.connect() as kube:
        pilot = Pilot(settings.pod_name, settings.domain, admin)
        record = Record(
            kube, settings.pod_name, settings.pod_namespace, held=pilot.held, drained=pilot.drained
        )
        pilot.journal = record
        services = Reflector(kube, MODELSERVICES, on_change=pilot.on_service)
        hosts = Reflector(kube, MODELHOSTS, HOSTS_NAMESPACE, on_change=pilot.on_host)
        await record.ensure()
        async with asyncio.TaskGroup() as tasks:
            for part in (record.run, services.run, hosts.run):
                tasks.create_task(part())
            await services.synced.wait()
            await hosts.synced.wait()
            tasks.create_task(pilot.run())
            await server.serve(settings.xds_socket, pilot.ads, pilot.checker)
            settings.bootstrap_file.write_text(yaml.safe_dump(bootstrap(settings)))
            await probes.serve(
                settings.address,
                settings.probe_port,
                pilot.metrics.registry,
                lambda: "" if pilot.ads.connected else "Envoy is not connected",
            )


async def drain(settings: Settings) -> None:
    """Ask clients to go elsewhere, and return once no request is under way; Kubernetes' grace period bounds it."""
    admin = Admin(settings.admin_socket)
    try:
        await admin.drain()
        leave_at = time.monotonic() + LEAVE_SECONDS
        while time.monotonic() < leave_at or await admin.active_requests():
            await asyncio.sleep(_POLL_SECONDS)
    except AdminError as error:
        log.warning("nothing to drain: %s", error)
    finally:
        await admin.close()


def main() -> None:
    """Run the pilot, or the hook; exit 0 when told to stop, 1 when a part died."""
    logging.basicConfig(
        level=os.environ.get("LULL_LOG_LEVEL", "INFO"), format="%(levelname)s %(name)s: %(message)s"
    )
    settings = Settings.from_environment()
    if sys.argv[1:] == ["drain"]:
        asyncio.run(drain(settings))
    elif sys.argv[1:]:
        raise SystemExit("usage: lull-pilot [drain]")
    else:
        asyncio.run(_until_signal(run(settings)))


async def _until_signal(running: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(running)
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")
