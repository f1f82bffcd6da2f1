"""What the pilot counts, for Prometheus. No label grows with the number of services."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from lull.api.reasons import Reason

_HOLD_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_DROPPED = ("Full", "Large", "Late", "NotInShadow", "StableFailed", "Stateful", "Unreadable")
_REASONS = frozenset(Reason) | {"NotFound", "Forbidden", "HoldLimit", "HoldTimeout", "EnvoyRejected"}


class Metrics:
    """The pilot's own figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.held = Gauge("lull_gateway_held_requests", "Requests held now.", registry=self.registry)
        self.hold_seconds = Histogram(
            "lull_gateway_hold_seconds",
            "How long a request was held, whatever became of it.",
            buckets=_HOLD_BUCKETS,
            registry=self.registry,
        )
        self.delayed = Counter(
            "lull_gateway_delayed_requests",
            "Requests that waited for a wake for more than 100 ms, whatever became of them.",
            registry=self.registry,
        )
        self.oks = Counter("lull_gateway_oks", "Requests that the pilot let pass.", registry=self.registry)
        self._refusals = Counter(
            "lull_gateway_refusals",
            "Requests that the pilot refused, by reason.",
            ["reason"],
            registry=self.registry,
        )
        for reason in _REASONS:  # a rate misses the first of a series that was not there at zero
            self._refusals.labels(reason)
        self.drains = Counter(
            "lull_gateway_drains", "Placements let go of: fences passed.", registry=self.registry
        )
        self.rejections = Counter(
            "lull_gateway_xds_rejections",
            "Updates that Envoy refused: a fault of Lull, please report it.",
            registry=self.registry,
        )
        self._shadow_answers = Counter(
            "lull_shadow_answers",
            "Answers of candidates compared in shadow, by whether they were the stable revision's.",
            ["outcome"],
            registry=self.registry,
        )
        self._shadow_dropped = Counter(
            "lull_shadow_dropped",
            "Copies of requests that were not compared, by reason.",
            ["reason"],
            registry=self.registry,
        )
        for outcome in ("agreed", "differed"):
            self._shadow_answers.labels(outcome)
        for reason in _DROPPED:
            self._shadow_dropped.labels(reason)

    def shadow_compared(self, *, differed: bool) -> None:
        """Count two answers that were compared."""
        self._shadow_answers.labels("differed" if differed else "agreed").inc()

    def shadow_dropped(self, reason: str) -> None:
        """Count a copy of a request that was not compared."""
        self._shadow_dropped.labels(reason).inc()

    def refused(self, reason: str) -> None:
        """Count a refusal; a reason that is not one of ours counts as `Other`."""
        self._refusals.labels(reason if reason in _REASONS else "Other").inc()
