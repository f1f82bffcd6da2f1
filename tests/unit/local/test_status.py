"""A Pod's status as a function of its containers."""

from types import SimpleNamespace

from lull.local.node.status import Facts, status

FACTS = Facts("127.9.1.1", "127.9.0.1", "2026-01-01T00:00:00Z")


def container(state, *, done=False, ready=False, started=False, sidecar=False):
    code = state.get("terminated", {}).get("exitCode")
    return SimpleNamespace(
        spec={"name": "c", "image": "i", **({"restartPolicy": "Always"} if sidecar else {})},
        name="c",
        state=state,
        last_state={},
        restart_count=0,
        started=started,
        ready=ready,
        exit_code=code,
        done=SimpleNamespace(is_set=lambda: done),
        has_started=SimpleNamespace(is_set=lambda: started),
    )


WAITING = container({"waiting": {}})
RUNNING = container({"running": {}}, started=True)
READY = container({"running": {}}, started=True, ready=True)
SUCCEEDED = container({"terminated": {"exitCode": 0}}, done=True)
FAILED = container({"terminated": {"exitCode": 1}}, done=True)
SIDECAR = container({"running": {}}, started=True, ready=True, sidecar=True)
SIDECAR_UNREADY = container({"running": {}}, started=True, sidecar=True)


def of(init, main, *, previous=None, pod=None, now="now"):
    return status(pod or {"spec": {}}, FACTS, init, main, previous or {}, now)


def conditions(found):
    return {c["type"]: c["status"] for c in found["conditions"]}


def test_phases_are_those_of_kubernetes():
    assert of([], [WAITING])["phase"] == "Pending"
    assert of([], [RUNNING])["phase"] == "Running"
    assert of([], [SUCCEEDED])["phase"] == "Succeeded"
    assert of([], [SUCCEEDED, FAILED])["phase"] == "Failed"
    assert of([], [SUCCEEDED, RUNNING])["phase"] == "Running"
    assert of([FAILED], [WAITING])["phase"] == "Failed"
    assert of([SUCCEEDED, SIDECAR], [READY])["phase"] == "Running"


def test_ready_needs_every_container_and_every_sidecar():
    assert conditions(of([SIDECAR], [READY]))["Ready"] == "True"
    assert conditions(of([SIDECAR], [READY, RUNNING]))["Ready"] == "False"
    assert conditions(of([SIDECAR_UNREADY], [READY]))["Ready"] == "False"


def test_readiness_gates_hold_ready_but_not_containers_ready():
    pod = {"spec": {"readinessGates": [{"conditionType": "x/y"}]}, "status": {}}
    found = conditions(of([], [READY], pod=pod))
    assert (found["ContainersReady"], found["Ready"]) == ("True", "False")
    pod["status"] = {"conditions": [{"type": "x/y", "status": "True"}]}
    assert conditions(of([], [READY], pod=pod))["Ready"] == "True"


def test_the_same_state_gives_the_same_status_so_that_nothing_is_written():
    first = of([], [READY], now="then")
    assert of([], [READY], previous=first, now="later") == first


def test_only_what_changed_has_a_new_transition_time():
    first = of([], [RUNNING], now="then")
    times = {
        c["type"]: c["lastTransitionTime"] for c in of([], [READY], previous=first, now="later")["conditions"]
    }
    assert times == {
        "PodScheduled": "then",
        "Initialized": "then",
        "ContainersReady": "later",
        "Ready": "later",
    }
