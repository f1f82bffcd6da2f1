"""What a report asks Prometheus, in PromQL, by the names of Lull's own metrics.

Totals that the controller keeps over its restarts are joined into one series each (`max by`), and what they
grew by is their end less their beginning: `increase` would extrapolate, a sixth too much in a short period.
They never run backwards; of a service that was deleted and made again, one life counts.
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
        now, before = metric + self._of_pool(), f"{metric}{self._of_pool()}{self._ago()}"
        return f"sum({self._grown(now, before, 'modelpool')})"

    def service_totals(self, metric: str, *labels: str) -> str:
        """By how much each service's total grew."""
        now = f"{metric}{self._and_of_pool()}"
        before = f"{metric}{self._ago()}{self._and_of_pool(self._ago())}"
        return self._grown(now, before, ", ".join((SERVICE, *labels)))

    def energy_by_basis(self) -> str:
        """Joules of hosts by whether a sensor or a model of it tells."""
        metric = f"lull_host_energy_joules_total{self._of_pool()}"
        return f"sum by (basis) (increase({metric}[{self.period.length_seconds}s]))"

    def wake_buckets(self) -> str:
        """Wakes by source and duration."""
        return f"sum by (source, le) ({self._counted('lull_wake_seconds_bucket')})"

    def wake_quantile(self, quantile: float) -> str:
        """A quantile of the wakes' durations."""
        return f"histogram_quantile({quantile}, sum by (le) ({self._counted('lull_wake_seconds_bucket')}))"

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

    def _grown(self, now: str, before: str, by: str) -> str:
        """End less beginning; what came or went within the period by its greatest and least."""
        joined = f"max by ({by}) ({now})"
        steps = f"({joined})[{self.period.length_seconds}s:{self.period.step_seconds}s]"
        end = f"({joined} or max_over_time({steps}))"
        beginning = f"(max by ({by}) ({before}) or min_over_time({steps}))"
        return f"clamp_min({end} - {beginning}, 0)"

    def _counted(self, metric: str) -> str:
        """What each process counted, from zero on: its end less its beginning.

        Only of a container that was restarted in its Pod, whose counter ran back, it is extrapolated.
        """
        ranged = f"{metric}[{self.period.length_seconds}s]"
        grown = f"max_over_time({ranged}) - ({metric}{self._ago()} or min_over_time({ranged}))"
        return f"({grown}) unless resets({ranged}) > 0 or increase({ranged})"

    def _ago(self) -> str:
        return f" offset {self.period.length_seconds}s"

    def _of_pool(self) -> str:
        return f'{{modelpool="{self.pool}"}}' if self.pool else ""

    def _and_of_pool(self, ago: str = "") -> str:
        if not self.pool:
            return ""
        return f" and on ({SERVICE}) lull_service_info{self._of_pool()}{ago}"
