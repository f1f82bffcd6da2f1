"""A small fleet as its statuses tell it: 12 services on three hosts, measured and modelled."""

from typing import Any

from lull.api.names import API_VERSION, HOSTS_NAMESPACE

Object = dict[str, Any]

NOW = 1_795_334_400.0
"""2026-11-22T08:00:00Z, the time of every figure."""
AT = "2026-11-22T08:00:00Z"
EARLIER = "2026-11-22T07:00:00Z"
GIB = 2**30


def condition(type_: str, status: str, reason: str) -> Object:
    return {"type": type_, "status": status, "reason": reason, "lastTransitionTime": EARLIER}


def service(
    key: str,
    state: str = "Asleep",
    *,
    pool: str = "h100",
    use: Object | None = None,
    energy: Object | None = None,
    next_step: Object | None = None,
    stalled: str | None = None,
) -> Object:
    """Return a ModelService as the API server holds it."""
    namespace, name = key.split("/")
    awake = state == "Serving"
    status: Object = {
        "conditions": [
            condition("Ready", "False" if stalled else "True", stalled or state),
            condition("Active", "True" if awake else "False", state),
            condition("Stalled", "True" if stalled else "False", stalled or "Fine"),
        ],
        "replicas": {"desired": int(awake), "ready": int(awake)},
        "readyReplicas": f"{int(awake)}/{int(awake)}",
        "next": next_step or {"action": "Wake", "reason": "the next request wakes it"},
    }
    if use:
        status["utilization"] = {"window": "60s", **use}
    if energy:
        status |= billed(energy)
    uri = f"https://models.example/{name}.tar"
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelService",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"model": {"uri": uri, "digest": "sha256:" + "a" * 64}, "pool": pool},
        "status": status,
    }


def used(requests: int, busy: int, p99: str | None, gib: float) -> Object:
    """Return a utilization; what sleeps has none."""
    told: Object = {"requestsPerMinute": requests, "busyPercent": busy, "busy": f"{busy}%"}
    told["memory"] = f"{round(gib * 1024)}Mi" if gib else "0"
    return told | ({"latencyP99": p99} if p99 else {})


def drawn(
    basis: str, watts: float, baseline_watts: float, watt_hours: int, saved_watt_hours: int, at: str = AT
) -> Object:
    """Return an energy status whose ledger says the same as its strings."""
    return {
        "basis": basis,
        "milliwatts": round(watts * 1000),
        "baselineMilliwatts": round(baseline_watts * 1000),
        "savingMilliwatts": round((baseline_watts - watts) * 1000),
        "watts": f"{watts:.0f}",
        "wattHours": str(watt_hours),
        "savedWattHours": str(saved_watt_hours),
        "gramsCO2e": f"{watt_hours * 0.4:.1f}",
        "ledger": {
            "at": at,
            "idleJoules": watt_hours * 3600,
            "dynamicJoules": 0,
            "baselineJoules": (watt_hours + saved_watt_hours) * 3600,
            "overheadJoules": 0,
        },
    }


def billed(energy: Object) -> Object:
    """Return the two parts of a status that `drawn` tells."""
    return {"energy": {k: v for k, v in energy.items() if k != "ledger"}, "ledger": energy["ledger"]}


def sleeps_in(time: str) -> Object:
    return {"action": "Sleep", "reason": "after 5m without a request", "time": time}


def asleep(key: str, pool: str, basis: str, baseline_watts: float, watt_hours: int, saved: int) -> Object:
    """A sleeping service: last written an hour ago."""
    energy = drawn(basis, 0, baseline_watts, watt_hours, saved, EARLIER)
    return service(key, pool=pool, use=used(0, 0, None, 0), energy=energy)


def services() -> list[Object]:
    """Return the twelve services."""
    return [*serving(), *resting()]


def serving() -> list[Object]:
    """Return those that answer, measured and modelled."""
    told: dict[str, tuple[str, Object, Object, Object]] = {
        "search/embed-large": (
            "h100",
            used(5240, 31, "42ms", 18.0),
            drawn("Measured", 142, 96, 2410, 388),
            {"action": "Stay", "reason": "replicas.min is 1"},
        ),
        "search/rerank": (
            "h100",
            used(1880, 14, "61ms", 9.5),
            drawn("Measured", 74, 52, 1130, 405),
            sleeps_in("2026-11-22T08:04:10Z"),
        ),
        "vision/defects": (
            "h100",
            used(312, 6, "18ms", 6.0),
            drawn("Measured", 38, 33, 520, 612),
            sleeps_in("2026-11-22T08:02:30Z"),
        ),
        "vision/ocr": (
            "l4",
            used(96, 9, "120ms", 5.5),
            drawn("Modelled", 14, 12, 260, 190),
            sleeps_in("2026-11-22T08:01:05Z"),
        ),
        "speech/whisper-de": (
            "l4",
            used(41, 22, "1.8s", 7.2),
            drawn("Modelled", 19, 15, 340, 275),
            sleeps_in("2026-11-22T08:04:45Z"),
        ),
    }
    return [
        service(key, "Serving", pool=p, use=u, energy=e, next_step=n) for key, (p, u, e, n) in told.items()
    ]


def resting() -> list[Object]:
    """Return those that wake, sleep, fail or are suspended."""
    failed = {"action": "Wait", "reason": "the artifact's digest is another one; publish it again"}
    suspended = {"action": "Stay", "reason": "spec.suspend is true; requests get 503 until it is false"}
    waking = drawn("Modelled", 3, 15, 150, 465)
    loading = {"action": "Serve", "reason": "it is loading"}
    nothing = used(0, 0, None, 0)
    return [
        service("speech/whisper-fr", "Waking", pool="l4", use=nothing, energy=waking, next_step=loading),
        asleep("fraud/cards", "h100", "Measured", 40, 95, 930),
        asleep("fraud/claims", "h100", "Measured", 22, 31, 560),
        asleep("vision/faces", "l4", "Modelled", 9, 12, 215),
        asleep("forecast/demand", "l4", "Modelled", 7, 4, 172),
        service("forecast/prices", "Asleep", pool="l4", stalled="DigestMismatch", next_step=failed),
        service("demo/digits", "Suspended", pool="l4", next_step=suspended),
    ]


def host(
    name: str, pool: str, models: list[tuple[str, str, float]], energy: Object | None, busy: int
) -> Object:
    """Return a ModelHost; models are (service, wanted state, GiB)."""
    wanted = [
        {
            "id": f"p{at}",
            "service": key,
            "name": key.split("/")[1],
            "revision": "r1",
            "uri": "https://m/x",
            "state": state,
        }
        for at, (key, state, _) in enumerate(models)
    ]
    held = [
        {
            "id": f"p{at}",
            "service": key,
            "state": "Loading" if key.endswith("-fr") else "Ready",
            "memory": f"{round(gib * 1024)}Mi",
        }
        for at, (key, _, gib) in enumerate(models)
    ]
    status: Object = {
        "models": held,
        "busyPercent": busy,
        "conditions": [condition("Ready", "True", "Ready")],
    }
    if energy:
        status["energy"] = energy
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelHost",
        "metadata": {"namespace": HOSTS_NAMESPACE, "name": name},
        "spec": {"pool": pool, "podName": name, "models": wanted},
        "status": status,
    }


def host_energy(basis: str, watts: float, unallocated_watts: float) -> Object:
    return {
        "basis": basis,
        "milliwatts": round(watts * 1000),
        "unallocatedMilliwatts": round(unallocated_watts * 1000),
    }


def hosts() -> list[Object]:
    """Return the three hosts."""
    l4 = [
        ("speech/whisper-de", "Loaded", 7.2),
        ("vision/ocr", "Loaded", 5.5),
        ("speech/whisper-fr", "Loaded", 7.2),
        ("vision/faces", "Resident", 2.1),
    ]
    return [
        host(
            "h100-7xk2p",
            "h100",
            [
                ("search/embed-large", "Loaded", 18),
                ("search/rerank", "Loaded", 9.5),
                ("fraud/cards", "Resident", 12),
            ],
            host_energy("Measured", 276, 48),
            45,
        ),
        host("h100-m4q9d", "h100", [("vision/defects", "Loaded", 6)], host_energy("Measured", 129, 91), 6),
        host("l4-8zt5w", "l4", l4, host_energy("Modelled", 48, 4), 31),
    ]


def pools() -> list[Object]:
    """Return the two pools."""
    return [
        pool(
            "h100",
            "NVIDIA-H100-80GB-HBM3",
            "80Gi",
            (2, "160Gi", "45.5Gi", 51),
            drawn_by_pool("Measured", 405, 610, 5210, 2890),
        ),
        pool(
            "l4", "NVIDIA-L4", "24Gi", (1, "24Gi", "22Gi", 31), drawn_by_pool("Modelled", 48, 84, 980, 1310)
        ),
    ]


def drawn_by_pool(basis: str, watts: float, baseline_watts: float, watt_hours: int, saved: int) -> Object:
    """Return a pool's energy: its ledger does not tell idle and dynamic apart."""
    told = drawn(basis, watts, baseline_watts, watt_hours, saved)
    ledger = {name: told["ledger"][name] for name in ("at", "baselineJoules")}
    return told | {"ledger": ledger | {"joules": watt_hours * 3600}}


def pool(name: str, product: str, memory: str, kept: tuple[int, str, str, int], energy: Object) -> Object:
    hosts, supply, used_memory, busy = kept
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelPool",
        "metadata": {"name": name},
        "spec": {"accelerator": {"memory": memory, "product": product}, "hosts": {"max": 8}},
        "status": {
            "conditions": [condition("Ready", "True", "Accepted")],
            "hosts": {"total": hosts, "ready": hosts},
            "memory": {"supply": supply, "used": used_memory},
            "busy": {"supplyPercent": 100 * hosts, "usedPercent": busy},
            **billed(energy),
        },
    }
