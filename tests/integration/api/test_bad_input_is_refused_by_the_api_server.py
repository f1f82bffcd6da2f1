"""What the schema can tell, the API server itself says, in words, before anything of Lull sees it."""

import copy
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from lull.local.cluster import Cluster
from lull.local.errors import LocalClusterError

GOOD: dict[str, Any] = {
    "apiVersion": "lull.dev/v1alpha1",
    "kind": "ModelService",
    "metadata": {"name": "digits", "namespace": "demo"},
    "spec": {"model": {"uri": "file:///digits.tar", "digest": "sha256:" + "0" * 64}},
}
POOL: dict[str, Any] = {
    "apiVersion": "lull.dev/v1alpha1",
    "kind": "ModelPool",
    "metadata": {"name": "cpu"},
    "spec": {"hosts": {"max": 2}, "memory": "2Gi"},
}


def changed(good: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`good` with the field at `path` (dots between) set, or removed where `value` is None."""
    bad = copy.deepcopy(good)
    *parents, last = path.split(".")
    node = bad
    for parent in parents:
        node = node.setdefault(parent, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return bad


def trust(**changes: Any) -> list[dict[str, Any]]:
    """A pool's `spec.trust` of one good rule, with some of its fields changed."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    good = {"prefix": "oci://registry.example/", "signedBy": [{"name": "release", "publicKey": pem}]}
    return [good | changes]


def private_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def dry_run(cluster: Cluster, body: dict[str, Any]) -> str:
    return cluster.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=json.dumps(body))


@pytest.mark.parametrize("good", [GOOD, POOL], ids=["service", "pool"])
def test_the_smallest_good_object_is_taken(api_server: Cluster, good: dict[str, Any]) -> None:
    assert "serverside-applied" in dry_run(api_server, good)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("spec.modle", "x", "modle"),
        ("spec.model.digset", "x", "digset"),
        ("spec.model", None, "spec.model"),
        ("spec.model.digest", None, "digest is required unless the uri pins one"),
        ("spec.model.digest", "sha256:beef", "spec.model.digest"),
        ("spec.model.digest", "md5:" + "0" * 32, "spec.model.digest"),
        ("spec.model.uri", "ftp://models.example/digits.tar", "spec.model.uri"),
        ("spec.model.uri", "digits.tar", "spec.model.uri"),
        ("spec.model.uri", "", "spec.model.uri"),
        ("spec.model.uri", "https://me:pw@models.example/digits.tar", "Secret that the pool's"),
        ("spec.model.uri", "s3://key@bucket/digits.tar", "Secret that the pool's"),
        ("spec.model.uri", "hf://org/digits@main/digits.tar", "names the commit"),
        ("spec.model.uri", "hf://org/digits/digits.tar", "names the commit"),
        ("spec.model.uri", "pvc://claim", "pvc://CLAIM/PATH"),
        ("spec.model.uri", "pvc:///digits.tar", "pvc://CLAIM/PATH"),
        ("spec.model.name", "Not_A_Label", "spec.model.name"),
        ("spec.model.format", "Pickle", "spec.model.format"),
        ("spec.resources.memory", "-1Gi", "spec.resources.memory"),
        ("spec.resources.memory", "0", "memory must be above zero"),
        ("spec.resources.memory", "lots", "spec.resources.memory"),
        ("spec.replicas", {"min": 3, "max": 2}, "min must not be greater than max"),
        ("spec.replicas.min", -1, "spec.replicas.min"),
        ("spec.replicas.max", 0, "spec.replicas.max"),
        ("spec.idleAfter", "soon", "spec.idleAfter"),
        ("spec.idleAfter", "-5s", "spec.idleAfter"),
        ("spec.hold.max", 0, "spec.hold.max"),
        ("spec.hold.timeout", "1 minute", "spec.hold.timeout"),
        ("spec.objective.percentile", 100, "spec.objective.percentile"),
        ("spec.rollout.steps", [10, 101], "spec.rollout.steps"),
        ("spec.rollout.steps", [50, 10], "steps must not fall"),
        ("spec.rollout.steps", [], "spec.rollout.steps"),
        ("spec.rollout.history", 11, "spec.rollout.history"),
        ("spec.rollout.analysis", {"errorPercent": 101}, "spec.rollout.analysis.errorPercent"),
        ("spec.schedule", [{"cron": "60 8 * * *", "duration": "1h"}], "cron must be five fields"),
        ("spec.schedule", [{"cron": "@daily", "duration": "1h"}], "cron must be five fields"),
        ("spec.schedule", [{"cron": "0 8 * *", "duration": "1h"}], "cron must be five fields"),
        ("spec.schedule", [{"cron": "0 8 * MON *", "duration": "1h"}], "cron must be five fields"),
        ("spec.schedule", [{"cron": "0 8 * * JAN", "duration": "1h"}], "cron must be five fields"),
        ("spec.schedule", [{"cron": "0 8 * * *", "duration": "long"}], "spec.schedule[0].duration"),
        ("spec.schedule", [{"cron": "0 8 * * *", "duration": "1h", "timeZone": "Mars/Base"}], "Mars/Base"),
        ("spec.schedule", [{"cron": "0 8 * * *", "duration": "1h", "timeZone": "Local"}], "IANA time zone"),
        ("spec.schedule", [{"cron": "0 8 * * *", "duration": "1h", "timeZone": ""}], "IANA time zone"),
        ("spec.schedule", [{"cron": "0 8 * * *", "duration": "1h", "timeZone": "+02:00"}], "IANA time zone"),
        ("spec.suspend", "yes", "spec.suspend"),
        ("metadata.name", "a.b", "the name is part of a host name"),
        ("metadata.name", "Digits", "metadata.name"),
        ("metadata.name", "x" * 64, "the name is part of a host name"),
    ],
)
def test_a_bad_service_is_refused_with_the_field_named(
    api_server: Cluster, path: str, value: Any, says: str
) -> None:
    with pytest.raises(LocalClusterError) as refused:
        dry_run(api_server, changed(GOOD, path, value))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "uri",
    [
        "oci://registry.example:5000/models/digits",
        "oci://registry.example/models/digits@sha256:" + "1" * 64,
        "s3://bucket/models/digits.tar",
        "hf://org/digits@" + "a" * 40 + "/digits.tar",
        "pvc://models/digits.tar",
        "file:///digits.tar@sha256:" + "1" * 64,
    ],
)
def test_a_uri_of_each_store_is_taken(api_server: Cluster, uri: str) -> None:
    assert "serverside-applied" in dry_run(api_server, changed(GOOD, "spec.model.uri", uri))


@pytest.mark.parametrize(
    "cron", ["0 8 * * 1-5", "*/15 6-20/2 1,LW JAN-MAR MON#1,5L", "0 0 * * */2", "0 */100 * may Sat"]
)
def test_a_good_schedule_is_taken(api_server: Cluster, cron: str) -> None:
    entry = {"cron": cron, "duration": "10h", "timeZone": "Europe/Berlin"}
    assert "serverside-applied" in dry_run(api_server, changed(GOOD, "spec.schedule", [entry]))


def test_idle_after_with_a_floor_of_replicas_is_refused(api_server: Cluster) -> None:
    bad = changed(changed(GOOD, "spec.replicas", {"min": 1, "max": 2}), "spec.idleAfter", "5m")
    with pytest.raises(LocalClusterError, match=r"only with replicas\.min = 0"):
        dry_run(api_server, bad)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("spec.memory", None, "a CPU pool (no accelerator) needs memory"),
        ("spec.hosts", None, "spec.hosts"),
        ("spec.hosts", {"min": 3, "max": 2}, "min must not be greater than max"),
        ("spec.memory", "-2Gi", "spec.memory"),
        ("spec.accelerator", {"count": 1}, "spec.accelerator.memory"),
        ("spec.sharing", "Everyone", "spec.sharing"),
        ("spec.headroomPercent", 101, "spec.headroomPercent"),
        ("spec.hots", {"max": 1}, "hots"),
        ("metadata.name", "gpu.a100", "the name is part of its hosts' names"),
        ("spec.allow.uris", ["registry.example/"], "prefix must begin with a scheme"),
        ("spec.allow.uris", ["file:///", "PVC://models/"], "prefix must begin with a scheme"),
        ("spec.allow.uris", ["https://me:pw@models.example/"], "Secret that spec.credentials names"),
        ("spec.allow.uris", ["pvc://"], "pvc://CLAIM/FOLDER"),
        ("spec.allow.uris", ["pvc:///models/"], "pvc://CLAIM/FOLDER"),
        ("spec.allow.uris", ["pvc://../models/"], "pvc://CLAIM/FOLDER"),
        ("spec.allow.uris", ["pvc://My_Claim/"], "pvc://CLAIM/FOLDER"),
        ("spec.allow.uris", ["pvc://a:b/"], "pvc://CLAIM/FOLDER"),
        ("spec.allow.uris", ["pvc://" + 254 * "a"], "pvc://CLAIM/FOLDER"),
        ("spec.allow.uris", [""], "spec.allow.uris[0]"),
        ("spec.trust", [], "spec.trust"),
        ("spec.trust", trust(prefix="https://me:pw@models.example/"), "Secret that spec.credentials names"),
        ("spec.trust", trust(prefix="registry.example/"), "prefix must begin with a scheme"),
        ("spec.trust", trust(prefix="oci://registry.example//models/"), "without '//', '.' and '..'"),
        ("spec.trust", trust(prefix="pvc://models/a/."), "without '//', '.' and '..'"),
        ("spec.trust", trust(namespaces=["Demo"]), "spec.trust[0].namespaces[0]"),
        ("spec.trust", trust(signedBy=[{"name": "me", "publicKey": "ssh-ed25519 AAAA"}]), "in PEM"),
        ("spec.trust", trust(signedBy=[{"name": "me", "publicKey": private_key()}]), "in PEM"),
        ("spec.trust", trust(signedBy=2 * trust()[0]["signedBy"]), "duplicate entries"),
        ("spec.trust", trust(signedby=[]), "signedby"),
        ("spec.credentials", {}, "spec.credentials.secretName"),
        ("spec.credentials.secretName", "Not A Name", "spec.credentials.secretName"),
    ],
)
def test_a_bad_pool_is_refused_with_the_field_named(
    api_server: Cluster, path: str, value: Any, says: str
) -> None:
    with pytest.raises(LocalClusterError) as refused:
        dry_run(api_server, changed(POOL, path, value))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "prefix",
    [
        "file:///",
        "http://127.0.0.1:",
        "https://models.example/",
        "oci://127.0.0.1:5000/demo/",
        "s3://models/",
        "hf://org/digits@" + "a" * 40 + "/",
        "pvc://models",
        "pvc://team.models-1/a/b",
    ],
)
def test_a_prefix_of_each_store_is_taken(api_server: Cluster, prefix: str) -> None:
    assert "serverside-applied" in dry_run(api_server, changed(POOL, "spec.allow.uris", [prefix]))


def test_who_must_have_signed_what_is_taken(api_server: Cluster) -> None:
    rules = [*trust(namespaces=["demo"]), {"prefix": "file:///"}]
    with_both = changed(changed(POOL, "spec.trust", rules), "spec.credentials.secretName", "store-keys")
    assert "serverside-applied" in dry_run(api_server, with_both)


def test_what_a_user_leaves_out_is_filled_in_by_the_api_server(api_server: Cluster) -> None:
    api_server.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(GOOD))
    spec = api_server.get("modelservice", "digits", "-n", "demo")["spec"]
    api_server.kubectl("delete", "modelservice", "digits", "-n", "demo")
    assert spec["pool"] == "default"
    assert spec["replicas"] == {"min": 0, "max": 1}
    assert spec["hold"] == {"timeout": "60s", "max": 1000}
    assert spec["suspend"] is False
    assert spec["drainDeadline"] == "5m"


@pytest.mark.parametrize("kind", ["modelservice", "modelpool", "modelhost", "modelgateway"])
def test_kubectl_explain_describes_every_field_that_people_set(api_server: Cluster, kind: str) -> None:
    api_server.kubectl("explain", kind)
    crd = api_server.get("crd", f"{kind}s.lull.dev")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    undescribed = [path for path in fields(schema["spec"], "spec") if path[1] is None]
    assert not undescribed


def fields(node: dict[str, Any], path: str) -> list[tuple[str, str | None]]:
    found = [(path, node.get("description"))]
    for name, child in node.get("properties", {}).items():
        found += fields(child, f"{path}.{name}")
    return found
