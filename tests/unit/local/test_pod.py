"""A Pod's worker where no real cluster is patient enough."""

import asyncio
from pathlib import Path

from lull.kube import ApiError
from lull.local.node import volumes
from lull.local.node.pod import Host, PodWorker

POD = {"metadata": {"name": "p", "namespace": "n", "uid": "0123456789"}, "spec": {"containers": []}}


class Tokens:
    """An API server that gives numbered tokens and refuses every second request."""

    def __init__(self):
        self.asked = 0
        self.gave_two = asyncio.Event()

    async def create(self, _resource, body, _subresource):
        self.asked += 1
        assert body["spec"]["boundObjectRef"]["uid"] == POD["metadata"]["uid"]
        if self.asked % 2:
            raise ApiError(503, "Unavailable", "not now")
        if self.asked == 6:  # by then the second one has been written
            self.gave_two.set()
        return {"status": {"token": f"token {self.asked}"}}


async def test_a_token_is_renewed_before_it_ends_whatever_the_api_server_answers(tmp_path, monkeypatch):
    monkeypatch.setattr("lull.local.node.pod.LONGEST_RETRY_SECONDS", 0.01)
    tokens = Tokens()
    host = Host(
        kube=tokens,
        pods=tmp_path,
        logs=tmp_path,
        server="",
        authority=Path(),
        address="127.9.0.1",
        table={},
        allocatable={},
        new_address=lambda: "127.9.1.1",
    )
    worker = PodWorker(POD, host)
    token = volumes.Token(tmp_path / "token", {"path": "token", "expirationSeconds": 0.01})
    worker._tokens = [token]
    renewing = asyncio.create_task(worker._renew_tokens())
    async with asyncio.timeout(10):
        await tokens.gave_two.wait()
    renewing.cancel()
    assert token.file.read_text() in ("token 4", "token 6")
