"""How good a model is, in words and tables."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from lull_runtime.quality.evaluate import Evaluation
from lull_runtime.quality.measures import Quality

MOST_CLASSES = 30
"""Classes that the table shows; of more the ones that are told worst."""
MOST_IN_A_MATRIX = 12
MOST_PAIRS = 10


def show(console: Console, found: Evaluation) -> None:
    """Print what was found."""
    for line in _summary(found):
        console.print(line, soft_wrap=True)
    console.print(_classes(found.quality))
    if len(found.quality.classes) <= MOST_IN_A_MATRIX:
        console.print(_matrix(found.quality))
    else:
        for line in _pairs(found.quality):
            console.print(line, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)


def _summary(found: Evaluation) -> Iterator[str]:
    quality, latency = found.quality, found.latency
    revision = found.revision or "a revision that the gateway did not name"
    yield f"{found.service}: {revision}, tensor {found.output}"
    yield (
        f"accuracy {quality.accuracy:.1%} ({quality.correct} of {quality.rows} rows); macro: precision "
        f"{quality.precision:.3f}, recall {quality.recall:.3f}, F1 {quality.f1:.3f}"
    )
    if quality.calibration is not None:
        calibration = quality.calibration
        yield (
            f"calibration error {calibration.expected_error:.3f} (0 is best), "
            f"Brier score {calibration.brier:.3f} (0 to 2, 0 is best)"
        )
    times = ", ".join(
        f"{name} {seconds * 1000:.1f} ms"
        for name, seconds in (
            ("p50", latency.p50_seconds),
            ("p95", latency.p95_seconds),
            ("p99", latency.p99_seconds),
        )
    )
    yield (
        f"latency {times} of {latency.requests} requests of {latency.rows} rows, {latency.concurrency} at "
        f"once; the first answer took {found.wait_seconds:.1f} s"
    )
    for why, count in found.failures.items():
        yield f"failed: {count} requests: {why}"
    if found.failed_rows:
        yield f"not judged, for their requests failed: {found.failed_rows} rows"


def _classes(quality: Quality) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for heading in ("CLASS", "ROWS", "PRECISION", "RECALL", "F1"):
        table.add_column(heading, justify="right")
    worst = sorted(quality.classes, key=lambda one: one.f1)[:MOST_CLASSES]
    for one in sorted(worst, key=lambda one: one.number):
        figures = (f"{share:.3f}" for share in (one.precision, one.recall, one.f1))
        table.add_row(str(one.number), str(one.rows), *figures)
    if len(quality.classes) > MOST_CLASSES:
        table.caption = f"the {MOST_CLASSES} of {len(quality.classes)} that are told worst"
    return table


def _matrix(quality: Quality) -> Table:
    names = [str(one.number) for one in quality.classes]
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    table.add_column("IS \\ TOLD", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    for name, counts in zip(names, quality.confusion, strict=True):
        table.add_row(name, *(str(count) if count else "·" for count in counts))
    return table


def _pairs(quality: Quality) -> Iterator[str]:
    """Yield what is confused most."""
    pairs = [
        (count, quality.classes[row].number, quality.classes[column].number)
        for row, counts in enumerate(quality.confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    for count, truth, told in sorted(pairs, reverse=True)[:MOST_PAIRS]:
        yield f"{count} rows of {truth} are told {told}"
