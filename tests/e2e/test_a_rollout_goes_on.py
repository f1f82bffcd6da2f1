"""Rollouts under traffic: the controller is killed, users have their say, there is no room for both."""

import asyncio
import sysconfig
from pathlib import Path

import pytest

from e2e import models
from e2e.drains import watched
from e2e.load import GrpcClient, HttpClient, Load
from e2e.report import note
from e2e.rollouts import Traffic, Witness, first_answer, followed, of, revision_of, roll_out
from e2e.world import Service, World
from lull.api.names import SYSTEM_NAMESPACE

RATE = 20.0
LONGEST_SECONDS = 240.0
ANALYSIS = {"minRequests": 20, "latencyPercent": 1000, "errorPercent": 5}


def loads(service: Service) -> list[tuple[Witness, Load]]:
    """Return a load over both protocols."""
    clients = [HttpClient(), GrpcClient()]
    return [
        (Witness(client), Load(service.targets(), RATE / len(clients), LONGEST_SECONDS, seed=seed))
        for seed, client in enumerate(clients)
    ]


async def serving(lull: World, name: str, hosts: int) -> tuple[Service, str]:
    """Return a service that answers, alone in a pool with so many hosts, and its revision."""
    await lull.pool(name, hosts={"min": hosts, "max": hosts}, emptyAfter="120s")
    model = lull.put(f"{name}-1.tar", models.scaling(1.0, 1))
    service = await lull.service(name, model, pool=name, idleAfter="120s")
    return service, revision_of(await first_answer(service))


@pytest.mark.timeout(300)
async def test_a_rollout_goes_on_where_it_was_when_its_controller_is_killed_within_a_step(
    lull: World,
) -> None:
    service, old = await serving(lull, "orphaned", hosts=2)
    model = lull.put("orphaned-2.tar", models.scaling(1.0, 2))
    async with Traffic(loads(service)) as traffic:
        wish = {"steps": [30], "pause": "6s", "analysis": ANALYSIS}
        new = await roll_out(service, model, wish)
        await followed(service, new, until=["Stepping"])
        (pod,) = await lull.pods(SYSTEM_NAMESPACE, "app.kubernetes.io/name=lull-controller")
        lull.kill(pod["status"]["podIP"], "lull-controller")
        seen = await followed(service, new)
    assert not traffic.failures, traffic.failures
    assert seen.phase == "Promoted", seen
    assert {phase for _, phase, _ in seen.looks} <= {"Stepping", "Promoting", "Promoted"}, seen
    assert {revision_of(answer) for answer in traffic.answers} == {old, new}
    note(f"controller killed within a step: 0 of {len(traffic.answers)} requests failed, and it was promoted")


@pytest.mark.timeout(300)
async def test_users_go_back_skip_steps_and_abort_by_a_word(lull: World) -> None:
    service, old = await serving(lull, "spoken", hosts=2)
    model = lull.put("spoken-2.tar", models.scaling(1.0, 2))
    new = await roll_out(service, model, {"steps": [100]})
    await followed(service, new)
    async with Traffic(loads(service)) as traffic:
        await service.patch(rollout={"steps": [10], "pause": "1h", "analysis": ANALYSIS})
        assert f"spec.model is {old}'s again" in await say("undo", service)
        await followed(service, old, until=["Stepping"])
        watched_until = asyncio.create_task(say("status", service, "--watch", "--timeout", "60s"))
        await say("promote", service)
        await followed(service, old)
        assert f"{old} Promoted" in await watched_until
        assert await roll_out(service, model, {"steps": [10]}) == new
        await followed(service, new, until=["Stepping"])
        await say("abort", service)
        seen = await followed(service, new)
    assert not traffic.failures, traffic.failures
    assert seen.phase == "Aborted", seen
    assert {revision_of(answer) for answer in traffic.answers} == {old, new}


async def say(word: str, service: Service, *options: str) -> str:
    """Run `kubectl lull rollout`, which must be fine with it, and return what it prints."""
    program = Path(sysconfig.get_path("scripts")) / "kubectl-lull"
    command = ["rollout", word, service.name, "-n", service.namespace, *options]
    running = await asyncio.create_subprocess_exec(
        program, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await asyncio.wait_for(running.communicate(), 90)
    assert running.returncode == 0, printed.decode()
    return printed.decode()


@pytest.mark.timeout(300)
async def test_where_there_is_no_room_for_both_what_fails_gives_way_to_the_old_one_again(lull: World) -> None:
    """It is swapped in after half a minute without room; requests wait until the old one is back."""
    service, old = await serving(lull, "narrow", hosts=1)
    model = lull.put("narrow-2.tar", models.raising("on purpose"))
    key = f"{service.namespace}/{service.name}"
    async with watched(lull.kube, {key}) as drains, Traffic(loads(service)) as traffic:
        new = await roll_out(service, model, {"steps": [100], "analysis": ANALYSIS})
        seen = await followed(service, new)
        before = len(of(traffic.answers, old))

        async def back() -> bool:
            return len(of(traffic.answers, old)) > before + 2 * RATE

        await lull.until(back, "the old revision answers again", 60)
    assert not traffic.failures, traffic.failures
    assert seen.phase == "Rejected", seen
    assert "Swapping" in [phase for _, phase, _ in seen.looks], seen
    assert seen.entry["reason"] == "LoadFailed", seen
    assert drains.count, "the old one went first"
    assert {revision_of(answer) for answer in traffic.answers} == {old}
    longest = max(answer.seconds for answer in traffic.answers)
    note(
        f"a swap that failed: 0 of {len(traffic.answers)} requests failed, the longest waited {longest:.1f} s"
    )
