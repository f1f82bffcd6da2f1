"""Twenty rollouts under traffic, five of them bad in different ways: no client notices any of them.

What a bad revision may answer before it is stopped is its canary share. How soon it is stopped follows from
the pause, from how many requests a second it gets, and from how often gateways and the controller tell.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import crafted
from e2e import models
from e2e.load import GrpcClient, HttpClient, Load
from e2e.report import note
from e2e.rollouts import (
    Seen,
    Traffic,
    Witness,
    first_answer,
    followed,
    marks,
    most,
    of,
    revision_of,
    roll_out,
)
from e2e.world import Published, Service, World
from lull.kube import MODELGATEWAYS, MODELHOSTS, MODELPOOLS, MODELSERVICES

RATE = 50.0
LONGEST_SECONDS = 900.0
SHARE_PERCENT = 20
SHADOW_PERCENT = 50
PAUSE_SECONDS = 2.0
MIN_REQUESTS = 30
DIES_AFTER = 100
HISTORY = 5
TOLD_SECONDS = 30.0
"""For figures to reach the controller, and its word the gateways, on a machine that computes all of it."""
REACHED_SECONDS = 3.0
"""For a rejection to reach the gateways."""


@dataclass(frozen=True)
class Trial:
    """A revision to roll out; a bad one has reasons, of which it must be rejected for one."""

    name: str
    model: Published
    reasons: frozenset[str] = frozenset()
    shadowed: bool = False
    min_requests: int = MIN_REQUESTS
    latency_percent: int = 1000
    """A busy machine is no worse model; what is slow on purpose is so by far more than that machine."""

    @property
    def rollout(self) -> dict[str, Any]:
        analysis = {
            "minRequests": self.min_requests,
            "latencyPercent": self.latency_percent,
            "errorPercent": 2,
        }
        return {
            "steps": [SHARE_PERCENT],
            "pause": f"{PAUSE_SECONDS:.0f}s",
            "shadowPercent": SHADOW_PERCENT if self.shadowed else 0,
            "history": HISTORY,
            "analysis": analysis,
        }

    @property
    def window_seconds(self) -> float:
        """How long it may be asked anything: the pause, or until enough requests came, and to be told."""
        percent = min(SHARE_PERCENT, SHADOW_PERCENT) if self.shadowed else SHARE_PERCENT
        return max(PAUSE_SECONDS, self.min_requests / (RATE * percent / 100)) + TOLD_SECONDS


@dataclass(frozen=True)
class Publisher:
    """Puts models into the cluster's files: artifacts that are signed, and code, which the pool lets be."""

    lull: World
    key: Path
    public: str

    def trust(self) -> list[dict[str, Any]]:
        signer = {"name": "publisher", "publicKey": self.public}
        return [{"prefix": "file:///signed/", "signedBy": [signer]}, {"prefix": "file:///code/"}]

    def artifact(self, name: str, version: int, factor: float = 1.0, *, signed: bool = True) -> Published:
        content = models.scaling(factor, version, self.key if signed else None)
        return self.lull.put(f"signed/{name}-{version}.tar", content)

    def code(self, name: str, content: bytes) -> Published:
        return self.lull.put(f"code/{name}.tar", content)

    def good(self) -> list[Trial]:
        return [Trial(f"good {n}", self.artifact("good", n), shadowed=n % 5 == 0) for n in range(1, 16)]

    def bad(self) -> list[Trial]:
        worse, failed = frozenset({"Worse"}), frozenset({"LoadFailed"})
        slow, dying = models.answering_after(1.0), models.dying_after(DIES_AFTER)
        return [
            Trial("wrong", self.artifact("wrong", 1, factor=2.0), worse, shadowed=True),
            Trial("slow", self.code("slow", slow), worse, latency_percent=300),
            Trial("dies when loaded", self.code("dies-at-once", models.dying()), failed),
            Trial("dies later", self.code("dies", dying), worse | failed, min_requests=2 * DIES_AFTER),
            Trial("unsigned", self.artifact("unsigned", 1, signed=False), frozenset({"Unsigned"})),
        ]


def in_turn(good: Sequence[Trial], bad: Sequence[Trial]) -> list[Trial]:
    """Return good ones with a bad one after every third."""
    return [trial for at, one in enumerate(bad) for trial in (*good[3 * at : 3 * at + 3], one)]


def loads(service: Service) -> list[tuple[Witness, Load]]:
    """Return 50 requests a second, over every kind of client."""
    clients: list[Callable[[], Any]] = [HttpClient, lambda: HttpClient(by_host=True), GrpcClient]
    return [
        (Witness(client()), Load(service.targets(), RATE / len(clients), LONGEST_SECONDS, seed=seed))
        for seed, client in enumerate(clients)
    ]


@pytest.mark.timeout(900)
async def test_twenty_rollouts_and_no_client_notices_the_five_bad_ones(lull: World, tmp_path: Path) -> None:
    publisher = Publisher(lull, *crafted.signing_key(tmp_path, "publisher"))
    await lull.pool("rolling", hosts={"min": 3, "max": 3}, emptyAfter="300s", trust=publisher.trust())
    trials = in_turn(publisher.good(), publisher.bad())
    service = await lull.service("rolled", publisher.artifact("good", 0), pool="rolling", idleAfter="300s")
    first = await first_answer(service)
    began, seen = time.monotonic(), {}
    async with Traffic(loads(service)) as traffic:
        for trial in trials:
            revision = await roll_out(service, trial.model, trial.rollout)
            seen[trial] = await followed(service, revision, check=assert_tidy)
        await asyncio.sleep(REACHED_SECONDS)
    took_seconds = time.monotonic() - began
    assert not traffic.failures, traffic.failures
    known = {revision_of(first), *(one.revision for one in seen.values())}
    assert {revision_of(answer) for answer in traffic.answers} <= known
    for trial, one in seen.items():
        assert_right(trial, one, traffic)
    await assert_nothing_left(lull, service)
    longest_seconds = max(answer.seconds for answer in traffic.answers)
    note(
        f"{len(trials)} rollouts in {took_seconds:.0f} s: 0 of {len(traffic.answers)} requests failed, "
        f"the longest took {longest_seconds:.1f} s"
    )
    for trial, one in seen.items():
        if trial.reasons:
            note(told(trial, one, traffic))


def assert_tidy(item: dict[str, Any]) -> None:
    """What is true of a service at any moment."""
    assert not marks(item)
    assert len(item.get("status", {}).get("revisions", [])) <= HISTORY + 2


def assert_right(trial: Trial, one: Seen, traffic: Traffic) -> None:
    """Hold one rollout to its end, and a bad one to its share."""
    print(trial.name, one)
    if not trial.reasons:
        assert one.phase == "Promoted", (trial.name, one)
        return
    assert one.phase == "Rejected", (trial.name, one)
    assert one.entry["state"] == "Rejected"
    assert one.entry["reason"] in trial.reasons, (trial.name, one)
    assert "Promoting" not in [phase for _, phase, _ in one.looks], (trial.name, one)
    assert one.judged_seconds < trial.window_seconds, (trial.name, one)
    answered = of(traffic.answers, one.revision)
    assert not [a for a in answered if a.due > one.ended_at + REACHED_SECONDS], (trial.name, one)
    if trial.shadowed or "Stepping" not in [phase for _, phase, _ in one.looks]:
        assert not answered, (trial.name, one)
    assert len(answered) <= most(len(_meanwhile(traffic, one)), SHARE_PERCENT), (trial.name, one)


def _meanwhile(traffic: Traffic, one: Seen) -> list[Any]:
    """Return all answers from the first to the last that a revision gave."""
    dues = [answer.due for answer in of(traffic.answers, one.revision)] or [0.0]
    return [answer for answer in traffic.answers if dues[0] <= answer.due <= dues[-1]]


def told(trial: Trial, one: Seen, traffic: Traffic) -> str:
    """Say how a bad one was stopped."""
    answered, meanwhile = len(of(traffic.answers, one.revision)), len(_meanwhile(traffic, one))
    return (
        f"  {trial.name}: {one.entry['reason']} {one.ended_at - one.asked_at:.1f} s after it was asked for, "
        f"{one.judged_seconds:.1f} s after it was first asked; it gave {answered} of {meanwhile} answers"
    )


async def assert_nothing_left(lull: World, service: Service) -> None:
    """Only what serves is loaded, in the end, and nothing names a candidate."""
    revisions = (await service.get())["status"]["revisions"]
    (serving,) = (revision["name"] for revision in revisions if revision["state"] == "Serving")

    async def alone() -> bool:
        return {entry["revision"] for _, entry, _ in await service.placements()} == {serving}

    await lull.until(alone, "only the last good revision is loaded", 30)
    for kind in (MODELSERVICES, MODELHOSTS, MODELGATEWAYS, MODELPOOLS):
        items, _ = await lull.kube.list(kind)
        assert not marks(*items)
