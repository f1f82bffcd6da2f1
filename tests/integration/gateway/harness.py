"""A real Envoy steered by a real pilot, before small real upstreams; the view is fed by the test."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import struct
import tempfile
import time
from pathlib import Path

import aiohttp
import envoy
import grpc
import yaml
from aiohttp import web
from tritonclient.grpc import service_pb2, service_pb2_grpc

from lull.gateway import server
from lull.gateway.admin import Admin
from lull.gateway.bootstrap import bootstrap
from lull.gateway.pilot import Pilot
from lull.gateway.settings import Settings
from unit.gateway.objects import host_object, service_object

ENVOY = Path(envoy.__file__).parent / "_bin" / "envoy"
DOMAIN = "lull.localhost"
DEADLINE_SECONDS = 15.0
BINARY_HEADER = "Inference-Header-Content-Length"

_numbers = itertools.count(random.randrange(2, 200))


def loopback() -> str:
    """Return a loopback address that no other test process is likely to use."""
    return f"127.{100 + os.getpid() // 250 % 100}.{os.getpid() % 250}.{next(_numbers) % 250 + 2}"


async def until(condition, what, seconds=DEADLINE_SECONDS):
    """Wait until the condition holds; fails with `what` otherwise."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)
    return result


class Journal:
    """What the pilot would write to its ModelGateway."""

    def __init__(self):
        self.urgent_at = []

    def urgent(self):
        self.urgent_at.append(time.monotonic())

    def changed(self):
        pass


class Upstream:
    """As much of a Triton as the gateway needs: HTTP on 8000, gRPC on 8001, models by name."""

    def __init__(self, models):
        self.address = loopback()
        self.models = set(models)
        self.fault = None  # "fails", "refuses", "resets" or "cuts off"; the last two over HTTP alone
        self.delay_seconds = 0.0
        self.scores = (1.0, 2.0)  # what every model answers
        self.seen = []  # (protocol, model, bytes)
        self.headers = []
        self.sockets = []

    async def start(self):
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._http)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        # A burst of held requests is as many connections at once.
        await web.TCPSite(self._runner, self.address, 8000, backlog=4096).start()
        self._grpc = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 * 2**20)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Servicer(self), self._grpc)
        self._grpc.add_insecure_port(f"{self.address}:8001")
        await self._grpc.start()
        return self

    async def stop(self):
        await self._runner.cleanup()
        await self._grpc.stop(0)

    async def _http(self, request):
        body = await request.read()
        parts = request.path.split("/")
        model = parts[3] if len(parts) > 3 and parts[2] == "models" else ""
        self.seen.append(("http", model, len(body)))
        self.headers.append(dict(request.headers))
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if self.fault in ("resets", "cuts off"):
            if self.fault == "cuts off":
                request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Len")
            request.transport.close() if self.fault == "cuts off" else request.transport.abort()
        if self.fault:
            return web.json_response({"error": "no"}, status=400 if self.fault == "refuses" else 500)
        if model and model not in self.models:
            return web.json_response({"error": f"unknown model {model}"}, status=400)
        answer = {"model": model, "path": request.path, "bytes": len(body)}
        output = {"name": "scores", "datatype": "FP32", "shape": [1, len(self.scores)]}
        if BINARY_HEADER not in request.headers:
            return web.json_response({**answer, "outputs": [{**output, "data": self.scores}]})
        tensor = struct.pack(f"<{len(self.scores)}f", *self.scores)
        output["parameters"] = {"binary_data_size": len(tensor)}
        head = json.dumps({**answer, "outputs": [output]}).encode()
        return web.Response(body=head + tensor, headers={BINARY_HEADER: str(len(head))})


class _Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, upstream):
        self.upstream = upstream

    async def _known(self, name, context):
        if self.upstream.delay_seconds:
            await asyncio.sleep(self.upstream.delay_seconds)
        if self.upstream.fault:
            refuses = self.upstream.fault == "refuses"
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT if refuses else grpc.StatusCode.INTERNAL, "no"
            )
        if name not in self.upstream.models:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found"
            )

    async def ModelInfer(self, request, context):  # noqa: N802
        self.upstream.seen.append(("grpc", request.model_name, request.ByteSize()))
        await self._known(request.model_name, context)
        scores = self.upstream.scores
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        answer.outputs.add(name="scores", datatype="FP32", shape=[1, len(scores)])
        answer.raw_output_contents.append(struct.pack(f"<{len(scores)}f", *scores))
        return answer

    async def ModelStreamInfer(self, requests, context):  # noqa: N802
        async for request in requests:
            self.upstream.seen.append(("stream", request.model_name, request.ByteSize()))
            await self._known(request.model_name, context)
            answer = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
            yield service_pb2.ModelStreamInferResponse(infer_response=answer)

    async def ModelReady(self, request, context):  # noqa: N802
        self.upstream.seen.append(("ready", request.name, 0))
        await self._known(request.name, context)
        return service_pb2.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request, context):  # noqa: N802
        self.upstream.seen.append(("metadata", request.name, 0))
        await self._known(request.name, context)
        return service_pb2.ModelMetadataResponse(name=request.name)

    async def ServerLive(self, request, context):  # noqa: N802
        return service_pb2.ServerLiveResponse(live=True)


class Gateway:
    """One gateway: a pilot in this process, Envoy beside it."""

    def __init__(self, name="gateway-1"):
        self.folder = Path(tempfile.mkdtemp(prefix="lull-gw-", dir="/tmp"))
        self.settings = Settings(name, "lull-system", loopback(), DOMAIN, self.folder)
        self.url = f"http://{self.settings.address}:{self.settings.inference_port}"
        self.target = f"{self.settings.address}:{self.settings.inference_port}"
        self.journal = Journal()
        self.envoy = None

    def open_session(self):
        self.session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=60), connector=aiohttp.TCPConnector(limit=0)
        )

    async def start(self, *, pilot=True):
        self.open_session()
        self.settings.bootstrap_file.write_text(yaml.safe_dump(bootstrap(self.settings)))
        self.admin = Admin(self.settings.admin_socket)
        if pilot:
            await self.start_pilot()
        await self.start_envoy()
        if pilot:
            await until(lambda: self.pilot.ads.connected, "Envoy connects")
        await self.listening()
        return self

    async def start_pilot(self):
        self.pilot = Pilot(self.settings.pod_name, DOMAIN, self.admin)
        self.pilot.journal = self.journal
        self.server = await server.serve(self.settings.xds_socket, self.pilot.ads, self.pilot.checker)
        self.task = asyncio.gather(self.pilot.run(), self.pilot.shadow.run(self.settings.shadow_socket))

    async def start_envoy(self):
        self.log = (self.folder / "envoy.log").open("ab")
        command = [str(ENVOY), "-c", str(self.settings.bootstrap_file), "--disable-hot-restart"]
        command += ["--concurrency", "2", "--log-level", os.environ.get("ENVOY_LOG", "warning")]
        self.envoy = await asyncio.create_subprocess_exec(*command, stdout=self.log, stderr=self.log)

    async def listening(self):
        end = time.monotonic() + DEADLINE_SECONDS
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(self.settings.address, self.settings.inference_port)
                writer.close()
                return
            assert time.monotonic() < end, "Envoy does not listen: " + (self.folder / "envoy.log").read_text()
            await asyncio.sleep(0.02)

    async def stop(self):
        await self.session.close()
        if self.envoy and self.envoy.returncode is None:
            self.envoy.terminate()
            await self.envoy.wait()
        if hasattr(self, "task"):
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            await self.server.stop(0)
        await self.admin.close()
        self.log.close()
        if os.environ.get("KEEP"):
            print(self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def service(self, name, namespace="demo", **spec):
        self.pilot.on_service((namespace, name), service_object(name, namespace, **spec))

    def host(self, address, *models):
        self.pilot.on_host(("lull-hosts", f"host-{address}"), host_object(address, *models))

    async def routed(self, service):
        """Wait until the service has a virtual host that Envoy acknowledged."""

        def away():
            leases = self.pilot.open_leases(service)
            routed = self.pilot._routed()
            return leases and routed is not None and set(leases) <= routed

        await until(away, f"{service} is routed")

    async def ask(self, path, *, host=None, method="GET", headers=None, data=None):
        """Return status, headers and body (JSON where it is) of one HTTP request."""
        headers = dict(headers or {})
        if host:
            headers["Host"] = host
        async with self.session.request(method, self.url + path, headers=headers, data=data) as response:
            text = await response.text(errors="replace")  # binary tensors
            try:
                body = json.loads(text)
            except ValueError:
                body = text
            return response.status, response.headers, body

    def infer(self, name="digits", data=b"{}", namespace="demo", **more):
        return self.ask(
            f"/v2/models/{name}/infer",
            host=f"{name}.{namespace}.{DOMAIN}",
            method="POST",
            data=data,
            **more,
        )

    def stub(self, host):
        """Return a gRPC stub whose calls go to `host`, and its channel."""
        channel = grpc.aio.insecure_channel(
            self.target,
            options=[
                ("grpc.default_authority", host),
                ("grpc.max_receive_message_length", 64 * 2**20),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        return service_pb2_grpc.GRPCInferenceServiceStub(channel), channel
