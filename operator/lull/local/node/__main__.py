"""`python -m lull.local.node FOLDER`: the node program of the cluster in that folder."""

import asyncio
import logging
import sys
from pathlib import Path

from lull.local.node.program import NodeProgram

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
asyncio.run(NodeProgram(Path(sys.argv[1])).run())
