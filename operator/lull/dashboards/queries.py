"""PromQL that more than one dashboard asks in the same words.

A sleeping fleet has no requests and no placements, so their series are missing, and a panel would say
"No data" where the truth is zero: `or_zero` says zero. It is for counts and rates of requests only; a latency
that nobody has measured, or a draw that nobody knows, is left out, for no number would be true.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SERVICE = ("modelservice_namespace", "modelservice")
HOST = ("modelpool", "modelhost")
WINDOW = "$__rate_interval"
RANGE = "$__range"


@dataclass(frozen=True)
class Query:
    """One question to Prometheus, and what its answer is called.

    Attributes:
        expr: PromQL, with Grafana's variables.
        legend: The name of each series, with `{{label}}` where a label tells them apart.
        over: True: a dashed line over what the panel stacks, not part of the stack.
    """

    expr: str
    legend: str
    over: bool = False


def or_zero(expr: str, **labels: str) -> str:
    """Return `expr`, or where it has no series at all, zero under `labels`."""
    zero = "vector(0)"
    for label, value in labels.items():
        zero = f'label_replace({zero}, "{label}", "{value}", "", "")'
    return f"({expr}) or on() {zero}"


def rate(counter: str, by: Sequence[str] = (), window: str = WINDOW) -> str:
    """Return a counter's increase per second, summed over all labels but `by`."""
    return f"{_sum(by)} (rate({counter}[{window}]))"


def increase(counter: str, by: Sequence[str] = (), window: str = RANGE) -> str:
    """Return a counter's increase in `window`, summed over all labels but `by`."""
    return f"{_sum(by)} (increase({counter}[{window}]))"


def total(gauge: str, by: Sequence[str] = ()) -> str:
    """Return a gauge summed over all labels but `by`."""
    return f"{_sum(by)} ({gauge})"


def once(gauge: str, labels: Sequence[str], by: Sequence[str] = ()) -> str:
    """Return a gauge of the controller, by all its `labels`, summed over them but `by`.

    A controller that has just ended is told of for some seconds beside its successor, and counts once.
    """
    each = f"max by ({', '.join(labels)}) ({gauge})"
    return each if set(by) == set(labels) else f"{_sum(by)} ({each})"


def watt_hours(joules: str) -> str:
    """Return joules as watt-hours: 1 Wh is 3600 J."""
    return f"({joules}) / 3600"


def share(part: str, whole: str) -> str:
    """Return `part / whole` in 0…1, and 0 where there is nothing to share.

    The two are counted in different places and arrive some seconds apart, hence the upper bound.
    """
    return f"clamp_max(({part}) / (({whole}) > 0), 1) or on() vector(0)"


def numbered(metric: str, values: Mapping[str, object], by: Sequence[str], selector: str) -> str:
    """Return a series per `by` whose value is the number of its state, from 1 in the order of `values`.

    Args:
        metric: A metric that is 1 for the present state, with the state in its label `state`.
        values: The states, in the order of their numbers.
        by: The labels of a series; none for one series.
        selector: More label matchers.
    """
    states = " or ".join(
        f'{number} * ({metric}{{{selector}, state="{state}"}} == 1)' for number, state in enumerate(values, 1)
    )
    return f"max by ({', '.join(by)}) ({states})"


def _sum(by: Sequence[str]) -> str:
    return f"sum by ({', '.join(by)})" if by else "sum"
