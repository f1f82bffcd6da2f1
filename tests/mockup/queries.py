"""Ask Prometheus what a panel asks."""

import json
import math
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

STEPS = 240
SCRAPE_SECONDS = 15
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
        return max((self.end - self.start) / STEPS, 1)


def variables_replaced(expr: str, variables: dict[str, str] | None = None, seconds: float = 3600) -> str:
    """Return `expr` as Grafana would send it: its variables replaced, those that nobody chose by `any`."""
    window = max(4 * SCRAPE_SECONDS, seconds / STEPS + SCRAPE_SECONDS)
    known = {"__range": f"{seconds:.0f}s", "__rate_interval": f"{window:.0f}s"} | (variables or {})
    return re.sub(r"\$(\w+)", lambda found: known.get(found[1], "any"), expr)


def asked(prometheus: str, target: dict[str, Any], period: Period) -> list[Series]:
    """Return what Prometheus answers to a panel's target: over time, or as of the end where it is instant."""
    expr = variables_replaced(target["expr"], period.variables, period.end - period.start)
    if target.get("instant"):
        found = _get(prometheus, "query", query=expr, time=period.end)
        points = [(it["metric"], [it["value"]]) for it in found]
    else:
        found = _get(
            prometheus,
            "query_range",
            query=expr,
            start=period.start,
            end=period.end,
            step=period.step_seconds,
        )
        points = [(it["metric"], it["values"]) for it in found]
    return [
        Series(
            labels,
            _name(target["legendFormat"], labels),
            [float(time) for time, _ in values],
            [float(value) for _, value in values],
            target["refId"],
        )
        for labels, values in points
    ]


def with_gaps(series: Series, period: Period) -> Series:
    """Return the series with a NaN wherever a step has no value, so that no line is drawn across."""
    times, values = [], []
    for time, value in zip(series.times, series.values, strict=True):
        if times and time - times[-1] > 1.5 * period.step_seconds:
            times.append(times[-1] + period.step_seconds)
            values.append(math.nan)
        times.append(time)
        values.append(value)
    return Series(series.labels, series.name, times, values, series.target)


def _name(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), legend)


def _get(prometheus: str, what: str, **parameters: object) -> list[dict[str, Any]]:
    url = f"{prometheus}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as answer:
        return json.load(answer)["data"]["result"]
