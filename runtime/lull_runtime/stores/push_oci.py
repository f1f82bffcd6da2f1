"""Puts an artifact into an OCI registry, by oras."""

import hashlib
import inspect
import json
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import oras.client
import oras.provider

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError
from lull_runtime.stores.credentials import Login
from lull_runtime.stores.oci import ARTIFACT, CARD, LAYER, MANIFEST, Repository

_DEADLINES_SECONDS = (10, 60)
"""To connect, and of silence."""


@dataclass
class OciTarget:
    """A repository of a registry."""

    repository: Repository
    login: Login | None
    _answer: Any = field(default=None, init=False)

    def push(self, tar: Path, card: bytes, digest: str) -> str:
        """Put a tar there, as the only layer of a manifest whose config is its card."""
        where = f"oci://{self.repository.host}/{self.repository.name}"
        try:
            client = self._client()
            layer = _descriptor(LAYER, digest, tar.stat().st_size)
            config = _descriptor(CARD, f"sha256:{hashlib.sha256(card).hexdigest()}", len(card))
            self._upload(client, tar, layer)
            with tempfile.NamedTemporaryFile() as file:
                file.write(card)
                file.flush()
                self._upload(client, Path(file.name), config)
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": ARTIFACT,
                "config": config,
                "layers": [layer],
            }
            tag = self.repository.tag or digest.removeprefix("sha256:")[:12]
            url = self.repository.url("manifests", tag)
            body = json.dumps(manifest, sort_keys=True).encode()
            client._check_200_response(
                client.do_request(url, "PUT", data=body, headers={"Content-Type": MANIFEST})
            )
        except (ValueError, OSError) as error:  # the client's, and of connections
            raise self._refusal(where, error) from error
        return where

    def _client(self) -> Any:  # noqa: ANN401
        client = oras.client.OrasClient(hostname=self.repository.host, insecure=self.repository.is_plain)
        # It would try for two minutes what fails, a wrong password too, and wait for ever for an answer.
        client.do_request = partial(_ask, client)
        client.session.request = partial(client.session.request, timeout=_DEADLINES_SECONDS)
        client.session.hooks["response"].append(self._note)
        client.session.auth = _as_it_is  # else .netrc would take the place of a token
        asked = client.session.get(f"{self.repository.base}v2/").headers.get("WWW-Authenticate", "")
        if self.login and asked.lower().startswith("basic"):
            client.session.auth = (self.login.user, self.login.password)
        elif self.login:
            client.auth.set_basic_auth(self.login.user, self.login.password)
        return client

    def _upload(self, client: Any, path: Path, descriptor: dict[str, Any]) -> None:  # noqa: ANN401
        container = client.get_container(f"{self.repository.host}/{self.repository.name}")
        client._check_200_response(client.upload_blob(str(path), container, descriptor, do_chunked=True))

    def _note(self, response: Any, *_: object, **__: object) -> None:  # noqa: ANN401
        self._answer = response

    def _refusal(self, where: str, error: Exception) -> ModelError:
        """What to say: the client's errors tell less than the last answer does."""
        requests = oras.provider.requests
        if self._answer is None or isinstance(error, requests.ConnectionError | requests.Timeout):
            return ModelError(Reason.UNREACHABLE, f"{where}: {error}")
        said = f"the registry answered {self._answer.status_code} {self._answer.reason}"
        if self._answer.status_code in (401, 403):
            return ModelError(
                Reason.UNAUTHORIZED, f"{where}: {said}: `docker login` to it, or renew what you have"
            )
        return ModelError(Reason.UNREACHABLE, f"{where}: {said}")


def _descriptor(media_type: str, digest: str, size_bytes: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size_bytes}


def _ask(client: Any, *request: object, **more: object) -> Any:  # noqa: ANN401
    """Ask once, and again with a token for this very request: it keeps the first, which was to read only."""
    ask = partial(inspect.unwrap(oras.provider.Registry.do_request), client)
    response = ask(*request, **more)
    if response.status_code == 401 and client.auth.token:
        client.auth.token = None
        response = ask(*request, **more)
    return response


def _as_it_is(request: Any) -> Any:  # noqa: ANN401
    return request
