"""A real registry and a real S3 server, with one artifact in each and a pool's Secret for it."""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lull.local import servers
from lull_runtime.agent.fetch import Sources, _Part, fetch
from lull_runtime.stores.credentials import AWS, REGISTRIES, Credentials
from lull_runtime.stores.http import Client
from lull_runtime.stores.push import target_of

CARD = b'{"name": "digits"}'


@dataclass
class Artifact:
    tar: Path
    digest: str
    size_bytes: int


@dataclass
class Store:
    """One kind of store, its server, and what a pool knows of it."""

    kind: str
    server: servers.Server
    folder: Path
    artifact: Artifact
    user: str = servers.USER
    uri: str = ""

    @property
    def secret(self) -> Path:
        return self.folder / "secret"

    @property
    def prefix(self) -> str:
        return f"oci://{self.server.host}/demo/" if self.kind == "oci" else "s3://models/demo/"

    def sources(self, **more) -> Sources:
        return Sources(self.folder, [self.prefix], credentials=self.secret, **more)

    def credentials(self, user: str = servers.USER, password: str = servers.PASSWORD) -> Credentials:
        """Write the Secret."""
        self.secret.mkdir(exist_ok=True)
        auth = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
        (self.secret / REGISTRIES).write_text(json.dumps({"auths": {self.server.host: auth}}))
        (self.secret / AWS).write_text(
            f"[default]\naws_access_key_id = {user}\naws_secret_access_key = {password}\n"
            f"endpoint_url = http://{self.server.host}\n"
        )
        return Credentials.in_folder(self.secret)

    def push(self, credentials: Credentials) -> str:
        target = target_of(f"{self.prefix}digits", credentials)
        return target.push(self.artifact.tar, CARD, self.artifact.digest)

    async def fetch(self, out: Path, **more) -> str:
        return await fetch(self.uri, self.artifact.digest, out, self.sources(**more), plenty)

    def stored(self) -> Path:
        """The file in which the server keeps the tar."""
        return next(
            path
            for path in self.server.folder.rglob("*")
            if path.is_file() and path.stat().st_size == self.artifact.size_bytes
        )

    def rename_user(self, user: str) -> None:
        """Let the server know somebody else only, as when credentials have been renewed."""
        if self.kind == "oci":
            htpasswd = self.server.folder / "htpasswd"
            htpasswd.write_text(htpasswd.read_text().replace(f"{servers.USER}:", f"{user}:"))
        else:
            self.server = replace(
                self.server, environment=self.server.environment | {"ROOT_ACCESS_KEY": user}
            )
        self.restart()

    def restart(self) -> None:
        self.server.stop(grace_seconds=0)
        self.server.start()


async def plenty(size_bytes: int, claimed_bytes: int) -> None:
    """Room for everything."""


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Larger than what a connection holds on its way."""
    content = os.urandom(16 << 20)
    tar = tmp_path_factory.mktemp("artifact") / "digits.tar"
    tar.write_bytes(content)
    return Artifact(tar, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))


@pytest.fixture(params=["oci", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, artifact: Artifact) -> Iterator[Store]:
    """A store that holds the artifact."""
    yield from _store(request.param, tmp_path, artifact)


@pytest.fixture
def registry(tmp_path: Path, artifact: Artifact) -> Iterator[Store]:
    yield from _store("oci", tmp_path, artifact)


def _store(kind: str, folder: Path, artifact: Artifact) -> Iterator[Store]:
    make = servers.registry if kind == "oci" else (lambda where: servers.s3(where, ["models"]))
    store = Store(kind, make(folder / "server"), folder, artifact)
    try:
        store.server.start()
        store.uri = store.push(store.credentials())
        yield store
    finally:
        store.server.stop(grace_seconds=0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, int]]:
    """What was asked for of each store: the `Range` and the status that was answered."""
    noted: list[tuple[str | None, int]] = []
    get = Client.get

    async def noting(self, url, headers):
        response = await get(self, url, headers)
        noted.append((headers.get("Range"), response.status))
        return response

    monkeypatch.setattr(Client, "get", noting)
    return noted


@pytest.fixture
def in_mid_pull(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Have something done once the first bytes have come, and not the last."""

    def have_done(deed: Callable[[], None]) -> None:
        append, deeds = _Part.append, iter([deed])

        def appending(part: _Part, chunk: bytes) -> None:
            append(part, chunk)
            for each in deeds:
                each()

        monkeypatch.setattr(_Part, "append", appending)

    return have_done
