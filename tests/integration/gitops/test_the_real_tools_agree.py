"""kstatus, by which Flux waits, and Argo CD's own Lua interpreter on all that the controller writes."""

from gitops import lives
from gitops.health import health
from gitops.tools import ask

KSTATUS = {
    "Unseen": "InProgress",
    "Behind": "InProgress",
    "Asleep": "Current",
    "Resident": "Current",
    "Waking": "InProgress",
    "Serving": "Current",
    "Draining": "InProgress",
    "Suspended": "InProgress",
    "FailedAndSuspended": "InProgress",
    "Failed": "Failed",
    "NoSuchPool": "Failed",
    "Invalid": "Failed",
    "RollingOut": "InProgress",
    "Rejected": "Failed",
    "RolledOutAsleep": "Current",
}


async def test_kstatus_knows_what_is_done_and_what_has_failed():
    states = await lives.service_states()
    assert {state: ask(item).kstatus for state, item in states.items()} == KSTATUS


async def test_kstatus_has_a_message_for_each_failure():
    states = await lives.service_states()
    for state in ("Failed", "NoSuchPool", "Invalid"):
        assert ask(states[state]).message, state


async def test_a_service_on_its_way_out_is_terminating():
    item = (await lives.service_states())["Serving"]
    item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert ask(item).kstatus == "Terminating"


async def test_pools_are_current_once_they_are_looked_at():
    states = await lives.pool_states()
    assert {state: ask(item).kstatus for state, item in states.items()} == {
        "Unseen": "InProgress",
        "Behind": "InProgress",
        "Empty": "Current",
        "Hosts": "Current",
        "Invalid": "Failed",
    }


async def test_argo_cds_own_interpreter_says_what_the_tests_one_says():
    for states in (await lives.service_states(), await lives.pool_states()):
        for state, item in states.items():
            assert ask(item).health == health(item), state
