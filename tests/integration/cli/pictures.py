"""The README's pictures, of made-up figures: `python -m integration.cli.pictures FOLDER`, from tests/.

It writes top.svg and report.html; a browser turns the latter into report.png.
"""

import asyncio
import copy
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from integration.cli.day import Day, prometheus_with
from lull.cli.top.app import HISTORY, Top
from lull.cli.top.figures import Fleet, fleet
from unit.cli import golden

START = 1_795_219_200  # 2026-11-21T00:00:00Z


class Swell:
    """The golden fleet, its requests and watts going up and down."""

    def __init__(self) -> None:
        self.sample = 0

    def fleet(self) -> Fleet:
        services, hosts = copy.deepcopy(golden.services()), copy.deepcopy(golden.hosts())
        for at, item in enumerate(services):
            use = item["status"].get("utilization") or {"requestsPerMinute": 0}
            use["requestsPerMinute"] = int(use["requestsPerMinute"] * self._wave(at))
        for at, item in enumerate(hosts):
            item["status"]["energy"]["milliwatts"] = int(
                item["status"]["energy"]["milliwatts"] * self._wave(at) ** 0.4
            )
        return fleet(golden.NOW, services, hosts, golden.pools())

    async def follow(self) -> None:
        await asyncio.Event().wait()

    def _wave(self, phase: int) -> float:
        return (
            1
            + 0.3 * math.sin(self.sample / (5 + phase % 3) + phase)
            + 0.15 * math.sin(self.sample * 1.7 + phase)
        )


async def top(width: int = 110, height: int = 27) -> str:
    """Return the live view as SVG that loads nothing."""
    swell = Swell()
    app = Top(swell, "watts", 60)
    async with app.run_test(size=(width, height)) as pilot:
        for swell.sample in range(HISTORY):
            app._sample()
        await pilot.pause()
        svg = app.export_screenshot(title="lull top")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "monospace")


def main(folder: Path) -> None:
    """Write the pictures."""
    (folder / "top.svg").write_text(asyncio.run(top()))
    with tempfile.TemporaryDirectory() as data, prometheus_with(Day(START), Path(data)) as url:
        subprocess.run(
            [
                "lull",
                "report",
                "--prometheus",
                url,
                "--until",
                "2026-11-22T00:00:00Z",
                "--out",
                folder / "report.html",
            ],
            check=True,
            timeout=120,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
