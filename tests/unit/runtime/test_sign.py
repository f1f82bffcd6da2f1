"""Signatures: whose an artifact bears, what each is over, and whom a pool trusts."""

import base64
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from crafted import artifact, artifact_tar, contents, signing_key
from lull.api.reasons import Reason
from lull_runtime.artifact import ModelError
from lull_runtime.artifact.pack import pack_repository
from lull_runtime.artifact.sign import sign, verify
from lull_runtime.artifact.tar import Bounds, digest_of, unpack
from lull_runtime.artifact.trust import Rule, Signer, signers_for

ANYWHERE = frozenset[str]()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Signer, Signer]:
    """The key of ana, and whom the pool knows: ana and ben."""
    folder = tmp_path_factory.mktemp("keys")
    key, public = signing_key(folder, "ana")
    return key, Signer("ana", public), Signer("ben", signing_key(folder, "ben")[1])


@pytest.fixture
def signed(tmp_path: Path, keys: tuple[Path, Signer, Signer]) -> Path:
    return artifact(tmp_path / "m", key=keys[0])


def refusal(folder: Path, *signers: Signer) -> ModelError:
    with pytest.raises(ModelError) as caught:
        verify(folder, signers)
    return caught.value


def test_the_signer_s_name_is_told_wherever_the_artifact_lies(signed: Path, keys):
    _, ana, ben = keys
    moved = signed.rename(signed.with_name("elsewhere"))
    assert verify(moved, [ben, ana]) == "ana"


def test_verifying_leaves_nothing_behind(signed: Path, keys, tmp_path: Path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = contents(signed)
    verify(signed, [keys[1]])
    refusal(signed, keys[2])
    assert contents(signed) == before
    assert list(scratch.iterdir()) == []


def test_a_triton_model_directory_is_signed_with_all_its_folders(tmp_path: Path, keys):
    key, ana, _ = keys
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "config.pbtxt").write_text("")
    (tmp_path / "m" / "1" / "model.onnx").write_text("")
    pack_repository(tmp_path / "m.tar", tmp_path / "m", key)
    unpack(tmp_path / "m.tar", tmp_path / "u", Bounds())
    assert verify(tmp_path / "u", [ana]) == "ana"
    (tmp_path / "u" / "1" / "model.py").write_text("")
    assert refusal(tmp_path / "u", ana).reason is Reason.WRONGLY_SIGNED


def test_a_signature_makes_another_digest_of_the_same_files(tmp_path: Path, keys):
    plain, signed = artifact_tar(tmp_path / "a.tar"), artifact_tar(tmp_path / "b.tar", key=keys[0])
    assert digest_of(plain) != digest_of(signed)
    unpack(plain, tmp_path / "a", Bounds())
    unpack(signed, tmp_path / "b", Bounds())
    held = dict(contents(tmp_path / "b"))
    del held["model.sig"]
    assert held == contents(tmp_path / "a")


def test_what_bears_no_signature_is_unsigned_and_the_message_says_whose_is_asked_for(tmp_path: Path, keys):
    error = refusal(artifact(tmp_path / "m"), *keys[1:])
    assert error.reason is Reason.UNSIGNED
    assert "ana or ben" in error.message


@pytest.mark.parametrize("name", [".gitignore", ".github/x", ".git/config", "extra", "model.sig.bak"])
def test_a_file_that_came_after_the_signature_is_found_hidden_or_not(signed: Path, keys, name: str):
    (signed / name).parent.mkdir(exist_ok=True)
    (signed / name).write_text("x")
    assert refusal(signed, keys[1]).reason is Reason.WRONGLY_SIGNED


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.onnx", "golden.bin", "lull.json", "model.sig"])
def test_a_changed_byte_is_found_in_any_file(signed: Path, keys, name: str):
    _flip(signed / name)
    assert refusal(signed, keys[1]).reason is Reason.WRONGLY_SIGNED


def test_somebody_else_s_signature_is_wrong(signed: Path, keys):
    error = refusal(signed, keys[2])
    assert error.reason is Reason.WRONGLY_SIGNED
    assert "ben" in error.message


def test_a_key_that_the_pool_holds_wrongly_trusts_nobody(signed: Path):
    assert refusal(signed, Signer("ana", "no key")).reason is Reason.WRONGLY_SIGNED
    assert refusal(signed).reason is Reason.WRONGLY_SIGNED


def test_a_disk_that_does_not_keep_the_key_is_not_the_signer_s_fault(signed: Path, keys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(signed / "none"))
    with pytest.raises(OSError):
        verify(signed, [keys[1]])


def _bundle(edit):
    def change(text: bytes) -> bytes:
        bundle = json.loads(text)
        edit(bundle)
        return json.dumps(bundle).encode()

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"",
        lambda text: b"{}",
        lambda text: b"[]",
        lambda text: text[:200],
        lambda text: os.urandom(100),
        lambda text: b"[" * 100_000,
        _bundle(lambda bundle: bundle.pop("dsseEnvelope")),
        _bundle(lambda bundle: bundle["verificationMaterial"].clear()),
        _bundle(lambda bundle: bundle["dsseEnvelope"]["signatures"].clear()),
        _bundle(lambda bundle: bundle["dsseEnvelope"].update(payload=base64.b64encode(b"{}").decode())),
        lambda text: text + b" " * (5 << 20),
    ],
)
def test_a_broken_signature_is_wrong_however_it_is_broken(signed: Path, keys, change):
    path = signed / "model.sig"
    path.write_bytes(change(path.read_bytes()))
    assert refusal(signed, keys[1]).reason is Reason.WRONGLY_SIGNED


def test_a_signature_that_leaves_a_file_out_vouches_for_nothing(tmp_path: Path, keys):
    from model_signing import hashing, signing

    key, ana, _ = keys
    folder = artifact(tmp_path / "m")
    skipping = hashing.Config().set_ignored_paths(
        paths=[folder / "model.sig", folder / "model.onnx"], ignore_git_paths=False
    )
    config = signing.Config().use_elliptic_key_signer(private_key=key)
    config.set_hashing_config(skipping).sign(folder, folder / "model.sig")
    error = refusal(folder, ana)
    assert error.reason is Reason.WRONGLY_SIGNED
    assert "leaves out model.onnx" in error.message


def test_a_linked_signature_or_file_is_not_followed(signed: Path, keys, tmp_path: Path):
    (signed / "model.sig").rename(tmp_path / "sig")
    (signed / "model.sig").symlink_to(tmp_path / "sig")
    assert refusal(signed, keys[1]).reason is Reason.UNSIGNED
    with pytest.raises(ModelError, match="link"):
        sign(signed, keys[0])


def test_an_artifact_that_its_card_was_not_written_for_is_not_signed(tmp_path: Path, keys):
    folder = artifact(tmp_path / "m")
    (folder / "golden.bin").write_bytes(bytes((folder / "golden.bin").stat().st_size))
    with pytest.raises(ModelError) as caught:
        sign(folder, keys[0])
    assert caught.value.reason is Reason.DIGEST_MISMATCH
    (folder / "model.py").write_text("")
    with pytest.raises(ModelError, match=r"model\.py is too much"):
        sign(folder, keys[0])
    assert not (folder / "model.sig").exists()


@pytest.mark.parametrize("content", [b"", b"no key"])
def test_a_key_that_cannot_sign_is_refused_with_how_to_make_one_and_nothing_is_left(
    tmp_path: Path, content: bytes
):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ValueError, match="openssl"):
        artifact_tar(tmp_path / "m.tar", key=tmp_path / "key")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_pool_that_asks_for_no_signatures_never_loads_what_checks_them():
    import subprocess

    program = (
        "import sys, lull_runtime.artifact.sign, lull_runtime.artifact.trust;"
        "sys.exit(any(name.partition('.')[0] in ('model_signing', 'sigstore') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0


ANA, BEN = Signer("ana", "a"), Signer("ben", "b")
RULES = (
    Rule(urlsplit("oci://models.example/team"), frozenset({"shop"}), (ANA,)),
    Rule(urlsplit("oci://models.example/team"), ANYWHERE, (BEN,)),
    Rule(urlsplit("https://models.example/open"), ANYWHERE, ()),
)


@pytest.mark.parametrize(
    ("uri", "namespace", "signers"),
    [
        ("oci://models.example/team/digits", "shop", (ANA,)),
        ("oci://models.example/team/digits", "lab", (BEN,)),
        ("oci://models.example/team@sha256:" + "0" * 64, "shop", (ANA,)),
        ("oci://models.example/teams/digits", "shop", None),
        ("oci://models.example.evil/team/digits", "shop", None),
        ("https://models.example/open/m.tar", "lab", ()),
        ("http://models.example/open/m.tar", "lab", None),
        ("file:///m.tar", "shop", None),
    ],
)
def test_the_first_rule_that_fits_says_who_must_have_signed(uri: str, namespace: str, signers):
    assert signers_for(RULES, uri, namespace) == signers


@pytest.mark.parametrize(
    ("uri", "prefix"),
    [
        ("oci://r.example/team/secure:v1", "oci://r.example/team/secure"),
        ("oci://r.example/team/secure:v1/x", "oci://r.example/team/secure"),
        ("oci://r.example/team/secure", "oci://r.example/team/secure/"),
        ("oci://r.example:443/team/secure", "oci://r.example/team/secure"),
        ("oci://r.example./team/secure", "oci://r.example/team/secure"),
        ("s3://bucket/s%65cure/x", "s3://bucket/secure/"),
        ("s3://bucket/secure%2Fx", "s3://bucket/secure/"),
        (f"hf://org/secure@{'0' * 40}/m.tar", "hf://org/secure"),
    ],
)
def test_another_spelling_of_a_place_is_beneath_the_place_s_own_rule(uri: str, prefix: str):
    scheme = prefix.partition(":")[0]
    rules = (Rule(urlsplit(prefix), ANYWHERE, (ANA,)), Rule(urlsplit(f"{scheme}:"), ANYWHERE, ()))
    assert signers_for(rules, uri, "shop") == (ANA,)


@pytest.mark.parametrize(
    "uri",
    [
        "oci://someone@models.example/team/digits",
        "oci://models.example/team/../other",
        "oci://models.example//team/secure",
        "s3://bucket//secure/x",
        "s3://bucket/%2Fsecure/x",
        "pvc://claim/./secure/x",
        "pvc://claim/%2e/secure/x",
        "pvc://claim//secure/x",
        "pvc://claim/sec\ture/x",
    ],
)
def test_a_spelling_that_stores_may_read_in_their_own_way_is_refused(uri: str):
    rules = (Rule(urlsplit(uri.partition(":")[0] + ":"), ANYWHERE, ()),)
    with pytest.raises(ModelError) as caught:
        signers_for(rules, uri, "shop")
    assert caught.value.reason is Reason.URI_NOT_ALLOWED


def test_a_pool_without_rules_takes_unsigned_models():
    assert signers_for((), "file:///m.tar", "shop") == ()
