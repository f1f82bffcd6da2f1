"""I1–I4 of ARCHITECTURE.md, over random histories of the very functions that the controller calls."""

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lull.policy import Pod, Report, State

from .fleet_world import SERVICES, FleetWorld, make_service

KEYS = st.sampled_from(SERVICES)
GATEWAYS = st.sampled_from(["g1", "g2"])


class Fleets(RuleBasedStateMachine):
    """Few rules, each of many kinds, so that short histories already get deep."""

    def __init__(self):
        super().__init__()
        self.world = FleetWorld()
        self.idle = set()

    @initialize(sizes=st.lists(st.integers(1, 3), min_size=4, max_size=4), held=st.sets(KEYS))
    def start(self, sizes, held):
        for key, size in zip(SERVICES, sizes, strict=True):
            self.apply(key, memory_gib=size)
        for key in held:
            self.world.gateway_holds("g1", key, True)

    def apply(self, key, **fields):
        old = self.world.services.get(key)
        self.world.services[key] = make_service(
            key,
            idle_after_seconds=5.0,
            drain_deadline_seconds=30.0,
            generation=old.generation + 1 if old else 1,
            **fields,
        )

    @rule(key=KEYS, size=st.integers(1, 4), minimum=st.integers(0, 1), revision=st.integers(1, 2))
    def user_applies(self, key, size, minimum, revision):
        self.apply(key, memory_gib=size, min_replicas=minimum, revision=revision)

    @rule(key=KEYS, what=st.sampled_from(["delete", "suspend", "resume"]))
    def user_changes_mind(self, key, what):
        service = self.world.services.get(key)
        if service and what == "delete":
            del self.world.services[key]
        elif service:
            self.world.services[key] = replace(service, suspend=what == "suspend")

    @rule(key=KEYS, gateway=GATEWAYS, holds=st.booleans(), wakes=st.booleans())
    def request(self, key, gateway, holds, wakes):
        self.world.gateway_holds(gateway, key, holds)
        if wakes:
            self.world.wake()

    @rule(quiet=st.sets(KEYS), releases=st.booleans())
    def traffic(self, quiet, releases):
        """Change who is asked; what is routed is not held any more, as its gateway would have it."""
        self.idle = quiet
        if releases:
            for gateway in self.world.gateways:
                for key in SERVICES:
                    self.world.gateway_holds(gateway, key, False)

    @rule(seconds=st.sampled_from([0.0, 3.0, 6.0]), planned=st.booleans())
    def calm_round(self, seconds, planned):
        self.pass_time(seconds)
        self.world.everybody_acts(self.idle)
        if planned:
            self.plan()

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data())
    def host_acts_alone(self, data):
        name = data.draw(st.sampled_from(sorted(self.world.hosts)))
        what = data.draw(st.sampled_from(["acts", "reports", "unloads", "fails", "times out", "starts"]))
        if what == "acts":
            self.world.agent_acts(name)
        elif what == "reports":
            self.world.agent_reports(name, self.idle)
        elif what == "unloads":
            self.world.unload_ends(name)
        elif what == "fails":
            self.world.load_fails(name, "LoadFailed")
        elif what == "times out":
            self.world.load_fails(name, "LoadTimeout")
        else:
            self.world.pod_starts(name)

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data(), how=st.sampled_from(["pod_unready", "pod_terminates", "pod_dies"]))
    def host_is_lost(self, data, how):
        getattr(self.world, how)(data.draw(st.sampled_from(sorted(self.world.hosts))))

    @rule(gateway=GATEWAYS)
    def gateway_acts_alone(self, gateway):
        self.world.gateway_looks(gateway)

    @rule(seconds=st.sampled_from([1.0, 11.0, 31.0, 400.0]), planned=st.booleans())
    def time_passes(self, seconds, planned):
        self.pass_time(seconds)
        if planned:
            self.plan()

    def pass_time(self, seconds):
        self.world.now += seconds
        for name, host in self.world.hosts.items():
            since = self.world.notes.since.get(("Unready", name), self.world.now)
            if host.pod is Pod.UNREADY and self.world.now - since >= 10:
                self.world.ailing.add(name)
            if host.pod is Pod.UNREADY and self.world.now - since >= 60:
                self.world.lost.add(name)

    @rule(first=st.sampled_from(["wake", "plan"]), crash=st.booleans())
    def controller_acts(self, first, crash):
        if crash:
            self.world.restart()
        self.world.wake() if first == "wake" else self.plan()

    def plan(self):
        before = {key: self.ready(key) for key in self.world.services}
        states = {p.id: p.state for h in self.world.hosts.values() for p in h.placements}
        self.check_availability(before, states, self.world.plan())

    def ready(self, key):
        """Placements of a service that are routed and not idle, on hosts that are believed."""
        return {
            p.id
            for h in self.world.hosts.values()
            for p in h.placements
            if p.service == key
            and p.state is State.LOADED
            and h.says(p, Report.READY)
            and h.name not in self.world.ailing
            and not h.reports[p.id].idle
        }

    def check_availability(self, before, states, decided):
        """I2: a service in use keeps a ready placement, a held swap apart."""
        for key, ready in before.items():
            service = self.world.services[key]
            swap = any(
                p.service == key
                and p.model.revision != service.model.revision
                and states.get(p.id) is not None
                for h in self.world.hosts.values()
                for p in h.placements
            )
            if not ready or service.suspend or swap:
                continue
            assert self.ready(key), f"{key} was in use and lost its last ready placement: {decided.changes}"

    @invariant()
    def memory_is_never_over_committed(self):
        self.world.check_memory()

    @invariant()
    def wire_names_differ(self):
        self.world.check_names()

    @invariant()
    def hosts_are_bounded(self):
        self.world.check_hosts()

    def teardown(self):
        """I4: once nothing happens outside, the plan comes to rest, and then asks for nothing."""
        world = self.world
        for name, host in list(world.hosts.items()):
            if host.pod is Pod.UNREADY:
                world.pod_starts(name)
        for _ in range(60):
            world.now += 40.0
            world.everybody_acts(self.idle)
            world.wake()
            world.plan()
        world.everybody_acts(self.idle)
        assert world.plan().changes == [], "it never came to rest"
        self.check_nobody_starves()

    def check_nobody_starves(self):
        """What is held is served where nobody else wants the hosts, and it can be loaded."""
        world = self.world
        for key in set().union(*(g.held for g in world.gateways.values())) & world.services.keys():
            service = world.services[key]
            fits = service.memory_bytes <= world.pool.capacity_bytes - 512 * 2**20
            alone = len(world.services) == 1
            if alone and fits and not service.suspend and key not in world.notes.failures:
                assert any(p.service == key for h in world.hosts.values() for p in h.placements)


TestFleets = Fleets.TestCase
TestFleets.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
