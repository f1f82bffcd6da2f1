"""ModelPool: what a host is, and what it may load. The admin's."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from lull.api.meta import (
    SCHEMES,
    UNSEEN,
    Conditions,
    Dns1123Label,
    Duration,
    Microjoules,
    Model,
    ObservedGeneration,
    Percent,
    Quantity,
    Time,
    list_map,
    rules,
)


class Accelerator(Model):
    """The accelerator of one host."""

    resource: Annotated[str, Field(max_length=253)] = Field(
        "nvidia.com/gpu", description="The extended resource that a host pod asks for."
    )
    count: Annotated[int, Field(ge=1, le=16)] = Field(1, description="How many of it one host takes.")
    memory: Quantity = Field(description="Memory of one accelerator.")
    product: Annotated[str, Field(max_length=128)] | None = Field(
        None, description="Its product name, such as `NVIDIA-H100-80GB-HBM3`; decides power defaults."
    )


class HostBounds(Model):
    """How many hosts the pool keeps at least and at most."""

    model_config = ConfigDict(
        json_schema_extra=rules(("self.min <= self.max", "min must not be greater than max"))
    )

    min: Annotated[int, Field(ge=0, le=10_000)] = Field(0, description="Hosts kept even when they are empty.")
    max: Annotated[int, Field(ge=1, le=10_000)] = Field(description="Most hosts.")


_SCHEME = (
    f"self.matches('^({SCHEMES}):/')",
    "prefix must begin with a scheme, such as oci://registry.example/models/",
)
_NO_USER = (
    "!self.matches('^[a-z0-9]+://[^/]*@')",
    "prefix must hold no user or password: they belong into the Secret that spec.credentials names",
)
_NO_DETOUR = (
    "!self.matches('^[a-z0-9]+://[^/]*/(.*/)?(/|[.]{1,2}(/|$))')",
    "prefix must be written without '//', '.' and '..' in its path: no model is beneath such a one",
)
_CLAIM = (
    "!self.startsWith('pvc:') || self.matches('^pvc://[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?(/.*)?$')",
    "a pvc: prefix is pvc://CLAIM/FOLDER, the claim one in the hosts' namespace",
)
Allowed = Annotated[
    str, Field(min_length=1, max_length=2048, json_schema_extra=rules(_SCHEME, _NO_USER, _NO_DETOUR, _CLAIM))
]
"""A URI prefix; the claims that `pvc:` ones name are volumes of the hosts' pods."""


class Allow(Model):
    """What hosts of this pool may load, and from where."""

    uris: Annotated[list[Allowed], Field(max_length=64)] = Field(
        default=[],
        description="URI prefixes, such as `oci://registry.example/models/`. An artifact elsewhere is "
        "refused; an empty list refuses all. The volume claim that a `pvc:` prefix names must exist in the "
        "hosts' namespace: without it no host of the pool starts.",
    )
    code: bool = Field(
        False, description="True: artifacts that are code (Python backend, shared libraries) may run here."
    )


_PEM = r"^-----BEGIN PUBLIC KEY-----\\n[A-Za-z0-9+/=\\n]+-----END PUBLIC KEY-----\\n*$"


class Signer(Model):
    """Somebody whose signature is believed, by name."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="Who it is, for people.")
    public_key: Annotated[str, Field(max_length=1024)] = Field(
        description="The public key in PEM, as `openssl ec -in KEY -pubout` prints it.",
        json_schema_extra=rules(
            (
                f"self.matches('{_PEM}')",
                "publicKey must be a public key in PEM, as `openssl ec -in KEY -pubout` prints it",
            )
        ),
    )


class Trust(Model):
    """What must be signed by whom to be served: the first rule that an artifact meets decides."""

    prefix: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Where the artifact is: a URI prefix, as in `allow.uris`.",
        json_schema_extra=rules(_SCHEME, _NO_USER, _NO_DETOUR),
    )
    namespaces: Annotated[list[Dns1123Label], Field(max_length=32)] = Field(
        default=[], description="Whose services it is for; an empty list is for all."
    )
    signed_by: Annotated[list[Signer], Field(max_length=4, json_schema_extra=list_map("name"))] = Field(
        default=[],
        description="One of these must have signed it. An empty list lets it be served unsigned.",
    )


class Credentials(Model):
    """How hosts show stores who they are."""

    secret_name: Annotated[
        str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)
    ] = Field(
        description="A Secret in the hosts' namespace, with any of `.dockerconfigjson` (oci:), `aws` (s3:, "
        "an ini file of key and endpoint_url), `netrc` (https:) and `hf-token`. Only the agent sees it, "
        "never Triton; it is read at each fetch, so that what is renewed needs no new host."
    )


class Staging(Model):
    """Where the hosts of one node keep artifacts together, so that a wake downloads nothing."""

    claim_name: Annotated[
        str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)
    ] = Field(
        description="A PersistentVolumeClaim (ReadWriteMany) in the hosts' namespace whose volume is a "
        "folder of each node's own disk (hostPath, without node affinity), owned by user 65532."
    )
    size: Quantity = Field(
        description="How much of each node's folder may be filled; what was not used for longest goes first.",
        json_schema_extra=rules(("quantity(self).isGreaterThan(quantity('0'))", "size must be above zero")),
    )


class Power(Model):
    """The power model of a host without a sensor, in watts; defaults by product."""

    idle_watts: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None, description="Bare idle draw of one accelerator."
    )
    context_watts: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None, description="What a held context adds."
    )
    max_watts: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None, description="Draw at full load (TDP)."
    )
    node_watts: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None, description="The node's own idle draw."
    )
    hosts_per_node: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Hosts that one node has room for; each is charged with that part of nodeWatts."
    )


class Carbon(Model):
    """From watt-hours to grams of CO2 equivalent."""

    grams_per_kilowatt_hour: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None, description="Location-based intensity of the grid."
    )
    pue_percent: Annotated[int, Field(ge=100, le=1000)] | None = Field(
        None, description="Power usage effectiveness of the site, 100 = none lost."
    )
    config_map_name: Annotated[str, Field(max_length=253)] | None = Field(
        None, description="ConfigMap with intensities that change by the hour."
    )


class ModelPoolSpec(Model):
    """What a host of this pool is."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.accelerator) || has(self.memory)", "a CPU pool (no accelerator) needs memory"),
        )
    )

    accelerator: Accelerator | None = Field(None, description="Absent: a CPU pool.")
    hosts: HostBounds = Field(description="How many hosts.")
    memory: Quantity | None = Field(
        None, description="Main memory of a host pod; for a CPU pool what its models share."
    )
    cpu: Quantity | None = Field(None, description="CPU of a host pod.")
    headroom_percent: Percent = Field(0, description="Share of each host's memory that is kept free.")
    empty_after: Duration | None = Field(
        None, description="Time after which a host that serves nobody is let go. If unset, Lull decides."
    )
    sharing: Literal["Pool", "Namespace"] = Field(
        "Pool",
        description="Who may share a host. Sharing is not an isolation boundary. "
        "A format that is code never leaves its namespace's hosts, whatever this says.",
    )
    template: dict[str, Any] | None = Field(
        None,
        description="Partial PodTemplateSpec merged over Lull's host pod: images, nodeSelector, tolerations, "
        "runtimeClassName, volumes, env.",
        json_schema_extra={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    )
    allow: Allow = Field(default=Allow(), description="What may be loaded, and from where.")
    trust: Annotated[list[Trust], Field(min_length=1, max_length=16)] | None = Field(
        None,
        description="What must be signed by whom, as of the next load. If set, what meets no rule is "
        "refused; if unset, no signature is asked for.",
    )
    credentials: Credentials | None = Field(
        None, description="How hosts show stores who they are; if unset, they say nothing."
    )
    staging: Staging | None = Field(
        None,
        description="Where the hosts of one node keep artifacts together; if unset, each keeps its own, "
        "as long as it lives.",
    )
    idle_clocks: Literal["Low", "Default"] = Field(
        "Default", description="Low sets CUDA_DISABLE_PERF_BOOST=1 (driver 580.105 or newer)."
    )
    power: Power | None = Field(None, description="Power model of a host without a sensor.")
    carbon: Carbon | None = Field(None, description="Carbon intensity of its energy.")


class PoolHostsStatus(Model):
    """Hosts of the pool, now."""

    total: Annotated[int, Field(ge=0)] = Field(0, description="Hosts that are not being deleted.")
    ready: Annotated[int, Field(ge=0)] = Field(0, description="Those that may take models.")


class PoolMemoryStatus(Model):
    """Memory kept and used."""

    supply: Quantity = Field("0", description="Memory for models on all hosts.")
    used: Quantity = Field("0", description="Memory that models take of it.")


class PoolBusyStatus(Model):
    """Computing time kept and used, over the last window, in percent of one host: 250 is two and a half."""

    supply_percent: Annotated[int, Field(ge=0)] = Field(
        0, description="100 for each host that tells figures."
    )
    used_percent: Annotated[int, Field(ge=0)] = Field(0, description="What their models computed.")


class CountedHost(Model):
    """How much of one host's counters the pool's totals hold already."""

    name: Annotated[str, Field(max_length=253)] = Field(description="The ModelHost.")
    joules: Annotated[int, Field(ge=0)] = Field(0, description="Joules of its total that are counted.")
    dynamic_joules: Annotated[int, Field(ge=0)] = Field(0, description="Those of its models' computing.")
    unallocated_joules: Annotated[int, Field(ge=0)] = Field(0, description="Those drawn for no model.")


class PoolLedger(Model):
    """The totals behind the figures for people; with them a restarted controller goes on exactly."""

    at: Time = Field(description="Until when the baseline and its meter are counted.")
    mebibytes: Annotated[int, Field(ge=0)] = Field(
        0, description="Memory of all the models that share what the meters count."
    )
    meter: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Reading at `at` of the baseline's meter, in microjoules per mebibyte: what keeping one "
        "mebibyte of a model always on would have drawn. Sleeping services are charged by it unwritten.",
    )
    overhead_meter: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Reading of the overhead's meter, in the same unit: what the hosts drew for no model, "
        "shared among all.",
    )
    joules: Annotated[int, Field(ge=0)] = Field(0, description="Joules that its hosts drew.")
    baseline_joules: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Joules that the fewest hosts would have drawn, always on: their idle part until `at`, "
        "the dynamic one until now.",
    )
    baseline_microjoules: Microjoules = Field(0, description="The rest of `baselineJoules`.")
    baseline_milliwatts: Annotated[int, Field(ge=0)] = Field(
        0, description="The rate of its idle part since `at`."
    )
    milligrams_co2e: Annotated[int, Field(ge=0)] = Field(
        0, alias="milligramsCO2e", description="Milligrams of CO2 equivalent of them."
    )
    counted: Annotated[list[CountedHost], Field(max_length=10_000, json_schema_extra=list_map("name"))] = (
        Field(default=[], description="How much of each host's totals is in these; of hosts that are there.")
    )


class PoolEnergyStatus(Model):
    """What the pool's hosts drew, models' and unallocated parts together."""

    basis: Literal["Measured", "Modelled"] = Field(
        description="Measured: by sensors. Modelled: by the pool's power settings."
    )
    milliwatts: Annotated[int, Field(ge=0)] | None = Field(None, description="Present draw of its hosts.")
    baseline_milliwatts: Annotated[int, Field(ge=0)] | None = Field(
        None, description="What the fewest hosts that hold every service would draw, always on."
    )
    saving_milliwatts: int | None = Field(
        None, description="The baseline's less its own, now; below zero while more than the fewest are kept."
    )
    watts: Annotated[str, Field(max_length=16)] | None = Field(
        None, description="`milliwatts` in watts, for people."
    )
    watt_hours: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="Watt-hours that its hosts drew since `since`."
    )
    saved_watt_hours: Annotated[str, Field(max_length=32)] | None = Field(
        None,
        description="Watt-hours of the baseline less its own; below zero where more than these were kept.",
    )
    saved: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="`savedWattHours` with its unit, for people: `1.2kWh`."
    )
    grams_co2e: Annotated[str, Field(max_length=32)] | None = Field(
        None, alias="gramsCO2e", description="Grams of CO2 equivalent of what its hosts drew."
    )
    grams_co2e_per_request: Annotated[str, Field(max_length=32)] | None = Field(
        None, alias="gramsCO2ePerRequest", description="At the present utilization, over the last window."
    )
    grams_co2e_per_request_packed: Annotated[str, Field(max_length=32)] | None = Field(
        None,
        alias="gramsCO2ePerRequestPacked",
        description="At the utilization that perfect packing of what is loaded would give.",
    )
    since: Time | None = Field(None, description="When counting began.")


class ModelPoolStatus(Model):
    """Sums over the pool's hosts. Written by the controller alone."""

    observed_generation: ObservedGeneration = 0
    conditions: Conditions
    hosts: PoolHostsStatus | None = None
    memory: PoolMemoryStatus | None = None
    busy: PoolBusyStatus | None = None
    utilization_percent: Percent | None = Field(None, description="Memory used of memory kept.")
    busy_percent: Percent | None = Field(None, description="Computing time used of computing time kept.")
    delay_worth: Duration | None = Field(
        None,
        description="What keeping one request from waiting is worth, in time that one host is kept; it "
        "follows the share of requests that waited.",
    )
    host_start: Duration | None = Field(
        None, description="How long a new host takes until it can load, as learned."
    )
    energy: PoolEnergyStatus | None = None
    ledger: PoolLedger | None = None


class ModelPool(Model):
    """What a host is, how many there may be, and what they may load."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",
                "the name is part of its hosts' names: at most 63 of a-z, 0-9 and -, no dots",
            )
        )
    )

    spec: ModelPoolSpec = Field(description="What is wanted.")
    status: ModelPoolStatus | None = Field(
        None, description="What is observed; written by Lull.", json_schema_extra=UNSEEN
    )
