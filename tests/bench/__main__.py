"""`python -m bench [PART]...`: measure, print the table, write build/bench.json.

Without parts all are measured, most of an hour long, as `few_hosts` simulates hundreds of weeks;
`make bench PARTS="wake hot_path"` measures some. Loopback only; every load is bounded in count and time.
What a part found is written as soon as it is over, and one that breaks down stops no other.
"""

import argparse
import asyncio
import sys
import tempfile
import traceback
from collections.abc import Callable
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

Measure = Callable[[Path], list[Figure]]


def _on_a_cluster(folder: Path) -> list[Figure]:
    with lull_cluster(folder, gateways=1, name="bench") as cluster:
        return asyncio.run(_of_cluster(cluster))


async def _of_cluster(cluster) -> list[Figure]:
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
            step(f"  {what}")
            figures += await part(lull)
        return figures


PARTS: dict[str, tuple[str, Measure]] = {
    "packing": (
        "packing from scratch, beside first fit, best fit and the optimum",
        lambda _: packing.measure(),
    ),
    "plan_speed": ("the planner's speed, in process", lambda _: plan_speed.measure()),
    "loop_hold": ("how long the controller holds its loop, in process", lambda _: loop_hold.measure()),
    "publish_time": ("publishing by form", publish_time.measure),
    "load_time": ("loads and answers of ONNX beside PyTorch's programs, on one Triton", load_time.measure),
    "staged_wake": ("wakes of a large artifact, staged and downloaded", staged_wake.measure),
    "hot_path": ("hot path: the gateway's Envoy beside a bare one, in interleaved pairs", hot_path.measure),
    "local_start": ("the start of a local cluster", local_start.measure),
    "wake": ("wakes and answers on a local cluster", _on_a_cluster),
    "status_cost": ("what it costs to keep everybody informed (agents simulated)", status_cost.measure),
    "few_hosts": (
        "hosts that Lull, its peers and perfect foresight keep on a trace",
        lambda _: few_hosts.measure(),
    ),
}


def main() -> int:
    """Return 0 where every bar is met and no part broke down."""
    figures: list[Figure] = []
    broken = []
    with tempfile.TemporaryDirectory(prefix="lull-") as folder:
        for name in _asked():
            what, measure = PARTS[name]
            step(what)
            made = Path(folder) / name
            made.mkdir()
            try:
                figures += measure(made)
            except Exception:
                traceback.print_exc()
                broken.append(name)
            write(figures, OUT)
    show(figures)
    print(f"written to {OUT.relative_to(ROOT)}")
    if broken:
        print(f"broke down, so its figures are missing: {', '.join(broken)}", file=sys.stderr)
    return int(bool(broken) or any(figure.holds is False for figure in figures))


def _asked() -> list[str]:
    told = "\n".join(f"  {name:14}{what}" for name, (what, _) in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure, print a table, write build/bench.json.",
        epilog=f"parts:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure; all without any")
    asked: list[str] = parser.parse_args().parts
    if unknown := [name for name in asked if name not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}; see --help")
    return asked or list(PARTS)


def step(text: str) -> None:
    """Say what is measured now."""
    print(f"==> {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
