"""Keeps this gateway's ModelGateway: what it waits for, what it let go of, and that it lives."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from lull.api.names import GATEWAY_HEARTBEAT_SECONDS
from lull.gateway.delays import Delays, news
from lull.gateway.traffic import Traffic
from lull.kube import MODELGATEWAYS, PODS, ApiError, Kube

log = logging.getLogger(__name__)

LINGER_SECONDS = 5.0
"""How long a service that was refused at once stays in `held`, so that the controller tries again."""
_COALESCE_SECONDS = 0.2
_LONGEST_LIST = 10_000
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 5.0

Object = dict[str, Any]


class PodGoneError(Exception):
    """This gateway's own Pod is not in the API: nothing could own its ModelGateway."""


class Record:
    """Writes the status of one ModelGateway: at once what wakes a service, coalesced what can wait.

    Attributes:
        held: returns the services that the next write names.
        drained: returns the claims that the next write makes.

    `delays` and `traffic` travel with whatever is written anyway, and only what changed of them: a demand
    carries nothing more on a gateway where nobody has just waited.
    """

    def __init__(
        self,
        kube: Kube,
        name: str,
        namespace: str,
        *,
        address: str,
        held: Callable[[], Iterable[str]],
        drained: Callable[[], Iterable[str]],
        delays: Delays,
        traffic: Traffic,
    ) -> None:
        self._kube = kube
        self._name = name
        self._namespace = namespace
        self._address = address
        self.held = held
        self.drained = drained
        self._delays = delays
        self._delayed: Mapping[str, int] = {}  # as it is written
        self._traffic = traffic
        self._trafficked: Mapping[str, Any] = {}  # as it is written
        self._uid = ""
        self._wake = asyncio.Event()
        self._write_at = 0.0  # of the loop's clock

    async def ensure(self) -> None:
        """Make the ModelGateway, owned by this very Pod; one that an earlier Pod left is replaced.

        Raises:
            PodGoneError: the Pod is not there.
            ApiError: the API server refused or is away.
        """
        pod = await self._kube.get(PODS, self._name, self._namespace)
        if pod is None:
            raise PodGoneError(
                f"Pod {self._namespace}/{self._name} does not exist; check POD_NAME and POD_NAMESPACE"
            )
        pod_uid = pod["metadata"]["uid"]
        current = await self._kube.get(MODELGATEWAYS, self._name, self._namespace)
        if current is not None and not _owned_by(current, pod_uid):
            uid = current["metadata"]["uid"]
            await self._kube.delete(MODELGATEWAYS, self._name, self._namespace, uid=uid)
            current = None
        if current is None:
            current = await self._kube.create(MODELGATEWAYS, self._body(pod_uid))
            self._delays.clear()  # a new object's counts are all news, and the old one's were counted
        self._uid = current["metadata"]["uid"]
        status = current.get("status") or {}
        self._delayed = status.get("delayed") or {}
        self._delays.restore(self._delayed)
        self._trafficked = status.get("traffic") or {}
        self._traffic.restore(self._trafficked)

    def urgent(self) -> None:
        """Have the status written now."""
        self._write_within(0.0)

    def changed(self) -> None:
        """Have the status written soon, together with what else changes until then."""
        self._write_within(_COALESCE_SECONDS)

    def _write_within(self, seconds: float) -> None:
        at = asyncio.get_running_loop().time() + seconds
        if at < self._write_at:
            self._write_at = at
            self._wake.set()

    async def run(self) -> None:
        """Write whenever something changed, and a heartbeat every few seconds, until cancelled."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            self._write_at = loop.time() + GATEWAY_HEARTBEAT_SECONDS
            try:
                await self._write()
                failures = 0
            except (ApiError, PodGoneError) as error:
                log.warning("ModelGateway %s is not written, trying again: %s", self._name, error)
                delay = min(_LONGEST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2 ** min(failures, 10))
                failures += 1
                await asyncio.sleep(delay)
                continue
            await self._pause()

    async def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        while (left := self._write_at - loop.time()) > 0:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()

    async def _write(self) -> None:
        status: Object = {
            "renewTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "address": self._address,
            "held": sorted(self.held())[:_LONGEST_LIST],
            "drained": sorted(self.drained())[:_LONGEST_LIST],
        }
        for _ in range(2):
            delayed, traffic = self._delays.totals(), self._traffic.totals()
            changed = {
                "delayed": news(self._delayed, delayed),
                "traffic": news(self._trafficked, traffic),
            }
            # The UID: a namesake that somebody else made must not be taken for ours.
            body = {
                "metadata": {"uid": self._uid},
                "status": status | {name: entries for name, entries in changed.items() if entries},
            }
            try:
                await self._kube.merge_patch(
                    MODELGATEWAYS, self._name, self._namespace, body, subresource="status"
                )
                self._delayed, self._trafficked = delayed, traffic
                return
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
                log.warning("ModelGateway %s was taken away; making it again", self._name)
            await self.ensure()

    def _body(self, pod_uid: str) -> Object:
        owner = {"apiVersion": "v1", "kind": "Pod", "name": self._name, "uid": pod_uid}
        return {
            "apiVersion": MODELGATEWAYS.api_version,
            "kind": MODELGATEWAYS.kind,
            "metadata": {"name": self._name, "namespace": self._namespace, "ownerReferences": [owner]},
        }


def _owned_by(item: Object, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences", []))
