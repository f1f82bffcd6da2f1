"""One host: which models share it, how full and how busy it is, and where its watts go."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from lull.dashboards import panels as p
from lull.dashboards.queries import SERVICE, Query, numbered, or_zero, rate, total, watt_hours

UID = "lull-host"

_H = 'modelpool="$pool", modelhost="$host"'
_MODEL = "{{modelservice_namespace}}/{{modelservice}}"
_CAPACITY = f"max (lull_host_memory_bytes{{{_H}}})"
_WATTS = f"lull_host_power_watts{{{_H}}}"
_EMPTY = "No model on this host in this time"


def dashboard() -> Dashboard:
    """Return the dashboard of one host."""
    return p.board(
        UID,
        "Lull / Host",
        "One host (a Triton pod and its GPU): what is packed on it, who is busy, and where its watts go.",
        [
            p.choice("pool", "Pool", "label_values(lull_host_memory_bytes, modelpool)"),
            p.choice("host", "Host", 'label_values(lull_host_memory_bytes{modelpool="$pool"}, modelhost)'),
        ],
        {
            "Now": [(panel, 4, 4) for panel in _now()],
            "The packing": [(_memory(), 12, 9), (_busy(), 12, 9)],
            "Energy": [(_power(), 12, 9), (_energy(), 12, 9)],
            "States": [(_states(), 12, 8), (_residual(), 12, 8)],
            "Its models": [(_models(), 24, 8)],
        },
    )


def _now() -> list[p.Panel]:
    used = f"sum (lull_host_memory_used_bytes{{{_H}}})"
    return [
        p.named_number(
            "Power",
            "What the host draws with its share of the node's watts, which is configured. Measured: by "
            "its GPU's own sensor. Modelled: by the pool's power figures and how busy it is.",
            p.WATTS,
            Query(total(_WATTS, ["basis"]), "{{basis}}"),
            empty="unknown",
        ),
        p.number(
            "Unallocated",
            "Watts that no model is charged with: the share of its free memory. Much: fewer, fuller hosts "
            "would do.",
            p.WATTS,
            Query(f"sum (lull_host_unallocated_power_watts{{{_H}}})", "unallocated"),
            empty="unknown",
        ),
        p.number(
            "Memory used",
            "Share of the host's accelerator memory in use. Full is good: nothing kept is unused.",
            p.SHARE,
            Query(or_zero(f"{used} / {_CAPACITY}"), "memory"),
        ),
        p.number(
            "Busy",
            "Share of the time that its models compute, together. Above 80 % for long: too many busy "
            "models share it.",
            p.SHARE,
            Query(or_zero(f"sum (lull_host_busy_ratio{{{_H}}})"), "busy"),
        ),
        p.number(
            "Models",
            "Models that the host holds or is fetching.",
            p.COUNT,
            Query(or_zero(f"count (lull_placement_state{{{_H}}})"), "models"),
        ),
        p.number(
            "Triton",
            "1: Triton answers. 0: it does not; its container restarts by itself, and its log says why.",
            p.COUNT,
            Query(or_zero(f"max (lull_host_triton_up{{{_H}}})"), "up"),
        ),
    ]


def _memory() -> p.Panel:
    return p.stacked(
        "Memory by model",
        "The packing: each model's memory, against what the host has (dashed). The gap is room for more; "
        "what the device uses beside it is the residual below.",
        p.BYTES,
        Query(total(f"lull_model_memory_bytes{{{_H}}}", SERVICE), _MODEL),
        Query(_CAPACITY, "capacity", over=True),
    )


def _busy() -> p.Panel:
    return p.stacked(
        "Busy share by model",
        "Who computes. The sum near 100 %: its models wait for each other; Lull spreads them when it sees "
        "that. Dashed: the device's own utilization, where it has a sensor.",
        p.SHARE,
        Query(rate(f"lull_model_busy_seconds_total{{{_H}}}", SERVICE), _MODEL),
        Query(f"max (lull_host_accelerator_utilization_ratio{{{_H}}})", "device's sensor", over=True),
    )


def _power() -> p.Panel:
    return p.stacked(
        "Power by model",
        "Each model's part of the host's watts, and what no model is charged with: free memory's share. "
        "The parts sum to the host's own (dashed), whose name says if it is Measured or Modelled.",
        p.WATTS,
        Query(total(f"lull_model_power_watts{{{_H}}}", SERVICE), _MODEL),
        Query(total(f"lull_host_unallocated_power_watts{{{_H}}}"), "unallocated"),
        Query(total(_WATTS, ["basis"]), "the host ({{basis}})", over=True),
        empty="Nothing is known of this host's power: give its pool power figures",
    )


def _energy() -> p.Panel:
    return p.lines(
        "Energy since the host came",
        "Watt-hours of the host, and of it what no model is charged with. Much unallocated: the host is "
        "kept for little; fewer, fuller hosts would do.",
        p.WATT_HOURS,
        Query(watt_hours(total(f"lull_host_energy_joules_total{{{_H}}}", ["basis"])), "the host ({{basis}})"),
        Query(watt_hours(total(f"lull_host_unallocated_energy_joules_total{{{_H}}}")), "unallocated"),
        empty="Nothing is known of this host's power: give its pool power figures",
    )


def _states() -> p.Panel:
    return p.timeline(
        "Its models' states",
        "A row for each model. Fetching and Loading are a wake; Failed says why in the service's conditions.",
        p.PLACEMENT_STATES,
        Query(numbered("lull_placement_state", p.PLACEMENT_STATES, SERVICE, _H), _MODEL),
        empty=_EMPTY,
    )


def _residual() -> p.Panel:
    return p.lines(
        "Memory that no model accounts for",
        "Used on the device, less what its models hold: contexts, workspaces, and what was not given "
        "back. Growing with each load: a leak; let the host go (delete its Pod) at a quiet time.",
        p.BYTES,
        Query(f"sum (lull_host_memory_residual_bytes{{{_H}}})", "residual"),
        empty="Nothing measures it: this host has no GPU",
    )


def _models() -> p.Panel:
    return p.rows(
        "Models on this host now",
        "Click a service to see it. Idle watts are its share of what the host draws for being on.",
        {"modelservice_namespace": "Namespace", "modelservice": "Service", "state": "State"},
        total(f"lull_placement_state{{{_H}}}", (*SERVICE, "state")),
        (Query(total(f"lull_model_memory_bytes{{{_H}}}", SERVICE), "Memory"), p.BYTES),
        (Query(rate(f"lull_model_requests_total{{{_H}}}", SERVICE), "Requests"), p.PER_SECOND),
        (Query(rate(f"lull_model_busy_seconds_total{{{_H}}}", SERVICE), "Busy"), p.SHARE),
        (Query(total(f'lull_model_power_watts{{{_H}, part="idle"}}', SERVICE), "Idle"), p.WATTS),
        (Query(total(f'lull_model_power_watts{{{_H}, part="dynamic"}}', SERVICE), "Dynamic"), p.WATTS),
        links={
            "modelservice": p.to("lull-service", namespace="modelservice_namespace", service="modelservice")
        },
    )
