"""What is pushed into a real store comes back whole, to those who may have it."""

import hashlib
import json
import urllib.request
from dataclasses import replace

import pytest

from integration.stores.conftest import CARD, plenty
from lull.api.reasons import Reason
from lull_runtime.agent.fetch import fetch
from lull_runtime.artifact import ModelError
from lull_runtime.stores.credentials import Credentials
from lull_runtime.stores.oci import ARTIFACT


async def test_what_is_pushed_is_fetched(store, tmp_path):
    assert await store.fetch(tmp_path / "out") == store.artifact.digest
    assert (tmp_path / "out").read_bytes() == store.artifact.tar.read_bytes()
    assert store.push(store.credentials()) == store.uri, "once more is the same"


@pytest.mark.parametrize("user", ["lull", "nobody"])
async def test_wrong_credentials_are_named_and_nothing_is_left(store, tmp_path, user):
    wrong = store.credentials(user, "wrong")
    with pytest.raises(ModelError) as caught:
        await store.fetch(tmp_path / "out")
    assert caught.value.reason is Reason.UNAUTHORIZED
    assert "spec.credentials" in caught.value.message
    assert "wrong" not in caught.value.message
    assert (tmp_path / "out").stat().st_size == 0
    with pytest.raises(ModelError) as caught:
        store.push(wrong)
    assert caught.value.reason is Reason.UNAUTHORIZED


async def test_without_credentials_nothing_is_had(store, tmp_path):
    with pytest.raises(ModelError) as caught:
        await fetch(
            store.uri,
            store.artifact.digest,
            tmp_path / "out",
            replace(store.sources(), credentials=None),
            plenty,
        )
    assert caught.value.reason is Reason.UNAUTHORIZED
    with pytest.raises(ModelError) as caught:
        store.push(Credentials({}))
    assert caught.value.reason is Reason.UNAUTHORIZED


async def test_credentials_that_have_expired_are_renewed_without_a_restart(store, tmp_path):
    store.rename_user("newcomer")
    with pytest.raises(ModelError) as caught:
        await store.fetch(tmp_path / "out")
    assert caught.value.reason is Reason.UNAUTHORIZED
    store.credentials("newcomer")
    assert await store.fetch(tmp_path / "out") == store.artifact.digest


def test_a_push_to_a_store_that_is_down_is_unreachable(store):
    store.server.stop(grace_seconds=0)
    with pytest.raises(ModelError) as caught:
        store.push(store.credentials())
    assert caught.value.reason is Reason.UNREACHABLE


async def test_a_manifest_stands_for_its_tar(registry, tmp_path):
    digest, manifest = _manifest(registry)
    assert manifest["artifactType"] == ARTIFACT
    assert manifest["config"]["digest"] == f"sha256:{hashlib.sha256(CARD).hexdigest()}"
    assert [layer["digest"] for layer in manifest["layers"]] == [registry.artifact.digest]
    for named in (digest, registry.artifact.digest):
        out = tmp_path / named[-8:]
        assert await fetch(f"{registry.uri}@{digest}", named, out, registry.sources(), plenty) == named
        assert out.stat().st_size == registry.artifact.size_bytes
    pinned = f"{registry.uri}@{registry.artifact.digest}"
    out = tmp_path / "blob"
    assert await fetch(pinned, registry.artifact.digest, out, registry.sources(), plenty)


async def test_a_manifest_of_another_tar_is_a_mismatch(registry, tmp_path):
    digest, _ = _manifest(registry)
    with pytest.raises(ModelError) as caught:
        await fetch(
            f"{registry.uri}@{digest}", f"sha256:{'0' * 64}", tmp_path / "out", registry.sources(), plenty
        )
    assert caught.value.reason is Reason.DIGEST_MISMATCH


def _manifest(registry) -> tuple[str, dict]:
    """Ask the registry itself, as another client would."""
    login = registry.credentials().registry(registry.server.host)
    tag = registry.artifact.digest.removeprefix("sha256:")[:12]
    request = urllib.request.Request(
        f"http://{registry.server.host}/v2/demo/digits/manifests/{tag}",
        headers={"Authorization": login.basic(), "Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.headers["Docker-Content-Digest"], json.load(answer)
