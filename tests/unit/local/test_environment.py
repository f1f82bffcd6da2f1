"""Environment, commands and mounts as Kubernetes means them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lull.local.node.environment import (
    ConfigurationError,
    Context,
    command_line,
    expand,
    references,
    replace_mounts,
    variables,
)

POD = {
    "metadata": {
        "name": "p",
        "namespace": "n",
        "uid": "u",
        "labels": {"app": "web"},
        "annotations": {"a.b/c": "d"},
    },
    "spec": {"nodeName": "cpu-0", "serviceAccountName": "robot", "containers": []},
    "status": {"podIP": "127.9.1.1", "hostIP": "127.9.0.1"},
}
CONTEXT = Context(
    POD,
    {"memory": "1Gi", "cpu": "4"},
    {"conf": {"data": {"k": "v"}, "binaryData": {"b": base64.b64encode(b"bin").decode()}}},
    {"hidden": {"data": {"word": base64.b64encode(b"s3cret").decode()}}},
)


def env(*entries, **more):
    return variables({"env": list(entries), **more}, CONTEXT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(MISSING)", "$(MISSING)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $(", "$A ${A} $("),
    ],
)
def test_references_expand_as_the_kubelet_expands_them(text, expected):
    assert expand(text, {"A": "1", "B": "2"}) == expected


@given(st.text(alphabet="ab()/. ", max_size=30))
def test_text_without_a_dollar_is_never_changed(text):
    assert expand(text, {"a": "1"}) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/run/lull", "/F"),
        ("/run/lull/", "/F/"),
        ("--config=/run/lull/envoy.yaml", "--config=/F/envoy.yaml"),
        ("unix:///run/lull/xds.sock", "unix:///F/xds.sock"),
        ("a:/run/lull:b", "a:/F:b"),
        ("['/run/lull', '/run/lull/x']", "['/F', '/F/x']"),
        ("/run/lullaby", "/run/lullaby"),
        ("/run/lull-2/x", "/run/lull-2/x"),
        ("/var/run/lull", "/var/run/lull"),
        ("/run/lull/deep/x", "/D/x"),
    ],
)
def test_a_mount_path_is_replaced_where_it_stands_as_a_path(text, expected):
    assert replace_mounts(text, {"/run/lull": "/F", "/run/lull/deep": "/D"}) == expected


def test_a_folder_that_holds_a_mount_path_is_not_replaced_again():
    assert replace_mounts("/a/b", {"/a": "/x/b", "/b": "/y"}) == "/x/b/b"


def test_commands_are_expanded_first_and_then_given_their_folders():
    container = {"command": ["run", "$(PLACE)/x"], "args": ["--in", "/data"]}
    assert command_line(container, {"PLACE": "/data"}, {"/data": "/F"}) == ["run", "/F/x", "--in", "/F"]


def test_later_variables_see_the_earlier_ones_only():
    found = env({"name": "A", "value": "$(B)"}, {"name": "B", "value": "2"}, {"name": "C", "value": "$(B)"})
    assert found == {"A": "$(B)", "B": "2", "C": "2"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['a.b/c']", "d"),
        ("metadata.labels", 'app="web"'),
        ("spec.serviceAccountName", "robot"),
        ("status.podIP", "127.9.1.1"),
        ("status.hostIP", "127.9.0.1"),
    ],
)
def test_downward_fields(path, expected):
    assert env({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}) == {"X": expected}


def test_resources_come_in_their_divisor_and_fall_back_to_what_the_node_has():
    container = {
        "resources": {"limits": {"cpu": "1500m"}},
        "env": [
            {"name": "CORES", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MILLI", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
            {
                "name": "MEMORY",
                "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}},
            },
            {"name": "ASKED", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
        ],
    }
    assert variables(container, CONTEXT) == {"CORES": "2", "MILLI": "1500", "MEMORY": "1024", "ASKED": "0"}


def test_config_and_secrets_by_key_and_whole():
    found = env(
        {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "k"}}},
        {"name": "W", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "word"}}},
        envFrom=[{"prefix": "C_", "configMapRef": {"name": "conf"}}, {"secretRef": {"name": "hidden"}}],
    )
    assert found == {"C_k": "v", "C_b": "bin", "word": "s3cret", "K": "v", "W": "s3cret"}


@pytest.mark.parametrize(
    "origin",
    [
        {"configMapKeyRef": {"name": "conf", "key": "no"}},
        {"configMapKeyRef": {"name": "no", "key": "k"}},
        {"secretKeyRef": {"name": "no", "key": "k"}},
    ],
)
def test_a_missing_reference_is_an_error_unless_it_is_optional(origin):
    with pytest.raises(ConfigurationError, match="no"):
        env({"name": "X", "valueFrom": origin})
    (kind, reference), *_ = origin.items()
    assert env({"name": "X", "valueFrom": {kind: {**reference, "optional": True}}}) == {}


def test_what_process_nodes_do_not_know_is_said():
    with pytest.raises(ConfigurationError, match=r"status\.nope"):
        env({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.nope"}}})
    with pytest.raises(ConfigurationError, match="fileKeyRef"):
        env({"name": "X", "valueFrom": {"fileKeyRef": {}}})


def test_the_references_of_a_container_are_what_has_to_be_read():
    container = {
        "env": [
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "Y", "value": ""},
        ],
        "envFrom": [{"configMapRef": {"name": "c"}}],
    }
    assert references(container) == {("Secret", "s"), ("ConfigMap", "c")}
