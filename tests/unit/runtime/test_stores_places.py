"""Each scheme leads where it says, with the credentials for it, and shows them to nobody else."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from aiohttp.resolver import ThreadedResolver

from lull.api.reasons import Reason
from lull_runtime.agent.fetch import Sources, fetch
from lull_runtime.artifact import ModelError
from lull_runtime.artifact.pack import pack_repository
from lull_runtime.stores.credentials import AWS, HUGGING_FACE, NETRC, REGISTRIES
from lull_runtime.stores.http import Client, Rules
from lull_runtime.stores.oci import Repository
from unit.runtime.fetching import CONTENT, DIGEST, Answer, content, plenty, refused, serving

BASIC = "Basic " + base64.b64encode(b"me:it").decode()
COMMIT = "a" * 40
CONFIG = 'backend: "onnxruntime" input [ { name: "x" } ] output [ { name: "y" } ]'


class Server:
    """Answers by path, and notes each request."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.otherwise: Answer = content
        self.seen: list[web.Request] = []
        self.host = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        return await self.answers.get(request.path, self.otherwise)(request)

    def shown(self) -> list[str | None]:
        return [request.headers.get("Authorization") for request in self.seen]


@asynccontextmanager
async def running() -> AsyncIterator[Server]:
    server = Server()
    async with serving(server.handle) as server.host:
        yield server


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as server:
        yield server


@pytest.fixture
async def other() -> AsyncIterator[Server]:
    async with running() as server:
        yield server


@pytest.fixture
def sources(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Sources:
    """Of a pool that may come to one server, and has credentials for it."""
    monkeypatch.setattr("lull_runtime.stores.origin._HUGGING_FACE", f"http://{server.host}")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / REGISTRIES).write_text(
        json.dumps({"auths": {server.host: {"username": "me", "password": "it"}}})
    )
    (secret / AWS).write_text(
        "[default]\naws_access_key_id = me\naws_secret_access_key = it\naws_session_token = session\n"
        f"endpoint_url = http://{server.host}\n"
    )
    (secret / NETRC).write_text("machine 127.0.0.1 login me password it\n")
    (secret / HUGGING_FACE).write_text("hf_it\n")
    return Sources(
        tmp_path / "files",
        ["s3://bucket/", "hf://org/", "pvc://models/", f"oci://{server.host}/", f"http://{server.host}/"],
        credentials=secret,
    )


async def fetched(uri: str, tmp_path: Path, sources: Sources, digest: str = DIGEST) -> None:
    assert await fetch(uri, digest, tmp_path / "out", sources, plenty) == digest


def redirecting(to: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": to})

    return answer


def failing(status: int, body: str = "", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(
            status=status, text=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return answer


# Web servers


async def test_a_web_server_is_shown_the_login_that_netrc_has_for_it(server, sources, tmp_path):
    await fetched(f"http://{server.host}/m.tar", tmp_path, sources)
    assert server.shown() == [BASIC]


async def test_a_login_does_not_go_along_with_a_redirect(server, other, sources, tmp_path):
    sources = replace(sources, allowed=[*sources.allowed, f"http://{other.host}/"])
    server.answers["/m.tar"] = redirecting(f"http://{other.host}/m.tar")
    await fetched(f"http://{server.host}/m.tar", tmp_path, sources)
    assert other.shown() == [None]


async def test_a_login_does_not_go_over_an_open_network(sources, tmp_path, monkeypatch):
    (sources.credentials / NETRC).write_text("machine models.example login me password it\n")
    opened: list[dict] = []

    async def download(url, uri, offset, digest, rules, headers):
        opened.append(dict(headers))
        raise ModelError(Reason.UNREACHABLE, "seen")

    monkeypatch.setattr("lull_runtime.stores.http.download", download)
    for scheme in ("http", "https"):
        allowed = replace(sources, allowed=[f"{scheme}://models.example/"])
        await refused(f"{scheme}://models.example/m.tar", tmp_path / "out", allowed)
    assert opened == [{}, {"Authorization": BASIC}]


@pytest.mark.parametrize("status", [401, 403])
async def test_who_is_not_let_in_is_told_where_credentials_belong(server, sources, tmp_path, status):
    server.answers["/m.tar"] = failing(status)
    error = await refused(f"http://{server.host}/m.tar", tmp_path / "out", sources)
    assert error.reason is Reason.UNAUTHORIZED
    assert "spec.credentials" in error.message
    assert len(server.seen) == 1


async def test_redirects_whose_bodies_never_end_are_followed(server, sources, tmp_path):
    async def onwards(request: web.Request) -> web.StreamResponse:
        hop = int(request.path[1:])
        location = f"/{hop + 1}" if hop < 4 else "/m.tar"
        response = web.StreamResponse(status=302, headers={"Location": location})
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 16))

    server.answers = {f"/{hop}": onwards for hop in range(1, 5)}
    await fetched(f"http://{server.host}/1", tmp_path, sources)


# Registries


def registry_with_tokens(server: Server, realm: str, token: str = "t0ken") -> None:
    async def blob(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") == f"Bearer {token}":
            return await content(request)
        challenge = f'Bearer realm="{realm}",service="reg",scope="repository:org/m:pull"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    server.answers[f"/v2/org/m/blobs/{DIGEST}"] = blob


async def test_a_token_is_asked_of_whom_the_registry_names(server, sources, tmp_path):
    async def token(request: web.Request) -> web.StreamResponse:
        assert parse_qs(request.query_string) == {"service": ["reg"], "scope": ["repository:org/m:pull"]}
        return web.json_response({"access_token": "t0ken"})

    registry_with_tokens(server, f"http://{server.host}/token")
    server.answers["/token"] = token
    await fetched(f"oci://{server.host}/org/m", tmp_path, sources)
    assert server.shown() == [None, BASIC, "Bearer t0ken"]


async def test_a_token_s_place_may_have_a_query_of_its_own(server, sources, tmp_path):
    async def token(request: web.Request) -> web.StreamResponse:
        assert parse_qs(request.query_string) == {
            "account": ["a b"],
            "service": ["reg"],
            "scope": ["repository:org/m:pull"],
        }
        return web.json_response({"token": "t0ken"})

    registry_with_tokens(server, f"http://{server.host}/token?account=a%20b")
    server.answers["/token"] = token
    await fetched(f"oci://{server.host}/org/m", tmp_path, sources)


async def test_a_registry_s_login_goes_for_a_token_over_no_open_network(
    server, sources, tmp_path, monkeypatch
):
    asked, get = [], Client.get

    async def noted(self, url, headers):
        if "tokens.example" not in url:
            return await get(self, url, headers)
        asked.append((url.partition(":")[0], dict(headers)))
        raise ModelError(Reason.UNREACHABLE, "seen")

    monkeypatch.setattr(Client, "get", noted)
    for scheme in ("http", "https"):
        registry_with_tokens(server, f"{scheme}://tokens.example/token")
        await refused(f"oci://{server.host}/org/m", tmp_path / "out", sources)
    assert asked == [("http", {}), ("https", {"Authorization": BASIC})]


@pytest.mark.parametrize(
    "realm",
    [
        "http://169.254.169.254/token",
        "https://169.254.169.254/token",
        "https://10.1.2.3/token",
        "http://[",
        "token",
        "",
    ],
)
async def test_a_registry_that_names_a_forbidden_place_for_tokens_is_refused(
    server, sources, tmp_path, realm
):
    registry_with_tokens(server, realm)
    error = await refused(f"oci://{server.host}/org/m", tmp_path / "out", sources)
    assert error.reason is Reason.URI_NOT_ALLOWED
    assert len(server.seen) == 1


async def test_another_service_of_the_registry_s_machine_is_asked_only_where_the_pool_names_it(
    server, other, sources, tmp_path
):
    async def token(_: web.Request) -> web.StreamResponse:
        return web.json_response({"token": "t0ken"})

    registry_with_tokens(server, f"http://{other.host}/token")
    other.answers["/token"] = token
    uri = f"oci://{server.host}/org/m"
    assert (await refused(uri, tmp_path / "out", sources)).reason is Reason.URI_NOT_ALLOWED
    assert other.seen == []
    await fetched(uri, tmp_path, replace(sources, allowed=[*sources.allowed, f"http://{other.host}/token"]))


@pytest.mark.parametrize(
    "answer", [failing(401), failing(200, "[]"), failing(200, "{}"), failing(200, "<html>")]
)
async def test_a_token_service_that_gives_none_is_named(server, sources, tmp_path, answer):
    registry_with_tokens(server, f"http://{server.host}/token")
    server.answers["/token"] = answer
    error = await refused(f"oci://{server.host}/org/m", tmp_path / "out", sources)
    assert error.reason in (Reason.UNAUTHORIZED, Reason.UNREACHABLE)


async def test_a_token_that_is_not_taken_is_unauthorized(server, sources, tmp_path):
    async def token(_: web.Request) -> web.StreamResponse:
        return web.json_response({"token": "expired"})

    registry_with_tokens(server, f"http://{server.host}/token")
    server.answers["/token"] = token
    error = await refused(f"oci://{server.host}/org/m", tmp_path / "out", sources)
    assert error.reason is Reason.UNAUTHORIZED


async def test_a_registry_s_token_does_not_go_along_to_where_its_blobs_lie(server, other, sources, tmp_path):
    sources = replace(sources, allowed=[*sources.allowed, f"http://{other.host}/"])
    blob = f"/v2/org/m/blobs/{DIGEST}"

    async def known(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != BASIC:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return await redirecting(f"http://{other.host}/blob?X-Amz-Signature=s%2Fs")(request)

    server.answers[blob] = known
    await fetched(f"oci://{server.host}/org/m", tmp_path, sources)
    assert other.shown() == [None]
    assert other.seen[0].raw_path == "/blob?X-Amz-Signature=s%2Fs", "signatures are over what is quoted"


async def test_a_login_is_not_shown_to_whom_a_registry_s_blob_store_names(server, other, sources, tmp_path):
    sources = replace(sources, allowed=[*sources.allowed, f"http://{other.host}/"])
    server.answers[f"/v2/org/m/blobs/{DIGEST}"] = redirecting(f"http://{other.host}/blob")
    other.answers["/blob"] = failing(401, WWW_Authenticate=f'Bearer realm="http://{other.host}/token"')
    error = await refused(f"oci://{server.host}/org/m", tmp_path / "out", sources)
    assert error.reason is Reason.UNAUTHORIZED
    assert other.shown() == [None]


async def test_a_tag_is_for_people(server, sources, tmp_path):
    await fetched(f"oci://{server.host}/org/m:v2", tmp_path, sources)
    assert [request.path for request in server.seen] == [f"/v2/org/m/blobs/{DIGEST}"]


@pytest.mark.parametrize(
    "manifest",
    [
        "[]",
        "{}",
        '{"layers": []}',
        '{"layers": [{}]}',
        '{"layers": [{"digest": "../x"}]}',
        '{"layers": [{"digest": 7}]}',
        '{"layers": [{}, {}]}',
        "[" * 100_000,
        "\xff",
    ],
)
async def test_a_manifest_that_is_none_of_a_model_is_named(server, sources, tmp_path, manifest):
    digest = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    server.answers[f"/v2/org/m/manifests/{digest}"] = failing(200, manifest)
    error = await refused(f"oci://{server.host}/org/m@{digest}", tmp_path / "out", sources, digest)
    assert error.reason is Reason.NOT_A_MODEL


async def test_a_manifest_that_is_not_what_was_pinned_is_a_mismatch(server, sources, tmp_path):
    digest = f"sha256:{'0' * 64}"
    server.answers[f"/v2/org/m/manifests/{digest}"] = failing(200, "{}")
    error = await refused(f"oci://{server.host}/org/m@{digest}", tmp_path / "out", sources, digest)
    assert error.reason is Reason.DIGEST_MISMATCH


async def test_an_answer_without_end_is_not_read_to_its_end(server, sources, tmp_path):
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 20))

    server.answers[f"/v2/org/m/manifests/{DIGEST}"] = endless
    error = await refused(f"oci://{server.host}/org/m@{DIGEST}", tmp_path / "out", sources)
    assert error.reason is Reason.UNREACHABLE


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("oci://reg.example/a/b", "https://reg.example/"),
        ("oci://reg.example:5000/a", "https://reg.example:5000/"),
        ("oci://127.0.0.1:5000/a", "http://127.0.0.1:5000/"),
        ("oci://[::1]:5000/a", "http://[::1]:5000/"),
        ("oci://localhost/a", "http://localhost/"),
        ("oci://localhost.example/a", "https://localhost.example/"),
        ("oci://10.0.0.1/a", "https://10.0.0.1/"),
    ],
)
def test_only_this_very_machine_s_registry_is_spoken_to_in_the_open(uri, base):
    assert Repository.of(uri).base == base


# Where a store may send us on to


def resolving(address: str):
    async def resolve(self, host, port=0, family=0):
        return [{"hostname": host, "host": address, "port": port, "family": 2, "proto": 6, "flags": 0}]

    return resolve


async def test_a_public_name_that_stands_for_a_private_address_is_refused(
    server, sources, tmp_path, monkeypatch
):
    monkeypatch.setattr(ThreadedResolver, "resolve", resolving("10.0.0.1"))
    server.answers[f"/v2/org/m/blobs/{DIGEST}"] = redirecting("https://blobs.example/b")
    error = await refused(f"oci://{server.host}/org/m", tmp_path / "out", sources)
    assert error.reason is Reason.URI_NOT_ALLOWED
    assert "blobs.example at 10.0.0.1" in error.message


def test_a_store_leads_on_to_public_addresses_by_https_only():
    rules = Rules(["oci://reg.example/"], "https://reg.example/")
    rules.check("https://blobs.example/b?signature")
    rules.check_address("93.184.215.14", "blobs.example")
    rules.check_address("10.0.0.1", "reg.example")
    for uri in (
        "http://blobs.example/b",
        "https://me@blobs.example/b",
        "file:///b",
        "https://reg.example:81/b",
    ):
        with pytest.raises(ModelError):
            rules.check(uri)
    for address in ("10.0.0.1", "100.64.0.1", "fd00::1", "127.0.0.1", "169.254.169.254"):
        with pytest.raises(ModelError):
            rules.check_address(address, "blobs.example")


def test_a_registry_on_this_machine_is_for_pools_that_name_it():
    with pytest.raises(ModelError):
        Rules(["oci:"], "http://127.0.0.1:5000/").check("http://127.0.0.1:5000/v2/")


# S3


async def test_s3_requests_are_signed_and_the_signature_is_shown_to_nobody(server, sources, tmp_path):
    await fetched("s3://bucket/some/m%20m.tar", tmp_path, sources)
    (request,) = server.seen
    assert request.path == "/bucket/some/m m.tar"
    assert request.query["X-Amz-Credential"].startswith("me/")
    assert request.query["X-Amz-Security-Token"] == "session"
    (tmp_path / "out").unlink()
    server.answers["/bucket/m.tar"] = failing(404, "<Error><Code>NoSuchKey</Code></Error>")
    error = await refused("s3://bucket/m.tar", tmp_path / "out", sources)
    assert error.reason is Reason.UNREACHABLE
    assert "NoSuchKey" in error.message
    assert "X-Amz" not in error.message


async def test_an_s3_session_that_has_expired_is_unauthorized(server, sources, tmp_path):
    server.answers["/bucket/m.tar"] = failing(400, "<Error><Code>ExpiredToken</Code></Error>")
    error = await refused("s3://bucket/m.tar", tmp_path / "out", sources)
    assert error.reason is Reason.UNAUTHORIZED
    assert "ExpiredToken" in error.message


async def test_an_s3_server_that_leads_to_a_link_local_address_is_refused(server, sources, tmp_path):
    server.answers["/bucket/m.tar"] = redirecting("http://169.254.169.254/latest")
    assert (await refused("s3://bucket/m.tar", tmp_path / "out", sources)).reason is Reason.URI_NOT_ALLOWED


async def test_a_bucket_that_the_pool_does_not_name_is_refused(server, sources, tmp_path):
    assert (await refused("s3://bucket2/m.tar", tmp_path / "out", sources)).reason is Reason.URI_NOT_ALLOWED
    assert server.seen == []


# Hugging Face


async def test_a_file_of_a_hugging_face_repository_is_that_of_the_commit(server, other, sources, tmp_path):
    sources = replace(sources, allowed=[*sources.allowed, f"http://{other.host}/"])
    path = f"/org/name/resolve/{COMMIT}/sub/m.tar"
    server.answers[path] = redirecting(f"http://{other.host}/cdn")
    await fetched(f"hf://org/name@{COMMIT}/sub/m.tar", tmp_path, sources)
    assert [request.path for request in server.seen] == [path]
    assert (server.shown(), other.shown()) == (["Bearer hf_it"], [None])


@pytest.mark.parametrize("uri", ["hf://org/name/m.tar", "hf://org/name@/m.tar", f"hf://org/name@{COMMIT}"])
async def test_a_hugging_face_uri_without_commit_or_file_is_refused(server, sources, tmp_path, uri):
    assert (await refused(uri, tmp_path / "out", sources)).reason is Reason.URI_NOT_ALLOWED
    assert server.seen == []


# Volume claims


async def test_a_claim_is_read_like_the_files_volume(sources, tmp_path):
    sources = replace(sources, claims={"models": tmp_path / "claim"})
    folder = tmp_path / "claim" / "m"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "1" / "model.onnx").write_bytes(CONTENT)
    digest = pack_repository(tmp_path / "m.tar", folder)
    await fetched("pvc://models/m", tmp_path, sources, digest)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "m.tar").read_bytes()


async def test_a_link_out_of_a_claim_is_refused(sources, tmp_path):
    claims = {claim: tmp_path / claim for claim in ("models", "theirs")}
    for folder in claims.values():
        folder.mkdir()
    (claims["theirs"] / "m.tar").write_bytes(CONTENT)
    (claims["models"] / "m.tar").symlink_to("../theirs/m.tar")
    sources = replace(sources, claims=claims)
    assert (await refused("pvc://models/m.tar", tmp_path / "out", sources)).reason is Reason.URI_NOT_ALLOWED


async def test_a_claim_that_is_not_mounted_is_refused(sources, tmp_path):
    assert (await refused("pvc://models/m.tar", tmp_path / "out", sources)).reason is Reason.URI_NOT_ALLOWED
    sources = replace(sources, claims={"models": tmp_path}, allowed=["pvc:"])
    for uri in ("pvc:///m.tar", "pvc://../secret/netrc"):
        assert (await refused(uri, tmp_path / "out", sources)).reason is Reason.URI_NOT_ALLOWED


@pytest.mark.parametrize(
    "uri",
    [
        "file:///a%00b",
        "file:///circle",
        f"file:///{'a' * 300}",
        "s3://bucket/a//b",
        "s3://bucket/%00",
        "s3://bucket/",
        "s3:///key",
        "oci://127.0.0.1%2599/m",
        "oci:///m",
        "oci://127.0.0.1:9",
        "http://127.0.0.1:9/%zz%",
        "http:///m",
        "http://[::1%25x]:9/m",
        f"hf://o%00rg/name@{COMMIT}/m",
        "pvc://m%00/m",
        "pvc://models/a%00",
    ],
)
async def test_no_uri_is_too_odd_to_be_refused_by_name(server, sources, tmp_path, uri):
    server.otherwise = failing(404)
    sources.files.mkdir()
    (sources.files / "circle").symlink_to("circle")
    sources = replace(
        sources,
        allowed=[
            "file:",
            "s3:",
            "oci:",
            "http:",
            "hf:",
            "pvc:",
            "http://127.0.0.1:",
            f"http://{server.host}/",
        ],
        claims={"models": tmp_path / "claim"},
        deadline_seconds=10,
    )
    error = await refused(uri, tmp_path / "out", sources)
    assert error.reason in (Reason.UNREACHABLE, Reason.URI_NOT_ALLOWED)
    assert len(error.message) < 600


@pytest.mark.parametrize(
    "endpoint", ["nonsense", "http://[::", "ftp://127.0.0.1", "http://127.0.0.1:99999", "//"]
)
async def test_an_endpoint_that_is_no_url_is_named(sources, tmp_path, endpoint):
    aws = sources.credentials / AWS
    aws.write_text(f"[default]\naws_access_key_id=a\naws_secret_access_key=b\nendpoint_url={endpoint}\n")
    error = await refused("s3://bucket/m.tar", tmp_path / "out", sources)
    assert error.reason in (Reason.UNREACHABLE, Reason.URI_NOT_ALLOWED)


async def test_a_server_that_says_much_is_quoted_in_part(server, sources, tmp_path):
    far = "x" * 5000
    server.answers["/long"] = redirecting(f"http://{server.host}:1/{far}")
    server.answers["/wide"] = failing(206, "x", Content_Range=f"bytes 0-1/{'9' * 5000}")
    for path in ("long", "wide"):
        error = await refused(f"http://{server.host}/{path}", tmp_path / "out", sources)
        assert len(error.message) < 1000


@pytest.mark.parametrize("uri", ["ftp://127.0.0.1/m", "data:,m"])
async def test_a_scheme_that_is_no_store_is_refused(sources, tmp_path, uri):
    error = await refused(uri, tmp_path / "out", replace(sources, allowed=["ftp:", "data:"]))
    assert error.reason is Reason.URI_NOT_ALLOWED


@pytest.mark.parametrize(
    "uri",
    [
        "https://me:topsecret@models.example/m.tar",
        "https://me:to@psecret:topsecret@models.example/m.tar",
        "https://me:topsecret?@models.example/m.tar",
        "https://me:topsecret\u2100@models.example/m.tar",
    ],
)
async def test_a_password_in_a_uri_is_shown_to_nobody(sources, tmp_path, uri):
    for each in (sources, replace(sources, allowed=[uri])):
        error = await refused(uri, tmp_path / "out", each)
        assert error.reason is Reason.URI_NOT_ALLOWED
        assert "topsecret" not in error.message
    error = await refused("https://other.example/m.tar", tmp_path / "out", replace(sources, allowed=[uri]))
    assert "topsecret" not in error.message


async def test_what_follows_a_question_mark_is_not_shown(server, sources, tmp_path):
    uri = f"http://{server.host}/m.tar?token=topsecret"
    server.answers["/m.tar"] = failing(404)
    assert "topsecret" not in (await refused(uri, tmp_path / "out", sources)).message
    assert "topsecret" not in (await refused(uri, tmp_path / "out", replace(sources, allowed=[]))).message
