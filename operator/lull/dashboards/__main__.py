"""Write the dashboards: `python -m lull.dashboards manifests/components/monitoring/dashboards`."""

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from lull.dashboards import fleet, host, service


def write(directory: Path) -> list[Path]:
    """Write every dashboard as `<uid>.json` into `directory`, and return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    encoder = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False)
    files = []
    for dashboard in (fleet.dashboard(), service.dashboard(), host.dashboard()):
        path = directory / f"{dashboard.uid}.json"
        path.write_text(encoder.encode(dashboard) + "\n", encoding="utf-8")
        files.append(path)
    return files


if __name__ == "__main__":
    for written in write(Path(sys.argv[1])):
        print(written)  # noqa: T201
