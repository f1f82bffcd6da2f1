"""The part of the kubelet's API that `kubectl logs` needs, for the API server alone."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from lull.local.address import KUBELET_PORT

FOLLOW_SECONDS = 0.2
CHUNK_BYTES = 2**16
API_SERVER_USER = "kube-apiserver-kubelet-client"

FindLog = Callable[[str, str, str, bool], Path | None]
"""The log of `(namespace, pod, container, previous)`, None where there is none."""


async def serve_logs(address: str, pki: Path, find: FindLog) -> web.AppRunner:
    """Serves `/containerLogs/NAMESPACE/POD/CONTAINER` until the runner is cleaned up."""

    async def logs(request: web.Request) -> web.StreamResponse:
        certificate = request.transport and request.transport.get_extra_info("peercert")
        if not _is_api_server(certificate or {}):
            raise web.HTTPForbidden(text="only the API server may read logs here")
        where = request.match_info
        previous = request.query.get("previous") == "true"
        path = find(where["namespace"], where["pod"], where["container"], previous)
        if path is None:
            raise web.HTTPNotFound(text=f"container {where['container']} of {where['pod']} has no such log")
        return await _send(request, path)

    app = web.Application()
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", logs)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, address, KUBELET_PORT, ssl_context=_tls(pki)).start()
    return runner


async def _send(request: web.Request, path: Path) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    await response.prepare(request)
    with path.open("rb") as file:
        if lines := request.query.get("tailLines"):
            for line in deque(file, maxlen=int(lines)):
                await response.write(line)
        while True:
            while chunk := file.read(CHUNK_BYTES):
                await response.write(chunk)
            if request.query.get("follow") != "true" or not path.exists():
                break
            await asyncio.sleep(FOLLOW_SECONDS)  # ends with the request when the client hangs up
    await response.write_eof()
    return response


def _tls(pki: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "ca.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(pki / "kubelet.crt", pki / "kubelet.key")
    return context


def _is_api_server(certificate: dict[str, object]) -> bool:
    subject = certificate.get("subject", ())
    return isinstance(subject, tuple) and (("commonName", API_SERVER_USER),) in subject
