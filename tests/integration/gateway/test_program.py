"""`lull-pilot` as it is run, on a real API server: known before it routes, demanding, routing, letting go."""

import asyncio
import json
import os
import signal
import sys
import time

import pytest

from integration.gateway.harness import Gateway
from lull.local.cluster import Cluster
from unit.gateway.objects import placement

NAME = "lull-gateway-test"


class Program(Gateway):
    """A gateway whose pilot is the real program."""

    def __init__(self, cluster):
        super().__init__(NAME)
        self.cluster = cluster

    async def start_program(self):
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "POD_NAME": NAME,
            "POD_NAMESPACE": "lull-system",
            "POD_IP": self.settings.address,
            "LULL_RUN": str(self.folder),
        }
        self.program_log = (self.folder / "pilot.log").open("ab")
        self.program = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "lull.gateway.main",
            env=environment,
            stdout=self.program_log,
            stderr=self.program_log,
        )

    async def start(self, *, pilot=False):
        self.open_session()
        await self.start_program()
        await self.probe("/healthz", 200)  # what the startup probe asks: the bootstrap is written now
        await self.session.close()
        return await super().start(pilot=pilot)

    async def stop(self):
        if self.program.returncode is None:
            self.program.terminate()
            await self.program.wait()
        self.program_log.close()
        await super().stop()

    async def probe(self, path, status):
        """Wait until the pilot's probe answers so."""
        end = time.monotonic() + 30
        while (seen := await self._probe(path)) != status:
            assert time.monotonic() < end, (
                f"{path}: {seen}; {(self.folder / 'pilot.log').read_text()[-2000:]}"
            )
            await asyncio.sleep(0.05)

    async def _probe(self, path):
        try:
            async with self.session.get(f"http://{self.settings.address}:8081{path}") as response:
                return response.status
        except OSError:
            return None

    async def kubectl(self, *arguments, body=None):
        stdin = None if body is None else json.dumps(body)
        return await asyncio.to_thread(self.cluster.kubectl, *arguments, stdin=stdin)

    async def record(self):
        text = await self.kubectl("get", "modelgateway", NAME, "-n", "lull-system", "-o", "json")
        return json.loads(text)

    async def status(self, condition, what):
        """Wait until the ModelGateway's status is as asked for."""
        end = time.monotonic() + 20
        while not condition(status := (await self.record()).get("status", {})):
            assert time.monotonic() < end, f"not in time: {what}: {status}"
            await asyncio.sleep(0.05)

    async def host(self, upstream, **more):
        model = placement("digits-1", "demo/digits", **more)
        ready = {"id": "digits-1", "service": "demo/digits", "state": model.pop("status")}
        body = {
            "apiVersion": "lull.dev/v1alpha1",
            "kind": "ModelHost",
            "metadata": {"name": "gateway-test", "namespace": "lull-hosts"},
            "spec": {
                "pool": "cpu",
                "podName": "gateway-test",
                "models": [{**model, "revision": "r1", "uri": "file:///digits.tar"}],
            },
        }
        await self.kubectl("apply", "-f", "-", body=body)
        patch = json.dumps({"status": {"address": upstream.address, "models": [ready]}})
        await self.kubectl(
            "patch",
            "modelhost",
            "gateway-test",
            "-n",
            "lull-hosts",
            "--subresource=status",
            "--type=merge",
            "-p",
            patch,
        )


SERVICE = {
    "apiVersion": "lull.dev/v1alpha1",
    "kind": "ModelService",
    "metadata": {"name": "digits", "namespace": "demo"},
    "spec": {"model": {"uri": "file:///digits.tar", "digest": "sha256:" + "0" * 64}},
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": NAME, "namespace": "lull-system"},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "nodeSelector": {"nowhere": "true"},
        "containers": [
            {
                "name": "envoy",
                "image": "lull/gateway",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    },
}


@pytest.fixture
async def program(api_server: Cluster):
    running = Program(api_server)
    try:
        await running.kubectl("apply", "-f", "-", body=POD)
        await running.kubectl("apply", "-f", "-", body=SERVICE)
        yield await running.start()
    finally:
        await running.stop()
        await running.kubectl("delete", "modelhost", "gateway-test", "-n", "lull-hosts", "--ignore-not-found")
        await running.kubectl("delete", "modelservice", "digits", "-n", "demo", "--ignore-not-found")
        await running.kubectl("delete", "modelgateway", NAME, "-n", "lull-system", "--ignore-not-found")
        await running.kubectl("delete", "pod", NAME, "-n", "lull-system", "--grace-period=0", "--force")


async def test_the_program_demands_routes_and_lets_go(program, upstream):
    await program.probe("/readyz", 200)
    (owner,) = (await program.record())["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Pod", NAME)

    request = asyncio.create_task(program.infer())
    await program.status(lambda status: status.get("held") == ["demo/digits"], "the service is demanded")
    await program.host(upstream)
    assert (await request)[0] == 200
    await program.status(lambda status: not status["held"], "nothing is held")

    await program.kubectl("delete", "modelgateway", NAME, "-n", "lull-system")
    await program.host(upstream, state="Draining")
    end = time.monotonic() + 20
    while "digits-1.1" not in await program.kubectl("get", "modelgateways", "-A", "-o", "json"):
        assert time.monotonic() < end, "made again, with the claim"
        await asyncio.sleep(0.1)

    async with program.session.get(f"http://{program.settings.address}:8081/metrics") as response:
        metrics = await response.text()
    assert "lull_gateway_drains_total 1.0" in metrics
    assert "lull_gateway_hold_seconds_count 1.0" in metrics

    program.program.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(program.program.wait(), 10) == 0
