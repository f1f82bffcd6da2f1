"""CustomResourceDefinitions from the pydantic models: `python -m lull.api.crd crds/`.

The API server asks for a structural schema: no `$ref`, no `anyOf … null`, no `additionalProperties: false`;
and it refuses CEL rules over strings and lists without a bound, so each has its `maxLength` or `maxItems`.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lull.api.gateway import ModelGateway
from lull.api.host import ModelHost
from lull.api.meta import Model
from lull.api.names import GROUP, VERSION
from lull.api.pool import ModelPool
from lull.api.service import ModelService

Schema = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One printer column; `wide` shows it with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False

    def wire(self) -> Schema:
        """Return it as the API server wants it."""
        column: Schema = {"name": self.name, "type": self.type, "jsonPath": self.path}
        return column | ({"priority": 1} if self.wide else {})


@dataclass(frozen=True)
class Definition:
    """What a CRD says beside its schema."""

    model: type[Model]
    plural: str
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]
    namespaced: bool = True


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


AGE = Column("Age", ".metadata.creationTimestamp", "date")

DEFINITIONS = (
    Definition(
        ModelService,
        "modelservices",
        ("msvc",),
        (
            Column("Ready", _condition("Ready", "status")),
            Column("State", _condition("Active", "reason")),
            Column("Replicas", ".status.readyReplicas"),
            Column("Req/min", ".status.utilization.requestsPerMinute", "integer"),
            Column("Busy", ".status.utilization.busy"),
            Column("Memory", ".status.utilization.memory"),
            Column("Watts", ".status.energy.watts"),
            Column("Saved", ".status.energy.saved"),
            AGE,
            Column("URL", ".status.url", wide=True),
            Column("Pool", ".spec.pool", wide=True),
            Column("P99", ".status.utilization.latencyP99", wide=True),
            Column("Revision", ".status.revisions[0].name", wide=True),
        ),
    ),
    Definition(
        ModelPool,
        "modelpools",
        ("mpool",),
        (
            Column("Ready", _condition("Ready", "status")),
            Column("Hosts", ".status.hosts.total", "integer"),
            Column("Max", ".spec.hosts.max", "integer"),
            Column("Memory", ".status.memory.supply"),
            Column("Used", ".status.memory.used"),
            Column("Memory%", ".status.utilizationPercent", "integer"),
            Column("Busy%", ".status.busyPercent", "integer"),
            Column("Watts", ".status.energy.watts"),
            Column("Saved", ".status.energy.saved"),
            AGE,
        ),
        namespaced=False,
    ),
    Definition(
        ModelHost,
        "modelhosts",
        ("mhost",),
        (
            Column("Pool", ".spec.pool"),
            Column("Ready", _condition("Ready", "status")),
            Column("Holds", ".spec.models[*].name"),
            Column("States", ".spec.models[*].state"),
            Column("Busy%", ".status.busyPercent", "integer"),
            Column("Watts", ".status.watts"),
            Column("Address", ".status.address", wide=True),
            Column("Vacate", ".spec.vacate", wide=True),
            AGE,
        ),
    ),
    Definition(
        ModelGateway,
        "modelgateways",
        ("mgw",),
        (
            Column("Renewed", ".status.renewTime", "date"),
            Column("Held", ".status.held"),
            Column("Drained", ".status.drained", wide=True),
            AGE,
        ),
    ),
)


def custom_resource_definition(definition: Definition) -> Schema:
    """Return the CRD of one kind, ready to apply."""
    kind = definition.model.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{definition.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if definition.namespaced else "Cluster",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": definition.plural,
                "singular": kind.lower(),
                "shortNames": list(definition.short_names),
                "categories": ["lull"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": structural_schema(definition.model)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [column.wire() for column in definition.columns],
                }
            ],
        },
    }


def structural_schema(model: type[Model]) -> Schema:
    """Return a model's schema in the form that a CRD takes."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    definitions = schema.pop("$defs", {})
    whole = _structural(schema, definitions)
    # The API server adds and checks these itself; without them `kubectl explain` would not name them.
    whole["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    } | whole["properties"]
    return whole


def _structural(node: Schema, definitions: dict[str, Schema]) -> Schema:
    node = _resolved(node, definitions)
    kept = {key: value for key, value in node.items() if key not in _DROPPED}
    if "const" in node:
        kept["enum"] = [kept.pop("const")]
    if "exclusiveMinimum" in kept:
        kept |= {"minimum": kept["exclusiveMinimum"], "exclusiveMinimum": True}
    if "properties" in kept:
        kept["properties"] = {
            name: _structural(child, definitions) for name, child in kept["properties"].items()
        }
    if "items" in kept:
        item = _structural(kept["items"], definitions)
        kept["items"] = item if kept.get("x-kubernetes-list-type") == "map" else _without_defaults(item)
    if isinstance(node.get("additionalProperties"), dict):
        kept["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if "default" in kept:
        kept["default"] = _without_nulls(kept["default"])
    if "description" in kept:
        kept["description"] = " ".join(kept["description"].split())
    return kept


def _without_nulls(default: object) -> object:
    """Return a default without what it leaves unset: to the API server null is a value, and a wrong one."""
    if not isinstance(default, dict):
        return default
    return {name: _without_nulls(value) for name, value in default.items() if value is not None}


def _without_defaults(item: Schema) -> Schema:
    """Return the schema of an item that the API server completes with nothing; its reader does.

    GitOps tools compare a list without keys as a whole: what was filled in would be a difference for ever.
    """
    kept = {key: value for key, value in item.items() if key != "default"}
    if "properties" in kept:
        kept["properties"] = {name: _without_defaults(child) for name, child in kept["properties"].items()}
    return kept


_DROPPED = ("title", "$ref", "anyOf", "additionalProperties", "propertyNames")


def _resolved(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Return `node` with its `$ref` or optional type inlined; the field's own words win over its type's."""
    own = {key: value for key, value in node.items() if key not in ("$ref", "anyOf") and value is not None}
    if "$ref" in node:
        return _resolved(definitions[node["$ref"].rsplit("/", 1)[1]], definitions) | own
    if "anyOf" in node:
        (inner,) = (choice for choice in node["anyOf"] if choice.get("type") != "null")
        return _resolved(inner, definitions) | own
    return own


def write(folder: Path) -> list[Path]:
    """Write one file a kind into `folder` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for definition in DEFINITIONS:
        path = folder / f"{GROUP}_{definition.plural}.yaml"
        text = yaml.safe_dump(
            custom_resource_definition(definition), sort_keys=False, width=110, allow_unicode=True
        )
        path.write_text(f"# Generated from lull.api by `make generate`; do not edit.\n{text}")
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write(Path(sys.argv[1])):
        print(written)  # noqa: T201
