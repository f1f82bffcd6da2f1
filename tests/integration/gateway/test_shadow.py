"""Shadow traffic through a real Envoy: every form of inference is compared, and no client notices."""

import asyncio
import contextlib
import re

import pytest
from tritonclient.grpc import service_pb2

from integration.gateway.harness import BINARY_HEADER, DOMAIN, Upstream, until
from lull.gateway import bootstrap, shadow
from lull.gateway.settings import SHADOW_COPIES, SHADOW_SEND_SECONDS
from unit.gateway.objects import placement, rollout

HOST = f"digits.demo.{DOMAIN}"
CLAIM = "digits-new.1"


class Candidate(Upstream):
    """Counts what it has answered over HTTP."""

    answered = 0

    async def _http(self, request):
        answer = await super()._http(request)
        self.answered += 1
        return answer


class Shadowed:
    """A service whose candidate, on a host of its own, gets copies of all of its requests."""

    def __init__(self, gateway, stable, candidate):
        self.gateway, self.stable, self.candidate = gateway, stable, candidate
        gateway.host(stable.address, placement("digits-old", "demo/digits"))
        self.place()
        self.share(100)

    def share(self, percent):
        self.gateway.service("digits", rollout=rollout("Shadowing", shadow_percent=percent))

    def place(self, **more):
        self.gateway.host(
            self.candidate.address, placement("digits-new", "demo/digits", revision="r2", **more)
        )

    def figure(self, name, **labels):
        return self.gateway.pilot.metrics.registry.get_sample_value(f"lull_shadow_{name}_total", labels)

    @property
    def compared(self):
        """Return how many answers agreed, and how many differed."""
        return self.figure("answers", outcome="agreed"), self.figure("answers", outcome="differed")

    @property
    def dropped(self):
        """Return how many copies were not compared, for whatever reason."""
        samples = [
            sample for metric in self.gateway.pilot.metrics.registry.collect() for sample in metric.samples
        ]
        return sum(sample.value for sample in samples if sample.name == "lull_shadow_dropped_total")

    async def sent(self, figure):
        """Return what Envoy says of its copies."""
        name = f"cluster.lull.shadow.{figure}"
        return (await self.gateway.admin._statistics(f"^{re.escape(name)}$"))[name]

    async def until_compared(self, *compared):
        await until(lambda: self.compared == compared, f"{compared} are counted")


@pytest.fixture
def send_seconds():
    return 600


@pytest.fixture(autouse=True)
def patient_envoy(monkeypatch, send_seconds):
    """Have Envoy give no copy up on a busy machine, so that all can be counted."""
    monkeypatch.setattr(bootstrap, "SHADOW_SEND_SECONDS", send_seconds)


@pytest.fixture
async def shadowed(gateway, upstream):
    candidate = await Candidate({"digits"}).start()
    try:
        made = Shadowed(gateway, upstream, candidate)
        await gateway.routed("demo/digits")
        yield made
    finally:
        await candidate.stop()


async def infer_grpc(gateway, **fields):
    stub, channel = gateway.stub(HOST)
    async with channel:
        return await stub.ModelInfer(service_pb2.ModelInferRequest(model_name="digits", **fields), timeout=30)


async def test_every_form_of_inference_is_compared(gateway, shadowed):
    async def by_path():
        return await gateway.ask("/demo/digits/v2/models/digits/infer", method="POST", data=b"{}")

    forms = (
        gateway.infer,
        by_path,
        lambda: gateway.infer(data=b"{}xxxx", headers={BINARY_HEADER: "2"}),
        lambda: infer_grpc(gateway),
        lambda: infer_grpc(gateway, raw_input_contents=[b"x" * 900_000]),
    )
    for number, form in enumerate(forms, 1):
        await form()
        await shadowed.until_compared(number, 0)
    shadowed.candidate.scores = (2.0, 1.0)
    for number, form in enumerate(forms, 1):
        await form()
        await shadowed.until_compared(len(forms), number)
    assert shadowed.figure("dropped", reason="Unreadable") == 0
    counts = gateway.pilot.traffic.totals()["demo/digits@r2"]
    assert (counts["compared"], counts["differed"]) == (2 * len(forms), len(forms)), (
        "what the controller reads"
    )
    assert len(shadowed.candidate.seen) == 2 * len(forms)
    assert len(shadowed.stable.seen) == 4 * len(forms), "by its client, and to compare"


async def test_a_client_gets_the_stable_answer_however_the_candidate_fares(gateway, shadowed):
    for number, fault in enumerate(("fails", "resets", "cuts off"), 1):
        shadowed.candidate.fault = fault
        status, headers, body = await gateway.infer()
        assert (status, headers["x-lull-revision"]) == (200, "r1")
        assert body["outputs"][0]["data"] == [1.0, 2.0]
        await shadowed.until_compared(0, number)
    await infer_grpc(gateway)
    await shadowed.until_compared(0, 4)


async def test_a_candidate_that_hangs_delays_nobody(gateway, shadowed, monkeypatch):
    monkeypatch.setattr(shadow, "ASK_SECONDS", 600)
    shadowed.candidate.delay_seconds = 600
    for _ in range(SHADOW_COPIES + 30):
        assert (await gateway.infer())[0] == 200
    await until(lambda: shadowed.figure("dropped", reason="Full"), "the rest is dropped")
    assert shadowed.compared == (0, 0)


async def test_what_a_client_asked_wrongly_is_not_held_against_the_candidate(gateway, shadowed):
    shadowed.stable.fault, shadowed.candidate.fault = "refuses", "fails"
    assert (await gateway.infer())[0] == 400
    await until(lambda: shadowed.figure("dropped", reason="StableFailed") == 1, "not compared")
    assert shadowed.compared == (0, 0)


async def test_models_do_not_learn_who_asked(gateway, shadowed):
    await gateway.infer(headers={"Authorization": "Bearer x", "Cookie": "a=b", "X-Api-Key": "k"})
    await shadowed.until_compared(1, 0)
    (copied,) = shadowed.candidate.headers
    assert {"Authorization", "Cookie", "X-Api-Key"}.isdisjoint(copied)
    assert not [name for name in copied if name.lower().startswith("x-")]


async def test_nobody_but_envoy_itself_sends_copies(gateway, shadowed):
    headers = {"x-lull-cluster": "lull.shadow", "x-lull-revision": "r2"}
    status, answered, _ = await gateway.infer(headers=headers)
    assert (status, answered["x-lull-revision"]) == (200, "r2")
    await gateway.infer()
    await shadowed.until_compared(1, 0)
    assert len(shadowed.candidate.seen) == 2, "what asked for the candidate is no copy, and is not copied"


async def test_a_message_for_another_model_is_asked_of_nobody(gateway, shadowed):
    shadowed.candidate.models.add("review")
    stub, channel = gateway.stub(HOST)
    async with channel:
        with contextlib.suppress(Exception):
            await stub.ModelInfer(service_pb2.ModelInferRequest(model_name="review"), timeout=5)
    await gateway.infer()
    await shadowed.until_compared(1, 0)
    assert "review" not in {model for _, model, _ in shadowed.candidate.seen + shadowed.stable.seen}


async def test_a_share_of_the_requests_is_copied(gateway, shadowed):
    shadowed.share(20)
    await until(lambda: gateway.pilot.targets("demo/digits").shadow_percent == 20, "routed so")
    await gateway.routed("demo/digits")
    for _ in range(200):
        await gateway.infer()
    copies = await shadowed.sent("upstream_rq_total")
    assert 10 < copies < 80, "of 200 a fifth; this is missed once in a billion times"


@pytest.mark.parametrize("megabytes", [2, 8])
async def test_a_large_request_passes_and_is_not_compared(gateway, shadowed, megabytes, monkeypatch):
    monkeypatch.setattr(shadow, "_DROPPED_SECONDS", 600)  # its client does not wait until Envoy is told
    status, _, body = await gateway.infer(data=b"x" * megabytes * 2**20)
    assert (status, body["bytes"]) == (200, megabytes * 2**20)
    await until(lambda: shadowed.figure("dropped", reason="Large") == 1, "dropped")
    assert not shadowed.candidate.seen


@pytest.mark.parametrize("send_seconds", [SHADOW_SEND_SECONDS])
async def test_requests_pass_while_nobody_takes_the_copies(gateway, shadowed):
    """A pilot that hangs, and one that is away: what Envoy still buffers for it must not stop an upload."""
    taken = []
    gateway.settings.shadow_socket.unlink()
    assert (await gateway.infer(data=b"x" * 4 * 2**20))[0] == 200
    deaf = await asyncio.start_unix_server(
        lambda *_: taken.append(1), gateway.settings.shadow_socket, limit=1
    )
    async with deaf:
        uploads = [gateway.infer(data=b"x" * 4 * 2**20) for _ in range(8)]
        assert {status for status, _, _ in await asyncio.gather(*uploads)} == {200}
        assert taken


async def test_no_more_copies_are_on_their_way_than_the_bound(gateway, shadowed):
    taken = []
    gateway.settings.shadow_socket.unlink()
    deaf = await asyncio.start_unix_server(lambda *_: taken.append(1), gateway.settings.shadow_socket)
    async with deaf:
        for _ in range(SHADOW_COPIES + 30):
            assert (await gateway.infer())[0] == 200
        await until(lambda: len(taken) >= SHADOW_COPIES, "as many as may be")
        assert await shadowed.sent("upstream_cx_active") == SHADOW_COPIES


async def test_a_drain_waits_for_the_copy_and_no_longer(gateway, shadowed):
    shadowed.candidate.delay_seconds = 1.5
    await gateway.infer()
    await until(lambda: shadowed.candidate.seen, "the candidate is asked")
    shadowed.place(state="Draining")
    while not shadowed.candidate.answered:
        assert CLAIM not in set(gateway.pilot.drained()), "claimed while it was being asked"
        await asyncio.sleep(0.01)
    await shadowed.until_compared(1, 0)
    await until(lambda: CLAIM in set(gateway.pilot.drained()), "let go of")


async def test_nothing_is_asked_any_more_once_the_last_client_has_gone(gateway, shadowed):
    for _ in range(20):
        await gateway.infer()
    await until(lambda: sum(shadowed.compared) + shadowed.dropped == 20, "all copies are done with")
    asked = len(shadowed.stable.seen), len(shadowed.candidate.seen)
    assert asked[0] <= 40
    assert not set(gateway.pilot.held()), "nobody waits"
    shadowed.gateway.host(shadowed.stable.address, placement("digits-old", "demo/digits", state="Draining"))
    shadowed.place(state="Draining")
    await until(lambda: len(set(gateway.pilot.drained())) == 2, "both fall asleep")
    assert (len(shadowed.stable.seen), len(shadowed.candidate.seen)) == asked
    assert not set(gateway.pilot.held()), "a copy demands nothing"
