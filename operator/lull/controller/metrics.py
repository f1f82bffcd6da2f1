"""Figures for Prometheus."""

from prometheus_client import Gauge, Histogram

WAKE_SECONDS = Histogram(
    "lull_wake_seconds",
    "From the controller's first sight of a held request to the placement that serves it.",
    ["source"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
PLAN_SECONDS = Histogram(
    "lull_plan_seconds", "Time to plan the fleet.", buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
)
SERVICES = Gauge("lull_services", "Services by state.", ["state"])
HOSTS = Gauge("lull_hosts", "Hosts by pool.", ["pool"])
