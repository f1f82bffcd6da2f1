"""A real Prometheus scrapes the fleet: each rule, alert and panel finds its series, and faults raise alerts.

Alerts are hurried (`e2e.prometheus.hurried`): all is scraped and evaluated each second, they wait for nothing
and look back 10 s. What they wait for as they are is put to promtool in tests/integration/monitoring.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import aiohttp
import pytest

from e2e.load import OK, HttpClient
from e2e.prometheus import WINDOW, Object, Prometheus, Shown, hurried
from e2e.world import NAMESPACE, Published, Service, World
from lull.api.names import SYSTEM_NAMESPACE
from lull.cli import stack
from lull.local import prometheus as local_prometheus
from lull.local.cluster import Cluster

MONITORING = stack.ROOT / "manifests" / "components" / "monitoring"
MANIFESTS = hurried(local_prometheus.read_manifests([MONITORING]))
RULES = [
    rule
    for manifest in MANIFESTS
    if manifest["kind"] == "PrometheusRule"
    for group in manifest["spec"]["groups"]
    for rule in group["rules"]
]
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
ALERT_SECONDS = 30.0

POOL = {
    "power": {"idleWatts": 20, "contextWatts": 10, "maxWatts": 100, "nodeWatts": 60, "hostsPerNode": 2},
    "carbon": {"gramsPerKilowattHour": 400, "puePercent": 120},
}

# Series that a machine without a GPU, or a fleet without that fault, does not have; and why.
NOT_HERE = {
    "lull_host_memory_residual_bytes": "only a GPU has a residual",
    "lull_host_accelerator_utilization_ratio": "only a GPU has a sensor",
    'basis="Measured"': "only a GPU has a sensor",
    'code=~"0|403|429|5.."': "the API server is well; promtool has the fault",
    'code="422"': "the CRDs are of one age; promtool has the fault",
    'reason=~"NoCapacity|HostUnschedulable"': "there is room; promtool has the fault",
}


@pytest.fixture(scope="module")
def url(cluster: Cluster) -> Iterator[str]:
    yield local_prometheus.start(cluster, MANIFESTS)
    local_prometheus.stop(cluster)


@pytest.fixture
async def prometheus(lull: World, url: str) -> AsyncIterator[Prometheus]:
    """Prometheus, once it sees what is always there: a rate knows nothing of what was before."""
    async with aiohttp.ClientSession() as session:
        it = Prometheus(url, session)

        async def sees() -> bool:
            return len(await it.query('up{namespace="lull-system"} == 1')) == 5

        await lull.until(sees, "controller, pilots and Envoys are scraped", 30)
        yield it


async def test_every_program_is_scraped_and_every_recording_rule_and_panel_returns_data(
    lull: World, prometheus: Prometheus
) -> None:
    async with _used(lull, "watched") as service:

        async def all_up() -> bool:
            up = await prometheus.query("count by (namespace, container) (up == 1)")
            found = {(dict(labels)["namespace"], dict(labels)["container"]): n for labels, n in up.items()}
            return found == {
                ("lull-system", "controller"): 1,
                ("lull-system", "pilot"): 2,
                ("lull-system", "envoy"): 2,
                ("lull-hosts", "agent"): len(await lull.hosts()),
            }

        await lull.until(all_up, "all programs are scraped", 30)
        ((host, _, _),) = await service.placements()
        variables = {
            "namespace": NAMESPACE,
            "service": "watched",
            "pool": "watched",
            "host": host["metadata"]["name"],
            "__rate_interval": WINDOW,
            "__range": "5m",
        }
        records = {rule["record"] for rule in RULES if "record" in rule}
        expressions = records | {_filled(panel, variables) for panel in _panels()}
        wanted = {it for it in expressions if not any(absent in it for absent in NOT_HERE)}
        await _until_data(lull, prometheus, wanted)


async def test_a_model_that_cannot_wake_and_a_revision_that_is_rejected_are_told(
    lull: World, prometheus: Prometheus
) -> None:
    await lull.pool("told", hosts={"max": 2}, **POOL)
    missing = Published("file:///nowhere.tar", f"sha256:{0:064}")
    service = await lull.service("told", missing, pool="told", replicas={"min": 1})
    (alert,) = await _fires(lull, prometheus, "LullModelCannotWake")
    assert alert["labels"]["modelservice"] == "told"
    assert alert["labels"]["reason"] == "Unreachable"
    assert alert["annotations"]["summary"] == "demo/told cannot serve: Unreachable"
    good = lull.publish()
    await service.patch(model={"uri": good.uri, "digest": good.digest})
    await _is_over(lull, prometheus, "LullModelCannotWake")
    await service.wait("Serving")
    torn = lull.put("torn.tar", b"no tar at all")
    await service.patch(model={"uri": torn.uri, "digest": torn.digest})
    await _fires(lull, prometheus, "LullRolloutRejected", modelservice="told")
    await service.patch(model={"uri": good.uri, "digest": good.digest})
    await _is_over(lull, prometheus, "LullRolloutRejected")


async def test_wakes_that_hurt_are_told(lull: World, prometheus: Prometheus) -> None:
    await lull.pool("slow", **POOL)
    service = await lull.service(
        "slow",
        lull.publish(),
        pool="slow",
        idleAfter="2s",
        hold={"timeout": "60s", "max": 6},
        objective={"delayedPercent": 5},
    )
    await service.wait("Asleep")
    async with HttpClient() as client:
        answers = await asyncio.gather(*(client.infer(service.target(lull.gateway), 1.0) for _ in range(8)))
        assert sum(answer.outcome == OK for answer in answers) == 6
        await _fires(lull, prometheus, "LullHeldRequestsRefused")
        await _fires(lull, prometheus, "LullWakeSlowerThanObjective")
        await service.patch(hold={"timeout": "1s"})
        await _fires(lull, prometheus, "LullWakeNearHoldTimeout")
        await service.patch(hold={"timeout": "10m"})
        await _is_over(lull, prometheus, "LullWakeNearHoldTimeout")
        for _ in range(200):  # few of many may wait
            await client.infer(service.target(lull.gateway), 1.0)
        await _is_over(lull, prometheus, "LullWakeSlowerThanObjective", 45)
        await _is_over(lull, prometheus, "LullHeldRequestsRefused")


async def test_a_host_that_nobody_uses_is_told(lull: World, prometheus: Prometheus) -> None:
    await lull.pool("kept", **POOL)
    service = await lull.service("kept", lull.publish(), pool="kept", replicas={"min": 1})
    await service.wait("Serving")
    ((host, _, _),) = await service.placements()
    (alert,) = await _fires(lull, prometheus, "LullHostIdleButPowered", modelpool="kept")
    assert alert["labels"]["modelhost"] == host["metadata"]["name"]
    async with HttpClient() as client, _asked(client, service, lull.gateway):
        await _is_over(lull, prometheus, "LullHostIdleButPowered", modelpool="kept")


async def test_a_triton_that_does_not_stay_up_is_told(lull: World, prometheus: Prometheus) -> None:
    await lull.pool("crashes", **POOL)
    service = await lull.service("crashes", lull.publish(), pool="crashes", replicas={"min": 1})
    await service.wait("Serving")
    ((host, _, _),) = await service.placements()
    up = f'lull_host_triton_up{{modelhost="{host["metadata"]["name"]}"}} == 1'
    await lull.until(lambda: prometheus.query(up), "Prometheus saw it up: else it counts as starting", 20)

    async def told() -> bool:
        for pid in lull.running(host["status"]["address"], "tritonserver"):
            os.kill(pid, signal.SIGKILL)
        return bool(await prometheus.firing("LullTritonDown"))

    await lull.until(told, "LullTritonDown fires", ALERT_SECONDS)
    await _is_over(lull, prometheus, "LullTritonDown")


async def test_a_gateway_that_holds_up_all_fences_is_told(lull: World, prometheus: Prometheus) -> None:
    await lull.pool("fenced", **POOL)
    service = await lull.service("fenced", lull.publish(), pool="fenced", idleAfter="1s")
    silent = lull.gateways()[1].partition(":")[0]
    async with HttpClient() as client:
        assert (await client.infer(service.target(lull.gateway), 1.0)).outcome == OK
        with _stopped(lull, silent, "lull-pilot"):
            await _fires(lull, prometheus, "LullNoFenceProgress", seconds=45)
            await _fires(lull, prometheus, "LullTargetDown", container="pilot")
        await _is_over(lull, prometheus, "LullNoFenceProgress")
        await _is_over(lull, prometheus, "LullTargetDown")


async def test_without_a_gateway_or_a_plan_somebody_is_called(lull: World, prometheus: Prometheus) -> None:
    (controller,) = await lull.pods(SYSTEM_NAMESPACE, "app.kubernetes.io/name=lull-controller")
    first, second = (gateway.partition(":")[0] for gateway in lull.gateways())
    with (
        _stopped(lull, controller["status"]["podIP"], "lull-controller"),
        _stopped(lull, first, "lull-pilot"),
        _stopped(lull, second, "lull-pilot"),
    ):
        await _fires(lull, prometheus, "LullControllerNotPlanning")
        await _fires(lull, prometheus, "LullGatewayDown")
    await _is_over(lull, prometheus, "LullControllerNotPlanning")
    await _is_over(lull, prometheus, "LullGatewayDown")


async def test_every_series_that_rules_panels_and_runbooks_stand_on_was_there(
    lull: World, prometheus: Prometheus
) -> None:
    """An alert that watches a series that nobody writes never fires, and a panel that does looks quiet."""
    selectors = set()
    for rule in RULES:
        selectors |= await prometheus.selectors(rule["expr"])
    for panel in _panels():
        names = await prometheus.selectors(_filled(panel, {"__rate_interval": WINDOW, "__range": "5m"}))
        selectors |= {_name_only(name) for name in names}
    for look in _looks():
        selectors |= {_name_only(name) for name in await prometheus.selectors(look)}
    wanted = {it for it in selectors if not any(absent in it for absent in NOT_HERE)}
    await _until_data(lull, prometheus, {f"present_over_time({it}[1h])" for it in wanted})


async def test_the_page_of_metrics_names_what_programs_show_and_nothing_else(
    lull: World, prometheus: Prometheus
) -> None:
    page = {it for it in _page() if not any(absent in it.name for absent in NOT_HERE)}
    await lull.pool("page", **POOL)
    service = await lull.service("page", lull.publish(), pool="page", replicas={"min": 1})
    await service.wait("Serving")  # Prometheus tells types of what it scrapes now

    async def agrees() -> bool:
        return await prometheus.shown() == page

    with suppress(AssertionError):
        await lull.until(agrees, "the page agrees", 15)
    shown = await prometheus.shown()
    assert not shown - page, "not on the page"
    assert not sorted({it.name for it in page - shown}), "on the page alone"


@asynccontextmanager
async def _used(lull: World, name: str) -> AsyncIterator[Service]:
    """A service that has woken, slept, woken again, and is asked steadily."""
    await lull.pool(name, **POOL)
    service = await lull.service(
        name, lull.publish(), pool=name, idleAfter="1s", objective={"delayedPercent": 5}
    )
    async with HttpClient() as client:
        assert (await client.infer(service.target(lull.gateway), 1.0)).outcome == OK
        await service.wait("Asleep")
        async with _asked(client, service, lull.gateway):
            await service.wait("Serving")
            yield service


@asynccontextmanager
async def _asked(client: HttpClient, service: Service, gateway: str) -> AsyncIterator[None]:
    """Meanwhile somebody asks it five times a second."""

    async def ask() -> None:
        while True:
            await client.infer(service.target(gateway), 1.0)
            await asyncio.sleep(0.2)

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


@contextmanager
def _stopped(lull: World, address: str, program: str) -> Iterator[None]:
    """Meanwhile a program of a Pod does not run."""
    (pid,) = lull.running(address, program)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def _until_data(lull: World, prometheus: Prometheus, expressions: set[str]) -> None:
    missing = sorted(expressions)

    async def none_missing() -> bool:
        nonlocal missing
        missing = [it for it in missing if not await prometheus.query(it)]
        return not missing

    try:
        await lull.until(none_missing, "all have data", 45)
    except AssertionError:
        raise AssertionError("no data:\n" + "\n".join(missing)) from None


async def _fires(
    lull: World, prometheus: Prometheus, alert: str, *, seconds: float = ALERT_SECONDS, **labels: str
) -> list[Object]:
    """Wait until an alert fires with these labels; its texts must be whole."""

    async def so() -> list[Object]:
        found = await prometheus.firing(alert)
        return [it for it in found if labels.items() <= it["labels"].items()]

    alerts: list[Object] = await lull.until(so, f"{alert} fires", seconds)
    for text in alerts[0]["annotations"].values():
        assert "<no value>" not in text
        assert "error expanding" not in text
    return alerts


async def _is_over(
    lull: World, prometheus: Prometheus, alert: str, seconds: float = ALERT_SECONDS, **labels: str
) -> None:
    async def so() -> bool:
        found = await prometheus.firing(alert)
        return not any(labels.items() <= it["labels"].items() for it in found)

    await lull.until(so, f"{alert} is over", seconds)


def _panels() -> Iterator[str]:
    """Every expression of the dashboards."""

    def walk(node: Any) -> Iterator[str]:
        for panel in node.get("panels", []):
            yield from (target["expr"] for target in panel.get("targets", []))
            yield from walk(panel)

    for path in DASHBOARDS:
        yield from walk(json.loads(path.read_text()))


def _looks() -> Iterator[str]:
    """Every query of the runbooks: what is between fences and not for kubectl."""
    for page in (MONITORING / "runbooks").glob("*.md"):
        for block in page.read_text().split("```\n")[1::2]:
            lines = (line.partition("  #")[0].strip() for line in block.splitlines())
            yield from (line for line in lines if line and not line.startswith("kubectl"))


def _page() -> set[Shown]:
    """What METRICS.md says: a table for each program, with short words for sets of labels."""
    service, host = {"modelservice_namespace", "modelservice"}, {"modelhost", "modelpool"}
    short = {"S": service, "H": host, "L": {*service, "placement", *host}}
    found, program = set(), ""
    for line in (MONITORING / "METRICS.md").read_text().splitlines():
        if line.startswith("## "):
            program = line.removeprefix("## ").lower()
        elif line.startswith("| `lull_") and program in {"agent", "controller", "pilot"}:
            name, kind, labels, *_ = (cell.strip() for cell in line.strip("|").split("|"))
            words = [word.strip("`") for word in labels.split(", ") if word]
            names = frozenset().union(*(short.get(word, {word}) for word in words))
            found.add(Shown(name.strip("`"), kind, program, names))
    return found


def _filled(expression: str, variables: dict[str, str]) -> str:
    for name in sorted(variables, key=len, reverse=True):
        expression = expression.replace(f"${name}", variables[name])
    return expression


def _name_only(selector: str) -> str:
    """Panels choose among states and parts that need not be there at once."""
    return next(f"{{{it}}}" for it in selector.strip("{}").split(",") if it.startswith("__name__="))
