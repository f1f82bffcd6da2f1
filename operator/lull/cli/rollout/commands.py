"""The commands `lull rollout status | promote | abort | undo`."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from lull.api.quantities import parse_duration_seconds
from lull.cli.cluster import UnreadableError, advice, connect, present_namespace
from lull.cli.rollout import deeds, page
from lull.cli.rollout.figures import Rollout, rollout
from lull.controller.clock import rfc3339
from lull.kube import MODELSERVICES, ApiError, Kube

T = TypeVar("T")

LOOK_SECONDS = 1.0
PIPED_CELLS = 200
"""Width of the table where no terminal says one: every column."""

app = typer.Typer(
    help="See how a new revision takes over, and have a say in it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


class Output(StrEnum):
    """What `-o` may name."""

    JSON = "json"


def _duration(said: str) -> str:
    try:
        parse_duration_seconds(said)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return said


Service = Annotated[str, typer.Argument(help="The ModelService.", show_default=False)]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Its namespace; that of your context without it.")
]
Named = Annotated[str | None, typer.Option("--revision", help="Which; the one being rolled out without it.")]


@app.command(epilog="Example:  kubectl lull rollout status digits -n demo --watch --timeout 20m")
def status(
    service: Service,
    namespace: Namespace = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Tell each step until it is decided; for pipelines.")
    ] = False,
    timeout: Annotated[
        str, typer.Option(callback=_duration, help="How long --watch waits: 90s, 20m, 2h.")
    ] = "1h",
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="JSON for scripts; with --watch a line a change.")
    ] = None,
) -> None:
    """Show a service's revisions, and how far the newest one is.

    Requests, failures, p95 and differing answers are of the present step.

    Exit codes: 0 shown, with --watch: promoted; 1 with --watch: rejected, aborted or not decided in time,
    else the cluster cannot be read (the message says what to do); 2 wrong usage.
    """
    namespace = namespace or present_namespace()
    seconds = parse_duration_seconds(timeout)
    look = _watched(service, namespace, seconds, output) if watch else _shown(service, namespace, output)
    if not _done(look):
        raise typer.Exit(1)


@app.command()
def promote(service: Service, namespace: Namespace = None, revision: Named = None) -> None:
    """Have a revision take over as soon as it is ready: its steps, and what they wait for, are skipped.

    It annotates the ModelService, so you need the right to patch it. One that was rejected or aborted is
    named by --revision; what fails its golden cases or its signature is not served, whatever you say.
    """
    _done(_deed(service, namespace or present_namespace(), lambda item: deeds.promote(item, revision)))


@app.command()
def abort(service: Service, namespace: Namespace = None, revision: Named = None) -> None:
    """Stop a rollout: the revision that served before goes on serving.

    It annotates the ModelService, so you need the right to patch it. The spec still names the new revision,
    which stays aborted: change spec.model, or `undo`, or `promote --revision`.
    """
    _done(_deed(service, namespace or present_namespace(), lambda item: deeds.abort(item, revision)))


@app.command()
def undo(
    service: Service,
    namespace: Namespace = None,
    to: Annotated[
        str | None, typer.Option(help="The revision to go back to; the one that served last without it.")
    ] = None,
) -> None:
    """Put a former revision's model back into the spec, from the status's list of revisions.

    It patches spec.model, so you need the right to. Where a GitOps tool keeps the object, change its
    repository too: else the tool sets it back.
    """
    _done(_deed(service, namespace or present_namespace(), lambda item: deeds.undo(item, to)))


def _done(work: Coroutine[Any, Any, T]) -> T:
    """Return what is awaited; errors become one line and exit code 1."""
    try:
        return asyncio.run(work)
    except (UnreadableError, deeds.RefusedError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error


async def _shown(service: str, namespace: str, output: Output | None) -> bool:
    async with await connect() as kube:
        _print(await _read(kube, service, namespace), output)
    return True


async def _watched(service: str, namespace: str, timeout_seconds: float, output: Output | None) -> bool:
    """Tell each change until it is decided, and return whether the newest revision took over.

    Raises:
        UnreadableError: the cluster cannot be read, or it was not decided in time.
    """
    last: Rollout | None = None
    try:
        async with asyncio.timeout(timeout_seconds), await connect() as kube:
            while last is None or last.outcome is None:
                if last is not None:
                    await asyncio.sleep(LOOK_SECONDS)
                now = await _looked(kube, service, namespace, last)
                ends = now.outcome is not None and not output  # told below, above the table
                if not ends and (last is None or _marks(now) != _marks(last)):
                    _tell(now, output)
                last = now
    except TimeoutError:
        waits = f": {last.message}" if last and last.message else ""
        raise UnreadableError(
            f"{namespace}/{service}: not decided within {timeout_seconds:.0f} s{waits}\n"
            "It goes on without you; a longer --timeout waits longer."
        ) from None
    if not output:
        _print(last, None)
    return bool(last.outcome)


async def _looked(kube: Kube, service: str, namespace: str, last: Rollout | None) -> Rollout:
    """Look again; an API server that is away for a moment ends no watch that has begun."""
    try:
        return rollout(await _item(kube, service, namespace))
    except ApiError as error:
        if last is None or error.status not in (0, 429, 500, 502, 503, 504):
            raise UnreadableError(_advice(error, "get", namespace)) from error
        return last


def _marks(shown: Rollout) -> tuple[object, ...]:
    """Return what is worth a new line: not each request, nor how a sentence counts them."""
    return shown.current, shown.candidate, shown.phase, shown.step, shown.stalled


def _tell(shown: Rollout, output: Output | None) -> None:
    if output:
        print(json.dumps(asdict(shown)), flush=True)
        return
    print("\n".join(page.told(shown, rfc3339(time.time()))), flush=True)


async def _read(kube: Kube, service: str, namespace: str) -> Rollout:
    try:
        return rollout(await _item(kube, service, namespace))
    except ApiError as error:
        raise UnreadableError(_advice(error, "get", namespace)) from error


def _print(shown: Rollout, output: Output | None) -> None:
    if output:
        json.dump(asdict(shown), sys.stdout, indent=2)
        print()
        return
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=PIPED_CELLS)
    for line in page.rendered(shown, rfc3339(time.time()), console.width):
        console.print(line)


async def _deed(service: str, namespace: str, decide: Callable[[dict[str, Any]], deeds.Deed]) -> None:
    verb = "get"
    try:
        async with await connect() as kube:
            deed = decide(await _item(kube, service, namespace))
            if deed.patch:
                verb = "patch"
                await kube.merge_patch(MODELSERVICES, service, namespace, dict(deed.patch))
    except ApiError as error:
        raise UnreadableError(_advice(error, verb, namespace)) from error
    typer.echo(deed.tells)


async def _item(kube: Kube, service: str, namespace: str) -> dict[str, Any]:
    item = await kube.get(MODELSERVICES, service, namespace)
    if item is None:
        raise UnreadableError(
            f"there is no ModelService {service} in {namespace}: kubectl get msvc -A lists all, "
            "-n names another namespace"
        )
    return item


def _advice(error: ApiError, verb: str, namespace: str) -> str:
    return advice(
        error,
        f"{verb} modelservices in {namespace}",
        "ask for that right, or name another namespace with -n",
    )
