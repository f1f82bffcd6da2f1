"""Counts the drains of services as a watcher of ModelHosts sees them: turns of a placement to Draining."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from lull.api.names import HOSTS_NAMESPACE
from lull.kube import MODELHOSTS, ApiError, Kube


class Drains:
    """What was seen. A drain is one epoch of a placement; it ended `unloaded` where the placement left."""

    def __init__(self, services: Collection[str]) -> None:
        self._services = services
        self._seen: set[tuple[str, int]] = set()
        self._loaded: dict[str, dict[str, str]] = {}
        self.unloads = 0

    @property
    def count(self) -> int:
        return len(self._seen)

    def look(self, host: dict, gone: bool) -> None:
        """Take the newest state of a host."""
        models = [] if gone else host["spec"].get("models", [])
        mine = {m["id"]: m for m in models if m["service"] in self._services}
        for model in mine.values():
            if model["state"] == "Draining":
                self._seen.add((model["id"], model.get("epoch", 1)))
        name = host["metadata"]["name"]
        self.unloads += len(self._loaded.get(name, {}).keys() - mine.keys())
        self._loaded[name] = {id_: m["state"] for id_, m in mine.items()}


@asynccontextmanager
async def watched(kube: Kube, services: Collection[str]) -> AsyncIterator[Drains]:
    """Watch ModelHosts for the drains of services (`namespace/name`)."""
    drains = Drains(services)
    task = asyncio.create_task(_watch(kube, drains))
    try:
        yield drains
    finally:
        task.cancel()


async def _watch(kube: Kube, drains: Drains) -> None:
    while True:
        items, version = await kube.list(MODELHOSTS, HOSTS_NAMESPACE)
        for item in items:
            drains.look(item, gone=False)
        try:
            async for event in kube.watch(MODELHOSTS, HOSTS_NAMESPACE, version):
                if event["type"] != "BOOKMARK":
                    drains.look(event["object"], gone=event["type"] == "DELETED")
        except ApiError:
            await asyncio.sleep(0.1)
