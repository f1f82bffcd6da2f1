"""A registry as the public ones are: it asks for tokens, which another server gives for a login."""

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from integration.stores.conftest import Artifact, Store, plenty
from lull.api.reasons import Reason
from lull.local import servers
from lull_runtime.agent.fetch import Sources, fetch
from lull_runtime.artifact import ModelError
from lull_runtime.stores.credentials import Login


class TokenServer:
    """Gives signed tokens for what is asked for, to who shows the login."""

    def __init__(self) -> None:
        self.given = 0
        self.renew()

    def renew(self) -> None:
        """Sign with another key from now on."""
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
        now = datetime.now(UTC)
        self.certificate = (
            x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .sign(self.key, hashes.SHA256())
        )

    def root(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def answer(self, query: str, authorization: str | None) -> tuple[int, bytes]:
        if authorization != Login(servers.USER, servers.PASSWORD).basic():
            return 401, b"{}"
        self.given += 1
        (scope,) = parse_qs(query)["scope"]
        kind, name, actions = scope.split(":")
        access = [{"type": kind, "name": name, "actions": actions.split(",")}]
        now = int(time.time())
        claims = {"iss": "tokens", "aud": "registry", "sub": "lull", "iat": now, "nbf": now - 10, "jti": "1"}
        return 200, json.dumps(
            {"token": self._signed(claims | {"exp": now + 300, "access": access})}
        ).encode()

    def _signed(self, claims: dict) -> str:
        chain = [base64.b64encode(self.certificate.public_bytes(serialization.Encoding.DER)).decode()]
        parts = [{"typ": "JWT", "alg": "ES256", "x5c": chain}, claims]
        text = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    @contextmanager
    def serve(self) -> Iterator[str]:
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = tokens.answer(urlsplit(self.path).query, self.headers["Authorization"])
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token"
        finally:
            server.shutdown()
            server.server_close()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.fixture
def tokens() -> TokenServer:
    return TokenServer()


@pytest.fixture
def realm(tokens: TokenServer) -> Iterator[str]:
    with tokens.serve() as url:
        yield url


@pytest.fixture
def registry(tmp_path: Path, artifact: Artifact, tokens: TokenServer, realm: str) -> Iterator[Store]:
    server = servers.registry(tmp_path / "server")
    (server.folder / "root.pem").write_bytes(tokens.root())
    configuration = server.folder / "registry.yaml"
    asks = (
        f"auth: {{token: {{realm: '{realm}', service: registry, issuer: tokens, "
        f"rootcertbundle: '{server.folder}/root.pem'}}}}"
    )
    configuration.write_text(re.sub(r"auth: .*", asks, configuration.read_text()))
    store = Store("oci", server, tmp_path, artifact)
    try:
        server.start()
        store.uri = store.push(store.credentials())
        yield store
    finally:
        server.stop(grace_seconds=0)


@pytest.fixture
def sources(registry: Store, realm: str) -> Sources:
    """Of a pool that names the token server, too: here it is on this very machine."""
    return Sources(registry.folder, [registry.prefix, realm], credentials=registry.secret)


async def test_what_is_pushed_with_a_token_is_fetched_with_one(registry, sources, tokens, tmp_path):
    before = tokens.given
    assert before > 0
    digest = registry.artifact.digest
    assert await fetch(registry.uri, digest, tmp_path / "out", sources, plenty) == digest
    assert tokens.given == before + 1


async def test_a_token_that_holds_no_longer_is_asked_for_anew_in_mid_pull(
    registry, sources, tokens, tmp_path, asked, in_mid_pull
):
    before = tokens.given

    def renew() -> None:
        tokens.renew()
        (registry.server.folder / "root.pem").write_bytes(tokens.root())
        registry.restart()

    in_mid_pull(renew)
    digest = registry.artifact.digest
    assert await fetch(registry.uri, digest, tmp_path / "out", sources, plenty) == digest
    assert tokens.given == before + 2
    assert asked[-1][1] == 206


async def test_a_login_that_is_given_no_token_is_unauthorized(registry, sources, tmp_path):
    wrong = registry.credentials(password="wrong")
    with pytest.raises(ModelError) as caught:
        await fetch(registry.uri, registry.artifact.digest, tmp_path / "out", sources, plenty)
    assert caught.value.reason is Reason.UNAUTHORIZED
    with pytest.raises(ModelError) as caught:
        registry.push(wrong)
    assert caught.value.reason is Reason.UNAUTHORIZED
