"""The table of images."""

import pytest

from lull.local.errors import LocalClusterError
from lull.local.node.images import find, read_table, repository


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("lull/runtime", "lull/runtime"),
        ("lull/runtime:1.2", "lull/runtime"),
        ("registry:5000/lull/runtime:1@sha256:ab", "registry:5000/lull/runtime"),
        ("plain:latest", "plain"),
    ],
)
def test_tag_and_digest_do_not_matter(image, name):
    assert repository(image) == name
    assert find({name: {"path": ["/x"]}}, image) == {"path": ["/x"]}


def test_placeholders_are_filled_in(tmp_path):
    path = tmp_path / "images.yaml"
    path.write_text('images: {a: {path: ["${VENV}/bin"], env: {X: "${VENV}"}, prefix: [nice]}}')
    assert read_table(path, {"VENV": "/v"}) == {
        "a": {"path": ["/v/bin"], "env": {"X": "/v"}, "prefix": ["nice"]}
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("images: {a: {path: ['${NOPE}']}}", "NOPE"),
        ("images: {a: {paht: []}}", "path"),
        ("other: {}", "images"),
        ("[", "YAML"),
    ],
)
def test_a_bad_table_is_refused_with_what_is_wrong(tmp_path, text, says):
    path = tmp_path / "images.yaml"
    path.write_text(text)
    with pytest.raises(LocalClusterError, match=says):
        read_table(path, {})
