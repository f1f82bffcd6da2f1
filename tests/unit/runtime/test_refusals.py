"""What runtimes say, word by word as they said it, becomes a reason that users know."""

import pytest

from lull.api.reasons import Reason
from lull_runtime.agent.refusals import refusal

STUB = "load failed for model 'net': version 1 is at UNAVAILABLE state: Internal: "
ORT = STUB + "Fail: [ONNXRuntimeError] : 1 : FAIL : "
SAID = [
    (Reason.UNKNOWN_OPERATOR, ORT + "Fatal error: evil:Nope(-1) is not a registered function/op"),
    (
        Reason.UNKNOWN_OPERATOR,
        STUB
        + "InvalidGraph: [ONNXRuntimeError] : 10 : INVALID_GRAPH : This is an invalid model. In Node, Error "
        "No Op registered for Nope with domain_version of 17",
    ),
    (
        Reason.UNKNOWN_OPERATOR,
        STUB
        + "NotImplemented: [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for "
        "Relu(1) node with name ''",
    ),
    (
        Reason.UNKNOWN_OPERATOR,
        ORT + "ONNX Runtime only *guarantees* support for models stamped with official released onnx opset "
        "versions. Opset 99 is under development and support for this is limited.",
    ),
    (Reason.UNKNOWN_OPERATOR, ORT + "Unsupported model IR version: 99, max supported IR version: 13"),
    (
        Reason.EXTERNAL_DATA,
        ORT
        + "External data path validation failed for initializer: w. Error: External data path escapes model "
        "directory.",
    ),
    (
        Reason.TOO_LARGE,
        STUB + "RuntimeException: [ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc",
    ),
    (Reason.TOO_LARGE, STUB + "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"),
    (Reason.NOT_A_MODEL, ORT + "Load model failed: INVALID_PROTOBUF : Failed to load model"),
    (Reason.NOT_A_MODEL, STUB + "INVALID_ARGUMENT : No graph was found in the protobuf."),
    (Reason.NOT_A_MODEL, ORT + "Node () Op (Add) [ShapeInferenceError] Incompatible dimensions"),
    (Reason.LOAD_FAILED, STUB + "ModuleNotFoundError: No module named 'torch'"),
    (Reason.LOAD_FAILED, "Stub process 'crash_0_0' is not healthy."),
]


@pytest.mark.parametrize(("reason", "said"), SAID, ids=[said[-30:] for _, said in SAID])
def test_what_a_runtime_says_is_known_by_a_reason_with_advice_before_its_own_words(reason, said):
    told = refusal(said)
    assert told.reason is reason
    advice, _, words = told.message.partition(" (")
    assert words == f"{said})"
    assert ":" in advice


def test_what_nobody_knows_stays_as_it_was_said():
    told = refusal("the moon is full", Reason.WRONG_SHAPES)
    assert (told.reason, told.message) == (Reason.WRONG_SHAPES, "the moon is full")
