"""What cannot be served says why, answers 503, hurts nobody beside it, and serves once it is put right."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from e2e import models
from e2e.load import OK, HttpClient, Load, drive
from e2e.world import Published, World

SOON_SECONDS = 20.0
ONES = np.ones((1, 4), np.float32)
ZEROS = "sha256:" + "0" * 64
ELSEWHERE = "https://models.example/model.tar"
UNSEEN = "sha256:" + "1" * 64
"""Of nothing that a host may have kept."""
PUBLIC_KEY = """\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9OEFmxao+2g3+g9kS2qTJcAJ+iRD
Fh8O54Hn87oezZHqj6hYy5fOd0N4WAD2utSGPbFDyL/pGqdO6qOT0CBLgg==
-----END PUBLIC KEY-----
"""
SIGNED_BY_ANA = {"prefix": "file:///unsigned.tar", "signedBy": [{"name": "ana", "publicKey": PUBLIC_KEY}]}


@dataclass(frozen=True)
class Bad:
    """A model that cannot be served: what it is, for what reason, and a word of the message."""

    reason: str
    says: str
    model: Callable[[World], Published] = lambda lull: lull.publish()
    spec: dict[str, Any] | None = None
    pool: dict[str, Any] | None = None
    within_seconds: float = SOON_SECONDS


def at(uri: str) -> Callable[[World], Published]:
    return lambda lull: Published(uri, UNSEEN)


CASES = {
    "digest mismatch": Bad("DigestMismatch", "sha256:", lambda lull: Published(lull.publish().uri, ZEROS)),
    "no such file": Bad("Unreachable", "missing.tar", at("file:///missing.tar")),
    "nobody listens": Bad("Unreachable", "127.0.0.1:9", at("http://127.0.0.1:9/model.tar")),
    "uri not allowed": Bad("UriNotAllowed", "models.example", at(ELSEWHERE)),
    "uri not allowed of what is here already": Bad(
        "UriNotAllowed", "models.example", lambda lull: Published(ELSEWHERE, lull.publish().digest)
    ),
    "no tar": Bad("NotAModel", "", lambda lull: lull.put("junk.tar", b"not a tar at all" * 100)),
    "wrong shapes": Bad(
        "WrongShapes", "output", lambda lull: lull.put("shapes.tar", models.wrong_shapes("shapes"))
    ),
    "other answers": Bad(
        "GoldenMismatch",
        "golden case 0: output[0, 0] is 1 here and was 2",
        lambda lull: lull.put("wrong.tar", models.identity("wrong", 2 * ONES)),
    ),
    "unsigned": Bad(
        "Unsigned",
        "ana",
        lambda lull: lull.put("unsigned.tar", models.identity("unsigned", ONES)),
        pool={"trust": [SIGNED_BY_ANA, {"prefix": "file:///"}]},
    ),
    "larger than any host": Bad("TooLarge", "100", spec={"resources": {"memory": "100Gi"}}),
    "code not allowed": Bad(
        "CodeNotAllowed", "allow.code", pool={"allow": {"uris": ["file:///"], "code": False}}
    ),
    "fails to load": Bad(
        "LoadFailed", "on purpose", lambda lull: lull.put("raises.tar", models.raising("on purpose"))
    ),
    "no such pool": Bad("NoSuchPool", "nowhere", spec={"pool": "nowhere"}),
    "load that never returns": Bad(
        "LoadTimeout",
        "",
        lambda lull: lull.put("hangs.tar", models.loading_for(3600.0)),
        pool={"hosts": {"max": 2}, "template": models.template_with(LULL_LOAD_DEADLINE_SECONDS="4")},
        within_seconds=30.0,
    ),
}


@contextlib.asynccontextmanager
async def serving(lull: World, pool: str) -> AsyncIterator[None]:
    """Keep a healthy neighbour of a pool under load, and hold it to answering everything."""
    neighbour = await lull.service("neighbour", lull.publish(), pool=pool, idleAfter="60s")
    stop = asyncio.Event()
    async with HttpClient() as client:
        assert (await client.infer(neighbour.targets()[0], 1.0)).outcome == OK
        load = asyncio.create_task(drive(client, Load(neighbour.targets(), 10, 120, slow_share=0.0), stop))
        try:
            yield
        finally:
            stop.set()
            tally = await load
    print("neighbour:", tally)
    assert tally.total
    assert not tally.failed, f"the neighbour suffered: {tally}"


@pytest.mark.parametrize("case", CASES.values(), ids=[name.replace(" ", "-") for name in CASES])
async def test_a_bad_model_says_why_and_hurts_nobody(lull: World, case: Bad) -> None:
    await lull.pool("bad", **({"memory": "3Gi", "emptyAfter": "60s"} | (case.pool or {})))
    model = case.model(lull)
    around = contextlib.nullcontext() if case.reason == "CodeNotAllowed" else serving(lull, "bad")
    async with around, HttpClient() as client:
        service = await lull.service("broken", model, **({"pool": "bad"} | (case.spec or {})))
        refused = await client.infer(service.targets()[0], 1.0)
        assert refused.outcome == "503", refused
        assert int(refused.headers["Retry-After"]) > 0
        assert case.reason in refused.detail
        assert refused.seconds < case.within_seconds
        assert case.says in await service.wait_stalled(case.reason, 10)
        assert (await service.conditions())["Ready"]["status"] == "False"
        again = await client.infer(service.targets()[1], 2.0)
        assert again.outcome == "503", again
        assert case.reason in again.detail


async def test_put_right_it_serves(lull: World) -> None:
    await lull.pool("bad", emptyAfter="60s")
    good = lull.publish()
    service = await lull.service("broken", Published(good.uri, ZEROS), pool="bad")
    async with HttpClient() as client:
        assert (await client.infer(service.targets()[0], 1.0)).outcome == "503"
        await service.wait_stalled("DigestMismatch", 10)
        await service.patch(model={"digest": good.digest})

        async def cleared() -> bool:
            found = await service.conditions()
            return found.get("Ready", {}).get("status") == "True" and found["Stalled"]["status"] == "False"

        await lull.until(cleared, "the condition is cleared", 10)
        assert (await client.infer(service.targets()[0], 2.0)).outcome == OK


async def test_a_host_that_cannot_be_scheduled_says_why(lull: World) -> None:
    template = models.template_with()
    template["spec"]["nodeSelector"] = {"lull.dev/nobody": "has-this"}
    await lull.pool("nowhere-to-go", template=template)
    service = await lull.service("stranded", lull.publish(), pool="nowhere-to-go")
    async with HttpClient() as client:
        refused = await client.infer(service.targets()[0], 1.0)
    assert refused.outcome == "503", refused
    assert "HostUnschedulable" in refused.detail
    assert "node" in await service.wait_stalled("HostUnschedulable", 10)


async def test_an_unknown_service_is_404(lull: World) -> None:
    await lull.pool("bad", emptyAfter="60s")
    service = await lull.service("known", lull.publish(), pool="bad")
    target = service.targets()[0]
    async with HttpClient() as by_path, HttpClient(by_host=True) as by_host:
        for client in (by_path, by_host):
            unknown = type(target)(target.address, target.namespace, "unknown", "unknown")
            assert (await client.infer(unknown, 1.0)).outcome == "404"
