"""Volumes as folders."""

import pytest

from lull.local.node import volumes
from lull.local.node.environment import ConfigurationError, Context

POD = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": []}}
CONTEXT = Context(POD, {}, {"conf": {"data": {"a": "1"}}}, {})


async def token(projection):
    return f"token for {projection.get('audience')}"


async def prepare(volume, folder):
    return await volumes.prepare({"name": "v", **volume}, folder, CONTEXT, token)


async def test_a_token_is_written_and_to_be_renewed_at_four_fifths_of_its_life(tmp_path):
    projection = {"path": "token", "expirationSeconds": 1000, "audience": "x"}
    (found,) = await prepare({"projected": {"sources": [{"serviceAccountToken": projection}]}}, tmp_path)
    assert found.file.read_text() == "token for x"
    assert found.file.stat().st_mode & 0o777 == 0o600
    assert found.renew_after_seconds == 800


async def test_a_missing_config_map_is_an_error_unless_it_is_optional(tmp_path):
    with pytest.raises(ConfigurationError, match="none"):
        await prepare({"configMap": {"name": "none"}}, tmp_path)
    assert await prepare({"configMap": {"name": "none", "optional": True}}, tmp_path) == []


async def test_a_missing_key_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="'b'"):
        await prepare({"configMap": {"name": "conf", "items": [{"key": "b", "path": "b"}]}}, tmp_path)


async def test_a_kind_that_process_nodes_do_not_have_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="no such volume"):
        await prepare({"nfs": {}}, tmp_path)


async def test_a_host_path_must_be_there_where_it_says_so(tmp_path):
    with pytest.raises(ConfigurationError, match="not there"):
        await prepare({"hostPath": {"path": str(tmp_path / "no"), "type": "Directory"}}, tmp_path)
    made = tmp_path / "made"
    await prepare({"hostPath": {"path": str(made), "type": "DirectoryOrCreate"}}, tmp_path)
    assert made.is_dir()


async def test_an_unbound_claim_is_waited_for():
    async def unbound(_name):
        return None

    claim = {"name": "v", "persistentVolumeClaim": {"claimName": "files"}}
    with pytest.raises(ConfigurationError, match="files"):
        await volumes.with_claims_resolved([claim], unbound)


def test_mounts_point_into_the_volumes(tmp_path):
    container = {
        "volumeMounts": [
            {"name": "v", "mountPath": "/data/"},
            {"name": "v", "mountPath": "/part", "subPath": "deep"},
            {"name": "h", "mountPath": "/host"},
        ]
    }
    pod_volumes = [{"name": "v", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/srv"}}]
    found = volumes.mounts(container, pod_volumes, tmp_path)
    assert found == {"/data": f"{tmp_path}/v", "/part": f"{tmp_path}/v/deep", "/host": "/srv"}
