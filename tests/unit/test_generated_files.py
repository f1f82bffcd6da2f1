"""crds/ is what the models say, and `kubectl explain` has a word for each field."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lull.api.crd import write


def test_the_committed_crds_are_what_the_models_say(tmp_path: Path) -> None:
    committed = Path(__file__).parents[2] / "crds"
    for path in write(tmp_path):
        assert (committed / path.name).read_text() == path.read_text(), "run `make generate`"


def undescribed(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the fields under a schema that say nothing of themselves."""
    for name, field in schema.get("properties", {}).items():
        if not field.get("description") and path + name not in (".apiVersion", ".kind", ".metadata"):
            yield path + name
        yield from undescribed(field, f"{path}{name}.")
    if "items" in schema:
        yield from undescribed(schema["items"], f"{path}[].")


def test_kubectl_explain_has_a_word_for_every_field(tmp_path: Path) -> None:
    for path in write(tmp_path):
        definition = yaml.safe_load(path.read_text())
        if definition["kind"] != "CustomResourceDefinition":
            continue
        (version,) = definition["spec"]["versions"]
        assert list(undescribed(version["schema"]["openAPIV3Schema"], ".")) == []
