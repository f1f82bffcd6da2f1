"""The command line of the mock-up; see the package."""

import argparse
import json
import time
from pathlib import Path

from mockup.draw import draw
from mockup.queries import Period


def main() -> None:
    parser = argparse.ArgumentParser(prog="mockup", description="Draw a dashboard from its own queries.")
    parser.add_argument("dashboard", type=Path, help="its JSON")
    parser.add_argument("prometheus", help="URL of a Prometheus that scrapes Lull")
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--minutes", type=float, default=60, help="how far back")
    parser.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    end = time.time()
    variables = dict(it.split("=", 1) for it in given.variable)
    period = Period(end - 60 * given.minutes, end, variables)
    board = json.loads(given.dashboard.read_text())
    draw(board, given.prometheus.rstrip("/"), period).savefig(given.picture)


if __name__ == "__main__":
    main()
