"""Lull in virtual time, on traces whose outcome can be worked out by hand."""

from array import array

import pytest

from lull.simulate.lull import simulate_lull
from lull.simulate.setting import GIB, Setting
from lull.simulate.trace import Trace, TracedModel

HOST_READY_SECONDS = 50.0  # 30 s for the host and 20 s for the load


def trace(*requests, length=3600.0, gib=8):
    """Of (seconds, model, duration), which may be unsorted."""
    requests = sorted(requests)
    keys = sorted({model for _, model, _ in requests})
    return Trace(
        "by hand",
        [TracedModel(key, gib * GIB) for key in keys],
        array("d", [at for at, _, _ in requests]),
        array("l", [keys.index(model) for _, model, _ in requests]),
        array("d", [duration for _, _, duration in requests]),
        length,
    )


def test_the_first_request_waits_for_a_host_and_a_load_and_the_next_for_nothing():
    outcome = simulate_lull(trace((10.0, "a/one", 1.0), (100.0, "a/one", 1.0)), Setting())
    assert (outcome.requests, outcome.delayed, outcome.dropped, outcome.loads) == (2, 1, 0, 1)
    assert outcome.delay_seconds.max == pytest.approx(HOST_READY_SECONDS, abs=0.2)
    assert outcome.dynamic_wh == pytest.approx(2 * 578 / 3600)
