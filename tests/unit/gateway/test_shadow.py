"""Shadow traffic: what is asked of whom, what is compared, what is dropped, and what the fence is told."""

import asyncio
import contextlib
import gzip
import json
import struct
import tempfile
import time
from pathlib import Path

import aiohttp
import pytest
from tritonclient.grpc import service_pb2

from lull.gateway import agree, shadow
from lull.gateway.ask import Answer, NoAnswerError
from lull.gateway.metrics import Metrics
from lull.gateway.settings import SHADOW_BODY_BYTES
from lull.gateway.shadow import Shadow
from lull.gateway.view import GRPC, HTTP, Lease, View
from unit.gateway.objects import host_object, placement, service_object

DOMAIN = "lull.localhost"
STABLE, CANDIDATE = Lease("digits-old", 1), Lease("digits-new", 1)
INFER = "/v2/models/digits/infer"
GRPC_INFER = "/inference.GRPCInferenceService/ModelInfer"


def answer(*scores):
    output = {"name": "output", "datatype": "FP32", "shape": [1, len(scores)], "data": scores}
    return Answer(json.dumps({"outputs": [output]}).encode())


def frame(message, flag=0):
    return struct.pack(">BI", flag, len(message)) + message


class World:
    """A shadow whose models answer what the test says; copies come over its real socket."""

    def __init__(self, folder):
        self.view = View()
        self.metrics = Metrics()
        self.counted = []
        self.released = 0
        self.answers = {STABLE: answer(1, 5), CANDIDATE: answer(1, 5)}
        self.asked = []  # (lease, question)
        self.sent = []
        self.gate = asyncio.Event()  # models answer once it is set
        self.gate.set()
        self.socket = folder / "shadow.sock"
        self.shadow = Shadow(self.view, self.metrics, DOMAIN, compared=self._count, released=self._release)
        self.rollout(phase="Shadowing", shadowPercent=50)
        self.host(("digits-old", "r1"), ("digits-new", "r2"))

    def rollout(self, **rollout):
        item = service_object("digits")
        item["status"] = {"rollout": {"stable": "r1", "candidate": "r2", **rollout}}
        self.view.set_service("demo/digits", item)

    def host(self, *placements, **more):
        models = [placement(id_, "demo/digits", **more) | {"revision": rev} for id_, rev in placements]
        self.view.set_host("host-1", host_object("127.0.0.1", *models))

    def _count(self, *counted):
        self.counted.append(counted)

    def _release(self):
        self.released += 1

    async def ask(self, _session, target, question, _longest_bytes, _seconds):
        self.asked.append((target.lease, question))
        await self.gate.wait()
        said = self.answers[target.lease]
        if said is None:
            raise NoAnswerError("broken")
        return said

    def send(self, count=1):
        """Send copies, and do not wait for what becomes of them."""
        self.sent += [asyncio.create_task(self.copy()) for _ in range(count)]

    async def copy(self, body=b"{}", *, path=INFER, host=f"digits.demo.{DOMAIN}-shadow", headers=None):
        """Send a copy as Envoy does; return the status once it is done with."""
        headers = {"Host": host, "Content-Type": "application/json", **(headers or {})}
        connector = aiohttp.UnixConnector(str(self.socket))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(f"http://envoy{path}", data=body, headers=headers) as response,
        ):
            return response.status

    def figure(self, name, **labels):
        return self.metrics.registry.get_sample_value(f"lull_shadow_{name}_total", labels)

    async def dropped(self, reason, count=1):
        await self.until(lambda: self.figure("dropped", reason=reason) == count, f"{reason} is counted")
        assert not self.counted

    async def until(self, condition, what):
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, f"not in time: {what}"
            await asyncio.sleep(0.005)


@pytest.fixture
async def world(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="lull-", dir="/tmp") as folder:  # a socket's path is short
        made = World(Path(folder))
        monkeypatch.setattr(shadow, "ask", made.ask)
        monkeypatch.setattr(shadow, "_OLD_SECONDS", 600.0)  # a busy machine drops nothing
        monkeypatch.setattr(shadow, "_REST_SECONDS", 0.0)
        monkeypatch.setattr(shadow, "_DROPPED_SECONDS", 0.0)
        running = asyncio.create_task(made.shadow.run(made.socket))
        try:
            await made.until(lambda: made.socket.exists(), "the socket is there")
            yield made
            assert not running.done(), running.exception()
        finally:
            for task in (running, *made.sent):
                task.cancel()
            await asyncio.gather(running, *made.sent, return_exceptions=True)


async def test_both_revisions_are_asked_the_same_and_their_answers_compared(world):
    assert await world.copy(b'{"inputs": []}') == 204
    await world.until(lambda: world.counted, "counted")
    assert world.counted == [("demo/digits", "r2", False)]
    assert {lease for lease, _ in world.asked} == {STABLE, CANDIDATE}
    assert {question.body for _, question in world.asked} == {b'{"inputs": []}'}
    assert {question.protocol for _, question in world.asked} == {HTTP}

    world.answers[CANDIDATE] = answer(5, 1)
    await world.copy()
    await world.until(lambda: len(world.counted) == 2, "counted")
    assert world.counted[1] == ("demo/digits", "r2", True)
    assert world.figure("answers", outcome="agreed") == 1
    assert world.figure("answers", outcome="differed") == 1


async def test_a_candidate_that_fails_or_talks_nonsense_differs(world):
    for said in (None, Answer(b"nonsense"), Answer(b'{"outputs": []}')):
        world.answers[CANDIDATE] = said
        await world.copy()
    await world.until(lambda: len(world.counted) == 3, "counted")
    assert all(differed for _, _, differed in world.counted)


@pytest.mark.parametrize(("said", "reason"), [(None, "StableFailed"), (Answer(b"nonsense"), "Unreadable")])
async def test_where_the_stable_revision_fails_nothing_is_compared(world, said, reason):
    world.answers[STABLE] = said
    await world.copy()
    await world.dropped(reason)


async def test_grpc_is_asked_by_grpc_and_read_as_such(world):
    message = service_pb2.ModelInferResponse(raw_output_contents=[struct.pack("<2f", 1, 5)])
    message.outputs.add(name="output", datatype="FP32", shape=[1, 2])
    world.answers = dict.fromkeys((STABLE, CANDIDATE), Answer(message.SerializeToString()))
    question = service_pb2.ModelInferRequest(model_name="digits").SerializeToString()
    await world.copy(frame(question), path=GRPC_INFER, headers={"Content-Type": "application/grpc+proto"})
    await world.until(lambda: world.counted, "counted")
    assert world.counted == [("demo/digits", "r2", False)]
    assert {(asked.protocol, asked.body) for _, asked in world.asked} == {(GRPC, question)}


async def test_nothing_that_tells_who_asked_reaches_a_model(world):
    headers = {"Authorization": "Bearer x", "Cookie": "a=b", "X-Forwarded-For": "10.0.0.1", "X-Api-Key": "k"}
    kept = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "2"}
    await world.copy(b"{}\xff", headers={**headers, **kept})
    await world.until(lambda: world.counted, "counted")
    assert [question.headers for _, question in world.asked] == [kept, kept]


@pytest.mark.parametrize(
    ("path", "body", "type_"),
    [
        ("/v2/models/review/infer", b"{}", "application/json"),
        (f"{INFER}?a=b", b"{}", "application/json"),
        ("/v2/repository/models/digits/unload", b"", "application/json"),
        ("/v2/models/digits/versions/1/infer", b"{}", "application/json"),
        (GRPC_INFER, frame(b"x"), "application/json"),
        (INFER, frame(b"x"), "application/grpc"),
        ("/inference.GRPCInferenceService/RepositoryModelUnload", frame(b"x"), "application/grpc"),
        (GRPC_INFER, frame(b"x", flag=1), "application/grpc"),
        (GRPC_INFER, frame(b"x") * 2, "application/grpc"),
        (GRPC_INFER, frame(b"xy")[:-1], "application/grpc"),
        (GRPC_INFER, b"", "application/grpc"),
    ],
)
async def test_nothing_but_one_whole_inference_of_the_services_model_is_asked(world, path, body, type_):
    assert await world.copy(body, path=path, headers={"Content-Type": type_}) == 204
    await world.dropped("Unreadable")
    assert not world.asked


async def test_a_request_of_a_sequence_is_not_asked_again(world):
    await world.copy(b'{"parameters": {"sequence_id": 7}}')
    request = service_pb2.ModelInferRequest(model_name="digits")
    request.parameters["sequence_id"].int64_param = 7
    await world.copy(
        frame(request.SerializeToString()), path=GRPC_INFER, headers={"Content-Type": "application/grpc"}
    )
    await world.dropped("Stateful", 2)
    assert not world.asked


async def test_what_is_compressed_is_not_asked_as_it_may_be_of_a_sequence(world):
    await world.copy(
        gzip.compress(b'{"parameters": {"sequence_id": 7}}'), headers={"Content-Encoding": "gzip"}
    )
    await world.dropped("Unreadable")
    assert not world.asked


@pytest.mark.parametrize(
    "host", [f"other.demo.{DOMAIN}-shadow", "digits.demo.example.org-shadow", "127.0.0.1", "-shadow"]
)
async def test_a_host_that_is_no_services_is_not_asked(world, host):
    assert await world.copy(host=host) == 204
    await world.dropped("NotInShadow")
    assert not world.asked


@pytest.mark.parametrize(
    "rollout",
    [
        {"phase": "Rejected", "shadowPercent": 50},
        {"phase": "Aborted", "shadowPercent": 50},
        {"phase": "Promoted", "shadowPercent": 50},
        {"phase": "Swapping", "shadowPercent": 50},
        {"phase": "Stepping", "shadowPercent": 0},
        {"phase": "Shadowing", "shadowPercent": 50, "candidate": "r3"},
    ],
)
async def test_only_a_ready_candidate_in_shadow_is_asked(world, rollout):
    world.rollout(**rollout)
    await world.copy()
    await world.dropped("NotInShadow")
    assert not world.asked


@pytest.mark.parametrize("change", [{"state": "Draining"}, {"status": "Loading"}])
async def test_what_drains_or_is_not_ready_is_not_asked(world, change):
    world.host(("digits-old", "r1"), ("digits-new", "r2"), **change)
    await world.copy()
    await world.dropped("NotInShadow")
    assert not world.asked


async def test_one_that_starts_to_drain_while_its_copy_waits_is_not_asked(world):
    world.gate.clear()
    world.send(5)  # one more than are asked at once
    await world.until(lambda: len(world.asked) == 8, "four pairs are asked")
    world.host(("digits-old", "r1"), ("digits-new", "r2"), state="Draining")
    world.gate.set()
    await world.until(lambda: world.figure("dropped", reason="NotInShadow") == 1, "dropped")
    await world.until(lambda: len(world.counted) == 4, "what was asked before is answered, and counted")
    assert len(world.asked) == 8


async def test_placements_are_in_use_until_they_answered(world):
    world.gate.clear()
    world.send(2)
    await world.until(lambda: len(world.asked) == 4, "asked")
    assert world.shadow.in_use == {STABLE, CANDIDATE}
    assert not world.released
    world.gate.set()
    await world.until(lambda: world.released == 2, "released")
    assert not world.shadow.in_use


async def test_a_candidate_that_is_taken_back_while_it_is_asked_is_not_counted(world):
    world.gate.clear()
    world.send()
    await world.until(lambda: world.asked, "asked")
    world.rollout(phase="Aborted")
    world.answers[CANDIDATE] = None
    world.gate.set()
    await world.dropped("NotInShadow")
    assert not world.shadow.in_use


async def test_a_candidate_that_dies_of_a_question_differs(world):
    world.gate.clear()
    world.send()
    await world.until(lambda: world.asked, "asked")
    world.host(("digits-old", "r1"), ("digits-new", "r2"), status="Failed")
    world.answers[CANDIDATE] = None
    world.gate.set()
    await world.until(lambda: world.counted, "counted")
    assert world.counted == [("demo/digits", "r2", True)]


async def test_what_is_above_the_bound_is_dropped_at_once_and_there_is_room_again(world):
    world.gate.clear()
    world.send(shadow._PLACES)
    await world.until(lambda: world.shadow._taken == shadow._PLACES, "all places are taken")
    await world.copy()
    assert world.figure("dropped", reason="Full") == 1
    await world.until(lambda: len(world.asked) == 8, "four at once")
    world.gate.set()
    await world.until(lambda: world.shadow._taken == 0, "all are done with")
    before = len(world.counted)
    await world.copy()
    assert len(world.counted) > before, "compared again"


async def test_a_copy_that_grew_old_is_not_asked(world, monkeypatch):
    monkeypatch.setattr(shadow, "_OLD_SECONDS", -1.0)
    await world.copy()
    await world.dropped("Late")
    assert not world.asked


async def test_a_large_copy_is_dropped_whether_it_says_its_length_or_not(world):
    async def chunks():
        for _ in range(17):
            yield b"x" * (SHADOW_BODY_BYTES // 16)

    assert await world.copy(b"x" * SHADOW_BODY_BYTES) == 204
    for number, body in enumerate((b"x" * (SHADOW_BODY_BYTES + 1), chunks()), 1):
        with contextlib.suppress(aiohttp.ClientError):  # answered before it was sent
            assert await world.copy(body) == 204
        await world.until(lambda number=number: world.figure("dropped", reason="Large") == number, "dropped")
    await world.until(lambda: world.shadow._taken == 0, "no place stays taken")


async def test_a_copy_that_does_not_end_is_given_up(world, monkeypatch):
    monkeypatch.setattr(shadow, "SHADOW_SEND_SECONDS", 0.05)

    async def endless():
        yield b"x"
        await asyncio.Event().wait()

    sending = asyncio.create_task(world.copy(endless()))
    await world.dropped("Late")
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert world.shadow._taken == 0


async def test_a_fault_in_the_comparison_ends_nothing(world, monkeypatch, caplog):
    with monkeypatch.context() as broken:
        broken.setattr(agree, "agree", lambda *_: 1 / 0)
        for _ in range(5):
            await world.copy()
        await world.until(lambda: world.shadow._taken == 0, "tried")
    assert "ZeroDivisionError" in caplog.text
    await world.copy()
    await world.until(lambda: world.counted, "the next is compared")


async def test_nobody_else_may_connect(world):
    assert world.socket.stat().st_mode & 0o777 == 0o600
