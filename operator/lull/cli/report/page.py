"""The page: the summary in words and numbers first, then the plots."""

from datetime import UTC, datetime
from html import escape

from lull.api.quantities import format_duration
from lull.cli import pages, words
from lull.cli.report import plots
from lull.cli.report.figures import ALL_COVERED, Report, Summary

BASELINE = (
    "The baseline is the careful one: the same services always on, packed by memory on the fewest hosts that "
    "hold them all, and the same computing on top. It is always modelled."
)


def html(report: Report) -> str:
    """Return the whole page."""
    when = _when(report)
    warnings = (f'<p class="note">Prometheus warns: {escape(one)}</p>' for one in report.warnings)
    body = f"""<h1>What {_whose(report)} used, and what Lull saved</h1>
<p class="when">{escape(when)}</p>
<p class="lead">{escape(sentence(report))}</p>
<dl>{"".join(pages.tile(*said) for said in _tiles(report))}</dl>
<p class="note">{escape(BASELINE)} {escape(_basis(report.summary))}</p>
{"".join(warnings)}
{_plots(report)}"""
    return pages.page(when, body)


def sentence(report: Report) -> str:
    """Say the period in two or three sentences."""
    told = report.summary
    if not told.covered_ratio:
        return (
            "Prometheus has no figures of Lull for this period. Look whether it scrapes lull-system and "
            "lull-hosts (its page of targets says so), and whether the period is the right one."
        )
    parts = []
    if told.covered_ratio < ALL_COVERED:
        parts.append(f"There are figures of {told.covered_ratio:.0%} of the period only; the rest is gaps.")
    parts.append(_energy_in_words(report))
    if told.requests:
        waited = "an unknown share" if told.delayed_ratio is None else _rare(told.delayed_ratio)
        parts.append(f"{told.requests:,.0f} requests were answered; {waited} of them waited for a wake.")
    else:
        parts.append("No request was answered.")
    return " ".join(parts)


def _energy_in_words(report: Report) -> str:
    told = report.summary
    if told.energy_joules is None:
        return "What it drew is unknown: its pools have neither a sensor nor spec.power."
    drawn = words.energy(told.energy_joules, _mark(told))
    if told.saved_joules is None or not told.baseline_joules:
        return f"{drawn} were drawn; there is no baseline to compare with."
    share = abs(told.saved_joules) / told.baseline_joules
    if share < 0.005:
        return f"{drawn} were drawn: as much as the same services would have always on."
    more = "less" if told.saved_joules >= 0 else "more"
    saved = words.saved(abs(told.saved_joules))
    return f"{drawn} were drawn: {saved} ({share:.0%}) {more} than the same services would have always on."


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    told = report.summary
    mark = _mark(told)
    per_request = told.carbon_grams / told.requests if told.carbon_grams and told.requests else None
    return [
        (
            "Energy",
            words.energy(told.energy_joules, mark),
            f"{words.watts(told.power_mean_watts, mark)} on average",
        ),
        (
            "Saved",
            words.saved(told.saved_joules),
            f"of {words.energy(told.baseline_joules, 'Modelled')}",
        ),
        ("Hosts kept", _number(told.hosts_mean, ".1f"), f"mean; {_number(told.hosts_max, '.0f')} at most"),
        (
            "Requests",
            _number(told.requests, ",.0f"),
            f"{_number(told.delayed_requests, ',.0f')} waited for a wake",
        ),
        (
            "Delayed",
            _rare(told.delayed_ratio),
            "share of the requests",
        ),
        ("Wakes", _number(told.wakes, ",.0f"), _wake_times(report)),
        (
            "CO₂e",
            words.grams(told.carbon_grams),
            f"~{per_request * 1000:.2g} mg a request" if per_request else "",
        ),
        (
            "Utilization",
            words.percent(told.memory_used_ratio),
            f"of the memory kept; {words.percent(told.busy_used_ratio)} of the time",
        ),
    ]


def _plots(report: Report) -> str:
    parts = (
        (
            "Hosts kept and services awake",
            plots.hosts(report),
            "What costs is the hosts kept, not the models on them.",
        ),
        (
            "Power by pool",
            plots.power(report),
            "The gap up to the dashed line is what Lull saved.",
        ),
        (
            "Energy by service",
            plots.services(report),
            _shown(len(report.services)),
        ),
        ("Requests", plots.requests(report), "Those that waited did so while their service woke."),
        ("Wakes", plots.wakes(report), "How long they took, by what they started from."),
        ("Utilization rate", plots.utilization(report), "Total use of total supply."),
    )
    return "\n".join(_section(title, svg, caption) for title, svg, caption in parts)


def _shown(services: int) -> str:
    if services <= plots.MOST_SERVICES:
        return "What no service is charged with is not in it."
    return f"The {plots.MOST_SERVICES} of {services} that drew most."


def _section(title: str, svg: str | None, caption: str) -> str:
    if svg is None:
        return f"<h2>{escape(title)}</h2>\n<p>There are no figures of this in the period.</p>"
    return pages.section(title, svg, caption)


def _basis(told: Summary) -> str:
    if told.measured_ratio is None:
        return "Whether the energy is measured or modelled is unknown: no host's counter says."
    return (
        f"{told.measured_ratio:.0%} of the hosts' energy was measured by a sensor and "
        f"{1 - told.measured_ratio:.0%} modelled (marked ~ where any of it is, as all savings and CO₂e are). "
        "CO₂e is that energy times the intensity and PUE that the pools configure."
    )


def _mark(told: Summary) -> str:
    return "Measured" if told.measured_ratio is not None and told.measured_ratio > 0.999 else "Modelled"


def _wake_times(report: Report) -> str:
    told = report.summary
    if report.pool:
        return "not told by pool"
    if told.wake_p50_seconds is None or told.wake_p99_seconds is None:
        return ""
    return f"p50 {format_duration(told.wake_p50_seconds)}, p99 {format_duration(told.wake_p99_seconds)}"


def _rare(ratio: float | None) -> str:
    """Return a share that is small as a rule."""
    if ratio is None:
        return words.UNKNOWN
    return "under 0.01%" if 0 < ratio < 0.0001 else f"{ratio:.2%}"


def _number(value: float | None, form: str) -> str:
    return words.UNKNOWN if value is None else format(value, form)


def _when(report: Report) -> str:
    since, until = (
        datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M")
        for second in (report.period.since_seconds, report.period.until_seconds)
    )
    return f"{since} to {until} UTC"


def _whose(report: Report) -> str:
    return f"pool {escape(report.pool)}" if report.pool else "the fleet"
