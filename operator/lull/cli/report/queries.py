"""What a report asks Prometheus, in PromQL, by the names of Lull's own metrics.

Totals that the controller keeps over its restarts are joined into one series each before their increase is
taken (the inner `max by`), so that a new controller Pod costs no joules and no requests.
"""

from dataclasses import dataclass

from lull.cli.report.prometheus import Period

SERVICE = "modelservice_namespace, modelservice"
RESTING = "Asleep|Suspended"


@dataclass(frozen=True)
class Queries:
    """The queries of one report: of the whole fleet, or of one pool."""

    period: Period
    pool: str | None = None

    # Totals of the period

    def pool_total(self, metric: str) -> str:
        """By how much the pools' total grew."""
        return f"sum({self._grown(metric + self._of_pool(), 'modelpool')})"

    def service_totals(self, metric: str, *labels: str) -> str:
        """By how much each service's total grew."""
        by = ", ".join((SERVICE, *labels))
        return self._grown(f"{metric}{self._and_of_pool()}", by)

    def energy_by_basis(self) -> str:
        """Joules of hosts by whether a sensor or a model of it tells."""
        metric = f"lull_host_energy_joules_total{self._of_pool()}"
        return f"sum by (basis) (increase({metric}[{self.period.length_seconds}s]))"

    def wake_buckets(self) -> str:
        """Wakes by source and duration."""
        return f"sum by (source, le) (increase(lull_wake_seconds_bucket[{self.period.length_seconds}s]))"

    def wake_quantile(self, quantile: float) -> str:
        """A quantile of the wakes' durations."""
        grown = f"increase(lull_wake_seconds_bucket[{self.period.length_seconds}s])"
        return f"histogram_quantile({quantile}, sum by (le) ({grown}))"

    # Curves

    def hosts(self) -> str:
        """Hosts kept, by pool."""
        return f"sum by (modelpool) (max by (modelpool, state) (lull_hosts{self._of_pool()}))"

    def awake(self) -> str:
        """Services that do not rest; 0 where all do, nothing where nobody says."""
        state = f'lull_service_state{{state!~"{RESTING}"}}{self._and_of_pool()}'
        known = f"lull_service_info{self._of_pool()}"
        return f"count(max by ({SERVICE}) ({state})) or 0 * count({known})"

    def power(self) -> str:
        """Watts by pool."""
        return f"max by (modelpool) (lull_pool_power_watts{self._of_pool()})"

    def baseline(self) -> str:
        """Watts that the baseline would draw."""
        metric = f"lull_pool_baseline_energy_joules_total{self._of_pool()}"
        return f"sum(rate({metric}[{self.period.rate_seconds}s]))"

    def per_minute(self, metric: str) -> str:
        """What the services' counters count in a minute."""
        rate = f"rate({metric}[{self.period.rate_seconds}s])"
        return f"60 * sum({rate}{self._and_of_pool()})"

    def memory(self, kind: str) -> str:
        """Bytes kept (`supply`) or `used`."""
        more = f', modelpool="{self.pool}"' if self.pool else ""
        return f'sum(max by (modelpool) (lull_pool_memory_bytes{{kind="{kind}"{more}}}))'

    def busy_hosts(self) -> str:
        """Computing time used, in hosts: 1.5 is one and a half."""
        more = f', modelpool="{self.pool}"' if self.pool else ""
        ratio = f'max by (modelpool) (lull_pool_utilization_ratio{{resource="busy"{more}}})'
        return f"sum({ratio} * on (modelpool) {self.hosts()})"

    def _grown(self, series: str, by: str) -> str:
        period = self.period
        return f"increase((max by ({by}) ({series}))[{period.length_seconds}s:{period.step_seconds}s])"

    def _of_pool(self) -> str:
        return f'{{modelpool="{self.pool}"}}' if self.pool else ""

    def _and_of_pool(self) -> str:
        return f" and on ({SERVICE}) lull_service_info{self._of_pool()}" if self.pool else ""
