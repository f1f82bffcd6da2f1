"""A pilot in a process of its own, to be killed: its view comes from a file, its record goes to another."""

import asyncio
import json
import sys
from pathlib import Path

from lull.gateway import server
from lull.gateway.admin import Admin
from lull.gateway.pilot import Pilot
from lull.gateway.settings import Settings


class FileJournal:
    def __init__(self, pilot, path):
        self.pilot, self.path = pilot, path

    def urgent(self):
        asyncio.get_running_loop().call_soon(self.write)

    changed = urgent

    def write(self):
        text = json.dumps({"held": sorted(self.pilot.held()), "drained": sorted(self.pilot.drained())})
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.path)


async def main(folder):
    settings = Settings("gateway-1", "lull-system", "127.0.0.1", "lull.localhost", folder)
    pilot = Pilot(settings.pod_name, settings.domain, Admin(settings.admin_socket))
    pilot.journal = FileJournal(pilot, folder / "record.json")
    pilot.journal.write()
    seen = None

    def look():
        nonlocal seen
        text = (folder / "view.json").read_text()
        if text == seen:
            return
        seen = text
        view = json.loads(text)
        for item in view["services"]:
            metadata = item["metadata"]
            pilot.on_service((metadata["namespace"], metadata["name"]), item)
        for item in view["hosts"]:
            pilot.on_host(("lull-hosts", item["metadata"]["name"]), item)

    look()
    _kept = await server.serve(settings.xds_socket, pilot.ads, pilot.checker)
    running = asyncio.create_task(pilot.run())
    while not running.done():
        look()
        await asyncio.sleep(0.01)
    running.result()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
