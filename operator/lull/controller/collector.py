"""The series of single services, pools and hosts, made anew for each scrape from what the ledger knows."""

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from lull.controller.figures import PoolFigures, Pools, ServiceFigures, Services
from lull.controller.ledger import Ledger
from lull.controller.view import View
from lull.policy import Host, Pod, State

F = TypeVar("F")
Values = Iterable[tuple[Mapping[str, str], float | None]]
"""Values with the labels that they add; one of None is unknown, and left out."""

_HOST_STATES = ("serving", "idle", "starting", "draining", "unready")
_SUFFIX = {"counter": "_total", "gauge": "", "info": "_info"}
_BATCH = 100
"""So many services are read in about a millisecond."""
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class _Series(Generic[F]):
    """One family: what it is called, and how its values are read off figures."""

    type: str
    name: str
    help: str
    values: Callable[[F], Values]

    def metric(self, all_figures: Iterable[tuple[Mapping[str, str], F]]) -> Metric:
        """Return the family of all these figures with their labels."""
        metric = Metric(self.name, self.help, self.type)
        name = self.name + _SUFFIX[self.type]
        for labels, figures in all_figures:
            for more, value in self.values(figures):
                if value is not None:
                    metric.samples.append(Sample(name, {**labels, **more}, value))
        return metric


def _one(value: Callable[[F], float | None]) -> Callable[[F], Values]:
    return lambda figures: ((_NOTHING, value(figures)),)


def _parts(label: str, parts: Mapping[str, Callable[[F], float | None]]) -> Callable[[F], Values]:
    labels = {part: {label: part} for part in parts}
    return lambda figures: [(labels[part], value(figures)) for part, value in parts.items()]


_SERVICE: tuple[_Series[ServiceFigures], ...] = (
    _Series("info", "lull_service", "Where a service belongs.", lambda f: [({"modelpool": f.pool}, 1)]),
    _Series("gauge", "lull_service_state", "1 for its present state.", lambda f: [({"state": f.state}, 1)]),
    _Series(
        "gauge",
        "lull_service_stalled",
        "1 while it cannot serve until somebody or time helps.",
        lambda f: [({"reason": f.stalled}, 1)] if f.stalled else (),
    ),
    _Series(
        "gauge",
        "lull_service_rollout",
        "1 for the phase of its last rollout; absent before the first.",
        lambda f: [({"phase": f.rollout}, 1)] if f.rollout else (),
    ),
    _Series("counter", "lull_service_requests", "Requests that Triton answered.", _one(lambda f: f.requests)),
    _Series(
        "counter",
        "lull_service_delayed_requests",
        "Requests that waited for a wake.",
        _one(lambda f: f.delayed),
    ),
    _Series(
        "counter",
        "lull_service_energy_joules",
        "Energy that it was charged with; idle: whether it computed or not.",
        _parts("part", {"idle": lambda f: f.idle_joules, "dynamic": lambda f: f.dynamic_joules}),
    ),
    _Series(
        "counter",
        "lull_service_baseline_energy_joules",
        "Modelled: what it would have drawn always on, on the fewest hosts.",
        _one(lambda f: f.baseline_joules),
    ),
    _Series(
        "counter",
        "lull_service_overhead_energy_joules",
        "Its part, by memory, of what its pool's hosts drew for no model.",
        _one(lambda f: f.overhead_joules),
    ),
    _Series(
        "counter",
        "lull_service_carbon_grams",
        "Modelled: CO2 equivalent of its energy.",
        _one(lambda f: f.carbon_grams),
    ),
    _Series("gauge", "lull_service_power_watts", "Its present draw.", _one(lambda f: f.watts)),
    _Series(
        "gauge", "lull_service_wake_seconds", "How long its last wake took.", _one(lambda f: f.wake_seconds)
    ),
    _Series(
        "gauge",
        "lull_service_objective_delayed_ratio",
        "Share of its requests that may wait for a wake, by its objective; absent without one.",
        _one(lambda f: f.objective_delayed_ratio),
    ),
    _Series(
        "gauge",
        "lull_service_hold_timeout_seconds",
        "How long a request of it is held at most.",
        _one(lambda f: f.hold_timeout_seconds),
    ),
)

_POOL: tuple[_Series[PoolFigures], ...] = (
    _Series("counter", "lull_pool_energy_joules", "Energy that its hosts drew.", _one(lambda f: f.joules)),
    _Series(
        "counter",
        "lull_pool_baseline_energy_joules",
        "Modelled: what the fewest hosts for all its services would have drawn, always on.",
        _one(lambda f: f.baseline_joules),
    ),
    _Series("gauge", "lull_pool_power_watts", "Present draw of its hosts.", _one(lambda f: f.watts)),
    _Series(
        "counter",
        "lull_pool_carbon_grams",
        "Modelled: CO2 equivalent of its energy.",
        _one(lambda f: f.carbon_grams),
    ),
    _Series(
        "gauge",
        "lull_pool_utilization_ratio",
        "What is used of what is kept: memory, and computing time.",
        _parts("resource", {"memory": lambda f: f.memory_ratio, "busy": lambda f: f.busy_ratio}),
    ),
    _Series(
        "gauge",
        "lull_pool_carbon_grams_per_request",
        "Modelled: CO2 equivalent of a request, as it is and were all packed perfectly.",
        _parts(
            "packing",
            {"present": lambda f: f.grams_per_request, "perfect": lambda f: f.grams_per_request_packed},
        ),
    ),
    _Series(
        "gauge",
        "lull_pool_memory_bytes",
        "Memory for models: what its hosts keep, and what models take of it.",
        _parts("kind", {"supply": lambda f: f.supply_bytes, "used": lambda f: f.used_bytes}),
    ),
)


class FleetCollector(Collector):
    """Shows the figures that `take` took: rendering goes on in a thread while the fleet changes."""

    def __init__(self) -> None:
        self._sources: tuple[Ledger, View] | None = None
        self._services: Services = {}
        self._pools: Pools = {}
        self._hosts: Mapping[tuple[str, str], int] = {}

    def follow(self, ledger: Ledger, view: View) -> None:
        """Show what these know; nothing before, as while another controller holds the Lease."""
        self._sources = ledger, view

    async def take(self) -> None:
        """Take the figures of this moment, before a rendering; the loop gets its turns in between."""
        if self._sources is None:
            return
        ledger, view = self._sources
        services = {}
        for key, figures in ledger.services():
            services[key] = figures
            if len(services) % _BATCH == 0:
                await asyncio.sleep(0)
        self._services = services
        self._pools = ledger.pools()
        counts = Tally((host.pool, _state(host)) for host in view.hosts.values())
        pools = {*view.pools, *(pool for pool, _ in counts)}
        self._hosts = {(pool, state): counts[pool, state] for pool in pools for state in _HOST_STATES}

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that being registered does not need figures."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        services = [(_service_labels(key), figures) for key, figures in self._services.items()]
        for of_service in _SERVICE:
            yield of_service.metric(services)
        pools = [({"modelpool": name}, figures) for name, figures in self._pools.items()]
        for of_pool in _POOL:
            yield of_pool.metric(pools)
        hosts = Metric("lull_hosts", "Hosts by state; idle: ready, and serving nobody.", "gauge")
        for (pool, state), count in self._hosts.items():
            hosts.add_sample("lull_hosts", {"modelpool": pool, "state": state}, count)
        yield hosts


def _service_labels(key: str) -> Mapping[str, str]:
    namespace, _, name = key.partition("/")
    return {"modelservice_namespace": namespace, "modelservice": name}


def _state(host: Host) -> str:
    if host.cordoned or host.pod is Pod.TERMINATING:
        return "draining"
    if host.pod in (Pod.MISSING, Pod.STARTING):
        return "starting"
    if host.pod is not Pod.RUNNING:
        return "unready"
    return "serving" if any(p.state is State.LOADED for p in host.placements) else "idle"
