"""Lists of a whole kind: in pages, so that no answer is so large that parsing it holds up the rest."""

import math

import aiohttp
from aiohttp import web

from lull.kube import NODES, Kube
from lull.kube.client import PAGE


async def test_a_list_comes_in_pages_and_only_what_is_read_of_an_object_is_kept(unused_tcp_port):
    asked = []

    async def answer(request):
        asked.append(dict(request.query))
        metadata = {"resourceVersion": "7"}
        if "continue" not in request.query:
            metadata["continue"] = "go on"
        item = {"metadata": {"name": f"n{len(asked)}"}, "status": {"images": []}}
        return web.json_response({"metadata": metadata, "items": [item]})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.9", unused_tcp_port).start()
    async with aiohttp.ClientSession() as session:
        kube = Kube(f"http://127.0.0.9:{unused_tcp_port}", session, 1.0, lambda *_: None)
        kube._authorization_until = math.inf
        items, version = await kube.list(NODES, label_selector="a=b", keep=lambda item: item["metadata"])
    await runner.cleanup()
    assert (items, version) == ([{"name": "n1"}, {"name": "n2"}], "7")
    first = {"labelSelector": "a=b", "limit": str(PAGE)}
    assert asked == [first, first | {"continue": "go on"}]
