"""Argo CD's health scripts on every state, as the controller and the agent write it."""

import pytest

from gitops import lives
from gitops.health import KINDS, health
from lull.api.gateway import ModelGateway, ModelGatewayStatus
from lull.api.host import HostModel, ModelHost, ModelHostSpec, ModelHostStatus
from lull.api.meta import Condition
from lull.api.names import ANNOTATION_DRAIN

SERVICE = {
    "Unseen": ("Progressing", "not looked at this generation"),
    "Behind": ("Progressing", "not looked at this generation"),
    "Asleep": ("Healthy", "Asleep: not loaded anywhere"),
    "Resident": ("Healthy", "Asleep: still in memory on"),
    "Waking": ("Progressing", "Waking: loading on"),
    "Serving": ("Healthy", "Serving: on "),
    "Draining": ("Progressing", "Draining: the gateways are letting go"),
    "Suspended": ("Suspended", "Suspended: spec.suspend is true"),
    "FailedAndSuspended": ("Suspended", "Suspended: spec.suspend is true"),
    "Failed": ("Degraded", "DigestMismatch: the digest is another; publish it again"),
    "NoSuchPool": ("Degraded", "NoSuchPool: there is no ModelPool nowhere"),
    "Invalid": ("Degraded", "Invalid: it cannot be read"),
    "RollingOut": ("Progressing", "Stepping: "),
    "Rejected": ("Degraded", "Rejected: revision "),
    "RolledOutAsleep": ("Healthy", "Asleep: "),
}
POOL = {
    "Unseen": ("Progressing", "not looked at this generation"),
    "Behind": ("Progressing", "not looked at this generation"),
    "Empty": ("Healthy", "0 of 0 hosts are ready"),
    "Hosts": ("Healthy", "1 of 1 hosts are ready"),
    "Invalid": ("Degraded", "Invalid: it cannot be read"),
}


def assert_told(found, expected):
    assert found.keys() == expected.keys()
    wrong = {}
    for state, item in found.items():
        status, message = health(item)
        if status != expected[state][0] or expected[state][1] not in message:
            wrong[state] = (status, message)
    assert not wrong


async def test_a_service_that_sleeps_is_healthy_and_every_other_state_is_told_apart():
    assert_told(await lives.service_states(), SERVICE)


async def test_a_pool_is_healthy_without_hosts_and_degraded_when_it_cannot_be_read():
    assert_told(await lives.pool_states(), POOL)


def host(*, ready=None, reason=None, message="", models=0, drain=False):
    placements = [
        HostModel(id=f"m{i}", service="demo/m", name=f"m{i}", revision="r", uri="file:///m", state="Loaded")
        for i in range(models)
    ]
    conditions = []
    if ready is not None:
        reason = reason or ("TritonServing" if ready else "TritonDown")
        word = "True" if ready else "False"
        at = "2026-01-01T00:00:00Z"
        conditions = [
            Condition(type="Ready", status=word, reason=reason, message=message, last_transition_time=at)
        ]
    item = ModelHost(
        spec=ModelHostSpec(pool="default", pod_name="h", models=placements),
        status=ModelHostStatus(conditions=conditions) if conditions else None,
    )
    metadata = {"name": "h", "annotations": {ANNOTATION_DRAIN: "true"} if drain else {}}
    return item.wire() | {"kind": "ModelHost", "metadata": metadata}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (host(), ("Progressing", "its Pod is starting")),
        (host(ready=True), ("Healthy", "holds 0 models")),
        (host(ready=True, models=2), ("Healthy", "holds 2 models")),
        (host(ready=False), ("Degraded", "TritonDown: ")),
        (
            host(ready=False, reason="Starting", message="Triton has not answered yet"),
            ("Progressing", "Triton has not answered yet"),
        ),
        (host(ready=True, models=2, drain=True), ("Progressing", "being emptied: 2 models are still on it")),
        (
            host(ready=True, drain=True),
            ("Suspended", "emptied, and takes no models while lull.dev/drain is true"),
        ),
    ],
)
def test_a_host_is_healthy_once_its_triton_serves(item, expected):
    assert health(item) == expected


def test_a_gateway_is_healthy_once_it_reports():
    beating = ModelGateway(status=ModelGatewayStatus(renew_time="2026-01-01T00:00:00Z", held=["demo/a"]))
    silent = {"kind": "ModelGateway", "metadata": {"name": "gw"}}
    assert health(silent) == ("Progressing", "its pilot has not reported yet")
    assert health(silent | beating.wire()) == ("Healthy", "holds requests of 1 services")


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_takes_an_object_without_anything_in_it(kind):
    bare = {"kind": kind, "metadata": {"name": "x", "generation": 1}, "spec": {}}
    assert health(bare)[0] == "Progressing"
    assert health(bare | {"status": {}})[0] == "Progressing"
    assert health(bare | {"status": {"conditions": []}})[0] == "Progressing"
