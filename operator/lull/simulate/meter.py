"""Counts what a run keeps, draws and delays; every policy is counted by the same meter."""

from collections import defaultdict
from collections.abc import Sequence

from lull.api.names import DELAYED_SECONDS
from lull.policy.prices import LOAD_BUSY
from lull.simulate.outcome import Delays, Outcome, Steps
from lull.simulate.setting import HOLD_SECONDS, SECONDS_PER_HOUR, Setting
from lull.simulate.trace import Trace


class Meter:
    """Takes in what happens, in the order of time, and sums it up. All times in virtual seconds.

    A host is put where a careful scheduler would put it: on the fullest node in use that has room.
    """

    def __init__(self, trace: Trace, setting: Setting) -> None:
        self._setting = setting
        self._load_seconds = [setting.load_seconds_of(model.key) for model in trace.models]
        self._batches = [(0.0, 0.0)] * len(trace.models)
        self._nodes: dict[str, str] = {}
        self._hosts_of: defaultdict[str, int] = defaultdict(int)
        self._made = 0
        self._kept: list[tuple[float, int]] = []
        self._on: list[tuple[float, int]] = []
        self._busy: list[tuple[float, int]] = []
        self._delays: list[float] = []
        self._requests = self._dropped = self._loads = self._moves = 0
        self._loading = 0.0

    def host_kept(self, host: str, at: float) -> str:
        """Keep a GPU for a host from now on, from the wish for it; return the node that it is on."""
        room = [node for node, hosts in self._hosts_of.items() if 0 < hosts < self._setting.gpus_per_node]
        if room:
            node = max(room, key=lambda node: (self._hosts_of[node], node))
        else:
            self._made += 1
            node = f"node-{self._made}"
            self._on.append((at, 1))
        self._nodes[host] = node
        self._hosts_of[node] += 1
        self._kept.append((at, 1))
        return node

    def host_gone(self, host: str, at: float) -> None:
        """Give the GPU of a host back, and its node if it was the last on it."""
        node = self._nodes.pop(host)
        self._hosts_of[node] -= 1
        self._kept.append((at, -1))
        if not self._hosts_of[node]:
            del self._hosts_of[node]
            self._on.append((at, -1))

    def loaded(self, model: int, *, moved: bool = False) -> None:
        """Count a load of a model that begins; `moved`: while it is loaded on another host."""
        self._loads += 1
        self._moves += moved
        self._loading += self._load_seconds[model]

    def served(self, model: int, arrived: float, began: float, ended: float) -> None:
        """Count a request that computed from `began` to `ended`; a model's come in the order of `began`.

        One that would have waited longer than `hold.timeout` was dropped by then.
        """
        waited = began - arrived
        if waited > HOLD_SECONDS:
            self.dropped()
            return
        self._requests += 1
        if waited > DELAYED_SECONDS:
            self._delays.append(waited)
        since, until = self._batches[model]
        if began <= until:
            self._batches[model] = (since, max(until, ended))
        else:
            self._busy += ((since, 1), (until, -1))
            self._batches[model] = (began, ended)

    def dropped(self) -> None:
        """Count a request that waited for all of `hold.timeout`, and never computed."""
        self._requests += 1
        self._dropped += 1
        self._delays.append(HOLD_SECONDS)

    def outcome(self, policy: str, end: float) -> Outcome:
        """Return the sums up to `end`; what is still kept is kept until then."""
        setting = self._setting
        power = setting.power
        computed = [*self._busy, *(step for a, b in self._batches for step in ((a, 1), (b, -1)))]
        kept, nodes, busy = _curve(self._kept, end), _curve(self._on, end), _curve(computed, end)
        if setting.nodes == "fixed":
            nodes = [(0.0, max((count for _, count in nodes), default=0))]
        host_hours, node_hours, busy_hours = (_hours(curve, end) for curve in (kept, nodes, busy))
        dynamic_watts = power.max_watts - power.idle_watts - power.context_watts
        return Outcome(
            policy=policy,
            requests=self._requests,
            delayed=len(self._delays),
            delay_seconds=_percentiles(sorted(self._delays)),
            dropped=self._dropped,
            host_hours=host_hours,
            node_hours=node_hours,
            idle_wh=node_hours * (setting.gpus_per_node * power.idle_watts + power.node_watts),
            context_wh=host_hours * power.context_watts,
            dynamic_wh=busy_hours * dynamic_watts,
            load_wh=self._loading / SECONDS_PER_HOUR * LOAD_BUSY * dynamic_watts,
            moves=self._moves,
            loads=self._loads,
            kept=kept,
            busy=busy,
        )


def _curve(steps: Sequence[tuple[float, int]], end: float) -> Steps:
    """Return how many there are from each moment on, up to `end`."""
    curve: list[tuple[float, int]] = []
    count = 0
    for at, step in sorted(steps):
        if at >= end:
            break
        count += step
        if curve and curve[-1][0] == at:
            curve[-1] = (at, count)
        else:
            curve.append((at, count))
    return curve


def _hours(curve: Steps, end: float) -> float:
    """Return the integral of a curve up to `end`, in hours."""
    ends = [at for at, _ in curve[1:]] + [end]
    return (
        sum(count * (until - at) for (at, count), until in zip(curve, ends, strict=False)) / SECONDS_PER_HOUR
    )


def _percentiles(delays: Sequence[float]) -> Delays:
    """Return the delays that so many percent of `delays`, sorted, do not exceed (nearest rank)."""
    if not delays:
        return Delays()
    p50, p95, p99 = (delays[-(-len(delays) * percent // 100) - 1] for percent in (50, 95, 99))
    return Delays(p50, p95, p99, delays[-1])
