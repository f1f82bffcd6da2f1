"""Carbon intensity of each pool's energy: its own number, or a ConfigMap that changes by the hour.

The ConfigMap is in lull-system, in the form that the Carbon-Aware KEDA operator reads and the Kubernetes
carbon intensity exporter writes: `binaryData.data` holds a JSON list of `{timestamp, duration, value}`, in
minutes and grams of CO2 equivalent per kilowatt-hour.
"""

import asyncio
import base64
import json
import logging
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from lull.api.names import SYSTEM_NAMESPACE
from lull.controller.clock import Clock
from lull.controller.view import View
from lull.controller.wire import Object
from lull.kube import CONFIGMAPS, MODELPOOLS, ApiError, Kube
from lull.policy.energy import milligrams_per_joule

log = logging.getLogger(__name__)

POLL_SECONDS = 60.0
KEY = "data"
"""Of the ConfigMap's binaryData, as the exporter writes it."""
MOST_FORECASTS = 10_000


@dataclass(frozen=True, slots=True)
class Forecast:
    """Grams of CO2 equivalent per kilowatt-hour, between two times in seconds since the epoch."""

    begin: float
    end: float
    grams_per_kilowatt_hour: float


@dataclass(frozen=True, slots=True)
class Intensity:
    """What a joule of a pool emits now; None where that is unknown. `trouble`: why it is not as asked for."""

    milligrams_per_joule: float | None
    trouble: tuple[str, str] | None = None


class Carbon:
    """Knows the intensity of every pool; asks for each ConfigMap at most once a minute."""

    def __init__(self, kube: Kube, view: View, clock: Clock) -> None:
        self._kube = kube
        self._view = view
        self._clock = clock
        self._forecasts: dict[str, tuple[Forecast, ...] | str] = {}

    async def run(self) -> None:
        """Read the ConfigMaps that pools name again and again until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.read()

    async def read(self) -> None:
        """Read them once. What was read of one before stays where it cannot be had."""
        names = {name for pool in self._view.raw[MODELPOOLS].values() if (name := _map_name(pool))}
        self._forecasts = {name: self._forecasts[name] for name in names if name in self._forecasts}
        for name in sorted(names):
            try:
                item = await self._kube.get(CONFIGMAPS, name, SYSTEM_NAMESPACE)
            except ApiError as error:
                log.warning("the ConfigMap %s of carbon intensities was not read: %s", name, error)
                self._forecasts.setdefault(name, f"it was not read: {error}")
                continue
            self._forecasts[name] = forecasts_from(item)

    def of(self, pool: Object) -> Intensity:
        """Return the intensity of a ModelPool's energy now, its PUE included."""
        carbon = pool["spec"].get("carbon") or {}
        pue = carbon.get("puePercent", 100) / 100
        own = carbon.get("gramsPerKilowattHour")
        grams, trouble = own, None
        if name := _map_name(pool):
            told = self._now(name)
            if isinstance(told, str):
                trouble = _trouble(name, told, own)
            else:
                grams = told
        return Intensity(None if grams is None else milligrams_per_joule(grams, pue), trouble)

    def _now(self, name: str) -> float | str:
        """Return what a ConfigMap says of this moment, or why it says nothing."""
        told = self._forecasts.get(name, "it was not read yet")
        if isinstance(told, str):
            return told
        now = self._clock()
        begun = bisect_right(told, now, key=lambda forecast: forecast.begin)
        if begun and now < told[begun - 1].end:
            return told[begun - 1].grams_per_kilowatt_hour
        return "it has no entry for the present time; see whether its exporter runs"


def forecasts_from(item: Object | None) -> tuple[Forecast, ...] | str:
    """Read a ConfigMap of carbon intensities, in order of time; returns in words why it cannot be read."""
    if item is None:
        return f"there is no such ConfigMap in {SYSTEM_NAMESPACE}; create it, or correct spec.carbon"
    try:
        binary = (item.get("binaryData") or {}).get(KEY)
        text = base64.b64decode(binary, validate=True) if binary else (item.get("data") or {})[KEY]
        entries = json.loads(text)
        if not isinstance(entries, list) or len(entries) > MOST_FORECASTS:
            return f"its key {KEY} holds no list of at most {MOST_FORECASTS} entries"
        return tuple(sorted((_forecast(entry) for entry in entries), key=lambda forecast: forecast.begin))
    except KeyError as error:
        return f"it lacks {error}; its key {KEY} is a JSON list of {{timestamp, duration, value}}"
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        return f"its key {KEY} cannot be read: {error}"


def _forecast(entry: Mapping[str, object]) -> Forecast:
    begun = datetime.fromisoformat(str(entry["timestamp"]))
    if begun.tzinfo is None:
        raise ValueError(f"the timestamp {entry['timestamp']} has no time zone")
    minutes, grams = float(str(entry["duration"])), float(str(entry["value"]))
    if not (0 < minutes < 1e6 and 0 <= grams < 1e6):
        raise ValueError(f"duration {minutes} and value {grams} are no minutes and grams per kilowatt-hour")
    return Forecast(begun.timestamp(), begun.timestamp() + 60 * minutes, grams)


def _map_name(pool: Object) -> str | None:
    name = (pool["spec"].get("carbon") or {}).get("configMapName")
    return str(name) if name else None


def _trouble(name: str, why: str, own: int | None) -> tuple[str, str]:
    instead = f"{own} g/kWh of spec.carbon is taken" if own is not None else "carbon is not counted meanwhile"
    return "ConfigMapNotUsable", f"ConfigMap {name}: {why}; {instead}"
