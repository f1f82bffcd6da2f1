"""The ModelGateway: made before anything else, written at once for a wake, and made again when taken away."""

import asyncio
import time

import pytest

from lull.gateway import record as record_module
from lull.gateway.delays import LONGEST, REMEMBERED_SECONDS, Delays, news
from lull.gateway.record import PodGoneError, Record
from lull.gateway.traffic import Rollout, Traffic
from lull.gateway.view import Split
from lull.kube import MODELGATEWAYS, PODS, ApiError


class Api:
    """One Pod and one ModelGateway, as the API server keeps them."""

    def __init__(self, pod_uid="pod-1"):
        self.pod = {"metadata": {"uid": pod_uid}} if pod_uid else None
        self.gateway = None
        self.made = 0
        self.writes = []
        self.away = False

    async def get(self, resource, _name, _namespace):
        self._answer()
        return {PODS: self.pod, MODELGATEWAYS: self.gateway}[resource]

    async def create(self, _resource, body):
        self._answer()
        self.made += 1
        self.gateway = {**body, "metadata": {**body["metadata"], "uid": f"gateway-{self.made}"}}
        return self.gateway

    async def delete(self, _resource, _name, _namespace, *, uid):
        self._answer()
        assert uid == self.gateway["metadata"]["uid"]
        self.gateway = None
        return True

    async def merge_patch(self, _resource, _name, _namespace, body, *, subresource):
        await asyncio.sleep(0)
        self._answer()
        assert subresource == "status"
        if self.gateway is None:
            raise ApiError(404, "NotFound", "gone")
        if body["metadata"]["uid"] != self.gateway["metadata"]["uid"]:
            raise ApiError(409, "Conflict", "another uid")
        self.writes.append((time.monotonic(), body["status"]))
        return self.gateway

    def _answer(self):
        if self.away:
            raise ApiError(0, "Unreachable", "no answer")


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def wanted():
    return {"held": [], "drained": [], "delays": Delays(), "traffic": Traffic()}


@pytest.fixture
async def record(api, wanted):
    ours = Record(
        api,
        "gateway-1",
        "lull-system",
        address="10.0.0.9",
        held=lambda: wanted["held"],
        drained=lambda: wanted["drained"],
        delays=wanted["delays"],
        traffic=wanted["traffic"],
    )
    await ours.ensure()
    running = asyncio.create_task(ours.run())
    await until(lambda: api.writes)
    yield ours
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


async def test_it_is_owned_by_its_pod(api, record):
    (owner,) = api.gateway["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "gateway-1", "pod-1")


async def test_an_earlier_pods_is_replaced_and_its_own_kept(api, record):
    await record.ensure()
    assert api.made == 1
    api.pod = {"metadata": {"uid": "pod-2"}}
    await record.ensure()
    assert api.made == 2


async def test_without_its_pod_it_is_not_made(api):
    api.pod = None
    ours = Record(
        api,
        "gateway-1",
        "lull-system",
        address="10.0.0.9",
        held=list,
        drained=list,
        delays=Delays(),
        traffic=Traffic(),
    )
    with pytest.raises(PodGoneError, match="POD_NAME"):
        await ours.ensure()


async def test_a_demand_is_written_at_once(api, record, wanted):
    wanted["held"] = ["demo/b", "demo/a"]
    start = time.monotonic()
    record.urgent()
    await until(lambda: len(api.writes) == 2)
    at, status = api.writes[-1]
    assert at - start < 0.05
    assert status["held"] == ["demo/a", "demo/b"]
    assert status["renewTime"].endswith("Z")
    assert status["address"] == "10.0.0.9"


async def test_what_can_wait_is_one_write(api, record, wanted):
    for i in range(50):
        wanted["drained"].append(f"d.{i}")
        record.changed()
    await until(lambda: len(api.writes) == 2)
    assert len(api.writes[-1][1]["drained"]) == 50


async def test_the_heartbeat_goes_on_by_itself(api, wanted, monkeypatch):
    monkeypatch.setattr(record_module, "GATEWAY_HEARTBEAT_SECONDS", 0.02)
    ours = Record(
        api,
        "gateway-1",
        "lull-system",
        address="10.0.0.9",
        held=list,
        drained=list,
        delays=Delays(),
        traffic=Traffic(),
    )
    await ours.ensure()
    running = asyncio.create_task(ours.run())
    await until(lambda: len(api.writes) >= 3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len({status["renewTime"] for _, status in api.writes}) == len(api.writes)


@pytest.mark.parametrize("left", [None, {"metadata": {"uid": "somebody's", "ownerReferences": []}}])
async def test_it_is_made_again_when_somebody_takes_it_away(api, record, wanted, left):
    api.gateway = left
    wanted["held"] = ["demo/a"]
    record.urgent()
    await until(lambda: len(api.writes) == 2)
    assert api.made == 2
    assert api.writes[-1][1]["held"] == ["demo/a"]


async def test_a_demand_outlives_an_absent_api_server(api, record, wanted):
    api.away = True
    wanted["held"] = ["demo/a"]
    record.urgent()
    await asyncio.sleep(0.05)
    api.away = False
    await until(lambda: len(api.writes) == 2)
    assert api.writes[-1][1]["held"] == ["demo/a"]


async def test_who_waited_is_told_with_the_next_write_once_and_never_by_a_write_of_its_own(
    api, record, wanted
):
    wanted["delays"].count("demo/a")
    wanted["delays"].count("demo/a")
    await asyncio.sleep(0.01)
    assert len(api.writes) == 1
    record.changed()
    await until(lambda: len(api.writes) == 2)
    assert api.writes[-1][1]["delayed"] == {"demo/a": 2}
    wanted["held"] = ["demo/b"]
    record.urgent()
    await until(lambda: len(api.writes) == 3)
    assert "delayed" not in api.writes[-1][1]


async def test_a_restarted_pilot_goes_on_counting_and_a_new_record_is_told_nothing_twice(api, wanted):
    ours = Record(
        api,
        "gateway-1",
        "lull-system",
        address="10.0.0.9",
        held=list,
        drained=list,
        delays=wanted["delays"],
        traffic=wanted["traffic"],
    )
    await ours.ensure()
    api.gateway["status"] = {"delayed": {"demo/a": 7}}
    await ours.ensure()
    wanted["delays"].count("demo/a")
    await ours._write()
    assert api.writes[-1][1]["delayed"] == {"demo/a": 8}
    api.gateway = None
    await ours._write()
    assert "delayed" not in api.writes[-1][1]
    wanted["delays"].count("demo/a")
    await ours._write()
    assert api.writes[-1][1]["delayed"] == {"demo/a": 1}


async def test_what_a_rollouts_revisions_were_asked_travels_likewise_and_goes_when_it_is_over(
    api, record, wanted
):
    traffic = wanted["traffic"]
    traffic.follow({"demo/a": Rollout(Split("r1", "r2", "Shadowing"), ())})
    traffic.compared("demo/a", "r2", True)
    record.changed()
    await until(lambda: len(api.writes) == 2)
    entry = {"requests": 0, "failures": 0, "latency": [], "compared": 1, "differed": 1}
    assert api.writes[-1][1]["traffic"] == {"demo/a@r2": entry}
    record.changed()
    await until(lambda: len(api.writes) == 3)
    assert "traffic" not in api.writes[-1][1]
    traffic.follow({})
    record.changed()
    await until(lambda: len(api.writes) == 4)
    assert api.writes[-1][1]["traffic"] == {"demo/a@r2": None}


async def test_a_restarted_pilot_goes_on_counting_the_rollouts_that_still_run(api, wanted):
    ours = Record(
        api,
        "gateway-1",
        "lull-system",
        address="10.0.0.9",
        held=list,
        drained=list,
        delays=Delays(),
        traffic=wanted["traffic"],
    )
    await ours.ensure()
    entry = {"requests": 9, "failures": 1, "latency": [3, 5], "compared": 2, "differed": 0}
    api.gateway["status"] = {"traffic": {"demo/a@r2": entry, "demo/b@r2": entry}}
    await ours.ensure()
    wanted["traffic"].follow({"demo/a": Rollout(Split("r1", "r2", "Stepping"), ())})
    await ours._write()
    assert api.writes[-1][1]["traffic"] == {"demo/b@r2": None}
    assert wanted["traffic"].totals() == {"demo/a@r2": entry}


def test_a_service_that_nobody_waits_for_is_taken_out_and_starts_anew():
    now = 0.0
    delays = Delays(lambda: now)
    delays.count("demo/a")
    now = REMEMBERED_SECONDS - 1
    delays.count("demo/b")
    written = delays.totals()
    assert written == {"demo/a": 1, "demo/b": 1}
    now = REMEMBERED_SECONDS
    written, patch = delays.totals(), news(written, delays.totals())
    assert patch == {"demo/a": None}
    delays.count("demo/a")
    assert delays.totals()["demo/a"] == 1


def test_as_many_services_are_counted_as_a_gateway_may_say():
    delays = Delays()
    for i in range(LONGEST + 5):
        delays.count(f"demo/s{i}")
    totals = delays.totals()
    assert len(totals) == LONGEST
    assert "demo/s4" not in totals
    assert f"demo/s{LONGEST + 4}" in totals
