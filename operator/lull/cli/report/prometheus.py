"""As little of Prometheus' HTTP API as a report needs: every query has a deadline and a bounded answer."""

import json
import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

MOST_POINTS = 480
"""Points of a curve at most: what a plot of this width can show."""
LEAST_STEP_SECONDS = 15
"""Prometheus scrapes no more often."""
MOST_SERIES = 10_000
QUERY_SECONDS = 30.0

Labels = dict[str, str]


class PrometheusError(Exception):
    """Prometheus did not answer, or refused; the message says what to do."""


@dataclass(frozen=True)
class Period:
    """The time that a report is of, in seconds since the epoch, and the grid of its curves."""

    since_seconds: float
    until_seconds: float

    @property
    def length_seconds(self) -> int:
        """How long it is, in whole seconds."""
        return max(1, round(self.until_seconds - self.since_seconds))

    @property
    def step_seconds(self) -> int:
        """The distance of two points: a multiple of 15 s, with at most 480 of them."""
        least = math.ceil(self.length_seconds / MOST_POINTS / LEAST_STEP_SECONDS)
        return max(1, least) * LEAST_STEP_SECONDS

    @property
    def rate_seconds(self) -> int:
        """The window of a rate: it reaches back behind the one before, or what grew between two is lost."""
        return max(120, self.step_seconds + 60)

    @property
    def times(self) -> tuple[datetime, ...]:
        """The points of the grid, in UTC."""
        return tuple(datetime.fromtimestamp(second, UTC) for second in self._seconds())

    def _seconds(self) -> range:
        start, step = round(self.since_seconds), self.step_seconds
        return range(start, start + self.length_seconds + 1, step)

    def aligned(self, values: list[list[Any]]) -> tuple[float, ...]:
        """Return a curve on the grid; NaN where there is no point."""
        known = {round(float(at)): float(value) for at, value in values}
        return tuple(known.get(second, math.nan) for second in self._seconds())


@dataclass(frozen=True)
class Curve:
    """One series on the period's grid; NaN is a gap."""

    labels: Labels
    values: tuple[float, ...]


class Prometheus:
    """One Prometheus, or what speaks its API (Thanos, Mimir, VictoriaMetrics).

    Attributes:
        warnings: what it said beside its answers, such as that one was cut; each once.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/")
        self._session = session
        self.warnings: dict[str, None] = {}

    async def curves(self, query: str, period: Period) -> list[Curve]:
        """Return a query's series over the period.

        Raises:
            PrometheusError: there is no answer.
        """
        start = round(period.since_seconds)
        form = {
            "start": str(start),
            "end": str(start + period.length_seconds),
            "step": f"{period.step_seconds}",
        }
        answer = await self._ask("query_range", {"query": query, **form})
        return [Curve(series["metric"], period.aligned(series["values"])) for series in answer]

    async def values(self, query: str, period: Period) -> list[tuple[Labels, float]]:
        """Return a query's values at the period's end; what is not a number is left out.

        Raises:
            PrometheusError: there is no answer.
        """
        answer = await self._ask("query", {"query": query, "time": str(round(period.until_seconds))})
        told = [(series["metric"], float(series["value"][1])) for series in answer]
        return [(labels, value) for labels, value in told if not math.isnan(value)]

    async def _ask(self, endpoint: str, form: dict[str, str]) -> list[dict[str, Any]]:
        form |= {"timeout": f"{QUERY_SECONDS:.0f}s", "limit": str(MOST_SERIES)}
        deadline = aiohttp.ClientTimeout(total=QUERY_SECONDS + 5, connect=5)
        try:
            async with self._session.post(
                f"{self._url}/api/v1/{endpoint}", data=form, timeout=deadline, allow_redirects=False
            ) as response:
                status, body = response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise PrometheusError(
                f"no answer from {self._url}: {_why(error)}. Is the URL right, and does it open in a browser?"
            ) from error
        answer = _read(body)
        if answer.get("status") != "success":
            raise PrometheusError(_refusal(self._url, status, answer))
        data = answer.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("result"), list):
            raise PrometheusError(f"{self._url} answers without data: is it a Prometheus?")
        self.warnings |= dict.fromkeys(str(warning) for warning in answer.get("warnings") or ())
        result: list[dict[str, Any]] = data["result"]
        return result


def _read(body: bytes) -> dict[str, Any]:
    """Return an answer's JSON object; an empty one where there is none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0
        return os.strerror(number) if number > 0 else str(error.os_error.strerror)  # else: of names
    return str(error) or type(error).__name__


def _refusal(url: str, status: int, answer: dict[str, Any]) -> str:
    """Say in words what an answer that is no success means, and what to do."""
    if status in (401, 403):
        return f"{url} wants to know who asks (HTTP {status}): --header 'Authorization: Bearer TOKEN'."
    if 300 <= status < 400:
        return f"{url} leads elsewhere (HTTP {status}), perhaps to a login: give the API's own URL."
    if "error" in answer:
        heavy = answer.get("errorType") in ("timeout", "canceled") or "too many samples" in answer["error"]
        advice = " A shorter --since asks for less." if heavy else ""
        return f"Prometheus refused a query: {answer['error']}.{advice}"
    if status == 404:
        return f"{url} has no Prometheus API (HTTP 404): give the URL that /api/v1/query stands behind."
    if status >= 500:
        return f"{url} is not ready or overloaded (HTTP {status}): try again."
    return f"{url} does not answer as a Prometheus does (HTTP {status}): is the URL right?"
