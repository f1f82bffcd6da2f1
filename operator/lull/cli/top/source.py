"""Where the figures come from: the API server's ModelServices, and hosts and pools where they may be read."""

import asyncio
import time
from collections.abc import Mapping

from lull.api.names import HOSTS_NAMESPACE
from lull.cli.cluster import UnreadableError, advice
from lull.cli.top.figures import Fleet, Object, fleet
from lull.kube import MODELHOSTS, MODELPOOLS, MODELSERVICES, ApiError, Kube, Reflector, Resource

MISSING = {
    MODELHOSTS: "hosts are not shown: you may not list modelhosts in lull-hosts",
    MODELPOOLS: "pools are not shown, and sums are of the services alone: you may not list modelpools",
}


class Source:
    """The kinds that these credentials may read.

    Attributes:
        notes: what is left out and why, for the user.
    """

    def __init__(self, kube: Kube, namespace: str | None) -> None:
        self._kube = kube
        self._namespace = namespace
        self._scopes = {MODELSERVICES: namespace, MODELHOSTS: HOSTS_NAMESPACE, MODELPOOLS: None}
        self._objects: dict[Resource, Mapping[tuple[str, str], Object]] = {}
        self._reflectors: list[Reflector] = []
        self.notes: tuple[str, ...] = ()

    @classmethod
    async def open(cls, kube: Kube, namespace: str | None) -> "Source":
        """List every kind once, and remember which of them may be read.

        Raises:
            UnreadableError: the API server gives no services.
        """
        source = cls(kube, namespace)
        for resource in source._scopes:
            await source._list(resource)
        return source

    async def follow(self) -> None:
        """Keep the objects current until cancelled."""
        async with asyncio.TaskGroup() as group:
            for resource in list(self._objects):
                reflector = Reflector(self._kube, resource, self._scopes[resource])
                self._reflectors.append(reflector)
                group.create_task(reflector.run())
                await reflector.synced.wait()
                self._objects[resource] = reflector.objects

    def fleet(self) -> Fleet:
        """Return the figures as they are now, those of sleeping services carried on to this moment."""
        services, hosts, pools = (self._objects.get(resource) for resource in self._scopes)
        return fleet(
            time.time(),
            (services or {}).values(),
            None if hosts is None else hosts.values(),
            None if pools is None else pools.values(),
            namespace=self._namespace,
            notes=self.notes + self._troubles(),
        )

    def _troubles(self) -> tuple[str, ...]:
        """Say where the figures may be old."""
        troubles = {str(reflector.trouble): None for reflector in self._reflectors if reflector.trouble}
        return tuple(f"figures may be old, trying again: {trouble}" for trouble in troubles)

    async def _list(self, resource: Resource) -> None:
        try:
            items, _ = await self._kube.list(resource, self._scopes[resource])
        except ApiError as error:
            if resource is MODELSERVICES or error.status not in (403, 404):
                raise UnreadableError(_advice(error, self._namespace)) from error
            self.notes += (MISSING[resource],)
            return
        self._objects[resource] = {
            (item["metadata"].get("namespace", ""), item["metadata"]["name"]): item for item in items
        }


def _advice(error: ApiError, namespace: str | None) -> str:
    if namespace is None:
        return advice(error, "list modelservices in all namespaces", "name yours, lull top -n NAMESPACE")
    return advice(error, f"list modelservices in {namespace}", "ask for that right, or try another namespace")
