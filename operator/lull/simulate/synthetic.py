"""A made-up trace with the habits of a real one: 23 days of 87 image models.

Of that trace only figures are published: about 27,000 requests; gaps within a model of 71 s at the
median, 1,304 s at the 90th and 87,099 s at the 99th percentile; a few hot models, and 76 of 87 under one
request an hour. The shape here is ours, its constants were fitted to these figures: people ask a model
in sessions, quickly one after another, and come back after a silence that may last minutes or weeks; less
so at night. With other numbers of days, models and requests the shape stays and the figures move.
"""

from __future__ import annotations  # array takes no parameter at run time before Python 3.12

from array import array

import numpy as np
from numpy.typing import NDArray

from lull.simulate.setting import GIB
from lull.simulate.trace import Trace, TracedModel

ABOUT = (
    "The trace is made up: how often models are asked follows figures published of such a fleet; sizes and "
    "durations are assumed."
)
_DAY_SECONDS = 86_400.0

_POPULARITY_SHIFT, _POPULARITY_EXPONENT = 2.0, 1.3
"""Requests fall off with the rank of a model as (rank + shift) ** -exponent (Zipf and Mandelbrot)."""
_SESSION_REQUESTS = 5.5
"""Mean requests of a session; geometric."""
_GAP_MEDIAN_SECONDS, _GAP_SPREAD = 70.0, 1.3
"""Gaps within a session: lognormal."""
_SILENCE_SPREAD = 1.7
"""Silences between sessions: lognormal, of a scale that lets a model's sessions span its days in use."""
_LEAST_USE = 0.35
"""A model is in use for between this share and all of the time: models come and go."""
_DAY_RHYTHM = 0.7
"""Sessions at noon are up to 1.7 and at midnight down to 0.3 times as frequent as on average."""
_DURATION_MEDIAN_SECONDS, _DURATION_SPREAD, _MODEL_SPREAD = 1.0, 0.3, 0.4
"""Durations: lognormal around a median of the model's own, which is lognormal too."""

Floats = NDArray[np.float64]


def synthetic(
    seed: int,
    *,
    tenants: int = 1,
    memory_bytes: int = 8 * GIB,
    days: float = 23.0,
    models: int = 87,
    requests: int = 27_000,
) -> Trace:
    """Return exactly `requests` requests of `models` models over `days` days; equal seeds, equal traces.

    Model 0 is the most popular. Models are dealt round robin to tenants: `tenant-2/model-17`.

    Raises:
        ValueError: without a tenant, a model, a request for each model, or time.
    """
    if min(tenants, models) < 1 or requests < models or days <= 0:
        raise ValueError(
            "a synthetic trace needs at least one tenant, one model, one request a model, and some time; "
            f"these were {tenants} tenants, {models} models, {requests} requests, {days} days"
        )
    random = np.random.default_rng(seed)
    length = days * _DAY_SECONDS
    counts = _shares(models, requests)
    arrivals = [_arrivals(random, int(count), length) for count in counts]
    medians = _DURATION_MEDIAN_SECONDS * random.lognormal(0.0, _MODEL_SPREAD, models)
    model = np.repeat(np.arange(models), counts)
    durations = medians[model] * random.lognormal(0.0, _DURATION_SPREAD, requests)
    at = np.concatenate(arrivals)
    order = np.argsort(at, kind="stable")
    return Trace(
        name=f"synthetic-{seed}",
        models=[TracedModel(f"tenant-{i % tenants}/model-{i}", memory_bytes) for i in range(models)],
        at_seconds=array("d", at[order].tolist()),
        model=array("l", model[order].tolist()),
        duration_seconds=array("d", durations[order].tolist()),
        length_seconds=length,
        about=ABOUT,
    )


def _shares(models: int, requests: int) -> NDArray[np.int64]:
    """Requests of each model, most popular first: at least one each, and all of them together."""
    weights = (np.arange(models) + 1 + _POPULARITY_SHIFT) ** -_POPULARITY_EXPONENT
    ends = np.cumsum(weights) / weights.sum() * (requests - models)
    counts: NDArray[np.int64] = 1 + np.diff(np.rint(ends), prepend=0).astype(np.int64)
    return counts


def _arrivals(random: np.random.Generator, count: int, length: float) -> Floats:
    """When one model is asked: `count` times, in sessions, all within `length` seconds."""
    sizes = random.geometric(1 / _SESSION_REQUESTS, count)
    session = np.repeat(np.arange(count), sizes)[:count]
    sessions = session[-1] + 1
    silences = random.lognormal(0.0, _SILENCE_SPREAD, sessions + 1)
    use = random.uniform(_LEAST_USE, 1.0)
    spread = random.uniform(0.0, 1.0 - use) + use * np.cumsum(silences)[:-1] / silences.sum()
    starts = _by_day(spread * length, length)
    since = np.cumsum(_GAP_MEDIAN_SECONDS * random.lognormal(0.0, _GAP_SPREAD, count))
    first = np.searchsorted(session, np.arange(sessions))
    at: Floats = starts[session] + since - since[first][session]
    return at % length  # a session at the end goes on at the beginning, so that no request is lost


def _by_day(even: Floats, length: float) -> Floats:
    """Move times that know no day so that they thin out at night: the inverse of the summed-up rhythm."""
    grid = np.linspace(0.0, length, max(2, int(length / 600)))
    turn = 2 * np.pi / _DAY_SECONDS
    summed = grid - _DAY_RHYTHM / turn * np.sin(turn * grid)  # of 1 - rhythm * cos: least at midnight
    moved: Floats = np.interp(even * summed[-1] / length, summed, grid)
    return moved
