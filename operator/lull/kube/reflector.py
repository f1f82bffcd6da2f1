"""Keeps all objects of one kind in memory: LIST replaces the cache whole, WATCH keeps it, 410 lists again."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from lull.kube.client import ApiError, Kube, Object, backoff
from lull.kube.resources import Resource

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace (empty for cluster-scoped kinds) and name."""
OnChange = Callable[[Key, Object | None], None]


class Reflector:
    """A cache of one kind that follows the API server; of each object it holds what `keep` leaves of it.

    Attributes:
        objects: the newest seen state by `(namespace, name)`. Read it, never change it.
        synced: set after the first consistent LIST.
        trouble: why the cache cannot follow the server right now; None while it does.
    """

    def __init__(
        self,
        kube: Kube,
        resource: Resource,
        namespace: str | None = None,
        *,
        on_change: OnChange | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        keep: Callable[[Object], Object] = lambda item: item,
    ) -> None:
        self._kube = kube
        self._resource = resource
        self._namespace = namespace
        self._on_change = on_change or (lambda _key, _object: None)
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._keep = keep
        self.objects: dict[Key, Object] = {}
        self.synced = asyncio.Event()
        self.trouble: ApiError | None = None

    async def run(self) -> None:
        """Follow the API server until cancelled; never ends by itself, whatever the server does."""
        attempt = 0
        while True:
            try:
                version = await self._relist()
                attempt = 0
                await self._follow(version)
            except ApiError as error:
                self.trouble = error
                log.log(
                    logging.INFO if error.status == 410 else logging.WARNING,
                    "list %s again: %s",
                    self._resource.plural,
                    error,
                )
                await backoff(attempt)
                attempt += 1

    async def _relist(self) -> str:
        items, version = await self._kube.list(
            self._resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            keep=self._keep,
        )
        fresh = {_key(item): item for item in items}
        for key in self.objects.keys() - fresh.keys():
            self._set(key, None)
        for key, item in fresh.items():
            if _version(self.objects.get(key)) != _version(item):
                self._set(key, item)
        self.synced.set()
        self.trouble = None
        return version

    async def _follow(self, version: str) -> None:
        """Watch from `version`, window after window, until an error (410 included) asks for a LIST."""
        while True:
            events = self._kube.watch(
                self._resource,
                self._namespace,
                version,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
            )
            async for event in events:
                item: Object = event["object"]
                version = item["metadata"]["resourceVersion"]
                if event["type"] == "BOOKMARK":
                    continue
                self._set(_key(item), None if event["type"] == "DELETED" else self._keep(item))

    def _set(self, key: Key, item: Object | None) -> None:
        if item is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = item
        self._on_change(key, item)


def _key(item: Object) -> Key:
    metadata: dict[str, Any] = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version(item: Object | None) -> str | None:
    return None if item is None else item["metadata"]["resourceVersion"]
