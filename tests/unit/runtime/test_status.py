"""The status writer: only changes, at once where somebody waits, never lost."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from lull.kube import ApiError
from lull_runtime.agent.status import StatusWriter


class Api:
    def __init__(self) -> None:
        self.writes: list[tuple[float, dict]] = []
        self.failures = 0

    async def merge_patch(self, resource, name, namespace, body, *, subresource):
        if self.failures:
            self.failures -= 1
            raise ApiError(0, "Unreachable", "no answer")
        assert subresource == "status"
        self.writes.append((time.monotonic(), body["status"]))
        return {}


@asynccontextmanager
async def running(api: Api, status: dict):
    writer = StatusWriter(api, "lull-hosts", "host", lambda: dict(status), nothing, lambda: False)
    task = asyncio.create_task(writer.run())
    yield writer
    task.cancel()


async def nothing() -> None:
    pass


async def written(api: Api, count: int) -> None:
    async with asyncio.timeout(5):
        while len(api.writes) < count:  # noqa: ASYNC110  the writer tells nobody
            await asyncio.sleep(0.001)


async def test_a_change_that_somebody_waits_for_is_written_at_once():
    api, status = Api(), {"n": 1}
    async with running(api, status) as writer:
        started = time.monotonic()
        writer.notify(True)
        await written(api, 1)
        assert api.writes[0][0] - started < 0.03


async def test_changes_that_nobody_waits_for_are_one_write():
    api, status = Api(), {"n": 0}
    async with running(api, status) as writer:
        for n in range(10):
            status["n"] = n
            writer.notify(False)
            await asyncio.sleep(0)
        await written(api, 1)
        assert [body for _, body in api.writes] == [{"n": 9}]


async def test_what_did_not_change_is_not_written():
    api, status = Api(), {"n": 1}
    async with running(api, status) as writer:
        writer.notify(True)
        await written(api, 1)
        writer.notify(True)
        await asyncio.sleep(0.1)
        assert len(api.writes) == 1


async def test_a_write_that_failed_is_made_again_with_what_is_true_by_then():
    api, status = Api(), {"n": 1}
    api.failures = 2
    async with running(api, status) as writer:
        writer.notify(True)
        await asyncio.sleep(0.01)
        status["n"] = 2
        await written(api, 1)
        assert api.writes[0][1] == {"n": 2}


# ── Figures ──


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A writer whose clock the test holds, and whose figures move all the time."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.clock = Clock()
        self.active = False
        self.kept = 0
        self.state = "Ready"
        self.joules = 0
        self.use = {"busyPercent": 10, "queueMilliseconds": 0}
        self.writer = StatusWriter(
            api, "lull-hosts", "host", self.snapshot, self.keep, lambda: self.active, self.clock
        )

    def snapshot(self) -> dict:
        self.joules += 1
        return {
            "models": [
                {
                    "id": "a",
                    "state": self.state,
                    "energy": {"idleJoules": self.joules},
                    "utilization": dict(self.use),
                }
            ],
            "accelerator": {"uuid": "GPU-1", "memoryUsed": f"{self.joules}Mi"},
            "busyPercent": self.joules,
            "energy": {"joules": self.joules},
        }

    async def keep(self) -> None:
        self.kept += 1

    async def after(self, seconds: float) -> int:
        """Let time pass, with many a look; return the writes so far."""
        # A look begins once the write of the one before has ended; one may have been under way already.
        for part in (*[seconds / 10] * 10, 0.0, 0.0):
            self.clock.now += part
            seen = self.joules
            self.writer.notify(True)
            async with asyncio.timeout(5):
                while self.joules == seen:  # noqa: ASYNC110  the writer tells nobody
                    await asyncio.sleep(0.001)
        return len(self.api.writes)


@asynccontextmanager
async def moving(monkeypatch):
    monkeypatch.setattr("lull_runtime.agent.status._LOOK_SECONDS", 0.005)
    world = World(Api())
    task = asyncio.create_task(world.writer.run())
    world.writer.notify(True)
    await written(world.api, 1)
    yield world
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_figures_of_an_active_host_are_written_at_most_once_in_30_s(monkeypatch):
    async with moving(monkeypatch) as world:
        world.active = True
        assert await world.after(29) == 1
        assert await world.after(1.5) == 2
        assert await world.after(29) == 2


@pytest.mark.parametrize("risen", [{"busyPercent": 30}, {"queueMilliseconds": 200}])
async def test_a_model_that_is_asked_much_more_is_told_within_5_s_and_once(monkeypatch, risen):
    async with moving(monkeypatch) as world:
        world.active = True
        world.use |= risen
        assert await world.after(4.5) == 1
        assert await world.after(1) == 2
        assert await world.after(20) == 2
        world.use |= {"busyPercent": 0, "queueMilliseconds": 0}  # that it is less can wait
        assert await world.after(5) == 2


async def test_a_model_that_is_asked_a_little_more_is_told_in_time(monkeypatch):
    async with moving(monkeypatch) as world:
        world.active = True
        world.use |= {"busyPercent": 29, "queueMilliseconds": 199}
        assert await world.after(29) == 1


async def test_that_a_model_is_asked_much_more_is_seen_without_anybody_saying_so(monkeypatch):
    async with moving(monkeypatch) as world:
        world.active = True
        world.use["busyPercent"] = 90
        world.clock.now += 6
        await written(world.api, 2)


async def test_figures_of_a_host_that_is_merely_kept_are_written_at_most_once_in_300_s(monkeypatch):
    async with moving(monkeypatch) as world:
        assert await world.after(299) == 1
        assert await world.after(1.5) == 2


async def test_that_the_last_request_is_long_ago_is_written_within_30_s(monkeypatch):
    async with moving(monkeypatch) as world:
        world.active = True
        await world.after(31)
        world.active = False
        assert await world.after(31) == 3
        assert await world.after(200) == 3


async def test_figures_grow_old_without_anybody_saying_so(monkeypatch):
    async with moving(monkeypatch) as world:
        world.clock.now += 301
        await written(world.api, 2)


async def test_a_change_of_state_is_written_at_once_with_fresh_figures(monkeypatch):
    async with moving(monkeypatch) as world:
        world.state = "Unloading"
        world.writer.notify(True)
        await written(world.api, 2)
        assert world.api.writes[-1][1]["models"][0]["energy"]["idleJoules"] > 1
        assert world.kept == len(world.api.writes)  # what is told is kept too


async def test_a_change_of_state_does_not_wait_for_figures_that_are_due(monkeypatch):
    async with moving(monkeypatch) as world:
        world.clock.now += 301
        await asyncio.sleep(0.02)  # the figures are due, and written meanwhile
        world.state = "Unloading"
        world.writer.notify(True)
        async with asyncio.timeout(5):  # the clock stands still: no figures fall due any more
            while world.api.writes[-1][1]["models"][0]["state"] != "Unloading":  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def test_what_is_no_longer_so_is_taken_away():
    api, status = Api(), {"watts": "7", "accelerator": {"uuid": "G", "memoryUsed": "1Mi"}, "models": []}
    async with running(api, status) as writer:
        writer.notify(True)
        await written(api, 1)
        status.clear()
        status.update(accelerator={"uuid": "G"}, models=[], conditions=[])
        writer.notify(True)
        await written(api, 2)
        assert api.writes[1][1] == {
            "watts": None,
            "accelerator": {"uuid": "G", "memoryUsed": None},
            "models": [],
            "conditions": [],
        }


async def test_what_an_agent_before_left_there_is_taken_away():
    api, status = Api(), {"address": "127.0.0.1"}
    async with running(api, status) as writer:
        writer.saw({"address": "127.0.0.1", "energy": {"joules": 1}})
        writer.notify(True)
        await written(api, 1)
        assert api.writes[0][1] == {"address": "127.0.0.1", "energy": None}


async def test_a_status_that_somebody_emptied_is_written_again():
    api, status = Api(), {"address": "127.0.0.1"}
    async with running(api, status) as writer:
        writer.notify(True)
        await written(api, 1)
        writer.saw(None)
        await written(api, 2)
        assert api.writes[1][1] == status


async def test_told_returns_once_what_is_true_is_written(monkeypatch):
    async with moving(monkeypatch) as world:
        before = world.joules
        await world.writer.told()
        assert world.api.writes[-1][1]["energy"]["joules"] > before


async def test_told_does_not_wait_for_ever_for_an_api_server_that_is_gone(monkeypatch):
    monkeypatch.setattr("lull_runtime.agent.status._TOLD_SECONDS", 0.05)
    async with moving(monkeypatch) as world:
        world.api.failures = 1000
        await world.writer.told()
        assert len(world.api.writes) == 1


async def test_the_last_figures_are_written_at_the_end():
    api = Api()
    world = World(api)
    await world.writer.close()
    await world.writer.close()
    assert [body["energy"]["joules"] for _, body in api.writes] == [1, 2]
