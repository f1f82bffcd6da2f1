"""`python -m bench`: measure everything, print the table, write build/bench.json.

Loopback only; every load is bounded in count and time. Takes some minutes.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from bench import (
    cold_start,
    few_hosts,
    hot_path,
    levels,
    load_time,
    local_start,
    loop_hold,
    packing,
    plan_speed,
    publish_time,
    staged_wake,
    status_cost,
    triton_direct,
    wake,
)
from bench.figures import Figure, show, write
from e2e.world import lull_cluster, world
from lull.cli.stack import ROOT

OUT = ROOT / "build" / "bench.json"


def main() -> int:
    """Return 0 where every bar is met."""
    figures: list[Figure] = []
    step("packing from scratch, beside first fit, best fit and the optimum")
    figures += packing.measure()
    step("the planner's speed, in process")
    figures += plan_speed.measure()
    step("how long the controller holds its loop, in process")
    figures += loop_hold.measure()
    step("hosts that Lull, its peers and perfect foresight keep on a trace")
    figures += few_hosts.measure()
    with tempfile.TemporaryDirectory(prefix="lull-") as folder:
        step("publishing by form")
        figures += publish_time.measure(_within(folder, "publish"))
        step("loads and answers of ONNX beside PyTorch's programs, on one Triton")
        figures += load_time.measure(_within(folder, "load"))
        step("wakes of a large artifact, staged and downloaded")
        figures += staged_wake.measure(_within(folder, "staged"))
        step("hot path: the gateway's Envoy beside a bare one, in interleaved pairs")
        figures += hot_path.measure(Path(folder))
        step("the start of a local cluster")
        figures += local_start.measure(Path(folder))
        step("a local cluster, for the rest")
        with lull_cluster(Path(folder), gateways=1, name="bench") as cluster:
            figures += asyncio.run(_on_a_cluster(cluster))
        step("what it costs to keep everybody informed (agents simulated)")
        figures += status_cost.measure(Path(folder))
    write(figures, OUT)
    show(figures)
    print(f"written to {OUT.relative_to(ROOT)}")
    return int(any(figure.holds is False for figure in figures))


async def _on_a_cluster(cluster) -> list[Figure]:
    async with world(cluster) as lull:
        figures = []
        for what, part in (
            ("first answer from no host at all", cold_start.measure),
            ("first answers from each depth of sleep, and what was expected of them", levels.measure),
            ("writes to the API server", wake.measure_api),
            ("wakes on a serving host", wake.measure_asleep),
            ("wakes of Resident models", wake.measure_resident),
            ("through the gateway beside Triton directly", triton_direct.measure),
        ):
            step(what)
            figures += await part(lull)
        return figures


def _within(folder: str, name: str) -> Path:
    made = Path(folder) / name
    made.mkdir()
    return made


def step(text: str) -> None:
    """Say what is measured now."""
    print(f"==> {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
