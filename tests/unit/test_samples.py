"""The samples are what the API takes."""

from pathlib import Path

import pytest
import yaml

from lull.api.names import API_VERSION
from lull.api.pool import ModelPool
from lull.api.service import ModelService

OURS = {"ModelService": ModelService, "ModelPool": ModelPool}
SAMPLES = sorted((Path(__file__).parents[2] / "manifests" / "samples").glob("*.yaml"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_has_a_kind_of_ours_without_unknown_fields(path):
    text = path.read_text().replace("${DIGEST}", "sha256:" + "0" * 64)
    items = [item for item in yaml.safe_load_all(text) if item["apiVersion"] == API_VERSION]
    assert items
    for item in items:
        spec = OURS[item["kind"]].model_validate({"spec": item["spec"]}).spec.wire()
        assert_named(item["spec"], spec)


def assert_named(said, known):
    """Everything that is said is known, by the same name."""
    for name, value in said.items():
        assert name in known, name
        if isinstance(value, dict):
            assert_named(value, known[name])
