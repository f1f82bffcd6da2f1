"""How long `lull local up` takes once its programs are built: a whole control plane with one node."""

import time
from pathlib import Path
from statistics import median

from bench.figures import Figure
from lull.local.cluster import Cluster, Nodes

TURNS = 3
BAR_SECONDS = 15.0


def measure(home: Path) -> list[Figure]:
    """Return the median time until everything is ready."""
    seconds = median(_once(home) for _ in range(TURNS))
    return [Figure(f"lull local up, median of {TURNS}", seconds, "s", bar=BAR_SECONDS)]


def _once(home: Path) -> float:
    cluster = Cluster("start", home=home)
    _ = cluster.binaries  # built before, if need be
    began = time.monotonic()
    try:
        cluster.up(Nodes(cpu=1))
        return time.monotonic() - began
    finally:
        cluster.down()
