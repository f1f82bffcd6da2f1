"""Ask Prometheus what a panel asks."""

import json
import math
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

STEPS = 240
SCRAPE_SECONDS = 30
DEADLINE_SECONDS = 30


@dataclass(frozen=True)
class Series:
    """One series: its labels, its name in the legend, and its values, NaN where there is none."""

    labels: dict[str, str]
    name: str
    times: list[float]
    values: list[float]
    target: str


@dataclass(frozen=True)
class Period:
    """The time that a dashboard shows, and what its user chose."""

    start: float
    end: float
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def step_seconds(self) -> float:
        """Time between two points."""
        return (self.end - self.start) / STEPS


def variables_replaced(
    expr: str, variables: dict[str, str] | None = None, seconds: float = 3600, points: int = STEPS
) -> str:
    """Return `expr` as Grafana would send it: its variables replaced, those that nobody chose by `any`."""
    window = max(4 * SCRAPE_SECONDS, seconds / points + SCRAPE_SECONDS)
    known = {"__range": f"{seconds:.0f}s", "__rate_interval": f"{window:.0f}s"} | (variables or {})
    return re.sub(r"\$(\w+)", lambda found: known.get(found[1], "any"), expr)


def asked(prometheus: str, target: dict[str, Any], period: Period, points: int = STEPS) -> list[Series]:
    """Return what Prometheus answers to a panel's target: over time, or as of the end where it is instant."""
    seconds = period.end - period.start
    expr = variables_replaced(target["expr"], period.variables, seconds, points)
    if target.get("instant"):
        found = _get(prometheus, "query", query=expr, time=period.end)
        lines = [(it["metric"], [it["value"]]) for it in found]
    else:
        found = _get(
            prometheus,
            "query_range",
            query=expr,
            start=period.start,
            end=period.end,
            step=seconds / points,
        )
        lines = [(it["metric"], it["values"]) for it in found]
    return [
        Series(
            labels,
            _name(target["legendFormat"], labels),
            [float(time) for time, _ in line],
            [float(value) for _, value in line],
            target["refId"],
        )
        for labels, line in lines
    ]


def with_gaps(series: Series, period: Period) -> Series:
    """Return the series with a NaN at every step that has no value, so that nothing is drawn across."""
    known = {
        round((time - period.start) / period.step_seconds): value
        for time, value in zip(series.times, series.values, strict=True)
    }
    times = [period.start + step * period.step_seconds for step in range(STEPS + 1)]
    values = [known.get(step, math.nan) for step in range(STEPS + 1)]
    return Series(series.labels, series.name, times, values, series.target)


def _name(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), legend)


def _get(prometheus: str, what: str, **parameters: object) -> list[dict[str, Any]]:
    url = f"{prometheus}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as answer:
        return json.load(answer)["data"]["result"]
