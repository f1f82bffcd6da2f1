"""The Lease that lets one controller act at a time."""

import asyncio
import logging
import time
from datetime import UTC, datetime

from lull.api.names import SYSTEM_NAMESPACE
from lull.controller.wire import Object
from lull.kube import LEASES, ApiError, Kube

log = logging.getLogger(__name__)

LEASE_NAME = "lull-controller"
LEASE_SECONDS = 15.0
RENEW_SECONDS = 3.0
GIVE_UP_SECONDS = 10.0
"""A holder that cannot renew for this long stops acting, well before another may begin."""


class LeaseLostError(Exception):
    """Another controller may act now; this one must not."""


class Lease:
    """One holder at a time. Only changes of the Lease are believed, never another machine's clock."""

    def __init__(self, kube: Kube, identity: str) -> None:
        self._kube = kube
        self._identity = identity
        self._seen: tuple[str, float] = ("", 0.0)

    async def acquire(self) -> None:
        """Return once this controller holds the Lease."""
        while not await self._try_once():  # noqa: ASYNC110 - another process's Lease, nothing here tells
            await asyncio.sleep(RENEW_SECONDS / 2)
        log.info("holding Lease %s as %s", LEASE_NAME, self._identity)

    async def keep(self) -> None:
        """Renew until cancelled.

        Raises:
            LeaseLostError: somebody else holds it, or it could not be renewed in time.
        """
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + RENEW_SECONDS):
                    held = await self._write(await self._get(), release=False)
            except (ApiError, TimeoutError) as error:
                if isinstance(error, ApiError) and error.status == 409:
                    raise LeaseLostError("another controller took the Lease") from error
                log.warning("the Lease was not renewed: %s", error)
                held = time.monotonic() - renewed < GIVE_UP_SECONDS
                if held:
                    continue
            if not held:
                raise LeaseLostError("the Lease is not held any more")
            renewed = time.monotonic()

    async def release(self) -> None:
        """Let the next controller begin at once."""
        try:
            await self._write(await self._get(), release=True)
        except ApiError as error:
            log.info("the Lease was not released: %s", error)

    async def _try_once(self) -> bool:
        try:
            lease = await self._get()
            if lease is not None and not self._may_take(lease):
                return False
            return await self._write(lease, release=False, take=True)
        except ApiError as error:
            log.info("the Lease was not taken: %s", error)
            return False

    def _may_take(self, lease: Object) -> bool:
        """Tell whether the Lease is free: released, ours, or not renewed while we watched it."""
        holder = lease["spec"].get("holderIdentity")
        if holder in (None, "", self._identity):
            return True
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, time.monotonic())
        return time.monotonic() - self._seen[1] >= LEASE_SECONDS

    async def _get(self) -> Object | None:
        return await self._kube.get(LEASES, LEASE_NAME, SYSTEM_NAMESPACE)

    async def _write(self, lease: Object | None, *, release: bool, take: bool = False) -> bool:
        """Write the Lease as seen; 409 where it has changed since. Returns False where it is another's."""
        if lease is None:
            if not take:
                return False
            await self._kube.create(LEASES, _body(self._identity, {}))
            return True
        if not take and lease["spec"].get("holderIdentity") != self._identity:
            return False
        holder = "" if release else self._identity
        await self._kube.replace(LEASES, _body(holder, lease))
        return True


def _body(holder: str, lease: Object) -> Object:
    metadata = lease.get("metadata") or {"name": LEASE_NAME, "namespace": SYSTEM_NAMESPACE}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    old = lease.get("spec") or {}
    taken = old.get("holderIdentity") != holder
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {
            name: metadata[name]
            for name in ("name", "namespace", "uid", "resourceVersion")
            if name in metadata
        },
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "acquireTime": now if taken else old.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions", 0)) + taken,
        },
    }
