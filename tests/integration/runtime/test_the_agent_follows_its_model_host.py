"""The `lull-agent` process between a real API server and a real Triton."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lull.api.names import API_VERSION, HOSTS_NAMESPACE
from lull_runtime.artifact.pack import pack_repository
from lull_runtime.triton import ROUTED

from .conftest import IDENTITY, TritonProcess, as_array, eventually, model
from .test_a_published_network_is_served import infer

HOST, POOL = "agents-1", "agents"
ALLOW = {"uris": ["file:///"], "code": True}


class Agent:
    """A `lull-agent` beside a `lull-triton`, and its ModelHost."""

    def __init__(self, cluster, triton: TritonProcess) -> None:
        self._cluster = cluster
        self._triton = triton
        folder = triton.folder
        triton.environment["LULL_REPOSITORY"] = str(folder / "artifacts" / "hosts" / HOST / "repository")
        Path(triton.environment["LULL_REPOSITORY"]).mkdir(parents=True)
        self._environment = triton.environment | {
            "KUBECONFIG": str(cluster.kubeconfig),
            "POD_NAME": HOST,
            "POD_NAMESPACE": HOSTS_NAMESPACE,
            "LULL_FILES": str(folder / "files"),
            "LULL_ARTIFACTS": str(folder / "artifacts"),
            "LULL_POOL": POOL,
            "LULL_MEMORY_BYTES": str(1 << 30),
            "LULL_POWER": json.dumps({"idle": 10.0, "context": 20.0, "max": 70.0, "node": 30.0}),
        }
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        log = (self._triton.folder / "agent.log").open("ab")
        command = [sys.executable, "-m", "lull_runtime.agent.main"]
        self.process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def want(self, *models) -> None:
        patch = {"spec": {"models": [m.wire() for m in models]}}
        self._cluster.kubectl(
            "patch", "modelhost", HOST, "-n", HOSTS_NAMESPACE, "--type=merge", "-p", json.dumps(patch)
        )

    def allow(self, **allow) -> None:
        patch = json.dumps({"spec": {"allow": allow}})
        self._cluster.kubectl("patch", "modelpool", POOL, "--type=merge", "-p", patch)

    def host(self) -> dict:
        return self._cluster.get("modelhost", HOST, "-n", HOSTS_NAMESPACE)

    def status(self) -> dict:
        host = self.host()
        return {m["id"]: m for m in host.get("status", {}).get("models", [])}

    async def until(self, placement: str, state: str | None) -> dict | None:
        seen: dict = {}

        def reached() -> bool:
            seen.update(now=self.status().get(placement))
            return (seen["now"] or {}).get("state") == state

        await eventually(reached, 30, lambda: f"{placement} is {seen}, not {state}")
        return seen["now"]


@pytest.fixture
async def agent(api_server, triton: TritonProcess):
    body = {
        "apiVersion": API_VERSION,
        "kind": "ModelHost",
        "metadata": {"name": HOST, "namespace": HOSTS_NAMESPACE},
        "spec": {"pool": POOL, "podName": HOST, "models": []},
    }
    pool = {
        "apiVersion": API_VERSION,
        "kind": "ModelPool",
        "metadata": {"name": POOL},
        "spec": {"hosts": {"max": 1}, "memory": "1Gi", "allow": ALLOW},
    }
    for each in (pool, body):
        api_server.kubectl("create", "-f", "-", stdin=json.dumps(each))
    agent = Agent(api_server, triton)
    triton.start()
    agent.start()
    yield agent
    agent.process.kill()
    agent.process.wait()
    api_server.kubectl(
        "delete", "modelhost", HOST, "-n", HOSTS_NAMESPACE, "--wait=true", "--ignore-not-found"
    )
    api_server.kubectl("delete", "modelpool", POOL)


async def test_a_model_host_is_followed_through_the_death_of_the_agent_and_of_triton(
    agent: Agent, triton: TritonProcess
):
    identity = model("identity", pack_repository(triton.folder / "files" / "identity.tar", IDENTITY))
    agent.want(identity)
    ready = await agent.until("identity-1", "Ready")
    assert float(ready["loadSeconds"]) > 0

    agent.process.kill()
    agent.process.wait()
    bad = model("missing", "sha256:" + "0" * 64)
    agent.want(identity, bad)
    agent.start()
    failed = await agent.until("missing-1", "Failed")
    assert failed["reason"] == "Unreachable"
    assert (await agent.until("identity-1", "Ready"))["loadSeconds"] == ready["loadSeconds"]

    triton.kill()
    await agent.until("identity-1", "Loading")
    triton.start()
    await agent.until("identity-1", "Ready")

    agent.want()
    await agent.until("identity-1", None)
    assert await agent.until("missing-1", None) is None


async def test_what_a_pool_does_not_allow_any_more_is_refused_at_the_next_load(
    agent: Agent, triton: TritonProcess
):
    digest = pack_repository(triton.folder / "files" / "identity.tar", IDENTITY)
    first, second = model("identity", digest), model("identity", digest, placement="identity-2")
    agent.want(first)
    await agent.until("identity-1", "Ready")
    agent.allow(uris=["file:///elsewhere/"])
    agent.want()
    await agent.until("identity-1", None)
    agent.want(second)
    failed = await agent.until("identity-2", "Failed")
    assert failed["reason"] == "UriNotAllowed"
    agent.want()
    await agent.until("identity-2", None)
    agent.allow(**ALLOW)
    agent.want(first)
    await agent.until("identity-1", "Ready")


async def test_a_host_that_is_let_go_ends_at_once_and_says_its_last_totals(
    agent: Agent, triton: TritonProcess, api_server
):
    identity = model("identity", pack_repository(triton.folder / "files" / "identity.tar", IDENTITY))
    agent.want(identity)
    await agent.until("identity-1", "Ready")
    routed = Path(triton.environment["LULL_CONTROL"]) / ROUTED
    assert routed.exists()

    # It has no Pod that it could wait for: a finalizer keeps it as long.
    host = ("modelhost", HOST, "-n", HOSTS_NAMESPACE)
    finalizers = '{"metadata": {"finalizers": %s}}'
    api_server.kubectl("patch", *host, "--type=merge", "-p", finalizers % '["lull.dev/test"]')
    api_server.kubectl("delete", *host, "--wait=false")
    await eventually(lambda: not routed.exists(), 10, lambda: "Triton still waits for its gateways")
    before = api_server.get(*host)["status"]["energy"]["joules"]
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(10) == 0
    assert api_server.get(*host)["status"]["energy"]["joules"] > before
    api_server.kubectl("patch", *host, "--type=merge", "-p", finalizers % "null")


async def test_a_triton_that_was_never_up_is_starting_and_one_that_was_is_down(
    agent: Agent, triton: TritonProcess
):
    def reason() -> str | None:
        status = agent.host().get("status") or {}
        return next((c["reason"] for c in status.get("conditions", ())), None)

    seen = []

    def reached(wanted: str) -> bool:
        seen.append(reason())
        return seen[-1] == wanted

    await eventually(lambda: reached("TritonServing"), 30, lambda: f"{seen}")
    assert "TritonDown" not in seen
    triton.kill()
    await eventually(lambda: reached("TritonDown"), 10, lambda: f"{seen}")


async def test_probes_answer_and_sigterm_ends_it_cleanly(agent: Agent, triton: TritonProcess):
    async def answer(path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(f"http://{triton.address}:8080{path}") as response:
                    return response.status, await response.text()
            except aiohttp.ClientError:
                return 0, ""

    deadline = time.monotonic() + 15
    while (await answer("/readyz"))[0] != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert (await answer("/healthz"))[0] == 200
    identity = model("identity", pack_repository(triton.folder / "files" / "identity.tar", IDENTITY))
    agent.want(identity)
    await agent.until("identity-1", "Ready")
    metrics = (await answer("/metrics"))[1]
    assert (
        f'lull_placement_state{{modelhost="{HOST}",modelpool="{POOL}",modelservice="identity",'
        'modelservice_namespace="demo",placement="identity-1",state="Ready"} 1.0' in metrics
    )

    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(10) == 0
    log = (Path(triton.folder) / "agent.log").read_text()
    assert "Traceback" not in log


async def test_totals_outlive_an_agent_that_is_killed_and_are_written_before_one_ends(
    agent: Agent, triton: TritonProcess
):
    agent.want(model("identity", pack_repository(triton.folder / "files" / "identity.tar", IDENTITY)))
    await agent.until("identity-1", "Ready")
    for _ in range(5):
        await asyncio.to_thread(infer, triton.address, "identity", as_array(1))
    await until_scraped(triton.address, "lull_model_requests_total", 5)
    told = await scraped(triton.address)

    agent.process.kill()
    agent.process.wait(10)
    for _ in range(4):
        await asyncio.to_thread(infer, triton.address, "identity", as_array(1))
    agent.start()

    await until_scraped(triton.address, "lull_model_requests_total", 9)
    now = await scraped(triton.address)
    for name in (name for name in told if name.endswith("_total") and "writes" not in name):
        assert now[name] >= told[name], name

    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(10) == 0
    status = agent.status()["identity-1"]
    assert status["counters"] == {"requests": 9, "failures": 0}
    assert status["energy"]["idleJoules"] > 0


async def scraped(address: str) -> dict[str, float]:
    """The agent's metrics, each summed over its labels; nothing while it does not answer."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{address}:8080/metrics") as response,
        ):
            text = await response.text()
    except aiohttp.ClientError:
        return {}
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


async def until_scraped(address: str, name: str, value: float) -> None:
    deadline = time.monotonic() + 20
    while (found := (await scraped(address)).get(name)) != value:
        assert time.monotonic() < deadline, f"{name} is {found}, not {value}"
        await asyncio.sleep(0.1)
