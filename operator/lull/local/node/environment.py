"""A container's environment, command and arguments, as pure functions of the Pod and what it names."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lull.local.node import quantity

Object = dict[str, Any]
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.\-][A-Za-z0-9_.\-]*)\)")
_KEYED_FIELD = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


Reference = tuple[str, str]
"""What a Pod names: `ConfigMap` or `Secret`, and its name."""


class ConfigurationError(Exception):
    """The Pod names something that is not there or that a process node has not."""


@dataclass(frozen=True)
class Context:
    """What a Pod's references resolve against.

    Attributes:
        pod: the Pod, its `status.podIP` and `status.hostIP` set.
        allocatable: what a container without limits could use, by resource.
        config_maps: ConfigMaps of the namespace by name.
        secrets: Secrets of the namespace by name.
    """

    pod: Object
    allocatable: Mapping[str, str]
    config_maps: Mapping[str, Object]
    secrets: Mapping[str, Object]

    def contents(self, kind: str, reference: Object) -> dict[str, bytes] | None:
        """All keys of a ConfigMap or Secret; None where it is optional and missing."""
        store = self.config_maps if kind == "ConfigMap" else self.secrets
        name = reference.get("name") or reference.get("secretName") or ""
        found = store.get(name)
        if found is None:
            if reference.get("optional"):
                return None
            raise ConfigurationError(f"{kind} {name!r} is not there")
        text = found.get("data", {}) if kind == "ConfigMap" else {}
        coded = found.get("binaryData" if kind == "ConfigMap" else "data", {}) or {}
        decoded = {key: base64.b64decode(value) for key, value in coded.items()}
        return {key: value.encode() for key, value in (text or {}).items()} | decoded

    def field(self, path: str) -> str:
        """The value of a downward API field."""
        metadata, status = self.pod["metadata"], self.pod.get("status", {})
        if match := _KEYED_FIELD.fullmatch(path):
            return str(metadata.get(match[1], {}).get(match[2], ""))
        plain = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata.get("namespace", ""),
            "metadata.uid": metadata["uid"],
            "spec.nodeName": self.pod["spec"].get("nodeName", ""),
            "spec.serviceAccountName": self.pod["spec"].get("serviceAccountName", "default"),
            "status.podIP": status.get("podIP", ""),
            "status.podIPs": status.get("podIP", ""),
            "status.hostIP": status.get("hostIP", ""),
            "status.hostIPs": status.get("hostIP", ""),
            "metadata.labels": _lines(metadata.get("labels", {})),
            "metadata.annotations": _lines(metadata.get("annotations", {})),
        }
        if path not in plain:
            raise ConfigurationError(f"there is no downward API field {path!r}")
        return str(plain[path])

    def resource(self, reference: Object, container: Object) -> str:
        """The value of a resourceFieldRef, of its container or of the one it names."""
        if name := reference.get("containerName"):
            container = next(c for c in containers_of(self.pod) if c["name"] == name)
        which, _, resource = reference["resource"].partition(".")
        resources = container.get("resources", {})
        amount = resources.get(which, {}).get(resource)
        if amount is None:
            amount = self.allocatable.get(resource, "0") if which == "limits" else "0"
        return str(quantity.in_units(str(amount), str(reference.get("divisor", "0"))))


def containers_of(pod: Object) -> list[Object]:
    """All containers of a Pod, the init containers first."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def references(container: Object) -> set[Reference]:
    """The ConfigMaps and Secrets that a container's environment names."""
    origins = [entry.get("valueFrom") or {} for entry in container.get("env", [])]
    kinds = {"Key": origins, "": container.get("envFrom", [])}
    return {
        (kind, origin[field]["name"])
        for middle, found in kinds.items()
        for origin in found
        for kind, field in (("ConfigMap", f"configMap{middle}Ref"), ("Secret", f"secret{middle}Ref"))
        if field in origin
    }


def variables(container: Object, context: Context) -> dict[str, str]:
    """The environment of a container: `envFrom`, then `env`, with `$(NAME)` of earlier ones expanded.

    Raises:
        ConfigurationError: a reference that is not optional leads nowhere.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        for name, value in _all_of(source, context):
            found[source.get("prefix", "") + name] = value
    for entry in container.get("env", []):
        text = _value(entry, container, context)
        if text is not None:
            found[entry["name"]] = expand(text, found)
    return found


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replaces `$(NAME)` by its value, `$$` by `$`; what is unknown stays as it is."""

    def replacement(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return known.get(match[1], match[0])

    return _REFERENCE.sub(replacement, text)


def replace_mounts(text: str, folders: Mapping[str, str]) -> str:
    """Replaces each mountPath by its folder wherever it stands as a path or the start of one."""
    if not folders:
        return text
    # The longest first: a mount below another one is the nearer.
    paths = sorted(folders, key=len, reverse=True)
    pattern = rf"(?<![\w.\-])({'|'.join(map(re.escape, paths))})(?![\w.\-])"
    return re.sub(pattern, lambda match: folders[match[1]], text)


def command_line(container: Object, known: Mapping[str, str], folders: Mapping[str, str]) -> list[str]:
    """The container's command and arguments, expanded, with folders in place of mountPaths."""
    words = [*container.get("command", []), *container.get("args", [])]
    return [replace_mounts(expand(word, known), folders) for word in words]


def _all_of(source: Object, context: Context) -> Iterator[tuple[str, str]]:
    for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
        if key in source:
            contents = context.contents(kind, source[key]) or {}
            yield from ((name, value.decode()) for name, value in contents.items())


def _value(entry: Object, container: Object, context: Context) -> str | None:
    """The value of one `env` entry; None where an optional reference leads nowhere."""
    origin = entry.get("valueFrom")
    if not origin:
        return str(entry.get("value", ""))
    if "fieldRef" in origin:
        return context.field(origin["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in origin:
        return context.resource(origin["resourceFieldRef"], container)
    for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        if key in origin:
            return _keyed(kind, origin[key], context)
    raise ConfigurationError(f"{entry['name']}: process nodes do not know valueFrom {', '.join(origin)}")


def _keyed(kind: str, reference: Object, context: Context) -> str | None:
    contents = context.contents(kind, reference)
    if contents is None:
        return None
    if reference["key"] not in contents:
        if reference.get("optional"):
            return None
        raise ConfigurationError(f"{kind} {reference['name']!r} has no key {reference['key']!r}")
    return contents[reference["key"]].decode()


def _lines(pairs: Mapping[str, str]) -> str:
    return "\n".join(f'{key}="{value}"' for key, value in sorted(pairs.items()))
