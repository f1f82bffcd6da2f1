"""The world that Lull's policy sees in virtual time: the API, and the machines beneath it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from lull.policy import (
    Change,
    CreateHost,
    DeleteHost,
    Fleet,
    Host,
    Model,
    Placement,
    Pod,
    Pool,
    Report,
    Reported,
    Service,
    SetModels,
)
from lull.policy.changes import Vacate
from lull.policy.fleet import Count
from lull.simulate.agent import Agent
from lull.simulate.meter import Meter
from lull.simulate.pilot import Pilot
from lull.simulate.record import HOP_SECONDS
from lull.simulate.setting import Setting
from lull.simulate.timeline import Timeline
from lull.simulate.trace import Trace

POOL = "gpu"
FIGURES_SECONDS = 30.0
"""How often figures are told while somebody is asked: busy shares are those of twice this time."""
ENOUGH_HOSTS = 10_000
"""The simulated cluster is never short of hosts: it is asked how many are kept, not how many there are."""


@dataclass(slots=True)
class Machine:
    """What stands behind one ModelHost."""

    agent: Agent
    running: bool = False
    written: bool = False
    """A write of its ModelHost is under way: it takes no other one meanwhile."""
    sent: Mapping[str, Reported] = field(default_factory=dict)
    """What its agent wrote last."""


class World:
    """Everybody but the policy.

    `hosts` is what the controller sees, its own writes at once, as the real one does: agents and the gateway
    see those a hop later, and it what these write. So it is with how many requests there were: agents count
    the answered ones and tell them with what they write anyway, the gateway those that it held. A Pod that is
    let go is gone at once.
    """

    def __init__(
        self,
        trace: Trace,
        setting: Setting,
        timeline: Timeline,
        meter: Meter,
        *,
        on_change: Callable[[], None],
        on_figures: Callable[[], None],
    ) -> None:
        """Begin with services that are asleep, and no host.

        Args:
            trace: whose models there are.
            setting: what hosts are.
            timeline: virtual time.
            meter: told of what happens.
            on_change: called when something has changed that the policy sees.
            on_figures: called when there are other figures alone, for which nobody decides anew at once.
        """
        self._setting, self._timeline, self._meter = setting, timeline, meter
        self._on_change, self._on_figures = on_change, on_figures
        self._index = {model.key: index for index, model in enumerate(trace.models)}
        self._services = {
            model.key: _service(model.key, model.memory_bytes, setting) for model in trace.models
        }
        tenants = {model.tenant for model in trace.models}
        self._pools = {POOL: _pool(setting, namespaced=len(tenants) > 1)}
        self._machines: dict[str, Machine] = {}
        self._looks = 0
        self._figures_due = False
        self._answered: Counter[str] = Counter()
        self._counts: dict[str, Count] = {}
        self.hosts: dict[str, Host] = {}
        self.pilot = Pilot(
            trace.models,
            timeline,
            meter,
            on_demands=partial(self._gateway_told, on_change),
            on_figures=partial(self._gateway_told, on_figures),
            on_use=self._publish_soon,
        )

    def fleet(self) -> Fleet:
        """Return what the policy sees now."""
        self._looks += 1
        gateway = self.pilot.record.told.gateway
        return Fleet(
            self._services,
            self._pools,
            dict(self.hosts),
            {gateway.name: gateway},
            f"{self._setting.seed}/{self._looks}",
            dict(self._counts),
        )

    @property
    def demanded(self) -> bool:
        """Whether the controller knows of requests that are held."""
        return bool(self.pilot.record.told.gateway.held)

    def write(self, changes: Iterable[Change]) -> None:
        """Write changes; a host that is being written takes none, and is decided on again after that."""
        for change in changes:
            machine = self._machines.get(change.host)
            if machine is None or not machine.written:
                self._write_one(change)

    # The API.

    def _write_one(self, change: Change) -> None:
        name = change.host
        match change:
            case CreateHost():
                self._create(change)
            case DeleteHost():
                self._delete(name)
            case SetModels():
                self.hosts[name] = replace(self.hosts[name], placements=change.after)
            case Vacate():
                vacated = bool(change.reason)
                self.hosts[name] = replace(self.hosts[name], cordoned=vacated, vacated=vacated)
        if name in self._machines:
            self._machines[name].written = True
        self._after(HOP_SECONDS, partial(self._see, name))

    def _create(self, change: CreateHost) -> None:
        name = change.host
        node = self._meter.host_kept(name, self._timeline.now)
        self.hosts[name] = Host(name, change.pool, change.placements, pod=Pod.STARTING, node=node)
        agent = Agent(
            self._timeline,
            load=partial(self._begin_load, name),
            on_change=partial(self._report, name),
        )
        self._machines[name] = Machine(agent)
        self._after(self._setting.host_start_seconds, partial(self._start, name))

    def _delete(self, name: str) -> None:
        self._meter.host_gone(name, self._timeline.now)
        agent = self._machines[name].agent
        self._after(HOP_SECONDS, partial(self._count, agent.take_answered()))
        self.pilot.forget(agent)
        del self.hosts[name], self._machines[name]

    def _see(self, name: str) -> None:
        """Let a write reach the agent and the gateway."""
        machine = self._machines.get(name)
        if machine:
            machine.written = False
            if machine.running:
                machine.agent.want(self.hosts[name].placements)
            self.pilot.look(self.hosts[name].placements, machine.agent)
        self._on_change()

    # The kubelet and the agent.

    def _start(self, name: str) -> None:
        machine = self._machines.get(name)
        if machine:
            machine.running = True
            self.hosts[name] = replace(self.hosts[name], pod=Pod.RUNNING)
            machine.agent.want(self.hosts[name].placements)
            self._on_change()

    def _begin_load(self, name: str, placement: Placement) -> float:
        elsewhere = (
            p.service == placement.service and host.says(p, Report.READY)
            for host in self.hosts.values()
            if host.name != name
            for p in host.placements
        )
        self._meter.loaded(self._index[placement.service], moved=any(elsewhere))
        return self._setting.load_seconds_of(placement.service)

    def _report(self, name: str) -> None:
        """Have an agent write what is new in its status; a host that is gone has none."""
        machine = self._machines.get(name)
        if machine is None:
            return
        reports, answered = machine.agent.reports(), machine.agent.take_answered()
        if reports != machine.sent or answered:
            machine.sent = reports
            self._after(HOP_SECONDS, partial(self._agent_told, name, reports, answered))

    def _agent_told(self, name: str, reports: dict[str, Reported], answered: Counter[str]) -> None:
        """Let an agent's status reach the controller and the gateway."""
        self._count(answered)
        machine = self._machines.get(name)
        if machine and reports != self.hosts[name].reports:
            self.hosts[name] = replace(self.hosts[name], reports=reports)
            self.pilot.look(self.hosts[name].placements, machine.agent)
            self._on_change()
        else:
            self._on_figures()

    def _gateway_told(self, then: Callable[[], None]) -> None:
        """Take in what the gateway says of requests that it held."""
        known = self._counts
        delayed = self.pilot.record.told.delayed.items()
        self._recount([key for key, count in delayed if key not in known or known[key].delayed != count])
        then()

    def _count(self, answered: Counter[str]) -> None:
        """Let the controller know of more requests that were answered."""
        self._answered += answered
        self._recount(answered)

    def _recount(self, keys: Iterable[str]) -> None:
        """Put together what agents and the gateway told of some services."""
        delayed = self.pilot.record.told.delayed
        for key in keys:
            self._counts[key] = Count(self._answered[key], delayed.get(key, 0))

    def _publish_soon(self) -> None:
        if not self._figures_due:
            self._figures_due = True
            self._after(FIGURES_SECONDS, self._publish)

    def _publish(self) -> None:
        """Let the figures of the last window be told."""
        self._figures_due = False
        busy = [machine.agent.measure(2 * FIGURES_SECONDS) for machine in self._machines.values()]
        if any(busy):
            self._publish_soon()

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._timeline.at(self._timeline.now + seconds, action)


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
        idle_after_seconds=setting.idle_after_seconds,
    )


def _pool(setting: Setting, *, namespaced: bool) -> Pool:
    power = replace(setting.power, node_watts=setting.power.node_watts / setting.gpus_per_node)
    return Pool(
        POOL,
        setting.gpu_memory_bytes,
        ENOUGH_HOSTS,
        empty_after_seconds=setting.empty_after_seconds,
        namespaced=namespaced,
        profile=power,
    )
