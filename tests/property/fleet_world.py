"""A fleet in which everybody but the policy acts in random order, late, twice or never."""

from dataclasses import dataclass, field, replace

from lull.policy import (
    NOTHING_NOTED,
    CreateHost,
    CreatePod,
    DeleteHost,
    Fleet,
    Gateway,
    Host,
    Model,
    Pod,
    Pool,
    Report,
    Reported,
    Service,
    SetModels,
    State,
    Vacate,
    observe,
    plan,
    wake,
)
from lull.policy.changes import Draft
from lull.policy.fence import fenced
from lull.policy.fleet import namespace_of
from lull.policy.notes import waits
from lull.policy.packing import HOST_OVERHEAD_BYTES, open_to

GIB = 2**30
SERVICES = ("a/one", "a/two", "b/three", "b/four")


def figures(notes):
    """Return what is learned that does not hang on when and in which order one looks."""
    habits = {key: (h.count, h.load_seconds, h.loaded) for key, h in notes.learned.habits.items()}
    return habits, {pool: crowd.start_seconds for pool, crowd in notes.learned.crowds.items()}


def _turn(draft, key):
    """Return whose turn is first: of who is held the higher priority, then who waits longer; then others."""
    since = draft.notes.since.get(waits(key), draft.now) if key in draft.held else float("inf")
    return key not in draft.held, -draft.fleet.services[key].priority, since, key


def _without(host, placements):
    return replace(host, placements=tuple(p for p in host.placements if p not in placements))


@dataclass
class Machine:
    """The truth of one host: what Triton holds, which the agent reports when it gets to it."""

    loaded: dict = field(default_factory=dict)  # id -> (placement as it was loaded, bytes, failed reason)
    unloading: dict = field(default_factory=dict)  # id -> (placement, bytes)


def make_service(key, *, memory_gib=1, revision=1, **fields):
    """Return a service; those of `b` are a tenth larger, so that not everything fits without a rest."""
    name = "same" if key in ("a/one", "b/three") else key.replace("/", "-")
    model = Model(f"r{revision}", name, f"file:///{key}-{revision}")
    memory_bytes = memory_gib * (GIB if key.startswith("a/") else GIB + GIB // 10)
    return Service(key, model, "pool", memory_bytes=memory_bytes, **fields)


class FleetWorld:
    """The API's state (`hosts`), the truth beneath (`machines`, `routes`); the policy sees the former."""

    def __init__(self, *, max_hosts=2, host_gib=3):
        self.now = 1000.0
        self.pool = Pool("pool", host_gib * GIB + HOST_OVERHEAD_BYTES, max_hosts, empty_after_seconds=20.0)
        self.services = {}
        self.hosts = {}
        self.machines = {}
        self.gateways = {"g1": Gateway("g1", "0"), "g2": Gateway("g2", "0")}
        self.routes = {"g1": set(), "g2": set()}  # (placement id, epoch) that a gateway may still send to
        self.counts = {}  # as they are told
        self.notes = NOTHING_NOTED
        self.last = None
        self.beats = 0
        self.seeds = 0
        self.ailing = set()
        self.lost = set()
        self.broken = set()  # services whose every load fails
        self.stale = {}  # what the controller still takes for the reports of a host
        self.begun = {}  # by service: how many placements it was given
        self.made = 0  # how many hosts were created
        self.emptied = 0  # how many were vacated

    # The controller.

    def fleet(self):
        self.seeds += 1
        hosts = {name: self.seen(name) for name in self.hosts}
        return Fleet(
            dict(self.services),
            {"pool": self.pool},
            hosts,
            dict(self.gateways),
            str(self.seeds),
            dict(self.counts),
        )

    def seen(self, name):
        """Return a host as the controller sees it: its own writes at once, reports late."""
        host = self.hosts[name]
        return replace(host, reports=self.stale[name]) if name in self.stale else host

    def wake(self):
        fleet = self.fleet()
        changes = wake(fleet, self.notes, self.now)
        self._check_turns(fleet, changes)
        self._check_paid(changes, dict.fromkeys(self.services, 1))
        self.write(changes)

    def plan(self):
        fleet, self.notes, self.last = self.look()
        self._check_turns(fleet, self.last.changes)
        desired = {key: told.desired for key, told in self.last.services.items()}
        self._check_paid(self.last.changes, desired)
        self.write(self.last.changes)
        return self.last

    def look(self):
        """Return fleet, notes and plan of now; to look at what has changed must say the same as at all."""
        fleet = self.fleet()
        notes = observe(self.notes, fleet, self.now)
        anew = observe(replace(self.notes, seen=None), fleet, self.now)
        assert replace(notes, learned=anew.learned) == anew
        sliced = self._bit_by_bit(fleet)
        assert replace(sliced, learned=anew.learned) == anew
        assert notes.learned.prices == anew.learned.prices
        assert figures(notes) == figures(anew) == figures(sliced)
        decided, whole = plan(fleet, notes, self.now, self.last), plan(fleet, notes, self.now)
        assert decided.changes == whole.changes
        assert decided.services == whole.services
        assert decided.pools == whole.pools
        times = [at for at in (decided.next_at, whole.next_at) if at is not None]
        assert decided.next_at == min(times, default=None), "it would come too late"
        return fleet, notes, decided

    def _bit_by_bit(self, fleet):
        notes = observe(self.notes, fleet, self.now, most=1)
        while notes.seen is not fleet:
            notes = observe(notes, fleet, self.now, most=1)
        return notes

    def restart(self):
        self.notes = NOTHING_NOTED
        self.last = None

    def write(self, changes):
        """Write changes as the API takes them: on the state that was seen, or not at all."""
        for change in changes:
            self._write_one(change)

    def _write_one(self, change):
        if isinstance(change, CreateHost):
            self._check_neighbours(change.host, change.placements, change.placements)
            self.made += 1
            self.hosts[change.host] = Host(change.host, change.pool, change.placements, pod=Pod.STARTING)
            self.machines[change.host] = Machine()
            return
        host = self.hosts.get(change.host)
        if isinstance(change, CreatePod):
            self.hosts[change.host] = replace(host, pod=Pod.STARTING)
        elif isinstance(change, Vacate) and not change.reason:
            assert host.vacated, f"{host.name} is used again, and was not vacated"
            self.hosts[change.host] = replace(host, cordoned=False, vacated=False)
        elif isinstance(change, Vacate):
            self._check_vacated(host)
            self.emptied += 1
            self.hosts[change.host] = replace(host, cordoned=True, vacated=True)
        elif host is None or host.placements != change.before:
            return
        elif isinstance(change, SetModels):
            if all(fenced(p, self.gateways.values()) for p in change.proofs):
                self._check_unloads(host, change)
                self._check_eviction(host, change)
                new = [p for p in change.after if p.id not in {old.id for old in change.before}]
                self._check_neighbours(change.host, new, change.after)
                self._check_names(change.host, new)
                assert not (new and host.cordoned), f"{host.name} is to be emptied, and is given {new}"
                self.hosts[change.host] = replace(host, placements=change.after)
        elif isinstance(change, DeleteHost):
            self._check_deletion(host)
            del self.hosts[change.host], self.machines[change.host]

    def _check_unloads(self, host, change):
        """I3: nothing is unloaded before it is fenced, deadlines and what is lost or failed apart."""
        kept = {p.id for p in change.after}
        cut = {p.id for p in change.cut}
        for placement in change.after:
            routed = placement.state is State.RESIDENT and self.routed_anywhere(placement)
            assert not routed, f"{placement} became a free rider while a gateway routed to it"
        for placement in change.before:
            if placement.id in kept or placement.id in cut or host.name in self.lost:
                continue
            report = host.reports.get(placement.id)
            failed = report is not None and report.state is Report.FAILED
            assert failed or not self.routed_anywhere(placement), (
                f"{placement} was unloaded before it was fenced"
            )

    def _check_paid(self, changes, desired):
        """I5: nobody is given one more placement who has as many as are wanted, where they may stay."""
        new = {}
        for change in changes:
            before = {p.id for p in getattr(change, "before", ())}
            after = getattr(change, "placements", getattr(change, "after", ()))
            for placement in after:
                if placement.id not in before and placement.state is State.LOADED:
                    new[placement.service] = new.get(placement.service, 0) + 1
        for key, count in new.items():
            self.begun[key] = self.begun.get(key, 0) + count
            have = len(self.healthy(key))
            assert have + count <= desired[key], f"{key} has {have} of {desired[key]}, and is given {count}"

    def _check_turns(self, fleet, changes):
        """I7: who comes leaves those the room that is made for them whose turn is before."""
        draft = Draft(fleet, self.notes, self.now)
        written = [change for change in changes if isinstance(change, SetModels)]
        after = {**fleet.hosts, **{c.host: replace(fleet.hosts[c.host], placements=c.after) for c in written}}
        new = [p for c in written for p in c.after if p.id not in {q.id for q in c.before}]
        waiting = draft.held & self.services.keys() - {p.service for p in new}
        waiting = sorted(waiting, key=lambda key: _turn(draft, key))
        for key in waiting[:1]:  # the next one has what is left
            late = [p for p in new if _turn(draft, p.service) > _turn(draft, key)]
            made = [name for name, h in after.items() if self._will_have_room(draft, _without(h, late), key)]
            left = [name for name in made if self._fits(draft, after[name], key)]
            assert left or not made, f"{late} took the room that was made for {key}"

    def _will_have_room(self, draft, host, key):
        """Tell whether a service that is nowhere will find room on a host, once what unloads is gone."""
        if self.services[key].suspend or key in self.notes.failures or draft.of(key) or host.queue:
            return False
        return self._fits(draft, host, key)

    def _fits(self, draft, host, key):
        """Tell whether there is room, though it may have to wait for loads that are before it."""
        service = self.services[key]
        size = host.staying_bytes + service.memory_bytes + HOST_OVERHEAD_BYTES
        return host.pod is Pod.RUNNING and size <= self.pool.capacity_bytes and open_to(draft, host, service)

    def healthy(self, key):
        """Return the hosts on which a service has what it wants, as the controller sees them."""
        service = self.services[key]
        return [
            name
            for name in self.hosts
            for host in (self.seen(name),)
            for p in host.placements
            if (p.service, p.state, p.model) == (key, State.LOADED, service.model)
            and host.pod not in (Pod.TERMINATING, Pod.GONE)
            and not (host.cordoned or host.tainted or host.name in self.ailing)
            and not host.says(p, Report.FAILED)
            and not (service.dedicated and host.holds != {key})
        ]

    def _check_eviction(self, host, change):
        """I8: who fails makes nobody go while it is backing off, and nobody who is routed ever."""
        gone = {p for p in change.before if p.id not in {kept.id for kept in change.after}}
        if not change.room_for or not gone:
            return
        failure = self.notes.failures.get(change.room_for)
        assert failure is None or failure.retry_at <= self.now, f"{change.room_for} fails, and evicts {gone}"
        for placement in gone:
            routed = placement.state is not State.RESIDENT or self.routed_anywhere(placement)
            failed = self.seen(host.name).says(placement, Report.FAILED)
            assert failed or not routed, f"{placement} is in use, and goes for {change.room_for}"

    def _check_neighbours(self, name, new, after):
        """I6: who comes to a host may share it with all that is there, and with what still unloads."""
        machine = self.machines.get(name, Machine())
        there = {entry[0].service for entry in (machine.loaded | machine.unloading).values()}
        for placement in new:
            for other in ({p.service for p in after} | there) - {placement.service}:
                assert self.may_share(placement.service, other), f"{placement.service} comes to {other}"

    def _check_names(self, name, new):
        """I6: nobody comes where a namesake is, or unloads, as far as the agent has told."""
        told = {report.name for report in self.seen(name).reports.values()}
        for placement in new:
            assert placement.model.name not in told, f"{placement} meets its namesake on {name}"

    def may_share(self, one, other):
        """Tell whether two services may share a host."""
        services = [self.services[key] for key in (one, other) if key in self.services]
        if any(service.dedicated for service in services):
            return False
        if namespace_of(one) == namespace_of(other):
            return True
        codes = [getattr(self.services.get(key), "code", None) for key in (one, other)]
        code = any(self.pool.allow_code if known is None else known for known in codes)
        return not self.pool.namespaced and not code

    def _check_vacated(self, host):
        """I5: a host is emptied only where the others have room for what is in use on it."""
        others = [other for other in self.hosts.values() if other.name != host.name]
        assert not host.cordoned
        capacity = self.pool.capacity_bytes - HOST_OVERHEAD_BYTES
        reserved = sum(
            p.memory_bytes for other in others for p in other.placements if p.state is State.LOADED
        )
        own = sum(self._need(p) for p in host.placements if p.state is State.LOADED)
        assert own <= capacity * len(others) - reserved, f"{host.name} is emptied, and nobody has room"

    def _need(self, placement):
        """Return what a placement takes elsewhere: what its service asks for by now."""
        service = self.services.get(placement.service)
        return placement.memory_bytes if service is None else service.memory_bytes

    def _check_deletion(self, host):
        if host.name in self.lost:
            return
        for placement in host.placements:
            report = host.reports.get(placement.id)
            failed = report is not None and report.state is Report.FAILED
            assert failed or not self.routed_anywhere(placement), f"{host.name} went with {placement}"

    def routed_anywhere(self, placement):
        return any(placement.id in {id_ for id_, _ in routes} for routes in self.routes.values())

    # Everybody else.

    def pod_starts(self, name):
        host = self.hosts[name]
        if host.pod in (Pod.STARTING, Pod.UNREADY):
            self.hosts[name] = replace(host, pod=Pod.RUNNING)

    def pod_unready(self, name):
        host = self.hosts[name]
        if host.pod is Pod.RUNNING:
            self.hosts[name] = replace(host, pod=Pod.UNREADY)

    def pod_terminates(self, name):
        host = self.hosts[name]
        if host.pod in (Pod.RUNNING, Pod.UNREADY):
            self.hosts[name] = replace(host, pod=Pod.TERMINATING)
            self.ailing.add(name)

    def pod_dies(self, name):
        self.hosts[name] = replace(self.hosts[name], pod=Pod.GONE)
        self.machines[name] = Machine()
        self.ailing.add(name)
        self.lost.add(name)

    def agent_acts(self, name):
        """Load and begin to unload as spec.models says."""
        host = self.hosts[name]
        if host.pod is not Pod.RUNNING:
            return
        machine = self.machines[name]
        wanted = {p.id: p for p in host.placements}
        for id_ in list(machine.loaded):
            if id_ not in wanted:
                placement, size, _ = machine.loaded.pop(id_)
                machine.unloading[id_] = (placement, size)
        for id_, placement in wanted.items():
            held = {p.model.name for p, *_ in (*machine.loaded.values(), *machine.unloading.values())}
            if id_ not in machine.loaded and placement.model.name not in held:
                failed = "LoadFailed" if placement.service in self.broken else ""
                machine.loaded[id_] = (placement, placement.memory_bytes, failed)

    def unload_ends(self, name):
        self.machines[name].unloading.clear()

    def load_fails(self, name, reason):
        machine = self.machines[name]
        routed = {id_ for routes in self.routes.values() for id_, _ in routes}
        for id_, (placement, size, _) in machine.loaded.items():
            if id_ not in routed:
                machine.loaded[id_] = (placement, size, reason)
                return

    def agent_reports(self, name, idle):
        """Write the truth into the status; `idle` are the services that nobody asks."""
        host = self.hosts[name]
        if host.pod is not Pod.RUNNING:
            return
        machine = self.machines[name]
        reports = {}
        for id_, (placement, size, failed) in machine.loaded.items():
            state = Report.FAILED if failed else Report.READY
            reports[id_] = Reported(
                id_,
                placement.service,
                placement.model.name,
                state,
                size,
                idle=placement.service in idle and not failed,
                reason=failed,
            )
        for id_, (placement, size) in machine.unloading.items():
            reports[id_] = Reported(id_, placement.service, placement.model.name, Report.UNLOADING, size)
        self.hosts[name] = replace(host, reports=reports)

    def gateway_looks(self, name):
        """Route what the API says is routed, and claim what drains. Old claims linger, and must not count."""
        routed = {
            (p.id, p.epoch)
            for host in self.hosts.values()
            for p in host.placements
            if p.state is State.LOADED and host.says(p, Report.READY)
        }
        self.routes[name] = routed
        draining = {p.claim for h in self.hosts.values() for p in h.placements if p.state is State.DRAINING}
        self.gateways[name] = replace(self.gateways[name], drained=self.gateways[name].drained | draining)

    def gateway_holds(self, name, key, holds):
        gateway = self.gateways[name]
        held = gateway.held | {key} if holds else gateway.held - {key}
        self.gateways[name] = replace(gateway, held=held)

    def heartbeat(self, name):
        self.beats += 1
        self.gateways[name] = replace(self.gateways[name], renewed=str(self.beats))

    # What must hold at any moment.

    def check_memory(self):
        """I1: reservations, measurements and what still unloads fit each host."""
        for name, host in self.hosts.items():
            machine = self.machines[name]
            ids = {p.id: p.memory_bytes for p in host.placements}
            ids |= {id_: size for id_, (_, size, _) in machine.loaded.items()}
            ids |= {id_: size for id_, (_, size) in machine.unloading.items()}
            total = sum(ids.values())
            assert total <= self.pool.capacity_bytes - HOST_OVERHEAD_BYTES, f"{name} is over-committed: {ids}"

    def check_names(self):
        """I6: no two models of one wire name on a host; an agent waits for one that unloads untold."""
        for name, host in self.hosts.items():
            names = [p.model.name for p in host.placements]
            assert len(names) == len(set(names)), f"two models of one wire name on {name}"

    def check_hosts(self):
        assert len(self.hosts.keys() - self.lost) <= self.pool.max_hosts

    def everybody_acts(self, idle=frozenset()):
        """One calm round in which nobody is late. What is unloaded in it is gone with the next."""
        for name in list(self.hosts):
            self.pod_starts(name)
            self.unload_ends(name)
            self.agent_acts(name)
            self.agent_reports(name, idle)
            if self.hosts[name].pod is Pod.TERMINATING and not any(
                map(self.routed_anywhere, self.hosts[name].placements)
            ):
                self.pod_dies(name)
        for name in self.gateways:
            self.gateway_looks(name)
            self.heartbeat(name)
