"""What timeouts can do: the sketch that a careful admin might write, and timeouts told in hindsight.

The sketch keeps one host a tenant, with the models used last in its memory, for a fixed time after the last
request, and reloads them all when it wakes. Nobody ships it. It is here as what Lull has to beat, and, with
each tenant's best timeout told in hindsight, as what can be had at all by who does not know when the next
request comes.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

from lull.api.names import DELAYED_SECONDS
from lull.simulate.setting import SECONDS_PER_HOUR, Setting
from lull.simulate.trace import Trace

CHOICES_SECONDS = (
    0,
    30,
    60,
    90,
    120,
    180,
    240,
    300,
    420,
    600,
    900,
    1200,
    1800,
    2700,
    3600,
    7200,
    14_400,
    40_000,
)


@dataclass(frozen=True, slots=True)
class Point:
    """What was kept, and which share was delayed for it."""

    name: str
    host_hours: float
    delayed_fraction: float


@dataclass(slots=True)
class _Host:
    """A tenant's host. `ready` is when each of its models is loaded, those used least recently first."""

    setting: Setting
    capacity: int
    ready: dict[int, float] = field(default_factory=dict)

    def begin(self, model: int, now: float) -> float:
        """Start it, and load a model and then what was in its memory; return when the model is ready."""
        others = [m for m in reversed(self.ready) if m != model][: self.capacity - 1]
        self.ready = dict.fromkeys([*reversed(others), model], inf)
        self._queue(now + self.setting.host_start_seconds, [model, *others])
        return self.ready[model]

    def ask(self, model: int, now: float) -> float:
        """Return when a model is ready; one that is not being loaded yet is loaded before all others."""
        if model not in self.ready and len(self.ready) == self.capacity:
            del self.ready[next(iter(self.ready))]
        self.ready[model] = self.ready.pop(model, inf)
        waits = {m: at for m, at in self.ready.items() if at - self.setting.load_seconds > now}
        if model in waits:
            loading = (at for m, at in self.ready.items() if m not in waits)
            first = min(waits.values()) - self.setting.load_seconds  # a host that starts loads nothing yet
            begins = max(now, *loading, first if first < inf else now)
            self._queue(begins, sorted(waits, key=lambda m: (m != model, waits[m])))
        return self.ready[model]

    def _queue(self, at: float, models: Iterable[int]) -> None:
        for model in models:
            at += self.setting.load_seconds
            self.ready[model] = at


def one_timeout(trace: Trace, setting: Setting, seconds: float) -> Point:
    """Run the sketch with one timeout for all tenants; all models are of one size."""
    runs = [_sketch(requests, trace, setting, seconds) for requests in _tenants(trace)]
    return _point(f"a sketch with {seconds:g} s", trace, runs)


def hindsight(trace: Trace, setting: Setting, price_seconds: float) -> Point:
    """Run the sketch with the timeout for each tenant that was best for it, at a price of a delay."""
    runs = [
        min(
            (_sketch(requests, trace, setting, seconds) for seconds in CHOICES_SECONDS),
            key=lambda run: run[0] + price_seconds * run[1],
        )
        for requests in _tenants(trace)
    ]
    return _point(f"best timeouts at {price_seconds:g} s a delay", trace, runs)


def _point(name: str, trace: Trace, runs: Sequence[tuple[float, int]]) -> Point:
    kept, delayed = (sum(column) for column in zip(*runs, strict=True))
    return Point(name, kept / SECONDS_PER_HOUR, delayed / len(trace.model))


def _tenants(trace: Trace) -> list[list[int]]:
    """Return the requests of each tenant."""
    tenants: defaultdict[str, list[int]] = defaultdict(list)
    for request, model in enumerate(trace.model):
        tenants[trace.models[model].tenant].append(request)
    return list(tenants.values())


def _sketch(
    requests: Iterable[int], trace: Trace, setting: Setting, timeout_seconds: float
) -> tuple[float, int]:
    """Return how long one tenant's host is kept, in seconds, and how many requests are delayed."""
    host = _Host(setting, setting.gpu_memory_bytes // trace.models[0].memory_bytes)
    kept, delayed, begun, until = 0.0, 0, 0.0, 0.0
    for request in requests:
        at, model = trace.at_seconds[request], trace.model[request]
        if at >= until:
            kept += until - begun
            begun, ready = at, host.begin(model, at)
        else:
            ready = host.ask(model, at)
        delayed += ready > at + DELAYED_SECONDS
        until = max(until, max(at, ready) + trace.duration_seconds[request] + timeout_seconds)
    return kept + min(until, trace.length_seconds) - begun, delayed
