"""The world that Lull's policy sees in virtual time: the API, the machines beneath it, and one gateway."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from lull.policy import (
    Change,
    CreateHost,
    DeleteHost,
    Fleet,
    Gateway,
    Host,
    Model,
    Placement,
    Pod,
    Pool,
    Report,
    Service,
    SetModels,
    State,
)
from lull.policy.fleet import Count
from lull.simulate.agent import Agent, Copy
from lull.simulate.meter import Meter
from lull.simulate.setting import DELAYED_SECONDS, HOLD_SECONDS, Setting
from lull.simulate.timeline import Timeline
from lull.simulate.trace import Trace

POOL = "gpu"
HOP_SECONDS = 0.03
"""Assumed: how long a write takes to reach who acts on it, by measurements of the local cluster."""
HEARTBEAT_SECONDS = 5.0
"""How often a gateway says that it lives."""
FIGURES_SECONDS = 30.0
"""How old the figures of a quiet fleet may be: the controller plans at least that often."""
ENOUGH_HOSTS = 10_000
"""The simulated cluster is never short of hosts: it is asked how many are kept, not how many there are."""


@dataclass(slots=True)
class Machine:
    """What stands behind one ModelHost."""

    agent: Agent
    running: bool = False
    written: bool = False
    """A write of its ModelHost is under way: it takes no other one meanwhile."""


class World:
    """Everybody but the policy.

    `hosts` is what the controller sees, its own writes at once, as the real one does: agents and the gateway
    see those a hop later.
    """

    def __init__(
        self,
        trace: Trace,
        setting: Setting,
        timeline: Timeline,
        meter: Meter,
        *,
        on_change: Callable[[], None],
    ) -> None:
        """Begin with services that are asleep, and no host.

        Args:
            trace: whose models there are.
            setting: what hosts are.
            timeline: virtual time.
            meter: told of what happens.
            on_change: called when something has changed that the policy sees.
        """
        self._setting, self._timeline, self._meter = setting, timeline, meter
        self._on_change = on_change
        self._keys = [model.key for model in trace.models]
        self._index = {key: index for index, key in enumerate(self._keys)}
        self._services = {
            model.key: _service(model.key, model.memory_bytes, setting) for model in trace.models
        }
        tenants = {model.tenant for model in trace.models}
        self._pools = {POOL: _pool(setting, namespaced=len(tenants) > 1)}
        self._counts: dict[str, Count] = {}
        self._hosts: dict[str, Host] = {}
        self._machines: dict[str, Machine] = {}
        self._routes: dict[str, dict[str, tuple[Agent, Copy]]] = {key: {} for key in self._keys}
        self._claimed: set[str] = set()
        self._held: dict[str, list[tuple[float, float]]] = {}
        self._looks = 0
        self._figures_due = False

    @property
    def holding(self) -> bool:
        """Whether requests are held."""
        return bool(self._held)

    @property
    def hosts(self) -> Mapping[str, Host]:
        """The hosts there are, as the controller sees them."""
        return self._hosts

    def fleet(self) -> Fleet:
        """Return what the policy sees now."""
        self._looks += 1
        beat = str(int(self._timeline.now // HEARTBEAT_SECONDS)) if self._held else ""
        gateway = Gateway("gateway", beat, frozenset(self._held), frozenset(self._claimed))
        return Fleet(
            self._services,
            self._pools,
            dict(self._hosts),
            {gateway.name: gateway},
            f"{self._setting.seed}/{self._looks}",
            dict(self._counts),
        )

    def arrive(self, model: int, duration: float) -> None:
        """Let a request come: it is served at once where its model is routed, and held elsewhere."""
        key = self._keys[model]
        now = self._timeline.now
        if self._routes[key]:
            self._serve(key, now, duration)
        elif key in self._held:
            self._held[key].append((now, duration))
        else:
            self._held[key] = [(now, duration)]
            self._timeline.at(now + HOLD_SECONDS, partial(self._drop, key))
            self._on_change()

    def write(self, changes: Iterable[Change]) -> None:
        """Write changes; a host that is being written takes none, and is decided on again after that."""
        for change in changes:
            machine = self._machines.get(change.host)
            if machine is None or not machine.written:
                self._write_one(change)

    # The API.

    def _write_one(self, change: Change) -> None:
        name = change.host
        host = self._hosts.get(name)
        if isinstance(change, CreateHost):
            node = self._meter.host_kept(name, self._timeline.now)
            self._hosts[name] = Host(name, change.pool, change.placements, pod=Pod.STARTING, node=node)
            self._machines[name] = Machine(
                Agent(
                    self._timeline,
                    load=partial(self._begin_load, name),
                    on_change=partial(self._report, name),
                )
            )
            self._timeline.at(
                self._timeline.now + self._setting.host_start_seconds, partial(self._start, name)
            )
        elif isinstance(change, DeleteHost):
            self._delete(name)
        elif isinstance(change, SetModels) and host:
            self._hosts[name] = replace(host, placements=change.after)
        self._spread(name)

    def _spread(self, name: str) -> None:
        """Let a write reach the others a hop later."""
        machine = self._machines.get(name)
        if machine:
            machine.written = True
        self._timeline.at(self._timeline.now + HOP_SECONDS, partial(self._see, name))

    def _see(self, name: str) -> None:
        machine = self._machines.get(name)
        if machine:
            machine.written = False
            if machine.running:
                machine.agent.want(self._hosts[name].placements)
        self._on_change()

    def _delete(self, name: str) -> None:
        self._meter.host_gone(name, self._timeline.now)
        for placement in self._hosts[name].placements:
            self._routes[placement.service].pop(placement.id, None)
        del self._hosts[name], self._machines[name]

    # The kubelet and the agent.

    def _start(self, name: str) -> None:
        machine = self._machines.get(name)
        if machine is None:
            return
        machine.running = True
        self._hosts[name] = replace(self._hosts[name], pod=Pod.RUNNING)
        machine.agent.want(self._hosts[name].placements)

    def _begin_load(self, name: str, placement: Placement) -> float:
        elsewhere = (
            p.service == placement.service and host.says(p, Report.READY)
            for host in self._hosts.values()
            if host.name != name
            for p in host.placements
        )
        self._meter.loaded(self._index[placement.service], moved=any(elsewhere))
        return self._setting.load_seconds_of(placement.service)

    def _report(self, name: str) -> None:
        """Write an agent's status; of a host that is gone there is none."""
        machine = self._machines.get(name)
        if machine is None:
            return
        reports = machine.agent.reports()
        if reports != self._hosts[name].reports:
            self._hosts[name] = replace(self._hosts[name], reports=reports)
        self._route(name)
        self._on_change()

    def _publish(self) -> None:
        """Let the figures of the last requests be seen."""
        self._figures_due = False
        self._on_change()

    # The gateway.

    def _route(self, name: str) -> None:
        """Route to what is loaded and ready on a host, and let go of what drains."""
        agent = self._machines[name].agent
        loaded = {p.id for p in self._hosts[name].placements if p.state is State.LOADED}
        for id_, copy in agent.copies.items():
            routes = self._routes[copy.placement.service]
            if id_ in loaded and copy.state is Report.READY:
                routes[id_] = (agent, copy)
                self._release(copy.placement.service)
            else:
                routes.pop(id_, None)
        for placement in self._hosts[name].placements:
            if placement.state is State.DRAINING and placement.claim not in self._claimed:
                copy_or_none = agent.copies.get(placement.id)
                ends = max(self._timeline.now, copy_or_none.busy_until if copy_or_none else 0.0)
                self._timeline.at(ends + HOP_SECONDS, partial(self._claim, placement))

    def _claim(self, placement: Placement) -> None:
        """Say that no request can reach a placement, and forget the claims for what drains no more."""
        draining = {p.claim for h in self._hosts.values() for p in h.placements if p.state is State.DRAINING}
        claimed = (self._claimed | {placement.claim}) & draining
        if self._claimed != claimed:
            self._claimed = claimed
            self._on_change()

    def _release(self, key: str) -> None:
        """Serve what was held for a service that is routed now."""
        for arrived, duration in self._held.pop(key, ()):
            self._serve(key, arrived, duration)

    def _serve(self, key: str, arrived: float, duration: float) -> None:
        now = self._timeline.now
        agent, copy = min(self._routes[key].values(), key=lambda route: route[1].busy_until)
        self._meter.served(self._index[key], arrived, now, now + duration)
        self._count(key, delayed=now - arrived > DELAYED_SECONDS)
        agent.use(copy, now + duration)

    def _drop(self, key: str) -> None:
        """Give up what was held for too long."""
        held = self._held.get(key, [])
        kept = [(at, duration) for at, duration in held if self._timeline.now < at + HOLD_SECONDS]
        if len(kept) == len(held):
            return
        for _ in range(len(held) - len(kept)):
            self._meter.dropped()
            self._count(key, delayed=True)
        if kept:
            self._held[key] = kept
            self._timeline.at(kept[0][0] + HOLD_SECONDS, partial(self._drop, key))
        else:
            del self._held[key]
            self._on_change()

    def _count(self, key: str, *, delayed: bool) -> None:
        count = self._counts.get(key, Count())
        self._counts[key] = Count(count.requests + 1, count.delayed + delayed)
        if not self._figures_due:
            self._figures_due = True
            self._timeline.at(self._timeline.now + FIGURES_SECONDS, self._publish)


def _service(key: str, memory_bytes: int, setting: Setting) -> Service:
    model = Model("1", key.partition("/")[2], f"simulated:{key}")
    return Service(
        key,
        model,
        POOL,
        memory_bytes=memory_bytes,
        measured_bytes=memory_bytes,
        code=False,
        delayed_percent=setting.delayed_percent,
    )


def _pool(setting: Setting, *, namespaced: bool) -> Pool:
    power = replace(setting.power, node_watts=setting.power.node_watts / setting.gpus_per_node)
    return Pool(POOL, setting.gpu_memory_bytes, ENOUGH_HOSTS, namespaced=namespaced, profile=power)
