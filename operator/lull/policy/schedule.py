"""When a service's windows are open: by cron and time zone, pure given the time (seconds since the epoch)."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from lull.policy.fleet import Service, Window

_MINUTE_SECONDS = 60
_APART_SECONDS = 2 * 3600
"""More than clocks are ever changed by."""


@dataclass(frozen=True, slots=True)
class Hours:
    """What the windows of a service say of one moment.

    Attributes:
        replicas: kept now at the least.
        opens_at: when the next window opens; None if none ever does.
        closes_at: when the last of the open ones closes, as far as is known now.
        changes_at: when this may be another.
    """

    replicas: int = 0
    opens_at: float | None = None
    closes_at: float | None = None
    changes_at: float | None = None


def hours(service: Service, now: float, lead_seconds: float) -> Hours:
    """Return what a service's windows say, each opened `lead_seconds` early; broken ones say nothing."""
    minute = int(now + lead_seconds) // _MINUTE_SECONDS
    kept = [window for window in service.schedule if not broken(window)]
    around = [(window, *_around(window.cron, window.time_zone, minute)) for window in kept]
    open_now = [(w, last + w.duration_seconds) for w, last, _ in around if now < last + w.duration_seconds]
    opens_at = min((coming for _, _, coming in around), default=None)
    closing = [at for _, at in open_now]
    changes = closing if opens_at is None else [opens_at - lead_seconds, *closing]
    return Hours(
        replicas=max((window.min_replicas for window, _ in open_now), default=0),
        opens_at=opens_at,
        closes_at=max(closing, default=None),
        changes_at=min(changes, default=None),
    )


def trouble(service: Service) -> str | None:
    """Return why a service's schedule cannot be kept; None where it can."""
    for index, window in enumerate(service.schedule):
        if why := broken(window):
            return f"spec.schedule[{index}] {why}; until then this window stays closed"
    return None


@lru_cache(maxsize=4096)
def broken(window: Window) -> str | None:
    """Return what is wrong with a window, and what to do; None where nothing is."""
    try:
        zone = ZoneInfo(window.time_zone)
    except (OSError, ValueError, KeyError):
        return f"names no time zone: {window.time_zone!r}; write an IANA name such as Europe/Berlin"
    try:
        CronSim(window.cron, datetime.fromtimestamp(0, zone))
    except CronSimError as error:
        return f"has a cron that cannot be read: {window.cron!r} ({error}); write one such as 0 8 * * 1-5"
    return None


@lru_cache(maxsize=4096)
def _around(cron: str, time_zone: str, minute: int) -> tuple[float, float]:
    """Return the last opening up to the end of a minute, and the first one after it.

    There are both: CronSim refuses days that never come. Near a change of the clocks it may begin on the
    wrong side, and leave out what is close: so it begins far off, and what comes too early is skipped.
    """
    now = minute * _MINUTE_SECONDS
    zone = ZoneInfo(time_zone)
    later, earlier = (datetime.fromtimestamp(now + sign * _APART_SECONDS, zone) for sign in (1, -1))
    before = (at.timestamp() for at in CronSim(cron, later, reverse=True))
    after = (at.timestamp() for at in CronSim(cron, earlier))
    return next(at for at in before if at <= now), next(at for at in after if at > now)
