"""What the four kinds have in common: field types, conditions, and the base model."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from lull.api.quantities import DURATION_PATTERN, QUANTITY_PATTERN

Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=32)]
"""A non-negative Kubernetes quantity, such as `2Gi`."""
Duration = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=32)]
"""A duration such as `90s`, `5m` or `1h30m`."""
Time = Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
"""An RFC 3339 time in UTC."""
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
Dns1123Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
ServiceKey = Annotated[str, Field(pattern=r"^[^/]+/[^/]+$", max_length=317)]
"""A ModelService as `namespace/name`."""
SCHEMES = "https?|oci|s3|pvc|hf|file"
"""Of the URIs that artifacts are fetched from, as a pattern."""
Text = Annotated[str, Field(max_length=1024)]
"""A sentence for people; writers cut it to 1,024 characters."""
Microjoules = Annotated[int, Field(ge=0, le=999_999)]
"""What is left of a number of whole joules."""
Percent = Annotated[int, Field(ge=0, le=100)]


class Model(BaseModel):
    """Base of every API type: camelCase on the wire, unknown fields ignored when read back."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    def wire(self) -> dict[str, Any]:
        """Return the object as it is written to the API server: camelCase, without what is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Condition(Model):
    """One observation of the object's state, keyed by `type`."""

    type: Annotated[str, Field(max_length=64)] = Field(description="What it tells of, such as Ready.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=128)] = (
        Field(description="One word for programs.")
    )
    message: Annotated[str, Field(max_length=1024)] = Field("", description="A sentence for people.")
    observed_generation: Annotated[int, Field(ge=0)] = Field(
        0, description="The generation of the spec that it is of."
    )
    last_transition_time: Time = Field(description="When its status last changed.")


Conditions = Annotated[
    list[Condition],
    Field(
        default_factory=list,
        max_length=16,
        description="Ready, and what explains it; a service that sleeps is Ready.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


ObservedGeneration = Annotated[
    int,
    Field(ge=-1, description="The generation of the spec that the status is of; -1 before the first look."),
]

UNSEEN: dict[str, Any] = {"default": {"observedGeneration": -1}}
"""Schema extension of `status`: to tools that find no status at all an object of a kind that they do not
know is done, before anybody has looked at it."""


def list_map(*keys: str) -> dict[str, Any]:
    """Return the schema extension of a list whose items are merged by `keys` under server-side apply."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Return CEL validation rules as `(expression, message)` pairs."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}
