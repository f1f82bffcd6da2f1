"""What Prometheus scrapes from an agent: each placement's and the host's figures in full resolution."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from lull.api.host import HostModelStatus
from lull_runtime.agent.kept import Account
from lull_runtime.agent.meter import Meter, Power

_HOST = ["modelhost", "modelpool"]
_PLACEMENT = ["modelservice_namespace", "modelservice", "placement", *_HOST]
_NS_PER_SECOND = 10**9
_MICRO = 10**6


@dataclass(frozen=True)
class Exposed:
    """What there is to say at one moment.

    Attributes:
        host: the ModelHost's name.
        pool: its ModelPool's.
        statuses: of the placements.
        names: on the wire, by placement.
        meter: of the host.
        latencies: seconds by quantile, by name on the wire.
        triton_up: whether Triton answers.
    """

    host: str
    pool: str
    statuses: Sequence[HostModelStatus]
    names: Mapping[str, str]
    meter: Meter
    latencies: Mapping[str, Mapping[float, float]]
    triton_up: bool


class MeterCollector(Collector):
    """Everything of one host as it was last taken: what a thread renders must not change meanwhile."""

    def __init__(self, exposed: Callable[[], Exposed]) -> None:
        self._exposed = exposed
        self._taken: Sequence[Metric] = ()

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: what there is depends on what the host holds."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of the moment that was taken."""
        return self._taken

    def take(self) -> None:
        """Take this moment."""
        now = self._exposed()
        power = now.meter.power()
        self._taken = [*_of_placements(now, power), *_of_host(now, power)]


def _of_placements(now: Exposed, power: Power | None) -> Iterator[Metric]:
    labels = {
        status.id: [*status.service.split("/", 1), status.id, now.host, now.pool] for status in now.statuses
    }
    state = GaugeMetricFamily(
        "lull_placement_state", "1 for the placement's state.", labels=[*_PLACEMENT, "state"]
    )
    for status in now.statuses:
        state.add_metric([*labels[status.id], status.state], 1)
    yield state
    accounts = {key: now.meter.accounts[key] for key in labels if key in now.meter.accounts}
    yield from _counts(labels, accounts)
    yield _latencies(now, labels, accounts)
    if power is not None:
        yield from _energy(labels, accounts, power)


_COUNTS: Mapping[str, tuple[str, Callable[[Account], float]]] = {
    "lull_model_requests": ("Inferences answered.", lambda a: a.totals.requests),
    "lull_model_failures": ("Inferences failed.", lambda a: a.totals.failures),
    "lull_model_busy_seconds": ("Time that it computed.", lambda a: a.totals.busy_ns / _NS_PER_SECOND),
    "lull_model_queue_seconds": ("Time in the queue.", lambda a: a.totals.queue_ns / _NS_PER_SECOND),
    "lull_model_batches": ("Runs of the network.", lambda a: a.totals.executions),
}


def _counts(labels: Mapping[str, list[str]], accounts: Mapping[str, Account]) -> Iterator[Metric]:
    for name, (help_text, value) in _COUNTS.items():
        family = CounterMetricFamily(name, help_text, labels=_PLACEMENT)
        for key, account in accounts.items():
            family.add_metric(labels[key], value(account))
        yield family
    memory = GaugeMetricFamily(
        "lull_model_memory_bytes",
        "Memory that it takes: measured, or its card's estimate.",
        labels=_PLACEMENT,
    )
    for key, account in accounts.items():
        memory.add_metric(labels[key], account.memory_bytes)
    yield memory


def _latencies(now: Exposed, labels: Mapping[str, list[str]], accounts: Mapping[str, Account]) -> Metric:
    """Of answered requests, from arrival to answer: quantiles of the last minute, as Triton sums them up."""
    family = SummaryMetricFamily(
        "lull_model_latency_seconds",
        "Time from a request's arrival at Triton to its answer.",
        labels=_PLACEMENT,
    )
    for key, account in accounts.items():
        seconds = account.totals.answer_ns / _NS_PER_SECOND
        family.add_metric(labels[key], count_value=account.totals.requests, sum_value=seconds)
        rates = now.meter.rates(key)
        asked = now.latencies.get(now.names.get(key, ""), {}) if rates and rates.active else {}
        for quantile, value in asked.items():
            named = dict(zip(_PLACEMENT, labels[key], strict=True)) | {"quantile": f"{quantile:g}"}
            family.add_sample(family.name, named, value)
    return family


def _energy(
    labels: Mapping[str, list[str]], accounts: Mapping[str, Account], power: Power
) -> Iterator[Metric]:
    joules = CounterMetricFamily(
        "lull_model_energy_joules",
        "Its part of the host's energy, which may be modelled.",
        labels=[*_PLACEMENT, "part"],
    )
    watts = GaugeMetricFamily(
        "lull_model_power_watts",
        "Its part of the host's draw, which may be modelled.",
        labels=[*_PLACEMENT, "part"],
    )
    for key, account in accounts.items():
        joules.add_metric([*labels[key], "idle"], account.idle / _MICRO)
        joules.add_metric([*labels[key], "dynamic"], account.dynamic / _MICRO)
        if (part := power.split.parts.get(key)) is not None:
            watts.add_metric([*labels[key], "idle"], part.idle / _MICRO)
            watts.add_metric([*labels[key], "dynamic"], part.dynamic / _MICRO)
    yield joules
    yield watts


def _of_host(now: Exposed, power: Power | None) -> Iterator[Metric]:
    meter, labels = now.meter, [now.host, now.pool]
    sums = meter.sums

    def gauge(name: str, help_text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, help_text, labels=_HOST)
        family.add_metric(labels, value)
        return family

    yield gauge("lull_host_triton_up", "Whether Triton answers.", now.triton_up)
    yield gauge("lull_host_memory_bytes", "Memory that its models may share.", meter.capacity_bytes)
    yield gauge("lull_host_busy_ratio", "Time its models computed, of the last minute.", meter.busy_ratio)
    busy = CounterMetricFamily("lull_host_busy_seconds", "Time its models computed.", labels=_HOST)
    busy.add_metric(labels, sums.busy_ns / _NS_PER_SECOND)
    yield busy
    found = meter.accelerator
    device_bytes = found.memory_used_bytes if found else None
    used_bytes = meter.memory_bytes if device_bytes is None else device_bytes
    yield gauge("lull_host_memory_used_bytes", "Memory in use.", used_bytes)
    if device_bytes is not None:
        residual_bytes = max(0, device_bytes - meter.memory_bytes)
        yield gauge("lull_host_memory_residual_bytes", "In use, and by no model.", residual_bytes)
    if found is not None and found.utilization is not None:
        yield gauge("lull_host_accelerator_utilization_ratio", "As the device says.", found.utilization)
    if power is not None:
        unallocated = power.split.unallocated / _MICRO
        yield gauge("lull_host_unallocated_power_watts", "Draw that no model causes.", unallocated)
        yield from _host_energy(meter, labels, power)


def _host_energy(meter: Meter, labels: Sequence[str], power: Power) -> Iterator[Metric]:
    watts = GaugeMetricFamily(
        "lull_host_power_watts",
        "What the host draws: measured, or modelled by its power profile.",
        labels=[*_HOST, "basis"],
    )
    watts.add_metric([*labels, power.basis], power.draw.total / _MICRO)
    joules = CounterMetricFamily(
        "lull_host_energy_joules",
        "What the host drew since it came, measured and modelled apart.",
        labels=[*_HOST, "basis"],
    )
    for basis, drawn in (("Measured", meter.sums.measured), ("Modelled", meter.sums.modelled)):
        if drawn or basis == power.basis:
            joules.add_metric([*labels, basis], drawn / _MICRO)
    unallocated = CounterMetricFamily(
        "lull_host_unallocated_energy_joules", "What no model caused.", labels=_HOST
    )
    unallocated.add_metric(labels, meter.sums.unallocated / _MICRO)
    yield from (watts, joules, unallocated)
