"""The status writer: only changes, at once where somebody waits, never lost."""

import asyncio
import time
from contextlib import asynccontextmanager

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
