"""Rollouts as their users see them, and as clients do: by the revision that each answer names."""

import asyncio
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from e2e.load import OK, Answer, Client, HttpClient, Load, Tally, Target, drive
from e2e.world import NotSoError, Published, Service
from lull.api.names import REVISION_HEADER
from lull.controller.wire import service_from

Object = dict[str, Any]

ENDED = ("Promoted", "Rejected", "Aborted")
LOOK_SECONDS = 0.1
SURE = 1e-6
"""How improbable a share must be to be no chance any more."""


class Witness:
    """A client that remembers every answer: who gave it, and when it was due."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.answers: list[Answer] = []

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def infer(self, target: Target, value: float, upload_seconds: float = 0.0) -> Answer:
        """Ask, and remember."""
        answer = await self._client.infer(target, value, upload_seconds)
        self.answers.append(answer)
        return answer


@dataclass
class Traffic:
    """A load on one service, while a block lasts."""

    loads: Sequence[tuple[Witness, Load]]
    tallies: list[Tally] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._stop = asyncio.Event()
        for witness, _ in self.loads:
            await witness.__aenter__()
        self._driven = [asyncio.create_task(drive(w, load, self._stop)) for w, load in self.loads]
        return self

    async def __aexit__(self, *how: Any) -> None:
        self._stop.set()
        self.tallies = await asyncio.gather(*self._driven)
        for witness, _ in self.loads:
            await witness.__aexit__(None, None, None)

    @property
    def answers(self) -> list[Answer]:
        """Every answer so far, in the order in which they were due."""
        return sorted((a for witness, _ in self.loads for a in witness.answers), key=lambda a: a.due)

    @property
    def failures(self) -> str:
        """What failed, in words; empty if nothing did."""
        return "\n".join(str(tally) for tally in self.tallies if tally.failed)


@dataclass(frozen=True)
class Seen:
    """How one rollout went: `looks` are (time, phase, percent), each as it was first seen."""

    revision: str
    asked_at: float
    looks: tuple[tuple[float, str, int], ...]
    entry: Object
    """What status.revisions says of it."""

    @property
    def phase(self) -> str:
        return self.looks[-1][1]

    @property
    def ended_at(self) -> float:
        return self.looks[-1][0]

    @property
    def judged_seconds(self) -> float:
        """From when it was first asked anything until the end; 0 if it never was."""
        began = [at for at, phase, _ in self.looks if phase in ("Shadowing", "Stepping")]
        return self.ended_at - began[0] if began else 0.0


async def first_answer(service: Service) -> Answer:
    """Ask a service and wait until its status says that it serves: until then a change takes over at once."""
    async with HttpClient() as client:
        answer = await client.infer(service.targets()[0], 1.0)
    assert answer.outcome == OK, answer

    async def so() -> bool:
        return any(one["ready"] for one in (await service.get()).get("status", {}).get("revisions", []))

    await service.world.until(so, f"{service.name} says that it serves", 30)
    return answer


async def roll_out(service: Service, model: Published, rollout: Object) -> str:
    """Ask for another model, and return its revision."""
    await service.patch(model={"uri": model.uri, "digest": model.digest}, rollout=rollout)
    return service_from(await service.get()).model.revision


async def followed(
    service: Service,
    revision: str,
    until: Sequence[str] = ENDED,
    check: Callable[[Object], None] = lambda _: None,
    timeout_seconds: float = 90.0,
) -> Seen:
    """Watch the rollout of a revision until it is at one of these phases; `check` is given every look."""
    asked_at = time.monotonic()
    looks: list[tuple[float, str, int]] = []
    while time.monotonic() < asked_at + timeout_seconds:
        item = await service.get()
        check(item)
        status = item.get("status", {})
        told = status.get("rollout") or {}
        if told.get("candidate") == revision:
            look = told["phase"], told.get("percent", 0)
            if not looks or looks[-1][1:] != look:
                looks.append((time.monotonic(), *look))
            if told["phase"] in until:
                entry = next((r for r in status["revisions"] if r["name"] == revision), {})
                return Seen(revision, asked_at, tuple(looks), entry)
        await asyncio.sleep(LOOK_SECONDS)
    raise NotSoError(
        f"the rollout of {revision} is at {looks} and not at {until}\n{await service.world.picture()}"
    )


def revision_of(answer: Answer) -> str:
    """Return who gave an answer; empty where it does not say."""
    return answer.headers.get(REVISION_HEADER, "")


def of(answers: Sequence[Answer], revision: str) -> list[Answer]:
    """Return the answers that a revision gave."""
    return [answer for answer in answers if answer.outcome == OK and revision_of(answer) == revision]


def most(of_requests: int, percent: int) -> int:
    """Return how many of so many requests a share of them is at most, but for one chance in a million."""
    share, left, count = percent / 100, 1.0, -1
    while left > SURE:
        count += 1
        left -= math.exp(
            math.lgamma(of_requests + 1)
            - math.lgamma(count + 1)
            - math.lgamma(of_requests - count + 1)
            + count * math.log(share)
            + (of_requests - count) * math.log1p(-share)
        )
        if count >= of_requests:
            return of_requests
    return count


def marks(*objects: Object) -> list[str]:
    """Return what of these objects names a candidate as the fleet does, which nobody else is to see."""
    return [text for item in objects if "~" in (text := json.dumps(item))]
