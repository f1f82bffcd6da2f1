"""A Pod's volumes as folders, and where each container finds them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lull.local.node.environment import ConfigurationError, Context, Object, Reference

TokenSource = Callable[[Object], Awaitable[str]]
"""Asks for a service account token; takes the projection `{audience, expirationSeconds, path}`."""

TOKEN_SECONDS = 3600  # what the API server gives where the projection names no time
_SOURCES = ("configMap", "secret", "downwardAPI", "serviceAccountToken")


@dataclass(frozen=True)
class Token:
    """A service account token that a volume holds, to be renewed in time."""

    file: Path
    projection: Object

    @property
    def renew_after_seconds(self) -> float:
        """When to ask for the next one: at four fifths of its life, as the kubelet does."""
        return 0.8 * float(self.projection.get("expirationSeconds", TOKEN_SECONDS))


async def prepare(volume: Object, folder: Path, context: Context, token: TokenSource) -> list[Token]:
    """Makes the folder of one volume, with its contents, and returns the tokens that are in it.

    Raises:
        ConfigurationError: it names what is not there, or is a kind that process nodes have not.
    """
    if "hostPath" in volume:
        _check_host_path(volume["hostPath"])
        return []
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if "emptyDir" in volume:
        return []
    sources = volume["projected"]["sources"] if "projected" in volume else [volume]
    tokens: list[Token] = []
    for source in sources:
        kind = next((kind for kind in _SOURCES if kind in source), None)
        if kind is None:
            raise ConfigurationError(f"volume {volume['name']!r}: process nodes have no such volume")
        if kind == "serviceAccountToken":
            found = Token(folder / source[kind]["path"], source[kind])
            write(found.file, (await token(found.projection)).encode())
            tokens.append(found)
            continue
        for name, content in _files(kind, source[kind], context).items():
            write(folder / name, content)
    return tokens


async def with_claims_resolved(
    pod_volumes: Sequence[Object], claimed: Callable[[str], Awaitable[Object | None]]
) -> list[Object]:
    """The volumes, each claim replaced by the folder of the host that its volume is.

    `claimed(name)` gives the PersistentVolume that a claim is bound to, None where it is not.

    Raises:
        ConfigurationError: a claim is not bound, or to a volume that is no folder of the host.
    """
    found = []
    for volume in pod_volumes:
        claim = volume.get("persistentVolumeClaim")
        if claim is None:
            found.append(volume)
            continue
        persistent = await claimed(claim["claimName"])
        if persistent is None:
            raise ConfigurationError(f"PersistentVolumeClaim {claim['claimName']!r} is not bound")
        place = persistent["spec"].get("hostPath") or persistent["spec"].get("local")
        if place is None:
            raise ConfigurationError(f"PersistentVolume {persistent['metadata']['name']!r} is no hostPath")
        found.append({"name": volume["name"], "hostPath": place})
    return found


def references(pod: Object) -> set[Reference]:
    """The ConfigMaps and Secrets that a Pod's volumes name."""
    found: set[Reference] = set()
    for volume in pod["spec"].get("volumes", []):
        for source in (volume, *volume.get("projected", {}).get("sources", [])):
            if "configMap" in source:
                found.add(("ConfigMap", source["configMap"]["name"]))
            if "secret" in source:
                found.add(("Secret", source["secret"].get("secretName") or source["secret"]["name"]))
    return found


def folder_of(volume: Object, root: Path) -> Path:
    """Where a volume is: its own folder below `root`, or the folder of the host that it names."""
    if "hostPath" in volume:
        return Path(volume["hostPath"]["path"])
    return root / str(volume["name"])


def mounts(container: Object, pod_volumes: Sequence[Object], root: Path) -> dict[str, str]:
    """The folders that stand in for the container's mountPaths."""
    by_name = {volume["name"]: volume for volume in pod_volumes}
    found = {}
    for mount in container.get("volumeMounts", []):
        folder = folder_of(by_name[mount["name"]], root) / mount.get("subPath", "")
        found[mount["mountPath"].rstrip("/") or "/"] = str(folder)
    return found


def write_kubeconfig(path: Path, server: str, authority: Path, token: Path, namespace: str) -> None:
    """Writes a kubeconfig for the holder of a token file, which may be renewed under it."""
    name = "local"
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority": str(authority)}}],
        "users": [{"name": name, "user": {"tokenFile": str(token)}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        "current-context": name,
    }
    write(path, yaml.safe_dump(config, sort_keys=False).encode())


def write(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    temporary.rename(path)


def _files(kind: str, source: Object, context: Context) -> dict[str, bytes]:
    if kind == "downwardAPI":
        return {item["path"]: _downward(item, context).encode() for item in source.get("items", [])}
    contents = context.contents("ConfigMap" if kind == "configMap" else "Secret", source) or {}
    if "items" not in source:
        return contents
    missing = [item["key"] for item in source["items"] if item["key"] not in contents]
    if missing and not source.get("optional"):
        raise ConfigurationError(f"{kind} {source.get('name')!r} has no key {missing[0]!r}")
    return {item["path"]: contents[item["key"]] for item in source["items"] if item["key"] in contents}


def _downward(item: Object, context: Context) -> str:
    if "fieldRef" in item:
        return context.field(item["fieldRef"]["fieldPath"])
    return context.resource(item["resourceFieldRef"], {})


def _check_host_path(source: Object) -> None:
    path, kind = Path(source["path"]), source.get("type", "")
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind and not path.exists():
        raise ConfigurationError(f"hostPath {path} is not there")
