"""OCI registries: the blob that is the artifact's tar, by its digest or through a manifest's."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp
from yarl import URL

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.uris import plain, split
from lull_runtime.stores.credentials import Login
from lull_runtime.stores.http import Client, Rules, from_offset, is_this_machine, shown_to
from lull_runtime.stores.stream import Stream

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT = "application/vnd.lull.model.v2"
CARD = "application/vnd.lull.card.v2+json"
LAYER = "application/vnd.lull.model.v2.tar"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Repository:
    """One repository of a registry.

    Attributes:
        host: of the registry, with its port where it has one.
        name: of the repository.
        tag: for people; what is served goes by digest alone.
    """

    host: str
    name: str
    tag: str | None

    @classmethod
    def of(cls, uri: str) -> "Repository":
        """Read `oci://HOST/NAME[:TAG]`."""
        parts = split(uri)
        name, _, tag = parts.path.strip("/").partition(":")
        return cls(parts.netloc, name, tag or None)

    @property
    def is_plain(self) -> bool:
        """Whether it is spoken to without TLS: on this very machine only."""
        return is_this_machine(split(f"//{self.host}").hostname or "")

    @property
    def base(self) -> str:
        """The URL of the registry."""
        return f"{'http' if self.is_plain else 'https'}://{self.host}/"

    def url(self, kind: str, digest: str) -> str:
        """The URL of a blob or manifest (`kind` is `blobs` or `manifests`)."""
        return f"{self.base}v2/{quote(self.name)}/{kind}/{digest}"


@dataclass
class OciOrigin:
    """An artifact in a registry.

    Attributes:
        uri: the model's, without a pinned digest.
        pinned: a manifest's digest, where the URI pins one; or the tar's.
        digest: of the tar; or of the manifest, whose only layer then is the tar.
        repository: where it lies.
        rules: where the transfer may go.
        login: for the registry.
    """

    uri: str
    pinned: str
    digest: str
    repository: Repository
    rules: Rules
    login: Login | None = None
    _tar: str | None = None
    _authorization: dict[str, str] = field(default_factory=dict)

    async def open(self, offset: int) -> Stream:
        """Begin to read the tar at an offset."""
        async with Client(self.uri, self.rules) as client:
            if self._tar is None:
                self._tar = await self._resolve(client)
            blob = self.repository.url("blobs", self._tar)
            response = await self._get(client, blob, from_offset(offset))
            return await client.stream(response, offset, self._tar)

    async def _resolve(self, client: Client) -> str:
        """The digest of the tar: what is pinned may be a manifest's, as is the custom, or its own."""
        if not self.pinned:
            return self.digest
        response = await self._get(
            client, self.repository.url("manifests", self.pinned), {"Accept": MANIFEST}
        )
        if response.status == 404 and self.pinned == self.digest:
            return self.digest
        if response.status != 200:
            raise await client.refusal(response)
        tar = _layer_of(await client.text(response), self.pinned, self.uri)
        if self.digest not in (self.pinned, tar):
            raise ModelError(
                Reason.DIGEST_MISMATCH, f"{self.uri}@{self.pinned} holds {tar}, not {self.digest}"
            )
        return tar

    async def _get(self, client: Client, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Ask, and where the registry then wants to know who asks, tell it and ask once more."""
        response = await client.get(url, {**headers, **self._authorization})
        if response.status != 401 or response.url.origin() != URL(self.repository.base).origin():
            return response
        kind, _, details = response.headers.get("WWW-Authenticate", "").partition(" ")
        if kind.lower() == "bearer":
            token = await self._token(client, dict(_CHALLENGE.findall(details)))
            self._authorization = {"Authorization": f"Bearer {token}"}
        elif kind.lower() == "basic" and self.login:
            self._authorization = {"Authorization": self.login.basic()}
        else:
            return response
        response.close()
        return await client.get(url, {**headers, **self._authorization})

    async def _token(self, client: Client, challenge: Mapping[str, str]) -> str:
        """A token from whom the registry names: it vouches for them, the rules for their address."""
        asked = {name: challenge[name] for name in ("service", "scope") if name in challenge}
        realm = challenge.get("realm", "")
        shown = shown_to(split(realm), self.login)
        try:
            url = str(URL(realm).extend_query(asked))
        except ValueError:
            raise ModelError(
                Reason.URI_NOT_ALLOWED, f"{self.uri}: tokens are at {plain(realm)!r}, which is no URI"
            ) from None
        response = await client.get(url, shown)
        if response.status != 200:
            raise await client.refusal(response)
        try:
            answer = json.loads(await client.text(response))
            return str(answer.get("token") or answer["access_token"])
        except (ValueError, AttributeError, KeyError) as error:
            raise ModelError(
                Reason.UNREACHABLE, f"{self.uri}: the registry's token service answers no token"
            ) from error


def _layer_of(manifest: bytes, digest: str, uri: str) -> str:
    """The digest of a manifest's only layer."""
    have = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    if have != digest:
        raise ModelError(Reason.DIGEST_MISMATCH, f"{uri}: the manifest is {have}, not {digest}")
    try:
        (layer,) = json.loads(manifest)["layers"]
        if not _DIGEST.fullmatch(layer["digest"]):
            raise ValueError("no digest")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            Reason.NOT_A_MODEL, f"{uri}: its manifest is not that of a model: one layer, which is a tar"
        ) from error
    return str(layer["digest"])
