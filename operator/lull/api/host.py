"""ModelHost: one Triton pod and what it should hold (the controller's) and does hold (its agent's)."""

from typing import Annotated, Literal

from pydantic import Field

from lull.api.meta import (
    Conditions,
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
    epoch: Annotated[int, Field(ge=1)] = Field(
        1, description="Raised each time the placement is routed again; a drain is claimed for one epoch."
    )
    state: Literal["Loaded", "Draining", "Resident"] = Field(
        description="Loaded: routed. Draining: leaving the gateways. Resident: fenced, still loaded."
    )


class ModelHostSpec(Model):
    """What the host should hold. Written by the controller alone."""

    pool: Dns1123Label = Field(description="The ModelPool it belongs to.")
    pod_name: Annotated[str, Field(max_length=253)] = Field(description="Its Pod; the same name as the host.")
    models: Annotated[list[HostModel], Field(max_length=256)] = Field(
        default=[], description="What it should hold."
    )


class Counters(Model):
    """Totals of one placement since it came to the host; a reload of the model never sets them back."""

    requests: Annotated[int, Field(ge=0)] = 0
    failures: Annotated[int, Field(ge=0)] = 0


class HostModelUtilization(Model):
    """One placement's figures of the last window, from Triton's statistics."""

    window: Duration
    requests_per_minute: Annotated[int, Field(ge=0)] = 0
    failures_per_minute: Annotated[int, Field(ge=0)] = 0
    busy_percent: Annotated[int, Field(ge=0)] = Field(
        0, description="Time that it computed, in percent of the window."
    )
    queue_milliseconds: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[str, Field(max_length=16)] | None = None
    latency_p50: Duration | None = Field(None, alias="latencyP50")
    latency_p95: Duration | None = Field(None, alias="latencyP95")
    latency_p99: Duration | None = Field(None, alias="latencyP99")


class HostModelEnergy(Model):
    """One placement's part of the host's draw. The totals never fall while the placement lives."""

    idle_milliwatts: Annotated[int, Field(ge=0)] = 0
    dynamic_milliwatts: Annotated[int, Field(ge=0)] = 0
    idle_joules: Annotated[int, Field(ge=0)] = 0
    dynamic_joules: Annotated[int, Field(ge=0)] = 0


class HostModelStatus(Model):
    """What became of one placement."""

    id: PlacementId
    service: ServiceKey
    revision: Annotated[str, Field(max_length=63)] = ""
    state: Literal["Fetching", "Loading", "Ready", "Unloading", "Failed"]
    reason: Annotated[str, Field(max_length=128)] | None = None
    message: Text | None = None
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
    counters: Counters | None = None
    utilization: HostModelUtilization | None = None
    energy: HostModelEnergy | None = None


class AcceleratorStatus(Model):
    """The host's accelerator, as its agent sees it."""

    uuid: Annotated[str, Field(max_length=128)] | None = None
    product: Annotated[str, Field(max_length=128)] | None = None
    memory_total: Quantity | None = None
    memory_used: Quantity | None = None
    utilization_percent: Percent | None = Field(None, description="As the device's own sensor says.")


class HostEnergy(Model):
    """What the host draws: its models' parts and what no model is charged with."""

    basis: Literal["Measured", "Modelled"]
    milliwatts: Annotated[int, Field(ge=0)] = 0
    joules: Annotated[int, Field(ge=0)] = Field(0, description="Since the host came; never falls.")
    dynamic_joules: Annotated[int, Field(ge=0)] = Field(
        0, description="Of `joules`, what its models' computing drew, of those that have left too."
    )
    unallocated_milliwatts: Annotated[int, Field(ge=0)] = 0
    unallocated_joules: Annotated[int, Field(ge=0)] = 0


class ModelHostStatus(Model):
    """What the host does hold. Written by its own agent alone."""

    address: Annotated[str, Field(max_length=45)] | None = Field(
        None, description="Where its Triton listens."
    )
    models: Annotated[list[HostModelStatus], Field(max_length=256)] = Field(default=[])
    accelerator: AcceleratorStatus | None = None
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
