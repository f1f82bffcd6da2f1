"""The command `lull evaluate`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from lull.cli import progress
from lull.cli.cluster import UnreadableError, present_namespace
from lull.cli.evaluate import service as of
from lull_runtime.quality.errors import QualityError

if TYPE_CHECKING:
    from lull_runtime.quality.evaluate import Evaluation

EXTRAS = {
    "numpy": "evaluate",
    "tritonclient": "evaluate",
    "geventhttpclient": "evaluate",
    "matplotlib": "view",
}
"""What brings a package that may be missing."""
_ASKED, _TOLD = "How it is asked", "How it is told"
PIPE_WIDTH = 100
"""Columns of the tables where no terminal says how wide it is."""


class Output(StrEnum):
    """What `-o` may name."""

    JSON = "json"
    TABLE = "table"


@dataclass(frozen=True)
class _Options:
    """What was said."""

    service: str
    namespace: str
    data: Path
    url: str | None
    revision: str | None
    tensor: str | None
    batch: int
    concurrency: int
    limit: int | None
    timeout_seconds: float
    record: bool


def evaluate(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="The ModelService.", show_default=False)],
    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="An .npz of rows x (or inputs by their names) and the numbers of their classes y.",
            show_default=False,
        ),
    ],
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", metavar="NAME", help="Its namespace.  [default: that of your context]"
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which one is to answer, of those in a rollout.")
    ] = None,
    record: Annotated[
        bool,
        typer.Option(
            "--record",
            help="Note the accuracy on the ModelService, for a rollout with analysis.minAccuracyPercent; of "
            "its candidate unless --revision says another.",
        ),
    ] = False,
    min_accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=100, metavar="PERCENT", help="Exit code 1 below it, or if a request failed."),
    ] = None,
    tensor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_ASKED,
            help="The output that tells the class, such as probabilities.  [default: the first]",
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(min=1, max=4096, metavar="ROWS", rich_help_panel=_ASKED, help="Rows in one request."),
    ] = 32,
    concurrency: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", rich_help_panel=_ASKED, help="Requests at once.")
    ] = 4,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="ROWS", rich_help_panel=_ASKED, help="Ask so many, spread evenly over the set."
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            rich_help_panel=_ASKED,
            help="Such as http://GATEWAY/NAMESPACE/NAME.  [default: what its status says]",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            min=1,
            max=3600,
            metavar="SECONDS",
            rich_help_panel=_ASKED,
            help="What one request may take, wakes included.",
        ),
    ] = 90.0,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", rich_help_panel=_TOLD, help="Write the figures here too."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=_TOLD, help="Draw confusion and calibration here, as .png."
        ),
    ] = None,
    output: Annotated[
        Output,
        typer.Option("--output", "-o", metavar="FORMAT", rich_help_panel=_TOLD, help="table or json."),
    ] = Output.TABLE,
) -> None:
    """Send a labelled set through the gateway, and say how well and how fast one revision answers it.

    Accuracy, precision, recall, F1 (a class, and their macro average), confusion, calibration (expected
    calibration error of 15 bins, Brier score) and latency, as a client of the service sees them. A service
    that sleeps is woken. Rows whose request failed are not judged, and nothing is recorded then.

    Exit codes: 0 fine, 1 it cannot be judged or is below --min-accuracy (the message says which), 2 wrong
    usage. JSON: shares are between 0 and 1, times in seconds.
    """
    options = _Options(
        service=service,
        namespace=namespace or present_namespace(),
        data=data,
        url=url,
        revision=revision,
        tensor=tensor,
        batch=batch,
        concurrency=concurrency,
        limit=limit,
        timeout_seconds=timeout,
        record=record,
    )
    for file in (json_file, plot):
        if file and not file.parent.is_dir():
            _refuse(f"{file} cannot be written: {file.parent} is no folder")
    try:
        if plot:
            import matplotlib  # noqa: F401  where it is missing, nothing is asked
        with progress.shown() as tell:
            found = asyncio.run(_evaluated(options, tell))
        _tell(found, output, json_file, plot)
        _judge(found, min_accuracy)
        if record:
            _record(options, found)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        _refuse(f"this needs an extra: pip install 'lull[{extra}]' ({error})" if extra else str(error))
    except (UnreadableError, QualityError, ValueError, OSError) as error:
        _refuse(str(error))


async def _evaluated(options: _Options, tell: Callable[[str], None]) -> Evaluation:
    tell("reading the set")
    from lull_runtime.publish.labelled import read_labelled_file
    from lull_runtime.quality.asking import Endpoint
    from lull_runtime.quality.evaluate import Asked, Watch
    from lull_runtime.quality.evaluate import evaluate as evaluated

    data = read_labelled_file(options.data)
    known = await of.read(options.service, options.namespace)
    url = options.url or known.url
    if url is None:
        raise QualityError("its status says no URL yet: name the gateway's with --url")
    endpoint = Endpoint(url, known.model, _pinned(options, known), options.timeout_seconds)
    done = 0

    def on_rows(rows: int, total: int) -> None:
        nonlocal done
        done += rows
        tell(f"asking: {done:,} of {total:,} rows")

    tell(f"asking {url}")
    asked = Asked(options.tensor, options.batch, options.concurrency, options.limit)
    name = f"{options.namespace}/{options.service}"
    return await evaluated(name, endpoint, data, asked, Watch(tell, on_rows))


def _pinned(options: _Options, known: of.Served) -> str | None:
    """Return the revision that is to answer, if one has to.

    Raises:
        QualityError: there is no such revision, or none to record of.
    """
    if options.revision and options.revision not in known.revisions:
        named = ", ".join(known.revisions) or "none yet"
        raise QualityError(f"its status knows no revision {options.revision}, but {named}")
    if options.revision or not options.record:
        return options.revision
    if known.candidate is None:
        raise QualityError(
            "no rollout of it is running, so nothing waits for a record: leave --record out, or name the "
            "revision with --revision"
        )
    return known.candidate


def _judge(found: Evaluation, min_accuracy: float | None) -> None:
    """Refuse what is below the bar.

    Raises:
        QualityError: it is.
    """
    if min_accuracy is None:
        return
    if found.failures:
        raise QualityError(f"{found.failed_rows} rows were not answered: see the failures above")
    if 100 * found.quality.correct < min_accuracy * found.quality.rows:
        raise QualityError(
            f"its accuracy is {found.accuracy_percent}%, and --min-accuracy asks for {min_accuracy:g}%"
        )


def _record(options: _Options, found: Evaluation) -> None:
    if found.failures:
        raise QualityError("nothing is recorded, for requests failed: see above, and evaluate it again")
    if found.revision is None:
        raise QualityError("nothing is recorded: the gateway did not say which revision answered")
    note = asyncio.run(of.record(options.service, options.namespace, found.revision, found.accuracy_percent))
    typer.echo(f"recorded on {found.service}: {note}%", err=True)


def _tell(found: Evaluation, output: Output, json_file: Path | None, plot: Path | None) -> None:
    text = json.dumps(document(found), indent=2, allow_nan=False)
    if json_file:
        json_file.write_text(text + "\n")
    if plot:
        from lull.cli.evaluate.plots import draw

        draw(found, plot)
    if output is Output.JSON:
        print(text)
        return
    from lull.cli.evaluate.tables import show

    console = Console(highlight=False)
    show(console if console.is_terminal else Console(width=PIPE_WIDTH, highlight=False), found)
    for written in (json_file, plot):
        if written:
            typer.echo(str(written))


def document(found: Evaluation) -> dict[str, Any]:
    """Return it as JSON has it."""
    return asdict(found) | {"accuracy_percent": float(found.accuracy_percent)}


def _refuse(message: str) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(1)
