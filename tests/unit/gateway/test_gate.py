"""What passes the gate is inference, metadata and health of one model; all other spellings are refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lull.gateway import gate
from lull.gateway.gate import Call, Refused, judge_grpc, judge_http


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v2", Call.MODEL),
        ("/v2/", Call.MODEL),
        ("/v2/health/live", Call.LIVE),
        ("/v2/health/ready?x", Call.READY),
        ("/v2/models/digits", Call.MODEL),
        ("/v2/models/digits/infer", Call.MODEL),
        ("/v2/models/digits/versions/3/infer", Call.MODEL),
        ("/v2/models/digits/versions/3/ready", Call.READY),
        ("/v2/models/digits/ready", Call.READY),
    ],
)
def test_allowed_http_calls(path, call):
    assert judge_http(path, "digits") is call


@given(path=st.text(alphabet="/v2modelsdigtrpy.%?;#\n", max_size=60) | st.text(max_size=60))
def test_no_other_path_passes(path):
    call = judge_http(path, "digits")
    if isinstance(call, Call):
        verbs = r"(/(infer|generate|generate_stream|ready))?"
        allowed = rf"/v2/?|/v2/health/(live|ready)|/v2/models/digits(/versions/\d+)?{verbs}"
        assert re.fullmatch(allowed, path.partition("?")[0], re.ASCII)


@given(method=st.text(max_size=30))
def test_no_other_grpc_method_passes(method):
    call = judge_grpc(f"/{gate.GRPC_SERVICE}/{method}")
    if isinstance(call, Call):
        assert method in gate.GRPC_MODEL_METHODS + gate.GRPC_SERVER_METHODS


@pytest.mark.parametrize(
    "path", ["/v2/models/digits/config", "/v2/repository/index", "/v2/models/review/stats", "/v2/logging"]
)
def test_control_calls_are_forbidden_and_told_why(path):
    refused = judge_http(path, "digits")
    assert isinstance(refused, Refused)
    assert (refused.http_status, refused.grpc_status) == (403, gate.GRPC_PERMISSION_DENIED)
    assert "Lull's own" in refused.message


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("application/grpc;charset=utf-8", True),
        ("application/grpc-web", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_grpc_is_told_as_envoy_tells_it(content_type, expected):
    assert gate.is_grpc(content_type) is expected
