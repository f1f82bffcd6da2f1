"""A rollout as lines and a table that fit the terminal."""

from datetime import datetime

from rich.console import RenderableType
from rich.text import Text

from lull.cli import words
from lull.cli.rollout.figures import STOPPED, Revision, Rollout
from lull.cli.top.tables import Column, table


def rendered(shown: Rollout, now: str, width: int) -> list[RenderableType]:
    """Return what is printed of a rollout at `now` (RFC 3339), from the top down."""
    lines: list[RenderableType] = [Text(line) for line in told(shown, now)]
    if shown.revisions:
        lines += ["", table(COLUMNS, shown.revisions, now, width)]
    advised = _advice(shown)
    return [*lines, *([""] if advised else []), *(Text(line, "dim") for line in advised)]


def told(shown: Rollout, now: str) -> list[str]:
    """Say where the rollout is, and what it waits for or why it ended."""
    if not shown.current:
        return [f"{shown.key}: its newest spec has not been looked at yet"]
    if not shown.phase:
        return [f"{shown.key}: no rollout is running", *([shown.stalled] if shown.stalled else [])]
    lasted = f" ({_age(shown.since, now)})" if shown.since else ""
    said = f"{shown.key}: {shown.candidate} {shown.phase}{lasted}"
    return [said, *filter(None, (_doing(shown), shown.message))]


def _doing(shown: Rollout) -> str:
    match shown.phase:
        case "Stepping":
            return f"step {shown.step} of {len(shown.steps)}: it gets {shown.percent} % of the requests"
        case "Shadowing":
            return f"it is asked {shown.shadow_percent} % of what {shown.stable} is asked"
        case "Promoting":
            return f"its other replicas are loaded, and it gets {shown.percent} % of the requests"
    return ""


def _advice(shown: Rollout) -> list[str]:
    """Name the commands that make sense now: none where the spec's revision serves, come what may."""
    if shown.running:
        words_on_it = {"promote": "skips what is left of it", "abort": "takes it back"}
    elif shown.current and shown.phase in STOPPED and not shown.serves:
        words_on_it = {"undo": f"puts {shown.stable} back into the spec"}
    else:
        words_on_it = {}
    name = f"{shown.service} -n {shown.namespace}"
    wide = max(map(len, words_on_it), default=0) + len(name) + 1
    return [f"kubectl lull rollout {f'{word} {name}':<{wide}}  {does}" for word, does in words_on_it.items()]


def _age(since: str | None, now: str) -> str:
    if since is None:
        return words.UNKNOWN
    passed = datetime.fromisoformat(now) - datetime.fromisoformat(since)
    return words.seconds(max(1.0, round(passed.total_seconds())))


def _differed(revision: Revision) -> str:
    if not revision.compared:
        return words.UNKNOWN
    return f"{words.count(revision.differed or 0)}/{words.count(revision.compared)}"


COLUMNS: tuple[Column[Revision], ...] = (
    Column("revision", lambda r, _: r.name, lambda r: r.name, keep=99, figure=False),
    Column("state", lambda r, _: r.state, lambda r: r.state, keep=98, figure=False),
    Column("share", lambda r, _: f"{r.percent}%", lambda r: r.percent, keep=97),
    Column("ready", lambda r, _: "yes" if r.ready else "no", lambda r: r.ready, keep=96),
    Column("since", lambda r, now: _age(r.since, now), lambda r: r.since or "", keep=92),
    Column("requests", lambda r, _: words.count(r.requests), lambda r: r.requests or 0, keep=94),
    Column("failed", lambda r, _: words.count(r.failures), lambda r: r.failures or 0, keep=95),
    Column("p95", lambda r, _: words.seconds(r.p95_seconds), lambda r: r.p95_seconds or 0, keep=93),
    Column("differed", lambda r, _: _differed(r), lambda r: r.differed or 0, keep=91),
    Column("reason", lambda r, _: r.reason, lambda r: r.reason, keep=90, figure=False),
    Column("uri", lambda r, _: r.uri, lambda r: r.uri, keep=1, figure=False),
)
