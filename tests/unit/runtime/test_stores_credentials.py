"""Credentials are found for whom they are for, and never told to anybody else."""

import base64
import json
from pathlib import Path

import pytest

from lull.api.reasons import Reason
from lull_runtime.artifact import ModelError
from lull_runtime.stores.credentials import AWS, HUGGING_FACE, NETRC, REGISTRIES, Credentials, Login

AUTH = base64.b64encode(b"me:pass:word").decode()


def secret(folder: Path, **files: str) -> Credentials:
    names = {"registries": REGISTRIES, "aws": AWS, "netrc": NETRC, "hugging_face": HUGGING_FACE}
    for name, content in files.items():
        (folder / names[name]).write_text(content)
    return Credentials.in_folder(folder)


@pytest.mark.parametrize(
    "key", ["reg.example:5000", "https://reg.example:5000", "https://reg.example:5000/v1/"]
)
@pytest.mark.parametrize("entry", [{"auth": AUTH}, {"username": "me", "password": "pass:word"}])
def test_a_registry_s_are_found_as_docker_writes_them(tmp_path, key, entry):
    credentials = secret(tmp_path, registries=json.dumps({"auths": {key: entry}}))
    assert credentials.registry("reg.example:5000") == Login("me", "pass:word")
    assert credentials.registry("reg.example") is None
    assert credentials.registry("evil.example:5000") is None


def test_netrc_s_are_found_by_host(tmp_path):
    credentials = secret(tmp_path, netrc="machine models.example login me password it\n")
    assert credentials.machine("models.example") == Login("me", "it")
    assert credentials.machine("evil.example") is None


def test_what_a_netrc_has_for_everybody_is_shown_to_nobody(tmp_path):
    credentials = secret(tmp_path, netrc="machine a login b password c\ndefault login me password it\n")
    assert credentials.machine("a") == Login("b", "c")
    assert credentials.machine("evil.example") is None


def test_a_netrc_without_end_is_not_read_to_its_end(tmp_path):
    text = "machine a login b password c" + "\n" * (1 << 20)
    unreadable(lambda: secret(tmp_path, netrc=text).machine("a"), NETRC)


def test_aws_s_are_of_the_default_profile(tmp_path):
    text = "[default]\naws_access_key_id = me\naws_secret_access_key = 50%\nendpoint_url = http://s3.lan\n"
    assert secret(tmp_path, aws=text).aws()["aws_secret_access_key"] == "50%"


def test_hugging_face_s_is_a_line(tmp_path):
    assert secret(tmp_path, hugging_face="hf_token\n").hugging_face() == "hf_token"
    assert secret(tmp_path, hugging_face=" \n").hugging_face() is None


def test_a_pool_without_a_secret_has_none():
    none = Credentials.in_folder(None)
    assert (none.registry("a"), none.machine("a"), none.hugging_face()) == (None, None, None)
    with pytest.raises(ModelError) as caught:
        none.aws()
    assert caught.value.reason is Reason.UNAUTHORIZED


def test_a_user_s_are_where_their_tools_keep_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = {
        ".docker/config.json": json.dumps({"auths": {"reg": {"auth": AUTH}}}),
        ".netrc": "machine a login b password c",
    }
    for name, content in kept.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    credentials = Credentials.of_user()
    assert credentials.registry("reg") == Login("me", "pass:word")
    assert credentials.machine("a") == Login("b", "c")
    assert credentials.hugging_face() is None


def test_they_are_read_at_each_time(tmp_path):
    credentials = secret(tmp_path, hugging_face="old")
    assert credentials.hugging_face() == "old"
    secret(tmp_path, hugging_face="new")
    assert credentials.hugging_face() == "new"


@pytest.mark.parametrize(
    "text",
    [
        "topsecret",
        '["topsecret"]',
        '{"auths": "topsecret"}',
        '{"auths": {"reg": "topsecret"}}',
        '{"auths": {"reg": {"auth": "topsecret!"}}}',
        '{"auths": {"reg": {"auth": 7, "x": "topsecret"}}}',
        '{"auths": {"reg": {"username": "topsecret"}}}',
        '{"auths": {"reg": null}}',
    ],
)
def test_a_malformed_docker_config_is_named_and_not_quoted(tmp_path, text):
    unreadable(lambda: secret(tmp_path, registries=text).registry("reg"), REGISTRIES)


@pytest.mark.parametrize("text", ["topsecret", "machine a login b topsecret", "machine"])
def test_a_malformed_netrc_is_named_and_not_quoted(tmp_path, text):
    unreadable(lambda: secret(tmp_path, netrc=text).machine("a"), NETRC)


@pytest.mark.parametrize(
    "text", ["topsecret", "[other]\nkey=topsecret", "[default]\naws_access_key_id=topsecret"]
)
def test_a_malformed_aws_file_is_named_and_not_quoted(tmp_path, text):
    unreadable(lambda: secret(tmp_path, aws=text).aws(), AWS)


def test_what_is_no_text_is_named(tmp_path):
    (tmp_path / HUGGING_FACE).write_bytes(b"\xff\xfe")
    unreadable(Credentials.in_folder(tmp_path).hugging_face, HUGGING_FACE)


def test_a_login_is_not_shown_by_accident():
    assert "word" not in repr(Login("me", "word"))


def unreadable(read, name: str) -> None:
    with pytest.raises(ModelError) as caught:
        read()
    assert caught.value.reason is Reason.UNAUTHORIZED
    assert f"`{name}`" in caught.value.message
    assert "topsecret" not in caught.value.message
