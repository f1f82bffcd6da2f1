"""Envoy's admin interface, over its Unix socket."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from lull.api.latency import BINS
from lull.gateway.traffic import Rollout, Statistics, pattern
from lull.gateway.view import Lease

_TIMEOUT_SECONDS = 5.0
_ACTIVE = "http.inference.downstream_rq_active"


class AdminError(Exception):
    """Envoy's admin interface did not answer as it should."""


class Admin:
    """Asks the Envoy beside us. Close it after use."""

    def __init__(self, socket: Path) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(socket)),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._session.close()

    async def alive(self, leases: Collection[Lease]) -> frozenset[Lease]:
        """Return every epoch of these placements of which Envoy has statistics still.

        Raises:
            AdminError: Envoy gave no answer; nothing is known then.
        """
        ids = "|".join(sorted({re.escape(lease.id) for lease in leases}))
        names = await self._statistics(rf"^cluster\.({ids})\.[0-9]+\|")
        clusters = {name.removeprefix("cluster.").rpartition(".")[0] for name in names}
        found = (Lease.of_cluster(cluster) for cluster in clusters)
        return frozenset(lease for lease in found if lease)

    async def ready(self) -> bool:
        """Return whether Envoy answers, is initialized and is not shutting down."""
        try:
            await self._ask("GET", "/ready", {})
        except AdminError:
            return False
        return True

    async def active_requests(self) -> int:
        """Return how many requests clients have under way.

        Raises:
            AdminError: Envoy gave no answer.
        """
        return (await self._statistics(f"^{re.escape(_ACTIVE)}$")).get(_ACTIVE, 0)

    async def drain(self) -> None:
        """Let clients go elsewhere: answers say `Connection: close` and GOAWAY, the listeners stay open.

        Raises:
            AdminError: Envoy gave no answer.
        """
        await self._ask("POST", "/drain_listeners", {"graceful": "", "skip_exit": ""})

    async def traffic(self, rollouts: Mapping[str, Rollout]) -> Statistics:
        """Return what the routes of these rollouts were asked, histograms by bin.

        Raises:
            AdminError: Envoy gave no answer.
        """
        entries = await self._entries(pattern(rollouts), histogram_buckets="disjoint")
        histograms = {
            histogram["name"]: tuple(bin_["cumulative"] for bin_ in histogram["buckets"])
            for entry in entries
            for histogram in entry.get("histograms", ())
        }
        if any(len(bins) != BINS for bins in histograms.values()):
            raise AdminError("Envoy's histograms have other bins than ours; it has an older bootstrap")
        return Statistics(_values(entries), histograms)

    async def _statistics(self, names: str) -> dict[str, int]:
        return _values(await self._entries(names))

    async def _entries(self, names: str, **more: str) -> list[dict[str, Any]]:
        answer = await self._ask("GET", "/stats", {"filter": names, "format": "json", **more})
        try:
            entries: list[dict[str, Any]] = json.loads(answer)["stats"]
        except (ValueError, KeyError) as error:
            raise AdminError(f"unexpected statistics: {answer[:200]!r}") from error
        return entries

    async def _ask(self, method: str, path: str, params: dict[str, str]) -> bytes:
        try:
            async with self._session.request(method, f"http://envoy{path}", params=params) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AdminError(f"Envoy's admin interface gave no answer: {error!r}") from error
        if response.status != 200:
            raise AdminError(f"Envoy answered {response.status} to {path}: {body[:200]!r}")
        return body


def _values(entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", 0) for entry in entries if "name" in entry}
