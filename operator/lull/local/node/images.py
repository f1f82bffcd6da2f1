"""The table that says what an image is on a process node: where its programs are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lull.local.errors import LocalClusterError

Image = dict[str, Any]
"""`path`: folders before the PATH; `env`: variables; `prefix`: what stands before the command."""

Table = dict[str, Image]
_KEYS = {"path", "env", "prefix"}
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


def read_table(path: Path, values: Mapping[str, str]) -> Table:
    """Reads `images: {NAME: {path: [...], env: {...}, prefix: [...]}}`, filling in each `${NAME}`.

    Raises:
        LocalClusterError: the file is no such table, or a placeholder has no value.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise LocalClusterError(f"{path} cannot be read as YAML: {error}") from error
    table = found.get("images") if isinstance(found, dict) else None
    if not isinstance(table, dict):
        raise LocalClusterError(f"{path} has no `images:` table.")
    for name, image in table.items():
        if not isinstance(image, dict) or set(image) - _KEYS:
            raise LocalClusterError(f"{path}: image {name!r} may have {', '.join(sorted(_KEYS))} only.")
    try:
        filled: Table = _fill(table, values)
    except KeyError as error:
        raise LocalClusterError(f"{path} names ${{{error.args[0]}}}: set that variable.") from error
    return filled


def find(table: Table, image: str) -> Image | None:
    """The table's entry for an image reference, whatever its tag or digest."""
    return table.get(repository(image))


def repository(image: str) -> str:
    """The image reference without its digest and tag."""
    name = image.split("@", 1)[0]
    head, _, last = name.rpartition("/")
    return f"{head}/{last.split(':', 1)[0]}".lstrip("/")


def _fill(value: Any, values: Mapping[str, str]) -> Any:  # noqa: ANN401 - whatever YAML holds
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: values[match[1]], value)
    if isinstance(value, list):
        return [_fill(item, values) for item in value]
    if isinstance(value, dict):
        return {key: _fill(item, values) for key, item in value.items()}
    return value
