"""The fleet: what is kept, what it draws, what Lull saves, and what that costs in waiting."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from lull.dashboards import panels as p
from lull.dashboards.queries import (
    HOST,
    SERVICE,
    WINDOW,
    Query,
    increase,
    once,
    or_zero,
    rate,
    share,
    total,
    watt_hours,
)

UID = "lull-fleet"

_USED, _ALWAYS_ON = "lull_pool_energy_joules_total", "lull_pool_baseline_energy_joules_total"
_REQUESTS, _DELAYED = "lull_service_requests_total", "lull_service_delayed_requests_total"
_POWER = "lull:pool:power_watts"
_REFUSED = 'lull_api_requests_total{code=~"4..|5.."}'
_WRITES = 'lull_api_requests_total{verb=~"create|update|patch|delete"}'
_SLEEPING = "Asleep|Suspended"
_BY_STATE, _PACKING = ("modelpool", "state"), ("modelpool", "packing")
_RESOURCE, _KIND = ("modelpool", "resource"), ("modelpool", "kind")
_HOSTS_KEPT = once("lull_hosts", _BY_STATE)
_UNKNOWN = "Nothing is known of what hosts draw: give pools power figures"
_ALWAYS_ON_MEANS = (
    "“Always on” is a careful comparison, and Modelled: the same services packed on the fewest hosts that "
    "hold them all, never let go."
)
_BASIS = (
    "Whether a host's watts are Measured (the GPU's sensor) or Modelled (the pool's power figures) is on "
    "the host dashboard; a node's share is always Modelled."
)


def dashboard() -> Dashboard:
    """Return the dashboard of the whole fleet."""
    return p.board(
        UID,
        "Lull / Fleet",
        "What the fleet keeps powered, what Lull saves by letting hosts go, and how many requests wait "
        "for it.",
        [],
        {
            "Now": [(panel, 4, 4) for panel in _now()],
            "Energy": [(_power(), 12, 8), (_kept(), 12, 8), (_saved(), 12, 8), (_carbon(), 12, 8)],
            "What saving costs": [(_frontier(), 8, 9), (_delayed_over_time(), 16, 9)],
            "Use of what is kept": [(_utilization(), 8, 8), (_memory(), 8, 8), (_states(), 8, 8)],
            "Wakes": [(_wakes(), 8, 8), (_wake_time(), 8, 8), (_wake_parts(), 8, 8)],
            "What Lull does": [(_evictions(), 8, 8), (_moves(), 8, 8), (_fences(), 8, 8)],
            "Which ones": [(_pools(), 24, 5), (_services(), 24, 10), (_hosts(), 24, 7)],
            "The controller": [(_planning(), 8, 7), (_writes(), 8, 7), (_stuck(), 8, 7)],
        },
    )


def _now() -> list[p.Panel]:
    saved = f"{increase(_ALWAYS_ON)} - {increase(_USED)}"
    return [
        p.number(
            "Power",
            f"What all kept hosts draw now. {_BASIS}",
            p.WATTS,
            Query(total(_POWER), "power"),
            empty="unknown",
        ),
        p.number(
            "Hosts kept",
            "Hosts (GPUs) that are powered now, whatever they do. Zero is fine: everything sleeps.",
            p.COUNT,
            Query(or_zero(_HOSTS_KEPT), "hosts"),
        ),
        p.number(
            "Services awake",
            "Services that can answer at once or are on their way. The others wake on their next request.",
            p.COUNT,
            Query(or_zero(once(f'lull_services{{state!~"{_SLEEPING}"}}', ["state"])), "awake"),
        ),
        p.number(
            "Saved",
            f"Energy saved in the chosen time, against always on. {_ALWAYS_ON_MEANS} Below zero: the fleet "
            "used more than that, so its services are too busy, or packed too loosely, for letting go to "
            "pay.",
            p.WATT_HOURS,
            Query(watt_hours(saved), "saved"),
            empty="unknown",
        ),
        p.number(
            "Carbon",
            "Grams of CO2e in the chosen time: energy × the grid's intensity × PUE, both from the pool's "
            "spec, and therefore Modelled. Pools that name no intensity are not in it.",
            p.GRAMS,
            Query(increase("lull_pool_carbon_grams_total"), "gCO2e"),
            empty="unknown",
        ),
        p.number(
            "Delayed",
            "Share of requests in the chosen time that waited for a wake. Above a service's objective: "
            "raise its idleAfter, or give it a schedule.",
            p.SHARE,
            Query(share(increase(_DELAYED), increase(_REQUESTS)), "delayed"),
        ),
    ]


def _power() -> p.Panel:
    return p.stacked(
        "Power by pool",
        f"What each pool's hosts draw, and (dashed) what the same services would draw always on. {_BASIS} "
        f"{_ALWAYS_ON_MEANS}",
        p.WATTS,
        Query(total(_POWER, ["modelpool"]), "{{modelpool}}"),
        Query(total("lull:fleet:baseline_power_watts"), "all pools, always on (Modelled)", over=True),
        empty=_UNKNOWN,
    )


def _kept() -> p.Panel:
    busy = f"count ({rate('lull_model_busy_seconds_total', SERVICE)} > 0)"
    return p.stacked(
        "Hosts kept, and busy models",
        "Hosts by what they do, and (dashed) how many models computed anything. Hosts that stay idle for "
        "long while no model is busy cost watts for nothing: see idleAfter and minimums of the pool.",
        p.COUNT,
        Query(or_zero(once("lull_hosts", _BY_STATE, ["state"]), state="serving"), "{{state}}"),
        Query(or_zero(busy), "busy models", over=True),
        colours=p.HOST_STATES,
    )


def _saved() -> p.Panel:
    by_pool = f"{rate(_ALWAYS_ON, ['modelpool'])} - {rate(_USED, ['modelpool'])}"
    return p.signed(
        p.lines(
            "Watts saved by pool",
            "Watts of always on, less the watts drawn; its area is the energy saved. Below zero while "
            f"services wake or hosts are kept for them. {_ALWAYS_ON_MEANS}",
            p.WATTS,
            Query(by_pool, "{{modelpool}}"),
            empty=_UNKNOWN,
        )
    )


def _carbon() -> p.Panel:
    return p.lines(
        "CO2e per request",
        "Present: at the present utilization. Perfect: the same requests on hosts packed without a gap. A "
        "wide gap means room to pack better: larger hosts, or services that share them. Modelled where "
        "the watts are.",
        p.GRAMS,
        Query(
            once("lull_pool_carbon_grams_per_request", _PACKING, _PACKING),
            "{{modelpool}}, {{packing}}",
        ),
        empty="No pool names a carbon intensity, or nothing was asked yet",
    )


def _frontier() -> p.Panel:
    return p.frontier(
        "The frontier: delayed requests against power",
        "A dot per time step. Down and to the left is better: few watts, few requests that wait. Settings "
        "that keep models longer move dots down and to the right; compare two settings over two times.",
        (Query(f"sum (avg_over_time({_POWER}[{WINDOW}]))", "power"), p.WATTS),
        (Query(share(rate(_DELAYED), rate(_REQUESTS)), "delayed share"), p.SHARE),
    )


def _delayed_over_time() -> p.Panel:
    panel = p.lines(
        "Delayed requests, and hosts kept for the others",
        "Left: share of the last hour's requests that waited for a wake, 0 while nobody asks. Right "
        "(dashed): hosts kept. The two trade against each other.",
        p.SHARE,
        Query(or_zero(total("lull:fleet:delayed_ratio:rate1h")), "delayed share, last hour"),
        Query(or_zero(_HOSTS_KEPT), "hosts kept", over=True),
    )
    return p.second_axis(panel, "B", p.COUNT)


def _utilization() -> p.Panel:
    return p.lines(
        "Resource utilization rate",
        "Consumption over supply of what is kept: memory used of memory kept, and busy time of time kept. "
        "Low for hours: hosts are kept for little; look at which services hold them.",
        p.SHARE,
        Query(once("lull_pool_utilization_ratio", _RESOURCE, _RESOURCE), "{{modelpool}}, {{resource}}"),
    )


def _memory() -> p.Panel:
    return p.lines(
        "Model memory",
        "Accelerator memory that the kept hosts offer, and what models use of it.",
        p.BYTES,
        Query(once("lull_pool_memory_bytes", _KIND, _KIND), "{{modelpool}}, {{kind}}"),
    )


def _states() -> p.Panel:
    return p.stacked(
        "Services by state",
        "How many services are asleep, waking, serving, draining or suspended. Many waking for minutes: "
        "see the wakes below, and each service's conditions.",
        p.COUNT,
        Query(once("lull_services", ["state"], ["state"]), "{{state}}"),
        colours=p.SERVICE_STATES,
    )


def _wakes() -> p.Panel:
    return p.events(
        "Wakes per minute, by what they started from",
        "Loaded: still in memory. Host: a host had room. NewHost: a pod had to start. Many wakes from new "
        "hosts: services come and go faster than hosts should; raise idleAfter.",
        p.PER_MINUTE,
        Query(f"60 * {rate('lull_wake_seconds_count', ['source'])}", "{{source}}"),
        Query(
            f"60 * ({or_zero(rate('lull_wake_failures_total', ['reason']), reason='none')})",
            "failed: {{reason}}",
            over=True,
        ),
    )


def _wake_time() -> p.Panel:
    return p.lines(
        "Time to wake (of the last hour)",
        "How long the first request waits, by what the wake started from. Gaps: no wake then. Compare "
        "with the services' hold.timeout: a request that waits longer is answered 503.",
        p.SECONDS,
        Query("lull:fleet:wake_seconds:p50_1h", "p50, {{source}}"),
        Query("lull:fleet:wake_seconds:p99_1h", "p99, {{source}}"),
        empty="No wake in this time",
    )


def _wake_parts() -> p.Panel:
    parts = (
        f"{rate('lull_wake_part_seconds_sum', ['part'])} / {rate('lull_wake_part_seconds_count', ['part'])}"
    )
    return p.events(
        "Parts of a wake (mean)",
        "Where a wake's time goes. write: the decision written. host: waiting for a pod. fetch: bytes of "
        "the artifact. load: Triton. report: the news back. The largest part is the one to shorten. Gaps: "
        "no wake then.",
        p.SECONDS,
        Query(parts, "{{part}}"),
        empty="No wake in this time",
    )


def _evictions() -> p.Panel:
    return p.events(
        "Models let go per minute",
        "Evictions by their reason, and services that fell asleep (dashed). Evictions for memory mean "
        "that the hosts are full: more or larger hosts wake less often.",
        p.PER_MINUTE,
        Query(
            f"60 * ({or_zero(rate('lull_evictions_total', ['reason']), reason='none')})",
            "evicted: {{reason}}",
        ),
        Query(f"60 * ({or_zero(rate('lull_sleeps_total'))})", "fell asleep", over=True),
    )


def _moves() -> p.Panel:
    return p.events(
        "Moves per minute",
        "Models moved to another host, by reason: the new one is ready before the old one drains, so no "
        "request waits. Many moves for hours: report it, packing should come to rest.",
        p.PER_MINUTE,
        Query(f"60 * ({or_zero(rate('lull_moves_total', ['reason']), reason='none')})", "{{reason}}"),
    )


def _fences() -> p.Panel:
    return p.lines(
        "Fences",
        "A fence waits until every gateway has left a model, before it is unloaded. Open for more than "
        "some seconds: a gateway does not answer; its Pod says why.",
        p.COUNT,
        Query(or_zero("max (lull_fences_open)"), "open"),
        Query(
            f"60 * ({or_zero(rate('lull_fences_total', ['outcome']), outcome='passed')})",
            "{{outcome}} per minute",
        ),
    )


def _pools() -> p.Panel:
    pool = ["modelpool"]
    used, always_on = increase(_USED, pool), increase(_ALWAYS_ON, pool)
    return p.rows(
        "Pools, in the chosen time",
        f"Energy of each pool, beside always on. {_ALWAYS_ON_MEANS}",
        {"modelpool": "Pool"},
        total(_POWER, pool),
        (Query(total(_POWER, pool), "Power now"), p.WATTS),
        (Query(watt_hours(used), "Used"), p.WATT_HOURS),
        (Query(watt_hours(always_on), "Always on (Modelled)"), p.WATT_HOURS),
        (Query(watt_hours(f"{always_on} - {used}"), "Saved"), p.WATT_HOURS),
        (Query(increase("lull_pool_carbon_grams_total", pool), "CO2e"), p.GRAMS),
        links={"modelpool": p.to("lull-host", pool="modelpool")},
    )


def _services() -> p.Panel:
    used = increase("lull_service_energy_joules_total", SERVICE)
    always_on = increase("lull_service_baseline_energy_joules_total", SERVICE)
    overhead = increase("lull_service_overhead_energy_joules_total", SERVICE)
    return p.rows(
        "Services, in the chosen time",
        "Every service, asleep ones too: click one to see what it does. A service with many watt-hours "
        "and few requests is the one to look at. Saved is Modelled: always on, less what it used and its "
        "part, by memory, of what hosts drew for no model.",
        {"modelservice_namespace": "Namespace", "modelservice": "Service", "state": "State"},
        once("lull_service_state", (*SERVICE, "state"), (*SERVICE, "state")),
        (Query(increase(_REQUESTS, SERVICE), "Requests"), p.COUNT),
        (Query(increase(_DELAYED, SERVICE), "Delayed"), p.COUNT),
        (Query(once("lull_service_power_watts", SERVICE, SERVICE), "Power now"), p.WATTS),
        (Query(watt_hours(used), "Used"), p.WATT_HOURS),
        (Query(watt_hours(f"{always_on} - {used} - {overhead}"), "Saved"), p.WATT_HOURS),
        links={
            "modelservice": p.to("lull-service", namespace="modelservice_namespace", service="modelservice")
        },
    )


def _hosts() -> p.Panel:
    return p.rows(
        "Hosts",
        "Every host that is kept; none while everything sleeps. Click one to see what is packed on it.",
        {"modelpool": "Pool", "modelhost": "Host"},
        total("lull_host_memory_bytes", HOST),
        (Query(f"count by ({', '.join(HOST)}) (lull_placement_state)", "Models"), p.COUNT),
        (Query(total("lull_host_memory_used_bytes", HOST), "Memory used"), p.BYTES),
        (Query(total("lull_host_memory_bytes", HOST), "of"), p.BYTES),
        (Query(total("lull_host_busy_ratio", HOST), "Busy"), p.SHARE),
        (Query(total("lull_host_power_watts", HOST), "Power"), p.WATTS),
        (Query(total("lull_host_unallocated_power_watts", HOST), "of it unallocated"), p.WATTS),
        links={"modelhost": p.to("lull-host", pool="modelpool", host="modelhost")},
    )


def _planning() -> p.Panel:
    return p.lines(
        "Planning",
        "How long a plan takes, and how long ago the last one was. Older than two minutes: the controller "
        "does not plan; its logs and its Lease say why. Nothing wakes meanwhile, what is awake serves on.",
        p.SECONDS,
        Query("lull:fleet:plan_seconds:p99_5m", "a plan (p99)"),
        Query("time() - max (lull_plan_timestamp_seconds)", "since the last plan"),
    )


def _writes() -> p.Panel:
    return p.stacked(
        "Writes to the API server",
        "What the controller writes to the Kubernetes API, by verb and kind. Figures alone are written at "
        "most once in 30 s for each active service, never for a sleeping one. More than that: report it.",
        p.PER_SECOND,
        Query(or_zero(rate(_WRITES, ["verb", "kind"]), verb="none"), "{{verb}} {{kind}}"),
    )


def _stuck() -> p.Panel:
    return p.lines(
        "Trouble",
        "All of these should be zero or come back to it: writes that wait, API answers of 400 and above "
        "per minute (409 now and then is normal), Events dropped, the age of the oldest fence.",
        p.COUNT,
        Query(or_zero("max (lull_writes_pending)"), "writes pending"),
        Query(
            f"60 * ({or_zero(rate(_REFUSED, ['code']), code='4xx')})",
            "{{code}} per minute",
        ),
        Query(f"60 * ({or_zero(rate('lull_events_dropped_total'))})", "Events dropped per minute"),
        Query(or_zero("max (lull_fence_oldest_seconds)"), "oldest fence, seconds"),
    )
