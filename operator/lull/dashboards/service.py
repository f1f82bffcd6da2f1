"""One service: what it does, what it uses, what it costs and how it wakes."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from lull.dashboards import panels as p
from lull.dashboards.queries import (
    HOST,
    WINDOW,
    Query,
    increase,
    numbered,
    or_zero,
    rate,
    share,
    total,
    watt_hours,
)

UID = "lull-service"

_S = 'modelservice_namespace="$namespace", modelservice="$service"'
_REQUESTS, _DELAYED = f"lull_service_requests_total{{{_S}}}", f"lull_service_delayed_requests_total{{{_S}}}"
_USED = f"lull_service_energy_joules_total{{{_S}}}"
_ALWAYS_ON = f"lull_service_baseline_energy_joules_total{{{_S}}}"
_OVERHEAD = f"lull_service_overhead_energy_joules_total{{{_S}}}"
_SAVED = f"{increase(_ALWAYS_ON)} - {increase(_USED)} - {increase(_OVERHEAD)}"
_UNKNOWN = "Nothing is known of its power: give its pool power figures"
_NOBODY = "No request in this time, or asleep"
_PARTS = {"idle": "semi-dark-blue", "dynamic": "orange"}
_STATE = Query(numbered("lull_service_state", p.SERVICE_STATES, [], _S), "state")
_SHARE_OF_ALWAYS_ON = (
    "“Always on” is this service's share, by memory, of the fewest hosts that would hold all services of "
    "its pool, never let go. It is Modelled. Saved is what that draws more than the service itself and its "
    "share of what hosts draw for no model."
)


def dashboard() -> Dashboard:
    """Return the dashboard of one service."""
    return p.board(
        UID,
        "Lull / Service",
        "One model: is it awake, who uses it, how fast does it answer, and what does it cost?",
        [
            p.choice("namespace", "Namespace", "label_values(lull_service_info, modelservice_namespace)"),
            p.choice(
                "service",
                "Service",
                'label_values(lull_service_info{modelservice_namespace="$namespace"}, modelservice)',
            ),
        ],
        {
            "Now": [(panel, 4, 4) for panel in _now()],
            "State": [(_states(), 12, 6), (_placements(), 12, 6)],
            "Requests": [(_requests(), 8, 8), (_latency(), 8, 8), (_queue(), 8, 8)],
            "Use": [(_busy(), 8, 8), (_batches(), 8, 8), (_memory(), 8, 8)],
            "Energy": [(_power(), 8, 8), (_energy(), 8, 8), (_saved(), 8, 8)],
            "Sleeping and waking": [(_delayed(), 8, 8), (_wake(), 8, 8), (_wake_parts(), 8, 8)],
            "Where it is": [(_where(), 24, 5)],
        },
    )


def _now() -> list[p.Panel]:
    return [
        p.present_state(
            "State",
            "Asleep: no watts of its own, wakes on the next request. Waking: on its way, requests are "
            "held. Serving. Draining: leaving its host. Suspended: spec.suspend is true, requests get "
            "503.",
            p.SERVICE_STATES,
            _STATE,
        ),
        p.number(
            "Requests",
            "Requests per second that reach the model now.",
            p.PER_SECOND,
            Query(or_zero(rate(f"lull_model_requests_total{{{_S}}}")), "requests"),
        ),
        p.number(
            "Power",
            "Its part of its hosts' watts now: idle and dynamic together. Zero asleep. Measured or "
            "Modelled as its host's are.",
            p.WATTS,
            Query(f"max (lull_service_power_watts{{{_S}}})", "power"),
            empty="unknown",
        ),
        p.number(
            "Saved",
            f"Energy saved in the chosen time against always on. {_SHARE_OF_ALWAYS_ON}",
            p.WATT_HOURS,
            Query(watt_hours(_SAVED), "saved"),
            empty="unknown",
        ),
        p.number(
            "Delayed",
            "Share of requests in the chosen time that waited for a wake.",
            p.SHARE,
            Query(share(increase(_DELAYED), increase(_REQUESTS)), "delayed"),
        ),
        p.number(
            "Last wake",
            "How long the first request of its last wake waited.",
            p.SECONDS,
            Query(f"max (lull_service_wake_seconds{{{_S}}})", "last wake"),
            empty="none yet",
        ),
    ]


def _states() -> p.Panel:
    return p.timeline(
        "State over time",
        "When it slept and when it served. A fine comb of waking and sleeping: its idleAfter is shorter "
        "than the gaps between its requests; raise it, or leave it to Lull.",
        p.SERVICE_STATES,
        _STATE,
    )


def _placements() -> p.Panel:
    return p.timeline(
        "Its placements",
        "A row for each host that holds it. Failed says why in the service's conditions (kubectl describe "
        "msvc). No row while it is not in any host's memory.",
        p.PLACEMENT_STATES,
        Query(numbered("lull_placement_state", p.PLACEMENT_STATES, ["modelhost"], _S), "{{modelhost}}"),
        empty="On no host in this time: it slept",
    )


def _requests() -> p.Panel:
    return p.lines(
        "Requests and failures",
        "Requests per second that reached the model, those it failed (its own errors: see Triton's log on "
        "the host), and those that waited for a wake.",
        p.PER_SECOND,
        Query(or_zero(rate(f"lull_model_requests_total{{{_S}}}")), "requests"),
        Query(or_zero(rate(f"lull_model_failures_total{{{_S}}}")), "failures"),
        Query(or_zero(rate(_DELAYED)), "waited for a wake"),
    )


def _latency() -> p.Panel:
    return p.lines(
        "Latency at the model",
        "From Triton taking a request to its answer, of the last minute; the slowest replica. The wait "
        "for a wake is not in it, and is on the row about waking. Gaps: no requests.",
        p.SECONDS,
        Query(
            f"max by (quantile) (lull_model_latency_seconds{{{_S}}})",
            "quantile {{quantile}}",
        ),
        empty=_NOBODY,
    )


def _queue() -> p.Panel:
    waited = rate(f"lull_model_queue_seconds_total{{{_S}}}")
    asked = rate(f"lull_model_requests_total{{{_S}}}")
    return p.lines(
        "Time in the queue (mean)",
        "How long a request waits in Triton before it is computed. Gaps: no requests. Growing while the "
        "model is busy: it needs another replica, a larger batch, or a host with fewer neighbours.",
        p.SECONDS,
        Query(f"{waited} / ({asked} > 0)", "queue"),
        empty=_NOBODY,
    )


def _busy() -> p.Panel:
    return p.stacked(
        "Busy share, by host",
        "Share of the time that the model computes, for each host that holds it. Near 100 %: it is at its "
        "limit.",
        p.SHARE,
        Query(
            or_zero(rate(f"lull_model_busy_seconds_total{{{_S}}}", ["modelhost"]), modelhost="none"),
            "{{modelhost}}",
        ),
    )


def _batches() -> p.Panel:
    asked = rate(f"lull_model_requests_total{{{_S}}}")
    return p.lines(
        "Requests in a batch (mean)",
        "How many requests Triton computes at once. 1 under load: dynamic batching is off, or requests "
        "come one by one.",
        p.COUNT,
        Query(
            f"{asked} / ({rate(f'lull_model_batches_total{{{_S}}}')} > 0)",
            "batch size",
        ),
        empty=_NOBODY,
    )


def _memory() -> p.Panel:
    return p.stacked(
        "Memory, by host",
        "Accelerator memory that the model holds: measured on the host, or the artifact's estimate where "
        "nothing can measure it. Zero asleep.",
        p.BYTES,
        Query(
            or_zero(total(f"lull_model_memory_bytes{{{_S}}}", ["modelhost"]), modelhost="none"),
            "{{modelhost}}",
        ),
    )


def _power() -> p.Panel:
    def part(name: str) -> Query:
        drawn = total(f'lull_model_power_watts{{{_S}, part="{name}"}}')
        return Query(f"({drawn}) or on() (0 * max (lull_service_power_watts{{{_S}}}))", name)  # asleep: zero

    return p.stacked(
        "Power",
        "Idle: its share of what its hosts draw for being on. Dynamic: what its computing adds. Dashed: "
        f"always on. {_SHARE_OF_ALWAYS_ON}",
        p.WATTS,
        part("idle"),
        part("dynamic"),
        Query(rate(_ALWAYS_ON), "always on (Modelled)", over=True),
        colours=_PARTS,
        empty=_UNKNOWN,
    )


def _energy() -> p.Panel:
    return p.stacked(
        "Energy since it was created",
        "Watt-hours, idle and dynamic. The totals survive restarts of Lull. Flat: asleep.",
        p.WATT_HOURS,
        Query(watt_hours(f"max by (part) ({_USED})"), "{{part}}"),
        colours=_PARTS,
        empty=_UNKNOWN,
    )


def _saved() -> p.Panel:
    return p.signed(
        p.lines(
            "Energy saved since it was created",
            f"Falling: it uses more than always on would. {_SHARE_OF_ALWAYS_ON}",
            p.WATT_HOURS,
            Query(watt_hours(f"lull:service:saved_joules{{{_S}}}"), "saved"),
            empty=_UNKNOWN,
        )
    )


def _delayed() -> p.Panel:
    return p.lines(
        "Delayed requests, against its objective",
        "Share of requests that waited for a wake, over time; dashed, what spec.objective.delayedPercent "
        "allows. Above it for long: Lull should keep it longer; see status.next.",
        p.SHARE,
        Query(or_zero(f"max (lull:service:delayed_ratio:rate1h{{{_S}}})"), "delayed share, last hour"),
        Query(f"max (lull_service_objective_delayed_ratio{{{_S}}})", "objective", over=True),
    )


def _wake() -> p.Panel:
    return p.lines(
        "Its last wake",
        "How long its last wake took, and (dashed) how long a request may be held. Near the limit: "
        "clients get 503; raise spec.hold.timeout or shorten the largest part of a wake.",
        p.SECONDS,
        Query(f"max (lull_service_wake_seconds{{{_S}}})", "last wake"),
        Query(f"max (lull_service_hold_timeout_seconds{{{_S}}})", "hold.timeout", over=True),
        empty="It has not woken yet",
    )


def _wake_parts() -> p.Panel:
    return p.events(
        "Parts of a wake (mean of the whole fleet)",
        "Where wakes spend their time, of all services: parts are not kept for each one. load and fetch "
        "grow with the model; host is a pod or a node starting.",
        p.SECONDS,
        Query(
            f"sum by (part) (increase(lull_wake_part_seconds_sum[{WINDOW}])) / "
            f"sum by (part) (increase(lull_wake_part_seconds_count[{WINDOW}]))",
            "{{part}}",
        ),
        empty="No wake in this time",
    )


def _where() -> p.Panel:
    return p.rows(
        "Hosts that hold it now",
        "Click a host to see its neighbours there. Empty while it sleeps.",
        {"modelpool": "Pool", "modelhost": "Host"},
        total(f"lull_placement_state{{{_S}}}", HOST),
        (Query(total(f"lull_model_memory_bytes{{{_S}}}", HOST), "Memory"), p.BYTES),
        (Query(rate(f"lull_model_busy_seconds_total{{{_S}}}", HOST), "Busy"), p.SHARE),
        (Query(total(f"lull_model_power_watts{{{_S}}}", HOST), "Power"), p.WATTS),
        links={"modelhost": p.to("lull-host", pool="modelpool", host="modelhost")},
    )
