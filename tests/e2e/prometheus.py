"""A real Prometheus over the cluster that tests stand on, and what it says."""

import copy
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp

Object = dict[str, Any]

WINDOW = "10s"
IN_A_HURRY = {
    # Windows of alerts are minutes; the shares of an hour stay.
    r"\[(5|10|15)m\]": f"[{WINDOW}]",
    # How old a fence is before anybody minds.
    r"lull_fence_oldest_seconds\) > 30": "lull_fence_oldest_seconds) > 3",
}


def hurried(manifests: list[Object]) -> list[Object]:
    """Return PodMonitors and PrometheusRules as they are, but with a second for whatever takes longer.

    All is scraped and evaluated each second, alerts wait for nothing (no `for`) and look back 10 s.
    """
    manifests = copy.deepcopy(manifests)
    for manifest in manifests:
        for endpoint in manifest["spec"].get("podMetricsEndpoints", []):
            endpoint["interval"] = "1s"
        for group in manifest["spec"].get("groups", []):
            group["interval"] = "1s"
            for rule in group["rules"]:
                if "alert" in rule:
                    rule.pop("for", None)
                    for long, short in IN_A_HURRY.items():
                        rule["expr"] = re.sub(long, short, rule["expr"])
    return manifests


_OF_TARGETS = {"__name__", "job", "instance", "endpoint", "namespace", "pod", "container", "le"}
_SUFFIX = {"counter": "_total", "info": "_info"}


@dataclass(frozen=True)
class Shown:
    """A family of series, by its name in queries, and who shows it."""

    name: str
    type: str
    program: str
    labels: frozenset[str]


class Prometheus:
    """Asks one for series, alerts, and what an expression is made of."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def query(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return what an expression is now, by labels; without what is not a number."""
        found = (await self._get("query", query=expression))["result"]
        values = {tuple(sorted(it["metric"].items())): float(it["value"][1]) for it in found}
        return {labels: value for labels, value in values.items() if not math.isnan(value)}

    async def firing(self, alert: str) -> list[Object]:
        """Return an alert's instances that fire."""
        found = (await self._get("alerts"))["alerts"]
        return [it for it in found if it["labels"]["alertname"] == alert and it["state"] == "firing"]

    async def selectors(self, expression: str) -> set[str]:
        """Return the selectors of series in an expression."""
        return set(_selectors(await self._get("parse_query", query=expression)))

    async def shown(self) -> set[Shown]:
        """Return what Lull's own programs have shown in the last hour."""
        families = await self._get("metadata")
        since = str(time.time() - 3600)
        series = await self._get(
            "series", **{"match[]": '{__name__=~"lull_.*",container!=""}', "start": since}
        )
        labels: dict[tuple[str, str], set[str]] = {}
        for one in series:
            family = next((it for it in _families(one["__name__"]) if it in families), "")
            if family:
                labels.setdefault((family, one["container"]), set()).update(one.keys() - _OF_TARGETS)
        return {
            Shown(
                family + _SUFFIX.get(families[family][0]["type"], ""),
                families[family][0]["type"],
                program,
                frozenset(names),
            )
            for (family, program), names in labels.items()
        }

    async def targets(self) -> list[Object]:
        """Return what is scraped."""
        found: list[Object] = (await self._get("targets", state="active"))["activeTargets"]
        return found

    async def _get(self, what: str, **parameters: str) -> Any:
        timeout = aiohttp.ClientTimeout(total=10)
        async with self._session.get(
            f"{self._url}/api/v1/{what}", params=parameters, timeout=timeout
        ) as answer:
            body = await answer.json()
            assert body["status"] == "success", (parameters, body)
            return body["data"]


def _families(series: str) -> Iterator[str]:
    """Names of families that a series may belong to; when they were created is nobody's figure."""
    for suffix in ("", "_total", "_info", "_bucket", "_sum", "_count"):
        yield series.removesuffix(suffix)


def _selectors(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _selectors(item)
    elif isinstance(node, dict):
        if node.get("type") in {"vectorSelector", "matrixSelector"}:
            matchers = sorted(f'{m["name"]}{m["type"]}"{m["value"]}"' for m in node["matchers"])
            yield f"{{{','.join(matchers)}}}"
        yield from _selectors(list(node.values()))
