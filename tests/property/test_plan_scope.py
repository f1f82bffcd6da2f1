"""A plan that looks at what has changed decides what one does that looks at everything.

`FleetWorld.look` compares the two in every history of the tests beside this one; here the fleets have more
hosts, replicas and tenants that share nothing, admins who cordon, and pools that change.
"""

from dataclasses import replace
from functools import partial

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, rule

from lull.policy import NOTHING_NOTED, Pod, observe, plan
from lull.policy.fleet import Count
from lull.policy.power import PowerProfile
from lull.policy.prices import Price

from .fleet_world import GIB, SERVICES, FleetWorld, make_service
from .test_policy_invariants import KEYS, Fleets


class ManyHosts(Fleets):
    """The same histories, and more, on up to four hosts."""

    def __init__(self):
        super().__init__()
        self.world = FleetWorld(max_hosts=4)

    @rule(
        key=KEYS,
        most=st.integers(1, 3),
        least=st.integers(0, 2),
        dedicated=st.booleans(),
        priority=st.integers(0, 2),
    )
    def user_wants_more(self, key, most, least, dedicated, priority):
        least = min(most, least)
        self.apply(key, max_replicas=most, min_replicas=least, dedicated=dedicated, priority=priority)

    @rule(key=KEYS, requests=st.sampled_from([0, 1, 400]), delayed=st.sampled_from([0, 1, 20]))
    def counts_are_told(self, key, requests, delayed):
        """Those that waited by a gateway, all of them by agents: each when it gets to it."""
        told = self.world.counts.get(key, Count())
        self.world.counts[key] = Count(told.requests + requests, told.delayed + delayed)

    @rule(what=st.sampled_from(["keep", "share", "cordon", "trouble", "memory"]), data=st.data())
    def admin_acts(self, what, data):
        world = self.world
        if what == "keep":
            world.pool = replace(world.pool, min_hosts=data.draw(st.integers(0, 2)))
        elif what == "share":
            world.pool = replace(world.pool, namespaced=not world.pool.namespaced)
        elif world.hosts:
            host = world.hosts[data.draw(st.sampled_from(sorted(world.hosts)))]
            if what == "cordon":
                host = replace(host, cordoned=not host.cordoned, vacated=False)
            elif what == "memory":
                host = replace(host, capacity_bytes=data.draw(st.integers(2, 4)) * GIB)
            elif host.pod is Pod.STARTING:
                host = replace(host, trouble="" if host.trouble else "no node is left")
            world.hosts[host.name] = host

    @invariant()
    def a_narrow_look_says_the_same(self):
        self.world.look()

    def check_availability(self, *_):
        """Not here: admins and users may take what is in use."""

    def memory_is_never_over_committed(self):
        """Not here: an accelerator may say that it has less."""

    def teardown(self):
        """Not here: it comes to rest where `Fleets` does."""


class NodesWorld(FleetWorld):
    """One whose hosts share nodes, which could be off, and stay as long as what sleeps there is worth it."""

    def __init__(self):
        super().__init__(max_hosts=4)
        self.pool = replace(self.pool, empty_after_seconds=None, profile=PowerProfile(70, 50, 700, 200))

    def pod_starts(self, name):
        super().pod_starts(name)
        self.hosts[name] = replace(self.hosts[name], node=f"node-{int(name[-1], 16) % 2}")


class WorthyHosts(ManyHosts):
    """The same, where prices and habits decide on who goes, over days."""

    def __init__(self):
        super().__init__()
        self.world = NodesWorld()

    @rule(worth=st.sampled_from([50.0, 500.0, 5000.0, 50_000.0]))
    def price_moves(self, worth):
        learned = self.world.notes.learned
        prices = {("pool", 5): Price(worth)}
        self.world.notes = replace(self.world.notes, learned=replace(learned, prices=prices))

    @rule(hours=st.sampled_from([0.1, 0.5, 2.0, 30.0]))
    def nobody_asks(self, hours):
        world = self.world
        for gateway in world.gateways:
            for key in SERVICES:
                world.gateway_holds(gateway, key, False)
        for seconds in (0.0, 6.0, 6.0, 3600 * hours):
            self.pass_time(seconds)
            world.everybody_acts(set(SERVICES))
            self.plan()


class SlicedWorld(FleetWorld):
    """One whose plans look at few services at once; each sees what the last one wrote."""

    def plan(self):
        while True:
            fleet = self.fleet()
            self.notes = observe(self.notes, fleet, self.now)
            self.last = plan(fleet, self.notes, self.now, self.last, most=1)
            self._check_paid(self.last.changes, {key: s.max_replicas for key, s in self.services.items()})
            self.write(self.last.changes)
            if not self.last.seen.left:
                assert not self.last.seen.kept_back, "somebody waits for nobody"
                return self.last


class SlicedHosts(ManyHosts):
    """The same histories in slices."""

    def __init__(self):
        super().__init__()
        self.world = SlicedWorld(max_hosts=4)


TestManyHosts = ManyHosts.TestCase
TestWorthyHosts = WorthyHosts.TestCase
TestSlicedHosts = SlicedHosts.TestCase
TestManyHosts.settings = TestWorthyHosts.settings = TestSlicedHosts.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_who_is_left_alone_on_a_node_is_looked_at_again_though_it_came_before_who_went():
    fleets = WorthyHosts()
    fleets.start(sizes=[1, 1, 1, 1], held={"a/one", "a/two"})
    for step in (
        partial(fleets.gateway_acts_alone, gateway="g1"),
        partial(fleets.controller_acts, crash=False, first="wake"),
        partial(fleets.user_changes_mind, key="a/one", what="delete"),
        partial(fleets.nobody_asks, hours=0.1),
    ):
        fleets.a_narrow_look_says_the_same()  # each look makes another name: here who stays comes first
        step()
    assert [(host.name, host.node) for host in fleets.world.hosts.values()] == [("pool-0baa897b", "node-1")]
    fleets.a_narrow_look_says_the_same()


def test_a_plan_that_may_begin_with_few_goes_on_until_it_has_seen_all():
    world = FleetWorld(max_hosts=4)
    for key in SERVICES:
        world.services[key] = make_service(key, min_replicas=1)
    fleet, decided, slices = world.fleet(), None, 0
    while decided is None or decided.seen.left:
        decided = plan(fleet, NOTHING_NOTED, world.now, decided, most=1)
        slices += 1
        assert decided.next_at == world.now or not decided.seen.left
    assert slices == len(SERVICES)
    assert decided.services.keys() == set(SERVICES)
