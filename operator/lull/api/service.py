"""ModelService: a model that is always reachable at its URL and costs watts only while it is used."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from lull.api.meta import (
    SCHEMES,
    UNSEEN,
    Conditions,
    Digest,
    Dns1123Label,
    Duration,
    Microjoules,
    Model,
    ObservedGeneration,
    Percent,
    Quantity,
    Text,
    Time,
    list_map,
    rules,
)


def _cron_field(value: str, *, others: str = "") -> str:
    """Return the pattern of one field: a list of values, ranges and steps."""
    item = rf"([*]|({value})(-({value}))?)(/[1-9][0-9]{{0,2}})?{others}"
    return f"({item})(,({item}))*"


_MONTH = "0?[1-9]|1[0-2]|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_WEEKDAY = "0?[0-7]|(?i:sun|mon|tue|wed|thu|fri|sat)"
_HOUR_THERE = "timestamp('2000-01-01T00:00:00Z').getHours(self)"
CRON_PATTERN = "^{}$".format(
    " +".join(
        (
            _cron_field("[0-5]?[0-9]"),
            _cron_field("[01]?[0-9]|2[0-3]"),
            _cron_field("0?[1-9]|[12][0-9]|3[01]", others="|LW?"),
            _cron_field(_MONTH),
            _cron_field(_WEEKDAY, others=f"|[0-7]L|({_WEEKDAY})#[1-5]"),
        )
    )
)

PINNED_URI = r"@sha256:[0-9a-f]{64}$"

_NO_USER = (
    "uri must hold no user or password: they belong into the Secret that the pool's spec.credentials names"
)
_COMMIT = "an hf: uri names the commit, as branches move: hf://ORGANISATION/NAME@COMMIT/FILE (40 hex digits)"
Uri = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        pattern=rf"^({SCHEMES})://?[^\s]+$",
        json_schema_extra=rules(
            ("!self.matches('^[a-z0-9]+://[^/]*@')", _NO_USER),
            ("!self.startsWith('hf:') || self.matches('^hf://[^/@]+/[^/@]+@[0-9a-f]{40}/.+$')", _COMMIT),
            (
                "!self.startsWith('pvc:') || self.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+$')",
                "a pvc: uri is pvc://CLAIM/PATH, the claim one in the hosts' namespace",
            ),
        ),
    ),
]


class ModelSource(Model):
    """Which model is served. A change of any of these is a new revision."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                f"has(self.digest) || self.uri.matches('{PINNED_URI}')",
                "digest is required unless the uri pins one (…@sha256:…); `lull publish` prints it",
            ),
        )
    )

    uri: Uri = Field(
        description="Where the artifact is: https:, http:, oci:, s3:, hf:, pvc: or file:, as the pool allows."
    )
    digest: Digest | None = Field(
        None, description="What the artifact must hash to; required unless the uri pins it."
    )
    format: Literal["Auto", "Artifact", "TritonRepository"] = Field(
        "Auto",
        description="TritonRepository: a Triton model directory with its own config.pbtxt, served unedited.",
    )
    name: Dns1123Label | None = Field(
        None, description="The model's name on the wire; the service's own name if unset."
    )


class Resources(Model):
    """What one replica needs."""

    memory: Quantity | None = Field(
        None,
        description="Memory of one replica (GPU memory in an accelerator pool). "
        "If unset, what the artifact's card says, else what was measured at the first load.",
        json_schema_extra=rules(("quantity(self).isGreaterThan(quantity('0'))", "memory must be above zero")),
    )


class Replicas(Model):
    """How many replicas Lull may keep; zero means that the service may sleep."""

    model_config = ConfigDict(
        json_schema_extra=rules(("self.min <= self.max", "min must not be greater than max"))
    )

    min: Annotated[int, Field(ge=0, le=100)] = Field(
        0, description="Replicas kept even when idle; 0 lets it sleep."
    )
    max: Annotated[int, Field(ge=1, le=100)] = Field(1, description="Most replicas under load.")


class Hold(Model):
    """How requests wait while the service wakes."""

    timeout: Duration = Field("60s", description="Longest time a request is held; then 503 with Retry-After.")
    max: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1000,
        description="Most requests held at once by one gateway; those above it get 503 with Retry-After.",
    )


class Objective(Model):
    """What the service promises its clients; Lull weighs energy against it."""

    latency: Duration | None = Field(None, description="Latency to keep at `percentile`.")
    percentile: Annotated[int, Field(ge=1, le=99)] = Field(
        99, description="Percentile that `latency` is meant for."
    )
    delayed_percent: Percent = Field(
        5, description="At most this share of requests may wait for a wake, for more than 100 ms each."
    )


class ScheduleEntry(Model):
    """A time window in which at least `min` replicas are kept."""

    cron: Annotated[str, Field(max_length=128)] = Field(
        description="When the window opens, five fields.",
        json_schema_extra=rules(
            (
                f"self.matches('{CRON_PATTERN}')",
                "cron must be five fields (minute hour day month weekday), such as 0 8 * * 1-5",
            )
        ),
    )
    time_zone: Annotated[str, Field(max_length=64)] = Field(
        "UTC",
        description="IANA time zone of `cron`.",
        json_schema_extra=rules(
            (  # asking for an hour in a zone that there is not is an error, which refuses it as well
                f"self.matches('^[A-Z]') && self != 'Local' && {_HOUR_THERE} >= 0",
                "timeZone must name an IANA time zone, such as Europe/Berlin",
            )
        ),
    )
    duration: Duration = Field(description="How long the window stays open.")
    min: Annotated[int, Field(ge=0, le=100)] = Field(1, description="Replicas kept while it is open.")


class Analysis(Model):
    """What a new revision must not do worse than the old one, by more than this."""

    min_requests: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        50,
        description="Requests that the new revision must have answered at a step, or compared answers in "
        "shadow, before the next step; a clearly bad one is stopped earlier.",
    )
    error_percent: Percent = Field(
        1, description="Percentage points by which more of its requests may fail than of the old one's."
    )
    latency_percent: Annotated[int, Field(ge=0, le=10_000)] = Field(
        50, description="How much slower its p95 may be than the old one's, in percent."
    )
    disagree_percent: Percent = Field(
        5, description="Share of shadowed requests that it may answer otherwise than the old one."
    )
    min_accuracy_percent: Percent | None = Field(
        None, description="Accuracy that `lull evaluate --record` must have found before it gets any traffic."
    )


class Rollout(Model):
    """How a new revision takes over; one that fails to load or to validate never does."""

    steps: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100)], ...],
        Field(
            min_length=1,
            max_length=16,
            json_schema_extra=rules(("self.isSorted()", "steps must not fall: each gives it more traffic")),
        ),
    ] = Field(
        default=(100,),
        description="Share of requests that the new revision gets, step by step, in percent; after the last "
        "it gets them all. [100]: all of them at once, as soon as it is ready and has been validated.",
    )
    pause: Duration = Field("5m", description="How long each step lasts at least, and the shadow's.")
    shadow_percent: Percent = Field(
        0,
        description="Share of the old revision's requests that the new one is asked too before it gets any: "
        "its answers are compared and counted, and no client sees them.",
    )
    history: Annotated[int, Field(ge=1, le=10)] = Field(
        5, description="Former revisions that the status keeps, for `kubectl lull rollout undo`."
    )
    analysis: Analysis = Field(default=Analysis(), description="What stops it, and what it waits for.")


class ModelServiceSpec(Model):
    """What the user wants; nobody but the user writes it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.idleAfter) || !has(self.replicas) || self.replicas.min == 0",
                "idleAfter has a meaning only with replicas.min = 0",
            )
        )
    )

    model: ModelSource = Field(description="Which model is served. A change is a new revision.")
    pool: Dns1123Label = Field("default", description="The ModelPool whose hosts serve it.")
    resources: Resources | None = Field(None, description="What one replica needs.")
    isolation: Literal["Shared", "Dedicated"] = Field(
        "Shared", description="Dedicated: its hosts hold no other service's model."
    )
    priority_class_name: Annotated[str, Field(max_length=253)] | None = Field(
        None, description="Decides who is evicted last and who waits first."
    )
    replicas: Replicas = Field(default=Replicas(), description="How many replicas may be kept.")
    idle_after: Duration | None = Field(
        None, description="Time without a request after which it may sleep. If unset, Lull decides."
    )
    hold: Hold = Field(default=Hold(), description="How requests wait while it wakes.")
    objective: Objective | None = Field(None, description="What it promises its clients.")
    schedule: Annotated[list[ScheduleEntry], Field(max_length=32)] | None = Field(
        None, description="Time windows in which replicas are kept."
    )
    suspend: bool = Field(False, description="True: let it go and answer 503 until it is false again.")
    drain_deadline: Duration = Field(
        "5m", description="Longest wait for requests in flight on deletion, node drain and suspend."
    )
    rollout: Rollout = Field(default=Rollout(), description="How a new revision takes over.")


class RevisionStatus(Model):
    """One revision of the model and its share of the traffic."""

    name: Annotated[str, Field(max_length=63)] = Field(description="Names it by what the spec's model says.")
    digest: Annotated[str, Field(max_length=71)] = Field("", description="What the artifact hashes to.")
    uri: Annotated[str, Field(max_length=2048)] = Field("", description="Where its artifact is.")
    format: Annotated[str, Field(max_length=32)] = Field("Auto", description="What its artifact is.")
    model_name: Annotated[str, Field(max_length=63)] = Field("", description="Its model's name on the wire.")
    state: Literal["Serving", "Candidate", "Superseded", "Rejected", "Aborted"] = Field(
        "Serving",
        description="Serving: the stable one. Candidate: being rolled out. Superseded: it has served. "
        "Rejected: it did not pass. Aborted: its user took it back.",
    )
    reason: Annotated[str, Field(max_length=128)] = Field("", description="Why it was rejected, in one word.")
    message: Text | None = Field(None, description="Why it was rejected, in a sentence.")
    since: Time | None = Field(
        None, description="When it came to this state; absent of one that serves, and never was ready yet."
    )
    percent: Percent = Field(description="Share of the traffic.")
    ready: bool = Field(description="Whether a replica of it answers.")
    memory: Quantity | None = Field(
        None,
        description="What one replica took when it was last loaded; packing reserves it while it sleeps.",
    )
    training_watt_hours: Annotated[str, Field(max_length=32)] | None = Field(
        None,
        description="What its training took, as the artifact's card says: before it served, and in none of "
        "the figures of `status.energy`.",
    )


class RevisionTraffic(Model):
    """What a revision was asked during the present step, as the gateways saw it."""

    revision: Annotated[str, Field(max_length=63)] = Field(description="Names the revision.")
    requests: Annotated[int, Field(ge=0)] = Field(0, description="Requests that it was asked.")
    failures: Annotated[int, Field(ge=0)] = Field(
        0, description="Those that it failed; its client did not notice where the old one then answered."
    )
    p95: Duration | None = Field(None, description="95 of 100 of its answers took no longer.")
    compared: Annotated[int, Field(ge=0)] = Field(0, description="Answers compared in shadow.")
    differed: Annotated[int, Field(ge=0)] = Field(0, description="Those that were other ones.")


class RolloutStatus(Model):
    """How the newest revision takes over, or what became of it."""

    stable: Annotated[str, Field(max_length=63)] = Field(description="The revision that gets the rest.")
    candidate: Annotated[str, Field(max_length=63)] = Field(description="The revision that is rolled out.")
    phase: Literal[
        "Validating",
        "Shadowing",
        "Stepping",
        "Promoting",
        "Swapping",
        "Promoted",
        "Rejected",
        "Aborted",
    ] = Field(
        description="Validating: it is loaded and tried. Shadowing: it is asked what the old one is asked. "
        "Stepping: it gets its share. Promoting: its other replicas are loaded. Swapping: there is no room "
        "for both, so the old one goes first, and comes back if it fails. Promoted: it serves alone. "
        "Rejected: it was refused or did worse. Aborted: its user, or the spec, took it back."
    )
    percent: Percent = Field(0, description="Share of the requests that it gets now.")
    shadow_percent: Percent = Field(
        0, description="Share of the old one's requests that it is asked too, now."
    )
    step: Annotated[int, Field(ge=0, le=16)] = Field(0, description="Which of the steps it is at; 0: before.")
    since: Time | None = Field(None, description="Since when it is in this phase, at this step.")
    message: Text | None = Field(None, description="What it waits for, or why it ended, in a sentence.")
    traffic: Annotated[list[RevisionTraffic], Field(max_length=2, json_schema_extra=list_map("revision"))] = (
        Field(default=[], description="What both were asked during this step.")
    )
    heard: Annotated[str, Field(max_length=128)] | None = Field(
        None,
        description="The word of the annotation lull.dev/rollout that stood there as it began, of an earlier "
        "rollout: it counts for this one once it was taken away, or is said with `again` behind it.",
    )


class ReplicaStatus(Model):
    """Replicas wanted now (a sleeping service wants 0) and ready now."""

    desired: Annotated[int, Field(ge=0)] = Field(0, description="Replicas wanted now; 0 while it sleeps.")
    ready: Annotated[int, Field(ge=0)] = Field(0, description="Replicas that requests reach.")


class PlacementStatus(Model):
    """Where one replica is."""

    id: Annotated[str, Field(max_length=63)] = Field(description="Names this placement for its whole life.")
    host: Annotated[str, Field(max_length=253)] = Field(description="The ModelHost.")
    node: Annotated[str, Field(max_length=253)] = Field("", description="The node of its Pod.")
    revision: Annotated[str, Field(max_length=63)] = Field("", description="The revision that it holds.")
    state: Annotated[str, Field(max_length=32)] = Field(
        description="Waiting, Fetching, Loading, Ready, Failed, Draining, or Resident: asleep, in memory."
    )
    reason: Annotated[str, Field(max_length=128)] = Field("", description="Why it failed, in one word.")


class WakeStatus(Model):
    """How long the last wake took, and what a wake from here would take."""

    expected: Duration | None = Field(
        None, description="What a wake from here would take, as things were when this status was written."
    )
    last: Duration | None = Field(None, description="How long the last wake took.")
    from_: Literal["Loaded", "Host", "NewHost", "NewNode"] | None = Field(
        None, alias="from", description="What the last wake started from: still loaded, a host, or none."
    )


class NextStep(Model):
    """What happens next if nothing changes, and why."""

    action: Annotated[str, Field(max_length=64)] = Field(description="What happens next, in one word.")
    reason: Text = Field(description="Why, and after what.")
    time: Time | None = Field(None, description="When, if time alone decides.")


class UtilizationStatus(Model):
    """Rounded figures of the last window, as Triton saw them; full resolution is in Prometheus."""

    window: Duration | None = Field(None, description="The time that the figures are of.")
    requests_per_minute: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Requests that Triton answered, in a minute."
    )
    busy_percent: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Time that its replicas computed, in percent of the window; of all replicas together.",
    )
    busy: Annotated[str, Field(max_length=16)] | None = Field(
        None, description="The same, for people: `31%`."
    )
    queue_milliseconds: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Mean time that a request waited in Triton's queue."
    )
    batch_size: Annotated[str, Field(max_length=16)] | None = Field(
        None, description="Mean requests that one execution carried, as a decimal string."
    )
    latency_p50: Duration | None = Field(
        None, alias="latencyP50", description="Half of its requests took no longer within Triton."
    )
    latency_p95: Duration | None = Field(
        None, alias="latencyP95", description="95 of 100 requests took no longer within Triton."
    )
    latency_p99: Duration | None = Field(
        None, alias="latencyP99", description="Within Triton; of several replicas, the slowest one's."
    )
    failed_percent: Percent | None = Field(None, description="Share of requests that failed, rounded up.")
    delayed_percent: Percent | None = Field(
        None, description="Share of requests of the last hour that waited for a wake, rounded up."
    )
    memory: Quantity | None = Field(None, description="Memory of one replica, as measured on its host.")


class CountedPlacement(Model):
    """How much of one placement's counters the ledger holds already."""

    id: Annotated[str, Field(max_length=63)] = Field(description="The placement.")
    idle_joules: Annotated[int, Field(ge=0)] = Field(
        0, description="Joules of its idle total that are counted."
    )
    dynamic_joules: Annotated[int, Field(ge=0)] = Field(
        0, description="Joules of its dynamic total that are counted."
    )
    requests: Annotated[int, Field(ge=0)] = Field(0, description="Requests of its total that are counted.")


class HourJoules(Model):
    """What was drawn in one hour; `hour` counts hours since the epoch."""

    hour: Annotated[int, Field(ge=0)] = Field(description="Hours since the epoch.")
    joules: Annotated[int, Field(ge=0)] = Field(description="Joules that it was charged with in that hour.")


class Ledger(Model):
    """The totals behind the figures for people; with them a restarted controller goes on exactly."""

    at: Time = Field(description="Until when the shares of the meters are counted …")
    pool: Annotated[str, Field(max_length=63)] = Field(
        "", description="The ModelPool whose meters count its shares."
    )
    meter: Annotated[int, Field(ge=0)] = Field(
        0, description="… the reading of its pool's baseline meter then, in microjoules per mebibyte …"
    )
    overhead_meter: Annotated[int, Field(ge=0)] = Field(
        0, description="… and that of the meter of what hosts draw for no model."
    )
    mebibytes: Annotated[int, Field(ge=0)] = Field(
        0, description="Memory of all the replicas that the baseline keeps on."
    )
    idle_joules: Annotated[int, Field(ge=0)] = Field(
        0, description="Joules of its shares of what hosts drew whether anybody computed or not."
    )
    dynamic_joules: Annotated[int, Field(ge=0)] = Field(0, description="Joules that its computing drew.")
    baseline_joules: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Joules that it would have drawn if every service were always on, on the fewest hosts.",
    )
    baseline_microjoules: Microjoules = Field(0, description="The rest of `baselineJoules`.")
    overhead_joules: Annotated[int, Field(ge=0)] = Field(
        0, description="Joules of its part, by memory, of what its pool's hosts drew for no model."
    )
    overhead_microjoules: Microjoules = Field(0, description="The rest of `overheadJoules`.")
    milligrams_co2e: Annotated[int, Field(ge=0)] = Field(
        0, alias="milligramsCO2e", description="Milligrams of CO2 equivalent of both."
    )
    requests: Annotated[int, Field(ge=0)] = Field(0, description="Requests that Triton answered.")
    delayed: Annotated[int, Field(ge=0)] = Field(0, description="Requests that waited for a wake.")
    counted: Annotated[list[CountedPlacement], Field(max_length=128, json_schema_extra=list_map("id"))] = (
        Field(
            default=[],
            description="How much of each placement's totals is in these; of placements that are there.",
        )
    )
    hours: Annotated[list[HourJoules], Field(max_length=25, json_schema_extra=list_map("hour"))] = Field(
        default=[], description="The last 24 whole hours and the present one, for `lastDayWattHours`."
    )


class EnergyStatus(Model):
    """What the service drew and what Lull saved; `basis` says whether a sensor or a model of it tells.

    A service that sleeps is not written: its figures are as of `status.ledger.at`.
    """

    basis: Literal["Measured", "Modelled"] = Field(
        description="Measured: by its host's sensor. Modelled: by its pool's power settings."
    )
    milliwatts: Annotated[int, Field(ge=0)] | None = Field(None, description="Idle and dynamic together.")
    idle_milliwatts: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Its share of what its hosts draw whether anybody computes or not."
    )
    baseline_milliwatts: Annotated[int, Field(ge=0)] | None = Field(
        None, description="What it would draw now if every service were always on, on the fewest hosts."
    )
    saving_milliwatts: int | None = Field(
        None,
        description="What it saves as of this write: the baseline's less its own and its part of what hosts "
        "draw for no model. Asleep it is not written: its pool's meters tell what it saved since.",
    )
    watts: Annotated[str, Field(max_length=16)] | None = Field(
        None, description="`milliwatts` in watts, for people."
    )
    watt_hours: Annotated[str, Field(max_length=32)] | None = Field(None, description="Since `since`.")
    idle_watt_hours: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="Watt-hours of its shares of what hosts drew whether anybody computed or not."
    )
    dynamic_watt_hours: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="Watt-hours that its computing drew."
    )
    last_day_watt_hours: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="Of the last 24 whole hours and the present one."
    )
    saved_watt_hours: Annotated[str, Field(max_length=32)] | None = Field(
        None,
        description="The baseline's less its own and its part, by memory, of what hosts drew for no model: "
        "never more in sum than the pool's. Below zero where Lull kept more hosts than the fewest.",
    )
    saved: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="`savedWattHours` with its unit, for people: `1.2kWh`."
    )
    grams_co2e: Annotated[str, Field(max_length=32)] | None = Field(
        None, alias="gramsCO2e", description="Grams of CO2 equivalent of what it drew."
    )
    since: Time | None = Field(None, description="When counting began.")


class HabitStatus(Model):
    """When the service is asked, as learned; a restarted controller goes on with it."""

    gaps: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=64)] = Field(
        default=[], description="How many of its silences ended at which length; each slot is longer."
    )
    load: Duration | None = Field(None, description="How long a load of it takes, as learned.")


class ModelServiceStatus(Model):
    """What the user reads: state, place, use and cost. Written by the controller alone."""

    observed_generation: ObservedGeneration = 0
    conditions: Conditions
    url: Annotated[str, Field(max_length=2048)] | None = Field(
        None, description="Where it is reachable, asleep or awake."
    )
    revisions: (
        Annotated[list[RevisionStatus], Field(max_length=16, json_schema_extra=list_map("name"))] | None
    ) = Field(None, description="The revisions that get traffic, and what became of former ones.")
    rollout: RolloutStatus | None = None
    replicas: ReplicaStatus | None = None
    ready_replicas: Annotated[str, Field(max_length=16)] | None = Field(
        None, description="`ready/desired`, for the printer column."
    )
    placements: (
        Annotated[list[PlacementStatus], Field(max_length=128, json_schema_extra=list_map("id"))] | None
    ) = Field(None, description="Where its replicas are.")
    wake: WakeStatus | None = None
    next: NextStep | None = None
    habit: HabitStatus | None = None
    utilization: UtilizationStatus | None = None
    energy: EnergyStatus | None = None
    ledger: Ledger | None = None


class ModelService(Model):
    """A model that is always reachable at its URL and costs watts only while it is used."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",
                "the name is part of a host name: at most 63 of a-z, 0-9 and -, no dots",
            )
        )
    )

    spec: ModelServiceSpec = Field(description="What is wanted.")
    status: ModelServiceStatus | None = Field(
        None, description="What is observed; written by Lull.", json_schema_extra=UNSEEN
    )
