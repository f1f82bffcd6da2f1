"""ModelHost: one Triton pod and what it should hold (the controller's) and does hold (its agent's)."""

from typing import Annotated, Literal

from pydantic import Field

from lull.api.meta import (
    Conditions,
    Digest,
    Dns1123Label,
    Duration,
    Model,
    Percent,
    Quantity,
    ServiceKey,
    Text,
    Time,
)

PlacementId = Dns1123Label

# The lists of models are atomic, though their items have keys. Each has one writer, who replaces it whole;
# field sets of every item made a write of a host a third slower, and each wake waits for two such writes.


class HostModel(Model):
    """One placement: a replica of a service on this host."""

    id: PlacementId = Field(description="Names this placement for its whole life.")
    service: ServiceKey = Field(description="The ModelService, as namespace/name.")
    name: Dns1123Label = Field(description="The model's name on the wire; unique on a host.")
    revision: Annotated[str, Field(max_length=63)] = Field(description="Revision of the service.")
    uri: Annotated[str, Field(max_length=2048)] = Field(description="Where the artifact is.")
    digest: Annotated[str, Field(max_length=71)] = Field("", description="What it must hash to.")
    format: Literal["Auto", "Artifact", "TritonRepository"] = Field("Auto", description="What it is.")
    memory: Quantity | None = Field(None, description="What the controller reserves for it.")
    idle_after: Duration | None = Field(None, description="Time without a request after which it is idle.")
    latency: Duration | None = Field(
        None, description="The service's objective: slower than this once loaded, and it is not served."
    )
    epoch: Annotated[int, Field(ge=1)] = Field(
        1, description="Raised each time the placement is routed again; a drain is claimed for one epoch."
    )
    state: Literal["Loaded", "Draining", "Resident"] = Field(
        description="Loaded: routed. Draining: leaving the gateways. Resident: fenced, still loaded."
    )


class StagedArtifact(Model):
    """An artifact that is fetched before it is needed."""

    uri: Annotated[str, Field(max_length=2048)] = Field(description="Where the artifact is.")
    digest: Digest = Field(description="What it must hash to.")
    service: ServiceKey = Field(description="The ModelService that it is for, as namespace/name.")


class ModelHostSpec(Model):
    """What the host should hold. Written by the controller alone."""

    pool: Dns1123Label = Field(description="The ModelPool it belongs to.")
    pod_name: Annotated[str, Field(max_length=253)] = Field(description="Its Pod; the same name as the host.")
    models: Annotated[list[HostModel], Field(max_length=256)] = Field(
        default=[], description="What it should hold."
    )
    vacate: Text | None = Field(
        None, description="Why it is being emptied: its models move to other hosts, then it is let go."
    )
    stage: Annotated[list[StagedArtifact], Field(max_length=64)] = Field(
        default=[], description="What its node should keep ready, the most wanted first."
    )


class Counters(Model):
    """Totals of one placement since it came to the host; a reload of the model never sets them back."""

    requests: Annotated[int, Field(ge=0)] = Field(0, description="Requests that Triton answered.")
    failures: Annotated[int, Field(ge=0)] = Field(0, description="Requests that Triton failed.")


class HostModelUtilization(Model):
    """One placement's figures of the last window, from Triton's statistics."""

    window: Duration = Field(description="The time that the figures are of.")
    requests_per_minute: Annotated[int, Field(ge=0)] = Field(
        0, description="Requests that Triton answered, in a minute."
    )
    failures_per_minute: Annotated[int, Field(ge=0)] = Field(
        0, description="Requests that Triton failed, in a minute."
    )
    busy_percent: Annotated[int, Field(ge=0)] = Field(
        0, description="Time that it computed, in percent of the window."
    )
    queue_milliseconds: Annotated[int, Field(ge=0)] = Field(
        0, description="Mean time that a request waited in Triton's queue."
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
        None, alias="latencyP99", description="99 of 100 requests took no longer within Triton."
    )


class HostModelEnergy(Model):
    """One placement's part of the host's draw. The totals never fall while the placement lives."""

    idle_milliwatts: Annotated[int, Field(ge=0)] = Field(
        0, description="Its share of what the host draws whether anybody computes or not."
    )
    dynamic_milliwatts: Annotated[int, Field(ge=0)] = Field(0, description="What its computing draws.")
    idle_joules: Annotated[int, Field(ge=0)] = Field(0, description="Total of the idle part.")
    dynamic_joules: Annotated[int, Field(ge=0)] = Field(0, description="Total of the dynamic part.")


class HostModelStatus(Model):
    """What became of one placement."""

    id: PlacementId = Field(description="The placement, as the spec names it.")
    service: ServiceKey = Field(description="The ModelService, as namespace/name.")
    revision: Annotated[str, Field(max_length=63)] = Field(
        "", description="Revision of the service that it holds."
    )
    state: Literal["Fetching", "Loading", "Ready", "Unloading", "Failed"] = Field(
        description="Ready: it answers requests. Unloading: it left the spec, and ends."
    )
    reason: Annotated[str, Field(max_length=128)] | None = Field(
        None, description="Why it failed, in one word."
    )
    message: Text | None = Field(None, description="Why it failed, in a sentence.")
    memory: Quantity | None = Field(
        None, description="Measured, or the card's estimate where nothing can measure it."
    )
    load_seconds: Annotated[str, Field(max_length=16, pattern=r"^[0-9]+(\.[0-9]+)?$")] | None = Field(
        None, description="How long Triton took to load it, in seconds, as a decimal string."
    )
    idle_since: Time | None = Field(
        None, description="Set once it had no request for idleAfter: its last one's time."
    )
    code: bool | None = Field(None, description="True: the artifact runs code of its own.")
    training_watt_hours: Annotated[str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?$")] | None = Field(
        None, description="What its training took, as the artifact's card says."
    )
    counters: Counters | None = None
    utilization: HostModelUtilization | None = None
    energy: HostModelEnergy | None = None


class AcceleratorStatus(Model):
    """The host's accelerator, as its agent sees it."""

    uuid: Annotated[str, Field(max_length=128)] | None = Field(None, description="The device's own name.")
    product: Annotated[str, Field(max_length=128)] | None = Field(
        None, description="Its product name, such as `NVIDIA-L4`."
    )
    memory_total: Quantity | None = Field(None, description="Memory for models: the device's, or the pod's.")
    memory_used: Quantity | None = Field(None, description="Memory in use of it.")
    utilization_percent: Percent | None = Field(None, description="As the device's own sensor says.")


class HostEnergy(Model):
    """What the host draws: its models' parts and what no model is charged with."""

    basis: Literal["Measured", "Modelled"] = Field(
        description="Measured: by the device's sensor. Modelled: by the pool's power settings."
    )
    milliwatts: Annotated[int, Field(ge=0)] = Field(
        0, description="Present draw, models' and unallocated parts together."
    )
    joules: Annotated[int, Field(ge=0)] = Field(0, description="Since the host came; never falls.")
    dynamic_joules: Annotated[int, Field(ge=0)] = Field(
        0, description="Of `joules`, what its models' computing drew, of those that have left too."
    )
    unallocated_milliwatts: Annotated[int, Field(ge=0)] = Field(
        0, description="Present draw that no model is charged with."
    )
    unallocated_joules: Annotated[int, Field(ge=0)] = Field(
        0, description="Total that no model is charged with."
    )


class ModelHostStatus(Model):
    """What the host does hold. Written by its own agent alone."""

    address: Annotated[str, Field(max_length=45)] | None = Field(
        None, description="Where its Triton listens."
    )
    models: Annotated[list[HostModelStatus], Field(max_length=256)] = Field(
        default=[], description="What became of its placements."
    )
    accelerator: AcceleratorStatus | None = None
    staged: Annotated[list[Digest], Field(max_length=256)] = Field(
        default=[], description="Artifacts that its node keeps ready."
    )
    busy_percent: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Time that its models computed, in percent of the last window, together."
    )
    watts: Annotated[str, Field(max_length=16)] | None = Field(None, description="Its draw, for people.")
    energy: HostEnergy | None = None
    conditions: Conditions


class ModelHost(Model):
    """One Triton pod on one accelerator. Lull's own: users only look at it."""

    spec: ModelHostSpec = Field(description="What it should hold; written by the controller.")
    status: ModelHostStatus | None = Field(None, description="What it does hold; written by its agent.")
