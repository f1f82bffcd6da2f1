"""The page of a simulation: what it says in a sentence, the figures, then the plots."""

from html import escape

from lull.cli import pages
from lull.cli.simulate import plots, runs
from lull.cli.simulate.told import COLUMNS, Told, assumptions, headline, number, ratio, row, share
from lull.simulate.outcome import Outcome


def html(told: Told) -> str:
    """Return the whole page."""
    lull = _lull(told)
    tiles = "".join(pages.tile(*said) for said in _tiles(*lull)) if lull else ""
    notes = "".join(f"<li>{escape(said)}</li>" for said in assumptions(told))
    body = f"""<h1>What each policy would keep, draw and delay</h1>
<p class="when">Simulated: {escape(headline(told))}</p>
<p class="lead">{escape(sentence(told))}</p>
<dl>{tiles}</dl>
{_table(told)}
<ul class="note">{notes}</ul>
{_plots(told)}"""
    return pages.page(f"simulation of {told.trace.name}", body)


def sentence(told: Told) -> str:
    """Say in a sentence or two how Lull stands beside the thriftiest of the others."""
    lull = _lull(told)
    if lull is None:
        return "Lull itself was not simulated (--policy lull)."
    run, outcome = lull
    said = (
        f"Lull, allowed to let {run.delayed_percent} % of the requests wait, would keep "
        f"{_kept_and_waited(outcome)}."
    )
    peers = [
        one for run, one in zip(told.runs, told.outcomes, strict=True) if run.policy not in runs.OBJECTIVE
    ]
    if not peers:
        return said
    least = min(peers, key=lambda one: one.host_hours)
    return f"{said} Of the others, {least.policy} would keep the fewest: {_kept_and_waited(least)}."


def _kept_and_waited(outcome: Outcome) -> str:
    kept, waited = number(outcome.host_hours), share(outcome.delayed_fraction)
    return f"{kept} GPU-hours, with {waited} of the requests waiting"


def _lull(told: Told) -> tuple[runs.Run, Outcome] | None:
    """Return the run of Lull that stands for it, and what came of it."""
    run = runs.headline(told.runs)
    return (run, told.outcomes[told.runs.index(run)]) if run else None


def _tiles(run: runs.Run, lull: Outcome) -> list[tuple[str, str, str]]:
    name = run.name.capitalize()
    p50, p99 = (row(lull)[COLUMNS.index(column)] for column in ("p50", "p99"))
    return [
        ("Requests", f"{lull.requests:,}", f"{lull.dropped:,} dropped"),
        (f"{name}: GPU-hours", number(lull.host_hours), f"{ratio(lull)} x the bound"),
        (f"{name}: delayed", share(lull.delayed_fraction), f"p50 {p50}, p99 {p99}"),
        (f"{name}: energy", f"~{number(lull.energy_wh / 1000)} kWh", f"{number(lull.node_hours)} node-hours"),
        (f"{name}: loads", f"{lull.loads:,}", f"{lull.moves:,} of them moves"),
    ]


def _table(told: Told) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in COLUMNS)
    rows = (
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row(one)) + "</tr>" for one in told.outcomes
    )
    return f'<div class="wide"><table><tr>{head}</tr>\n{chr(10).join(rows)}</table></div>'


def _plots(told: Told) -> str:
    gaps = plots.gaps(told)
    parts = [
        (
            "GPU-hours against waiting",
            plots.hosts_frontier(told),
            "Down and left is better; both axes run by factors of ten. Nothing can be below the dashed line.",
        ),
        (
            "Energy against waiting",
            plots.energy_frontier(told),
            "As above, nodes and all. Modelled. The dashed line lacks requests and loads.",
        ),
        (
            "What the energy is made of",
            plots.energy_parts(told),
            "Shares; what it sums up to stands beside.",
        ),
        (
            "Hosts kept and models that compute",
            plots.over_time(told),
            "Each row has a scale of its own.",
        ),
    ]
    if gaps:
        parts.append(
            (
                "How long models rest",
                gaps,
                "Most gaps are short, and most time is in the few long ones. Dotted: when peers let go.",
            )
        )
    return "\n".join(pages.section(*part) for part in parts)
