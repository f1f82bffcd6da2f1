"""A gateway with a classifier behind it, in this process: what `lull evaluate` asks."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from aiohttp import web

from lull.api.names import REVISION_HEADER

MODEL = "digits"
_LENGTH = "Inference-Header-Content-Length"


@dataclass
class Asked:
    """One request, as it came."""

    revision: str | None
    inputs: dict[str, np.ndarray]


@dataclass
class Gateway:
    """Answers each row with the scores that `tells` gives for it.

    Attributes:
        refuse: looks at a request and returns why it is refused, as (status, text); None lets it pass.
        revision: says who answers it.
        busy: how many looks at the metadata are refused first, with this status.
        stuck: requests never end.
    """

    tells: Callable[[np.ndarray], np.ndarray]
    inputs: list[tuple[str, str]] = field(default_factory=lambda: [("input", "FP32")])
    outputs: list[tuple[str, str]] = field(default_factory=lambda: [("scores", "FP32")])
    refuse: Callable[[Asked], tuple[int, str] | None] = lambda asked: None
    revision: Callable[[Asked], str | None] = lambda asked: "r1"
    busy: list[int] = field(default_factory=list)
    stuck: bool = False
    asked: list[Asked] = field(default_factory=list)

    async def metadata(self, request: web.Request) -> web.Response:
        pinned = request.headers.get(REVISION_HEADER)
        if self.busy:
            return web.Response(status=self.busy.pop(), text="waking", headers={"Retry-After": "0"})
        told = {
            "name": MODEL,
            "inputs": [{"name": name, "datatype": kind, "shape": [-1, 2]} for name, kind in self.inputs],
            "outputs": [{"name": name, "datatype": kind, "shape": [-1, 3]} for name, kind in self.outputs],
        }
        return web.json_response(told, headers=self._by(Asked(pinned, {})))

    async def infer(self, request: web.Request) -> web.Response:
        if self.stuck:
            await asyncio.Event().wait()
        asked = Asked(request.headers.get(REVISION_HEADER), _tensors(request, await request.read()))
        self.asked.append(asked)
        if refused := self.refuse(asked):
            return web.Response(status=refused[0], text=refused[1])
        answer = self.tells(next(iter(asked.inputs.values())))
        kind = {"f": "FP32", "i": "INT64"}[answer.dtype.kind]
        tensor = {
            "name": self.outputs[0][0],
            "datatype": kind,
            "shape": list(answer.shape),
            "parameters": {"binary_data_size": answer.nbytes},
        }
        head = json.dumps({"model_name": MODEL, "outputs": [tensor]}).encode()
        return web.Response(
            body=head + answer.tobytes(), headers={_LENGTH: str(len(head)), **self._by(asked)}
        )

    def _by(self, asked: Asked) -> dict[str, str]:
        revision = self.revision(asked)
        return {REVISION_HEADER: revision} if revision else {}


@asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[str]:
    """Serve it; yields the service's URL."""
    application = web.Application()
    application.router.add_get(f"/demo/digits/v2/models/{MODEL}", gateway.metadata)
    application.router.add_post(f"/demo/digits/v2/models/{MODEL}/infer", gateway.infer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/demo/digits"
    finally:
        await runner.cleanup()


def _tensors(request: web.Request, body: bytes) -> dict[str, np.ndarray]:
    at = int(request.headers[_LENGTH])
    tensors = {}
    for tensor in json.loads(body[:at])["inputs"]:
        size = tensor["parameters"]["binary_data_size"]
        kind = {"FP32": np.float32, "INT64": np.int64}[tensor["datatype"]]
        tensors[tensor["name"]] = np.frombuffer(body[at : at + size], kind).reshape(tensor["shape"])
        at += size
    return tensors
