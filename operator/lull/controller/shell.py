"""Kopf's part: the watches of the kinds that users write. They feed the planner and decide nothing."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import kopf

from lull.api.names import GROUP, VERSION
from lull.controller.planner import Planner
from lull.controller.wire import Object, key_of
from lull.kube import MODELPOOLS, MODELSERVICES, ApiError, Kube, Resource, load_configuration
from lull.kube.client import backoff

log = logging.getLogger(__name__)

KINDS = (MODELSERVICES, MODELPOOLS)
RELIST_WINDOW_SECONDS = 0.5
"""A burst of kopf's initial events is answered with one LIST."""


class StoppedError(Exception):
    """The process was told to stop; kopf takes the signals while it runs."""


class UserKinds:
    """ModelServices and ModelPools, as kopf sees them.

    Kopf invents no deletion for what vanished while its watch was down; but it lists again then, which shows
    as events without a type. They are answered with a consistent LIST of our own; what it lacks is dropped.
    """

    def __init__(self, kube: Kube, planner: Planner) -> None:
        self._kube = kube
        self._planner = planner
        self._known: dict[Resource, dict[str, int]] = {kind: {} for kind in KINDS}
        self._gone: set[tuple[Resource, str]] = set()
        self._relist = asyncio.Event()
        self.synced = asyncio.Event()
        """Set once both kinds are known whole."""

    async def list(self) -> None:
        """Take both kinds whole. What a watch says meanwhile is newer, and stays.

        Raises:
            ApiError: the API server could not be asked.
        """
        for kind in KINDS:
            self._gone.clear()
            items, version = await self._kube.list(kind)
            found = {_key(kind, item): item for item in items}
            for key, seen in list(self._known[kind].items()):
                if key not in found and seen <= int(version):
                    self._see(kind, key, None)
            for key, item in found.items():
                if (kind, key) not in self._gone:
                    self._see(kind, key, item)
        self.synced.set()

    async def run(self) -> None:
        """Watch until cancelled; raises when kopf ends, which must end the process."""
        self._relist.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._answer_relists())
            group.create_task(self._watch())

    async def _watch(self) -> None:
        await kopf.operator(
            registry=self._registry(), settings=_settings(), standalone=True, clusterwide=True
        )
        raise StoppedError

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        for kind in KINDS:
            kopf.on.event(GROUP, VERSION, kind.plural, registry=registry, param=kind)(self._event)
        return registry

    async def _event(self, **given: Any) -> None:  # noqa: ANN401 - kopf gives by keyword what it knows
        event, param = given["event"], given["param"]
        item: Object = _plain(event["object"])
        if event["type"] is None:
            self._relist.set()
        key = _key(param, item)
        if event["type"] == "DELETED":
            self._gone.add((param, key))
            self._see(param, key, None)
        else:
            self._see(param, key, item)

    def _see(self, kind: Resource, key: str, item: Object | None) -> None:
        if item is None:
            self._known[kind].pop(key, None)
        else:
            self._known[kind][key] = int(item["metadata"]["resourceVersion"])
        self._planner.see(kind, key, item)

    async def _answer_relists(self) -> None:
        attempt = 0
        while True:
            await self._relist.wait()
            if self.synced.is_set():
                await asyncio.sleep(RELIST_WINDOW_SECONDS)
            self._relist.clear()
            try:
                await self.list()
                attempt = 0
            except ApiError as error:
                log.warning("users' objects were not listed: %s", error)
                self._relist.set()
                await backoff(attempt)
                attempt += 1


async def _login(**_: object) -> kopf.ConnectionInfo:
    """Kopf's credentials: the same as those of every other client here (its own logins know no tokenFile)."""
    found = await load_configuration()
    token = await found.get_api_key_with_prefix("BearerToken")
    return kopf.ConnectionInfo(
        server=found.host,
        ca_path=found.ssl_ca_cert,
        certificate_path=found.cert_file,
        private_key_path=found.key_file,
        scheme=token.partition(" ")[0].capitalize() if token else None,
        token=token.partition(" ")[2] if token else None,
    )


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 60
    settings.watching.connect_timeout = 10
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.posting.enabled = False
    return settings


def _key(kind: Resource, item: Object) -> str:
    return key_of(item) if kind.namespaced else str(item["metadata"]["name"])


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return kopf's view of an object as plain dicts."""
    if isinstance(value, Mapping):
        return {name: _plain(child) for name, child in value.items()}
    return [_plain(child) for child in value] if isinstance(value, list) else value
