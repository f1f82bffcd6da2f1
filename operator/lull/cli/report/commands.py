"""The command `lull report`."""

import asyncio
import json
import math
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from lull.api.quantities import parse_duration_seconds
from lull.cli.report.figures import Report, gather
from lull.cli.report.prometheus import Period, Prometheus, PrometheusError

DEADLINE_SECONDS = 180.0
QUIET_SECONDS = 2.0
DAY_SECONDS = 86_400.0


class Output(StrEnum):
    """What `-o` may name."""

    JSON = "json"


def report(
    prometheus: Annotated[
        str,
        typer.Option(envvar="PROMETHEUS_URL", help="Such as http://localhost:9090; Thanos and Mimir too."),
    ],
    since: Annotated[str, typer.Option(help="How far back: 90m, 24h, 7d.")] = "24h",
    until: Annotated[str | None, typer.Option(help="RFC 3339 time that it ends at; now without it.")] = None,
    pool: Annotated[
        str | None,
        typer.Option(help="Of this ModelPool alone; of all without it."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The page to write.", dir_okay=False)] = Path("lull-report.html"),
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Print the figures as JSON, and write no page.")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(help="Sent along, such as 'X-Scope-OrgID: team'; repeatable.", show_default=False),
    ] = None,
) -> None:
    """Write one page of what a period cost and saved: summary first, then plots. From Prometheus.

    The page is one file without scripts. A ~ marks what is modelled and not measured, as savings and carbon
    always are. JSON keys carry their units (energy_joules, wake_p99_seconds); null is unknown.

    Exit codes: 0 fine, 1 Prometheus does not answer (the message says what to do), 2 wrong usage.
    """
    period, headers = _period(since, until), _headers(header or [])
    try:
        told = asyncio.run(_told(prometheus, headers, period, pool))
        for warning in told.warnings:
            typer.echo(f"Prometheus warns: {warning}", err=True)
        if output:
            json.dump(document(told), sys.stdout, indent=2)
            print()
            return
        _write(told, out)
    except BrokenPipeError:
        raise  # whoever read has enough: no error to tell
    except (PrometheusError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error


def document(told: Report) -> dict[str, Any]:
    """Return a report as JSON has it: the fields of its classes, the curves' times once, gaps as null."""
    period = told.period
    curves = {
        name: [
            {"labels": one["labels"], "values": [None if math.isnan(v) else v for v in one["values"]]}
            for one in of_name
        ]
        for name, of_name in asdict(told.curves).items()
    }
    summary = asdict(told.summary) | {
        "saved_joules": told.summary.saved_joules,
        "delayed_ratio": told.summary.delayed_ratio,
    }
    return {
        "since": datetime.fromtimestamp(period.since_seconds, UTC).isoformat(timespec="seconds"),
        "until": datetime.fromtimestamp(period.until_seconds, UTC).isoformat(timespec="seconds"),
        "pool": told.pool,
        "summary": summary,
        "services": [asdict(one) for one in told.services],
        "wakes": [asdict(one) for one in told.wakes],
        "warnings": told.warnings,
        "times": [at.isoformat() for at in period.times],
        "curves": curves,
    }


def _write(told: Report, out: Path) -> None:
    try:
        from lull.cli.report.page import html, sentence
    except ImportError as error:
        raise PrometheusError("the page needs an extra: pip install 'lull[view]', or use -o json") from error
    out.write_text(html(told))
    typer.echo(f"{sentence(told)}\n{out}")


async def _told(url: str, headers: dict[str, str], period: Period, pool: str | None) -> Report:
    started = time.monotonic()
    said = started

    def answered(done: int, of: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > QUIET_SECONDS:
            said = now
            typer.echo(f"asking Prometheus: {done} of {of} answers, {now - started:.0f} s", err=True)

    try:
        async with asyncio.timeout(DEADLINE_SECONDS), aiohttp.ClientSession(headers=headers) as session:
            return await gather(Prometheus(url, session), period, pool, answered)
    except TimeoutError:
        raise PrometheusError(
            f"Prometheus was not done after {DEADLINE_SECONDS:.0f} s. A shorter --since asks for less."
        ) from None


def _headers(said: list[str]) -> dict[str, str]:
    parts = [header.partition(":") for header in said]
    if not all(name.strip() and value.strip() for name, _, value in parts):
        raise typer.BadParameter("--header takes 'NAME: VALUE'")
    return {name.strip(): value.strip() for name, _, value in parts}


def _period(since: str, until: str | None) -> Period:
    try:
        end = datetime.fromisoformat(until) if until else datetime.now(UTC)
        days = since.removesuffix("d")
        length = float(days) * DAY_SECONDS if days != since else parse_duration_seconds(since)
    except ValueError as error:
        raise typer.BadParameter(
            f"{error}; --since takes 90m, 24h or 7d, --until 2026-11-22T08:00:00Z"
        ) from error
    if not 60 <= length <= 400 * DAY_SECONDS:
        raise typer.BadParameter("--since takes one minute to 400 days")
    end_seconds = (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp()
    return Period(end_seconds - length, end_seconds)
