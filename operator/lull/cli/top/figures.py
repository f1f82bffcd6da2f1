"""What the statuses of services, hosts and pools say, in base units: the data of tables, bars and JSON.

The fields of these classes are the keys of `lull top -o json`; a unit stands at the end of a name, ratios are
0 to 1 (busy ratios of several replicas may exceed 1), and null means that nobody knows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lull.api.names import ANNOTATION_DRAIN
from lull.api.quantities import parse_bytes, parse_duration_seconds
from lull.controller.books import account_from, pool_account_from
from lull.controller.clock import rfc3339
from lull.policy.energy import Meters

Object = Mapping[str, Any]

ASLEEP = frozenset({"Asleep", "Suspended"})
"""States whose statuses are not written: their figures are as of `ledger.at`, and grow by the rates."""
MODELLED = frozenset({"Modelled", "Mixed"})


@dataclass(frozen=True, slots=True)
class Next:
    """What happens next if nothing changes; `time` is RFC 3339 where time alone decides."""

    action: str
    reason: str
    time: str | None


@dataclass(frozen=True, slots=True)
class Energy:
    """What something drew since Lull counts, and what that saved against the careful baseline."""

    basis: str | None = None
    power_watts: float | None = None
    energy_joules: float | None = None
    saved_joules: float | None = None
    carbon_grams: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """One ModelService."""

    namespace: str
    name: str
    pool: str
    state: str
    stalled: str | None
    ready_replicas: int
    desired_replicas: int
    requests_per_minute: int | None
    busy_ratio: float | None
    latency_p99_seconds: float | None
    memory_bytes: int | None
    energy: Energy
    next: Next | None

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class HeldModel:
    """One replica on a host. `state` is Serving, Resident, Draining, Loading or Failed."""

    service: str
    state: str
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class HostRow:
    """One ModelHost. `state` is Serving, Idle, Starting, Unready or Draining."""

    name: str
    pool: str
    state: str
    memory_bytes: int | None
    busy_ratio: float | None
    basis: str | None
    power_watts: float | None
    unallocated_watts: float | None
    models: tuple[HeldModel, ...]

    @property
    def used_bytes(self) -> int:
        """Memory of all its models."""
        return sum(model.memory_bytes or 0 for model in self.models)


@dataclass(frozen=True, slots=True)
class PoolRow:
    """One ModelPool: sums over its hosts."""

    name: str
    hosts: int
    memory_supply_bytes: int
    memory_used_bytes: int
    busy_supply_ratio: float
    busy_used_ratio: float
    energy: Energy
    carbon_grams_per_request: float | None
    packed_carbon_grams_per_request: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over everything shown; the utilization rate is what is used of what is kept."""

    services: int
    awake_services: int
    requests_per_minute: int
    hosts: int | None
    memory_used_ratio: float | None
    busy_used_ratio: float | None
    energy: Energy


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that `lull top` shows. `hosts` and `pools` are null where they may not be read."""

    at: str
    namespace: str | None
    notes: tuple[str, ...]
    totals: Totals
    services: tuple[ServiceRow, ...]
    hosts: tuple[HostRow, ...] | None
    pools: tuple[PoolRow, ...] | None


def fleet(
    now_seconds: float,
    services: Iterable[Object],
    hosts: Iterable[Object] | None,
    pools: Iterable[Object] | None,
    *,
    namespace: str | None = None,
    notes: tuple[str, ...] = (),
) -> Fleet:
    """Return the figures of objects as the API server holds them, at a time in seconds since the epoch."""
    pools = None if pools is None else list(pools)
    capacities = {pool["metadata"]["name"]: _capacity_bytes(pool) for pool in pools or ()}
    meters = {pool["metadata"]["name"]: _meters(pool, now_seconds) for pool in pools or ()}
    rows = (_service(item, now_seconds, meters) for item in services)
    service_rows = tuple(sorted(rows, key=lambda row: row.key))
    host_rows = None if hosts is None else tuple(sorted((_host(h, capacities) for h in hosts), key=_name))
    pool_rows = None if pools is None else tuple(sorted((_pool(p, now_seconds) for p in pools), key=_name))
    whole = namespace is None
    totals = _totals(service_rows, host_rows if whole else None, pool_rows if whole else None)
    return Fleet(rfc3339(now_seconds), namespace, notes, totals, service_rows, host_rows, pool_rows)


def _service(item: Object, now_seconds: float, meters: Mapping[str, Meters | None]) -> ServiceRow:
    status: Object = item.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    use: Object = status.get("utilization") or {}
    stalled = conditions.get("Stalled", {})
    state = conditions.get("Active", {}).get("reason") or conditions.get("Ready", {}).get("reason")
    replicas: Object = status.get("replicas") or {}
    step = status.get("next")
    energy = _of_service(status, now_seconds, meters, resting=state in ASLEEP)
    return ServiceRow(
        namespace=item["metadata"]["namespace"],
        name=item["metadata"]["name"],
        pool=item["spec"].get("pool", "default"),
        state=state or "Unknown",
        stalled=stalled["reason"] if stalled.get("status") == "True" else None,
        ready_replicas=replicas.get("ready", 0),
        desired_replicas=replicas.get("desired", 0),
        requests_per_minute=use.get("requestsPerMinute"),
        busy_ratio=_ratio(use.get("busyPercent")),
        latency_p99_seconds=parse_duration_seconds(use["latencyP99"]) if use.get("latencyP99") else None,
        memory_bytes=parse_bytes(use["memory"]) if use.get("memory") else None,
        energy=energy,
        next=Next(step["action"], step["reason"], step.get("time")) if step else None,
    )


def _of_service(
    status: Object, now_seconds: float, meters: Mapping[str, Meters | None], *, resting: bool
) -> Energy:
    """Read a service's energy; one that rests saved what its pool's meters say, where they can be read."""
    energy, ledger = _energy(status, now_seconds, resting=resting), status.get("ledger") or {}
    now = meters.get(ledger.get("pool", ""))
    if not resting or now is None or energy.saved_joules is None:
        return energy
    account = account_from(ledger)
    drawn_since_joules = (energy.energy_joules or 0) - account.joules
    return replace(energy, saved_joules=account.until(now).saved_joules - drawn_since_joules)


def _meters(pool: Object, now_seconds: float) -> Meters | None:
    ledger = (pool.get("status") or {}).get("ledger")
    return pool_account_from(ledger).until(now_seconds).meters if ledger else None


def _energy(status: Object, now_seconds: float, *, resting: bool) -> Energy:
    """Read a status' energy; that of a resting object is carried on by its rates since it was written."""
    told: Object = status.get("energy") or {}
    if not told:
        return Energy()
    ledger: Object = status.get("ledger") or {}
    since_seconds = max(0.0, now_seconds - _seconds(ledger["at"])) if ledger and resting else 0.0
    drawn_watts = (told.get("milliwatts") or 0) / 1000
    saving_watts = told.get("savingMilliwatts", 0) / 1000
    energy, saved = _joules(told.get("wattHours")), _joules(told.get("savedWattHours"))
    if ledger:
        energy = ledger.get("joules", ledger.get("idleJoules", 0) + ledger.get("dynamicJoules", 0))
    if ledger and saved is not None:
        saved = ledger.get("baselineJoules", 0) - ledger.get("overheadJoules", 0) - (energy or 0)
    return Energy(
        basis=told["basis"],
        power_watts=None if told.get("milliwatts") is None else drawn_watts,
        energy_joules=None if energy is None else energy + drawn_watts * since_seconds,
        saved_joules=None if saved is None else saved + saving_watts * since_seconds,
        carbon_grams=float(told["gramsCO2e"]) if told.get("gramsCO2e") else None,
    )


def _host(item: Object, capacities: Mapping[str, int | None]) -> HostRow:
    status: Object = item.get("status") or {}
    pool = item["spec"]["pool"]
    accelerator: Object = status.get("accelerator") or {}
    energy: Object = status.get("energy") or {}
    total = accelerator.get("memoryTotal")
    reports = {model["id"]: model for model in status.get("models") or ()}
    wanted = {model["id"]: model for model in item["spec"].get("models") or ()}
    held = tuple(_held(wanted.get(name, {}), reports.get(name, {})) for name in wanted | reports)
    return HostRow(
        name=item["metadata"]["name"],
        pool=pool,
        state=_host_state(item, held),
        memory_bytes=parse_bytes(total) if total else capacities.get(pool),
        busy_ratio=_ratio(status.get("busyPercent")),
        basis=energy.get("basis"),
        power_watts=energy["milliwatts"] / 1000 if "milliwatts" in energy else None,
        unallocated_watts=energy["unallocatedMilliwatts"] / 1000
        if "unallocatedMilliwatts" in energy
        else None,
        models=tuple(sorted(held, key=lambda model: (model.state == "Resident", model.service))),
    )


def _held(wanted: Object, report: Object) -> HeldModel:
    memory = report.get("memory") or wanted.get("memory")
    told = report.get("state", "Fetching")
    state = {"Failed": "Failed", "Ready": "Serving", "Unloading": "Draining"}.get(told, "Loading")
    if state == "Serving" and wanted.get("state") in ("Resident", "Draining"):
        state = wanted["state"]
    return HeldModel(
        service=wanted.get("service") or report["service"],
        state=state,
        memory_bytes=parse_bytes(memory) if memory else None,
    )


def _host_state(item: Object, held: tuple[HeldModel, ...]) -> str:
    if (item["metadata"].get("annotations") or {}).get(ANNOTATION_DRAIN) == "true":
        return "Draining"
    conditions = {c["type"]: c for c in (item.get("status") or {}).get("conditions") or ()}
    ready = conditions.get("Ready", {"status": "Unknown", "reason": "Starting"})
    if ready["status"] != "True":
        return "Starting" if ready["status"] == "Unknown" or ready["reason"] == "Starting" else "Unready"
    return "Serving" if any(model.state != "Resident" for model in held) else "Idle"


def _pool(item: Object, now_seconds: float) -> PoolRow:
    status: Object = item.get("status") or {}
    hosts, memory, busy = (status.get(name) or {} for name in ("hosts", "memory", "busy"))
    told: Object = status.get("energy") or {}
    return PoolRow(
        name=item["metadata"]["name"],
        hosts=hosts.get("total", 0),
        memory_supply_bytes=parse_bytes(memory.get("supply", "0")),
        memory_used_bytes=parse_bytes(memory.get("used", "0")),
        busy_supply_ratio=busy.get("supplyPercent", 0) / 100,
        busy_used_ratio=busy.get("usedPercent", 0) / 100,
        energy=_energy(status, now_seconds, resting=not hosts.get("total")),
        carbon_grams_per_request=_number(told.get("gramsCO2ePerRequest")),
        packed_carbon_grams_per_request=_number(told.get("gramsCO2ePerRequestPacked")),
    )


def _capacity_bytes(pool: Object) -> int | None:
    accelerator = pool["spec"].get("accelerator")
    memory = accelerator["memory"] if accelerator else pool["spec"].get("memory")
    return parse_bytes(memory) if memory else None


def _totals(
    services: tuple[ServiceRow, ...], hosts: tuple[HostRow, ...] | None, pools: tuple[PoolRow, ...] | None
) -> Totals:
    """Sum up: pools know what no service is charged with; without them it is the sum over the services."""
    energy = _sum([row.energy for row in (services if pools is None else pools)])
    if pools is not None and hosts is not None:  # newer than the pools' sums, and by the same sensors
        drawn = _sum([Energy(row.basis, row.power_watts) for row in hosts])
        watts = drawn.power_watts if hosts else 0.0
        energy = replace(energy, basis=drawn.basis or energy.basis, power_watts=watts)
    kept_bytes = sum(row.memory_supply_bytes for row in pools or ())
    kept_busy = sum(row.busy_supply_ratio for row in pools or ())
    used_bytes = sum(row.memory_used_bytes for row in pools or ())
    used_busy = sum(row.busy_used_ratio for row in pools or ())
    return Totals(
        services=len(services),
        awake_services=sum(row.state not in ASLEEP for row in services),
        requests_per_minute=sum(row.requests_per_minute or 0 for row in services),
        hosts=None if hosts is None else len(hosts),
        memory_used_ratio=used_bytes / kept_bytes if kept_bytes else None,
        busy_used_ratio=used_busy / kept_busy if kept_busy else None,
        energy=energy,
    )


def _sum(parts: list[Energy]) -> Energy:
    bases = {part.basis for part in parts if part.basis}
    return Energy(
        basis="Mixed" if len(bases) > 1 else next(iter(bases), None),
        power_watts=_total(part.power_watts for part in parts),
        energy_joules=_total(part.energy_joules for part in parts),
        saved_joules=_total(part.saved_joules for part in parts),
        carbon_grams=_total(part.carbon_grams for part in parts),
    )


def _total(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _joules(watt_hours: str | None) -> float | None:
    return None if watt_hours is None else float(watt_hours) * 3600


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _ratio(percent: int | None) -> float | None:
    return None if percent is None else percent / 100


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _name(row: HostRow | PoolRow) -> str:
    return row.name
