"""What came of a simulation, in words, as a table and as JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from lull.api.names import DELAYED_SECONDS
from lull.api.quantities import format_bytes, format_duration
from lull.cli.simulate.runs import OBJECTIVE, Run
from lull.policy.prices import LOAD_BUSY
from lull.simulate.outcome import Outcome
from lull.simulate.policies import FIXED
from lull.simulate.record import HOP_SECONDS
from lull.simulate.setting import HOLD_SECONDS, Setting
from lull.simulate.trace import Trace

KEYS = (
    "requests",
    "delayed",
    "delayed_fraction",
    "delay_seconds",
    "dropped",
    "host_hours",
    "node_hours",
    "idle_wh",
    "context_wh",
    "dynamic_wh",
    "load_wh",
    "energy_wh",
    "moves",
    "loads",
    "lower_bound_host_hours",
)
COLUMNS = ("policy", "GPU-hours", "node-hours", "kWh", "delayed", "p50", "p99", "dropped", "x bound")
PEERS = (
    "lull is the planner that the controller runs; the others are models of their documented defaults, "
    "with the exceptions named in lull/simulate/peers: ModelMesh's second copies are left out, and Seldon "
    "overcommits as far as it has to. How many hosts these two keep is our choice (--fixed-hosts)."
)
SHARING = (
    "For all of them: models on one GPU never slow each other down, a model computes all its requests at one "
    "time as one batch, nothing fails, and there are always enough hosts. That favours who shares and scales."
)
MOMENTS = (
    "For all of them: a node that is off starts within its host's start, and what is let go ends at once. "
    "lull's planner knows of gateways and agents as late as the controller does: a write takes "
    f"{HOP_SECONDS:g} s (assumed; `make bench` measures it), counts of requests travel with what is written "
    "anyway."
)
BOUND = (
    "clairvoyant is no run: no policy can go below its figures. x bound: GPU-hours over that bound, with as "
    "many requests delayed."
)


@dataclass(frozen=True)
class Told:
    """All of one simulation.

    Attributes:
        gpu: the product's name.
        runs: what was run, and `outcomes` what came of each.
        bound: perfect foresight at several shares of delayed requests.
    """

    trace: Trace
    setting: Setting
    gpu: str
    runs: Sequence[Run]
    outcomes: Sequence[Outcome]
    bound: Sequence[Outcome] = ()


def document(told: Told) -> dict[str, Any]:
    """Return it as JSON has it."""
    trace, setting, power = told.trace, told.setting, told.setting.power
    return {
        "trace": {
            "name": trace.name,
            "requests": len(trace),
            "models": len(trace.models),
            "tenants": tenants(trace),
            "length_seconds": trace.length_seconds,
            "about": trace.about,
        },
        "setting": {
            "gpu": told.gpu,
            "gpu_memory_bytes": setting.gpu_memory_bytes,
            "load_seconds": setting.load_seconds,
            "host_start_seconds": setting.host_start_seconds,
            "gpus_per_node": setting.gpus_per_node,
            "nodes": setting.nodes,
            "idle_watts": power.idle_watts,
            "context_watts": power.context_watts,
            "max_watts": power.max_watts,
            "node_watts": power.node_watts,
            "delayed_percent": _each(run.delayed_percent for run in told.runs if run.policy in OBJECTIVE),
            "fixed_hosts": _each(run.setting.fixed_hosts for run in told.runs if run.policy in FIXED),
            "seed": setting.seed,
        },
        "assumptions": assumptions(told),
        "policies": {one.policy: figures(one) for one in told.outcomes},
    }


def figures(outcome: Outcome) -> dict[str, Any]:
    """Return a policy's figures by their keys."""
    delays = outcome.delay_seconds
    return {key: getattr(outcome, key) for key in KEYS} | {"delay_seconds": delays and asdict(delays)}


def row(outcome: Outcome) -> tuple[str, ...]:
    """Return a policy's line, one cell for each of COLUMNS."""
    delays = outcome.delay_seconds if outcome.delayed else None
    return (
        outcome.policy,
        number(outcome.host_hours),
        number(outcome.node_hours),
        number(outcome.energy_wh / 1000),
        share(outcome.delayed_fraction),
        format_duration(delays.p50) if delays else "–",
        format_duration(delays.p99) if delays else "–",
        f"{outcome.dropped:,}" if outcome.dropped else "–",
        ratio(outcome),
    )


def show(console: Console, told: Told) -> None:
    """Print the table, above it what was simulated, below it what is assumed."""
    console.print(headline(told), highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for at, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if at else "left", no_wrap=True)
    for outcome in told.outcomes:
        table.add_row(*row(outcome))
    console.print(table)
    for said in assumptions(told):
        console.print(said, style="dim", highlight=False)


def headline(told: Told) -> str:
    """Say what was simulated, on what."""
    trace, setting = told.trace, told.setting
    several = tenants(trace)
    whose = f" of {several} tenants" if several > 1 else ""
    return (
        f"{trace.name}: {len(trace):,} requests of {len(trace.models)} models{whose} in "
        f"{length(trace.length_seconds)}, on GPUs of {format_bytes(setting.gpu_memory_bytes)} ({told.gpu})."
    )


def assumptions(told: Told) -> list[str]:
    """Say what is modelled or assumed, a sentence or two an item."""
    about = [told.trace.about] if told.trace.about else []
    return [*about, _machine(told.setting), _energy(told.setting), SHARING, MOMENTS, PEERS, BOUND]


def tenants(trace: Trace) -> int:
    """Return how many there are."""
    return len({model.tenant for model in trace.models})


def ratio(outcome: Outcome) -> str:
    """Return the host-hours over the lower bound."""
    bound = outcome.lower_bound_host_hours
    return f"{outcome.host_hours / bound:.2f}" if bound else "–"


def share(value: float) -> str:
    """Return a share that is small as a rule, in percent."""
    return "<0.01%" if 0 < value < 0.0001 else f"{value:.2%}"


def number(value: float) -> str:
    """Return a number with the digits that matter."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:#.3g}"


def length(seconds: float) -> str:
    """Return a time in days where it is some, else as a duration."""
    return f"{seconds / 86_400:.3g} days" if seconds >= 2 * 86_400 else format_duration(seconds)


def _each(values: Iterable[int]) -> list[int]:
    return list(dict.fromkeys(values))


def _machine(setting: Setting) -> str:
    return (
        f"Assumed: loads take {setting.load_seconds:g} s, hosts start in {setting.host_start_seconds:g} s; "
        f"{setting.gpus_per_node} GPUs a node, nodes {setting.nodes}. Delayed: waits over "
        f"{DELAYED_SECONDS:g} s for its model; dropped: waits over {HOLD_SECONDS:g} s."
    )


def _energy(setting: Setting) -> str:
    power = setting.power
    node = (
        f"{power.node_watts:g} W a node"
        if power.node_watts
        else "nothing for nodes themselves (--node-watts)"
    )
    return (
        f"Energy is modelled: a GPU draws {power.idle_watts:g} W idle, {power.context_watts:g} W more once a "
        f"process holds it, {power.max_watts:g} W computing; a load keeps it {LOAD_BUSY:.0%} busy; {node}."
    )
