"""I5–I8 of ARCHITECTURE.md: nobody bounces, starves, meets whom it must not, or suffers for who fails.

`FleetWorld` checks every write of every history, here of fleets with all that users and admins may ask for,
of agents whose word is late or lost, and of a controller that forgets. There are hosts for everybody, so who
is held is always to be served.
"""

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import HealthCheck, example, given, settings
from hypothesis.stateful import precondition, rule

from lull.policy import Placement, Pod, Report, State
from lull.policy.fleet import Window

from .fleet_world import GIB, SERVICES, FleetWorld, make_service
from .test_policy_invariants import KEYS, Fleets

ROUNDS = 60
ROUND_SECONDS = 40.0
SERVED_WITHIN = 20
"""Calm rounds: a drain that is cut takes 30 s of them, a retry 300 s."""
WINDOW = Window("*/5 * * * *", "UTC", 60.0)


class Promises(Fleets):
    """Everything that may happen, with hosts enough."""

    def __init__(self):
        super().__init__()
        self.world = FleetWorld(max_hosts=8)
        self.forgotten = 0

    @rule(key=KEYS, most=st.integers(1, 2), least=st.integers(0, 2), windows=st.booleans())
    def user_wants_more(self, key, most, least, windows):
        schedule = (WINDOW,) if windows else ()
        self.apply(key, max_replicas=most, min_replicas=min(most, least), schedule=schedule)

    @rule(key=KEYS, dedicated=st.booleans(), code=st.sampled_from([None, False, True]))
    def service_is_found_out(self, key, dedicated, code):
        """Only while nothing of it is there: who shares already may stay."""
        service = self.world.services.get(key)
        there = {s for h in self.world.hosts.values() for s in h.tenants}
        if service and key not in there:
            self.world.services[key] = replace(service, dedicated=dedicated, code=code)

    @precondition(lambda self: not self.world.hosts)
    @rule(namespaced=st.booleans(), allow_code=st.booleans())
    def admin_shares(self, namespaced, allow_code):
        self.world.pool = replace(self.world.pool, namespaced=namespaced, allow_code=allow_code)

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data(), what=st.sampled_from(["cordon", "report late", "report never", "report again"]))
    def something_is_late(self, data, what):
        world = self.world
        name = data.draw(st.sampled_from(sorted(world.hosts)))
        host = world.hosts[name]
        if what == "cordon":
            world.hosts[name] = replace(host, cordoned=not host.cordoned, vacated=False)
        elif what == "report late":
            world.stale.setdefault(name, host.reports)
        elif what == "report again":
            world.stale.pop(name, None)
        elif host.pod is Pod.STARTING:
            world.hosts[name] = replace(host, reports={})

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data(), key=KEYS)
    def controller_loaded_ahead(self, data, key):
        """As if it had put a model where there was room, for requests that may come."""
        world = self.world
        service = world.services.get(key)
        name = data.draw(st.sampled_from(sorted(world.hosts)))
        host, machine = world.hosts[name], world.machines[name]
        there = {**machine.loaded, **machine.unloading}
        names = {p.model.name for p in host.placements} | {entry[0].model.name for entry in there.values()}
        keys = host.tenants | {entry[0].service for entry in there.values()}
        sizes = {p.id: p.memory_bytes for p in host.placements} | {id_: e[1] for id_, e in there.items()}
        if (
            service
            and not host.cordoned
            and service.model.name not in names
            and all(world.may_share(key, other) for other in keys - {key})
            and sum(sizes.values()) + service.memory_bytes <= 3 * GIB
        ):
            self.forgotten += 1
            id_ = f"ahead-{self.forgotten}"
            ahead = Placement(id_, key, service.model, service.memory_bytes, 5.0, State.RESIDENT)
            world.hosts[name] = replace(host, placements=(*host.placements, ahead))

    @rule(planned=st.booleans())
    def half_an_hour_passes(self, planned):
        """Long enough for hosts to be settled, and for their worth to fall."""
        self.pass_time(1900.0)
        self.world.everybody_acts(self.idle)
        if planned:
            self.plan()

    @rule(key=KEYS, breaks=st.booleans())
    def model_breaks(self, key, breaks):
        (self.world.broken.add if breaks else self.world.broken.discard)(key)

    def ready(self, key):
        """As in `Fleets`, on hosts that nobody wants emptied, as the controller sees them."""
        world = self.world
        return {
            p.id
            for name in world.hosts
            for h in (world.seen(name),)
            for p in h.placements
            if (p.service, p.state) == (key, State.LOADED)
            and h.says(p, Report.READY)
            and name not in world.ailing
            and not h.reports[p.id].idle
        }

    def teardown(self):
        """I7 and I5: in calm, who is held is served soon, by few new placements, and then all is at rest."""
        world = self.world
        world.broken.clear()
        world.stale.clear()
        world.begun.clear()
        for key, service in world.services.items():
            world.services[key] = replace(service, schedule=())
        for name, host in list(world.hosts.items()):
            world.hosts[name] = replace(host, cordoned=False, vacated=False)
            world.pod_starts(name)
        for number in range(ROUNDS):
            world.now += ROUND_SECONDS
            world.everybody_acts(self.idle)
            world.wake()
            world.plan()
            if number >= SERVED_WITHIN:
                self.check_held_are_served()
        world.everybody_acts(self.idle)
        assert world.plan().changes == [], "it never came to rest"
        for key, count in world.begun.items():
            most = world.services[key].max_replicas
            assert count <= most + 2, f"{key} was placed {count} times, though nothing happened"

    def check_held_are_served(self):
        world = self.world
        for key in set().union(*(g.held for g in world.gateways.values())) & world.services.keys():
            service = world.services[key]
            if not service.suspend and service.memory_bytes <= 3 * GIB:
                assert self.ready_at_all(key), f"{key} waits for ever: {world.last.services[key]}"

    def ready_at_all(self, key):
        return any(
            (p.service, p.state) == (key, State.LOADED) and h.says(p, Report.READY) and h.pod is Pod.RUNNING
            for h in self.world.hosts.values()
            for p in h.placements
        )


TestPromises = Promises.TestCase
TestPromises.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@settings(max_examples=20)
@given(
    st.lists(st.integers(1, 2), min_size=3, max_size=3),
    st.integers(1, 3),
    st.sets(st.sampled_from(SERVICES[:3])),
    st.integers(1, 2),
)
def test_a_model_that_always_fails_costs_no_neighbour_a_request_and_free_riders_at_most_once(
    sizes, culprit_gib, idle, max_hosts
):
    world = FleetWorld(max_hosts=max_hosts, host_gib=4)
    culprit = SERVICES[3]
    for key, gib in zip(SERVICES, sizes, strict=False):
        world.services[key] = make_service(key, memory_gib=gib, idle_after_seconds=5.0)
    hold(world, SERVICES[:3], frozenset())
    hold(world, (), frozenset(idle))
    in_use = [key for key in SERVICES[:3] if key not in idle and ready(world, key)]

    world.services[culprit] = make_service(culprit, memory_gib=culprit_gib)
    world.broken.add(culprit)
    before = riders(world)
    hold(world, [culprit], frozenset(idle), in_use)

    assert riders(world) <= before
    lost = sum(world.services[key].memory_bytes for key in before - riders(world))
    assert lost < world.services[culprit].memory_bytes + 2 * GIB, "more free riders went than it needs room"
    assert world.begun.get(culprit, 0) <= 9, "after 5, 10, 20 … 300 s it is tried again: 8 times in 10 min"


ORDERS = st.permutations(SERVICES)
SIZES = st.lists(st.integers(1, 2), min_size=4, max_size=4)
EMPTY_AFTER = st.sampled_from([None, 20.0])
KINDS = st.lists(
    st.sampled_from([{}, {"code": True}, {"code": False}, {"dedicated": True}]), min_size=4, max_size=4
)


@settings(max_examples=15)
@given(ORDERS, SIZES, st.sets(KEYS, min_size=1), EMPTY_AFTER)
def test_in_calm_hosts_are_emptied_by_few_moves_and_without_a_moment_unserved(order, sizes, idle, after):
    world = visited_once(order, sizes, 4, empty_after_seconds=after)
    in_use = set(SERVICES) - idle
    world.begun.clear()
    made = world.made

    hold(world, (), frozenset(idle), in_use, rounds=120)

    assert world.made <= made + 1, "hosts came and went that nobody asked for"
    assert sum(world.begun.values()) <= 3 * world.emptied, "there were moves that emptied no host"
    assert world.plan().changes == []


@settings(max_examples=15)
@given(ORDERS, SIZES, st.integers(1, 2), st.booleans(), EMPTY_AFTER)
def test_who_is_held_is_served_where_others_only_ride(order, sizes, max_hosts, namespaced, after):
    """One other is in use too, where the two may share a host: then Residents have to go."""
    world = visited_once(
        order, sizes, max_hosts, namespaced=namespaced, empty_after_seconds=after, host_gib=5
    )
    for key in order:
        idle = frozenset(SERVICES) - {key} - (set() if namespaced else {"a/two"})
        hold(world, (), idle, rounds=10)
        hold(world, [key], idle, rounds=SERVED_WITHIN, lets_go=False)
        assert ready(world, key), f"{key} waits for ever: {world.last.services[key]}"
        world.gateway_holds("g1", key, False)


@settings(max_examples=20)
@given(ORDERS, KINDS, st.booleans(), st.booleans(), st.integers(1, 4))
def test_code_and_who_wants_to_be_alone_share_no_host_and_are_served_all_the_same(
    order, kinds, namespaced, allow_code, max_hosts
):
    world = FleetWorld(max_hosts=max_hosts, host_gib=6)
    world.pool = replace(world.pool, namespaced=namespaced, allow_code=allow_code)
    for key, kind in zip(order, kinds, strict=True):
        world.services[key] = make_service(key, idle_after_seconds=5.0, **kind)
        hold(world, [key], frozenset(SERVICES) - {key}, rounds=8, lets_go=False)
        assert ready(world, key), f"{key} waits for ever: {world.last.services[key]}"
        world.gateway_holds("g1", key, False)


ACTS = st.sampled_from(["agent_acts", "unload_ends", "agent_reports", "gateway_looks"])


@settings(max_examples=60)
@given(ORDERS, SIZES, st.integers(1, 2), st.lists(st.tuples(KEYS, ACTS), min_size=4, max_size=16))
@example(  # the first one waits for its namesake to be gone, and another is loaded beside its room meanwhile
    ["b/four", "a/one", "b/three", "a/two"],
    [1, 1, 1, 2],
    2,
    list(
        zip(
            ["b/four", "b/three", "a/two", "a/one"],
            ["agent_acts", "unload_ends", "agent_acts", "agent_reports"],
            strict=True,
        )
    ),
)
def test_room_that_is_made_is_for_who_waited_first_whoever_comes_meanwhile(order, sizes, max_hosts, steps):
    """The world checks each write of every wake and plan; in the end the first one is served."""
    world = visited_once(order, sizes, max_hosts, host_gib=4, empty_after_seconds=1e6)
    hold(world, (), frozenset(SERVICES), rounds=10)
    first = order[0]
    world.services[first] = make_service(first, memory_gib=3, revision=2, idle_after_seconds=5.0)
    world.gateway_holds("g1", first, True)
    world.plan()
    for key, act in steps:
        world.now += 0.5
        world.heartbeat("g1")
        world.gateway_holds("g1", key, True)
        world.wake()
        for name in list(world.gateways if act == "gateway_looks" else world.hosts):
            getattr(world, act)(name, *([frozenset()] if act == "agent_reports" else []))
        world.plan()
    hold(world, (), frozenset(SERVICES) - {first}, rounds=SERVED_WITHIN)
    assert ready(world, first), f"{first} waits for ever: {world.last.services[first]}"


def visited_once(order, sizes, max_hosts, host_gib=3, **fields):
    """Return a world in which each service was asked for once, one after the other."""
    world = FleetWorld(max_hosts=max_hosts, host_gib=host_gib)
    world.pool = replace(world.pool, **fields)
    for key, gib in zip(order, sizes, strict=True):
        world.services[key] = make_service(key, memory_gib=gib, idle_after_seconds=5.0)
        hold(world, [key], frozenset(), rounds=4)
    return world


def hold(world, keys, idle, in_use=(), rounds=ROUNDS // 2, lets_go=True):
    """Hold requests for some services for long, and see that those in use are ready all the time."""
    for key in keys:
        world.gateway_holds("g1", key, True)
    for _ in range(rounds):
        world.now += ROUND_SECONDS / 2
        world.everybody_acts(idle)
        world.wake()
        world.plan()
        for key in in_use:
            assert ready(world, key), f"{key} is in use, and suffers"
    for key in keys if lets_go else ():
        world.gateway_holds("g1", key, False)


def ready(world, key):
    return any(
        (p.service, p.state) == (key, State.LOADED) and h.says(p, Report.READY)
        for h, p in world.fleet().placements()
    )


def riders(world):
    return {p.service for _, p in world.fleet().placements() if p.state is State.RESIDENT}
