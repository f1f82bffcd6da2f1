"""I1–I4 of ARCHITECTURE.md, over random histories of the very functions that the controller calls."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lull.policy import Pod, Report, State
from lull.policy.notes import Notes

from .fleet_world import SERVICES, FleetWorld, make_service

KEYS = st.sampled_from(SERVICES)
GATEWAYS = st.sampled_from(["g1", "g2"])


class Fleets(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.world = FleetWorld()
        self.idle = set()

    def host(self, data):
        return data.draw(st.sampled_from(sorted(self.world.hosts)))

    # Users.

    @rule(key=KEYS, memory_gib=st.integers(1, 4), minimum=st.integers(0, 1), revision=st.integers(1, 2))
    def user_applies(self, key, memory_gib, minimum, revision):
        old = self.world.services.get(key)
        generation = old.generation + 1 if old else 1
        self.world.services[key] = make_service(
            key,
            memory_gib=memory_gib,
            revision=revision,
            min_replicas=minimum,
            idle_after_seconds=5.0,
            drain_deadline_seconds=30.0,
            generation=generation,
        )

    @rule(key=KEYS)
    def user_deletes(self, key):
        self.world.services.pop(key, None)

    @rule(key=KEYS, suspend=st.booleans())
    def user_suspends(self, key, suspend):
        if key in self.world.services:
            from dataclasses import replace

            self.world.services[key] = replace(self.world.services[key], suspend=suspend)

    @rule(key=KEYS, gateway=GATEWAYS, holds=st.booleans())
    def request_waits(self, key, gateway, holds):
        self.world.gateway_holds(gateway, key, holds)

    @rule(key=KEYS, quiet=st.booleans())
    def traffic(self, key, quiet):
        (self.idle.add if quiet else self.idle.discard)(key)

    # Lull's other parts.

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data())
    def agent(self, data):
        self.world.agent_acts(self.host(data))

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data())
    def agent_report(self, data):
        self.world.agent_reports(self.host(data), self.idle)

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data())
    def unload_ends(self, data):
        self.world.unload_ends(self.host(data))

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data(), reason=st.sampled_from(["LoadFailed", "LoadTimeout"]))
    def load_fails(self, data, reason):
        self.world.load_fails(self.host(data), reason)

    @rule(gateway=GATEWAYS)
    def gateway(self, gateway):
        self.world.gateway_looks(gateway)

    @rule(gateway=GATEWAYS)
    def heartbeat(self, gateway):
        self.world.heartbeat(gateway)

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data(), event=st.sampled_from(["starts", "starts", "unready", "dies"]))
    def pod(self, data, event):
        getattr(self.world, f"pod_{event}")(self.host(data))

    @rule(seconds=st.sampled_from([0.1, 3.0, 11.0, 31.0, 400.0]))
    def time(self, seconds):
        self.world.now += seconds
        for name, host in self.world.hosts.items():
            since = self.world.notes.since.get(("Unready", name))
            if host.pod is Pod.UNREADY and since is not None and self.world.now - since >= 10:
                self.world.lost.add(name)

    # The controller.

    @rule()
    def wake(self):
        self.world.wake()

    @rule()
    def plan(self):
        before = {key: self.ready(key) for key in self.world.services}
        states = {p.id: p.state for h in self.world.hosts.values() for p in h.placements}
        decided = self.world.plan()
        self.check_availability(before, states, decided)

    @rule()
    def controller_restarts(self):
        self.world.restart()

    def ready(self, key):
        """Placements of a service that are routed and not idle, on hosts that are believed."""
        return {
            p.id
            for h in self.world.hosts.values()
            for p in h.placements
            if p.service == key
            and p.state is State.LOADED
            and h.says(p, Report.READY)
            and h.name not in self.world.lost
            and not h.reports[p.id].idle
        }

    def check_availability(self, before, states, decided):
        """I2: a service in use keeps a ready placement, a held swap apart."""
        for key, ready in before.items():
            service = self.world.services[key]
            swap = any(
                p.service == key and p.model.revision != service.model.revision and states.get(p.id) is not None
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
            if not world.plan().changes and _ > 40:
                break
        world.everybody_acts(self.idle)
        assert world.plan().changes == [], "it never came to rest"
        assert isinstance(world.notes, Notes)
        self.check_nobody_starves()

    def check_nobody_starves(self):
        """What is held is served, unless it failed, is too large, or every host is taken by services in use."""
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
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture(autouse=True)
def _quiet():
    """Hypothesis' own output is enough."""
