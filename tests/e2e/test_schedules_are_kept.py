"""A model whose users come by the clock is there when they do, and sleeps when they have gone."""

import time
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from e2e.world import World

OPEN_SECONDS = 15
ZONE = "Asia/Kolkata"  # half an hour beside the others
LEAST_AHEAD_SECONDS = 20


async def test_a_model_serves_when_its_window_opens_and_sleeps_when_it_has_closed(lull: World) -> None:
    await lull.pool("hours", emptyAfter="2s")
    opens = datetime.now(ZoneInfo(ZONE)) + timedelta(seconds=LEAST_AHEAD_SECONDS + 60)
    opens = opens.replace(second=0, microsecond=0)
    window = {"cron": f"{opens:%M %H} * * *", "timeZone": ZONE, "duration": f"{OPEN_SECONDS}s"}
    service = await lull.service(
        "by-the-clock", lull.publish(), pool="hours", schedule=[window], idleAfter="1s"
    )
    await service.wait("Serving", opens.timestamp() - time.time())
    step = (await service.get())["status"]["next"]
    assert step["action"] == "Stay"
    assert datetime.fromisoformat(step["time"]) == opens + timedelta(seconds=OPEN_SECONDS)
    await service.wait("Asleep", opens.timestamp() - time.time() + OPEN_SECONDS + 30)
    assert time.time() >= opens.timestamp() + OPEN_SECONDS
    step = (await service.get())["status"]["next"]
    assert (step["action"], datetime.fromisoformat(step["time"])) == ("Wake", opens + timedelta(days=1))
    await service.delete()
