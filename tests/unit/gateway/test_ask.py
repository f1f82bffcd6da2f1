"""A model is asked within bounds: what is too long, too late or elsewhere is no answer."""

import asyncio

import grpc
import pytest
from aiohttp import web

from lull.gateway import ask
from lull.gateway.ask import HEADER_BYTES, Answer, NoAnswerError, Question
from lull.gateway.view import GRPC, HTTP, Lease, Placement

PLACEMENT = Placement(Lease("digits-1", 1), "demo/digits", "digits", "127.0.0.1", True, False, "r1")
QUESTION = Question(HTTP, b"question", {"Content-Type": "application/json"})


class Model:
    """A Triton over HTTP that answers as the test says."""

    def __init__(self):
        self.requests = []
        self.answer = None

    async def handle(self, request):
        self.requests.append((request.method, request.path, dict(request.headers), await request.read()))
        return await self.answer(request)


@pytest.fixture
async def model(monkeypatch):
    served = Model()
    runner = web.ServerRunner(web.Server(served.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setattr(ask, "TRITON_HTTP_PORT", runner.addresses[0][1])
    yield served
    await runner.cleanup()


async def asked(question=QUESTION, longest_bytes=1000, seconds=10.0):
    async with ask.session() as session:
        return await ask.ask(session, PLACEMENT, question, longest_bytes, seconds)


def says(**response):
    async def answer(_request):
        return web.Response(**response)

    return answer


async def test_a_question_is_posted_as_it_is_and_answered(model):
    model.answer = says(body=b"{}xx", headers={HEADER_BYTES: "2"})
    assert await asked() == Answer(b"{}xx", 2)
    ((method, path, headers, body),) = model.requests
    assert (method, path, body) == ("POST", "/v2/models/digits/infer", b"question")
    assert headers["Content-Type"] == "application/json"
    assert headers["Accept-Encoding"] == "identity"


async def test_json_says_no_length(model):
    model.answer = says(body=b"{}")
    assert await asked() == Answer(b"{}", None)


@pytest.mark.parametrize("status", [204, 400, 404, 500, 503])
async def test_what_is_not_ok_is_no_answer(model, status):
    model.answer = says(status=status)
    with pytest.raises(NoAnswerError, match=str(status)):
        await asked()


async def test_a_model_cannot_send_us_elsewhere(model):
    model.answer = says(status=307, headers={"Location": "/elsewhere"})
    with pytest.raises(NoAnswerError):
        await asked()
    assert len(model.requests) == 1


async def test_an_answer_without_end_is_cut(model):
    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1000)

    model.answer = endless
    with pytest.raises(NoAnswerError, match="more than 1000 bytes"):
        await asked()


async def test_a_model_that_does_not_answer_is_given_up(model):
    async def never(_request):
        await asyncio.Event().wait()

    model.answer = never
    with pytest.raises(NoAnswerError, match="TimeoutError"):
        await asked(seconds=0.1)


async def test_a_length_that_is_none_is_no_answer(model):
    model.answer = says(body=b"{}", headers={HEADER_BYTES: "two"})
    with pytest.raises(NoAnswerError):
        await asked()


async def test_nobody_there_is_no_answer(model, monkeypatch):
    monkeypatch.setattr(ask, "TRITON_HTTP_PORT", 1)
    monkeypatch.setattr(ask, "TRITON_GRPC_PORT", 1)
    for protocol in (HTTP, GRPC):
        with pytest.raises(NoAnswerError):
            await asked(Question(protocol, b""))


async def test_grpc_is_asked_within_the_same_bounds(monkeypatch):
    said = b"short"

    async def infer(request, _context):
        return said + request

    handler = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    )
    server = grpc.aio.server(handlers=[handler])
    monkeypatch.setattr(ask, "TRITON_GRPC_PORT", server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    try:
        assert await asked(Question(GRPC, b"!")) == Answer(b"short!")
        with pytest.raises(NoAnswerError, match="RESOURCE_EXHAUSTED"):
            await asked(Question(GRPC, b"!"), longest_bytes=5)
    finally:
        await server.stop(0)
