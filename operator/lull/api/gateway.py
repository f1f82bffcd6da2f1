"""ModelGateway: what one gateway replica waits for and what it has let go of."""

from typing import Annotated

from pydantic import Field

from lull.api.latency import BINS
from lull.api.meta import Model, ServiceKey, Time


class ModelGatewaySpec(Model):
    """Empty: a gateway is told nothing here."""


class RevisionCounts(Model):
    """What one revision was asked through one gateway: totals since its counting began there."""

    requests: Annotated[int, Field(ge=0)] = Field(0, description="Requests that it was asked and that ended.")
    failures: Annotated[int, Field(ge=0)] = Field(
        0, description="Those that it failed, also where another revision then answered."
    )
    latency: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=BINS)] = Field(
        default=[],
        description="Its answers by how long they took: up to 1 ms, and each bin a quarter longer.",
    )
    compared: Annotated[int, Field(ge=0)] = Field(0, description="Answers compared in shadow.")
    differed: Annotated[int, Field(ge=0)] = Field(0, description="Those that were other ones.")


class ModelGatewayStatus(Model):
    """Written by the gateway's pilot alone."""

    renew_time: Time | None = Field(None, description="Heartbeat; an old one demands nothing.")
    address: Annotated[str, Field(max_length=45)] | None = Field(None, description="Where its Envoy listens.")
    held: Annotated[
        list[ServiceKey], Field(max_length=10_000, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field(default=[], description="Services that requests wait for.")
    drained: Annotated[
        list[Annotated[str, Field(max_length=80)]],
        Field(max_length=10_000, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = Field(
        default=[], description="Draining placements that no request of this gateway can reach, as id.epoch."
    )
    delayed: Annotated[
        dict[Annotated[str, Field(max_length=317)], Annotated[int, Field(ge=0)]], Field(max_length=1000)
    ] = Field(
        default={},
        description="Requests that waited for a wake for more than 100 ms, by service, since the gateway "
        "started; of the services that it held requests for in the last ten minutes.",
    )
    traffic: Annotated[dict[Annotated[str, Field(max_length=381)], RevisionCounts], Field(max_length=200)] = (
        Field(
            default={},
            description="What the revisions of services in a rollout were asked, as namespace/name@revision.",
        )
    )


class ModelGateway(Model):
    """One gateway replica, made by its pilot and owned by its Pod. Lull's own: users only look at it."""

    spec: ModelGatewaySpec | None = None
    status: ModelGatewayStatus | None = None
