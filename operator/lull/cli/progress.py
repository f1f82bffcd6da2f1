"""What is under way, on a terminal's standard error, where it lasts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

QUIET_SECONDS = 2.0


@contextmanager
def shown() -> Iterator[Callable[[str], None]]:
    """Yield what is told what is under way; it is shown once this has lasted for two seconds."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda doing: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task("", total=None)
    starter = Timer(QUIET_SECONDS, progress.start)
    starter.daemon = True
    starter.start()
    try:
        yield lambda doing: progress.update(task, description=doing)
    finally:
        starter.cancel()
        starter.join()
        progress.stop()
