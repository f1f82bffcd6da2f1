"""Figures as people read them. What is modelled and not measured carries a `~`."""

from datetime import datetime

from lull.api.quantities import format_bytes, format_duration
from lull.cli.top.figures import MODELLED, Next

UNKNOWN = "–"
LEGEND = "~ modelled, not measured by a sensor"
_STEPS = "▁▂▃▄▅▆▇█"


def watts(value: float | None, basis: str | None) -> str:
    """Return a draw, such as `122 W`, `~48 W` or `1.20 kW`."""
    if value is None:
        return UNKNOWN
    mark = "~" if basis in MODELLED and value else ""
    return f"{mark}{_scaled(value, ('W', 'kW', 'MW'))}"


def energy(joules: float | None, basis: str | None) -> str:
    """Return energy in watt-hours, such as `~1.20 kWh`; a loss is below zero."""
    if joules is None:
        return UNKNOWN
    mark = "~" if basis in MODELLED else ""
    sign = "−" if joules <= -1800 else ""  # half a watt-hour: less is shown as 0
    return f"{mark}{sign}{_scaled(abs(joules) / 3600, ('Wh', 'kWh', 'MWh'))}"


def saved(joules: float | None) -> str:
    """Return energy saved, such as `~1.20 kWh`: its baseline is modelled, whatever the draw's basis."""
    return energy(joules, "Modelled")


def grams(value: float | None) -> str:
    """Return a mass of CO2 equivalent, such as `~12 g CO₂e`: its intensity and PUE are configured."""
    return UNKNOWN if value is None else f"~{_scaled(value, ('g', 'kg', 't'))} CO₂e"


def percent(ratio: float | None) -> str:
    """Return a ratio in percent."""
    return UNKNOWN if ratio is None else f"{ratio:.0%}"


def count(value: int | None) -> str:
    """Return a number with thousands apart."""
    return UNKNOWN if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """Return a duration, such as `12ms`."""
    return UNKNOWN if value is None else format_duration(value)


def memory(size_bytes: int | None) -> str:
    """Return memory, such as `1.5Gi`; what is not loaded takes none."""
    return format_bytes(size_bytes) if size_bytes else UNKNOWN


def next_step(step: Next | None, now: str) -> str:
    """Return what happens next: with the time left where time decides, else with its reason."""
    if step is None:
        return UNKNOWN
    if step.time:
        left = datetime.fromisoformat(step.time) - datetime.fromisoformat(now)
        return f"{step.action.lower()} in {format_duration(max(0.0, left.total_seconds()))}"
    return f"{step.action.lower()}: {step.reason}" if step.reason else step.action.lower()


def sparkline(values: list[float], width: int) -> str:
    """Return the newest `width` values as bars from zero to the greatest of them; zero is blank."""
    shown = values[-width:]
    top = max(shown, default=0.0)
    bars = (_STEPS[min(7, int(8 * value / top))] if value > 0 else " " for value in shown)
    return "".join(bars).rjust(width)


def _scaled(value: float, units: tuple[str, str, str]) -> str:
    """Return a number of at most three digits in the unit that allows it."""
    if value < 999.5:
        return f"{value:.0f} {units[0]}" if value >= 9.95 or value < 0.05 else f"{value:.1f} {units[0]}"
    if value < 999_500:
        return f"{value / 1e3:.3g} {units[1]}"
    return f"{value / 1e6:,.3g} {units[2]}" if value < 1e9 else f"{value / 1e6:,.0f} {units[2]}"
