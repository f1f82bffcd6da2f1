"""The fence claims nothing while a request could reach the placement: on any history."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lull.gateway.drain import QUIET_SECONDS, SETTLE_SECONDS, Fence, Reach
from lull.gateway.view import Lease

A, B = Lease("a", 1), Lease("b", 1)
NOTHING = Reach(routed=frozenset(), clustered=frozenset())


def drained_after(fence, now, leaving, reach=NOTHING, alive=frozenset()):
    step = fence.step(now, frozenset(), frozenset(leaving), reach)
    fence.confirm(step.ask, alive)
    return fence.drained


def test_the_way_out_in_order():
    fence = Fence(0.0)
    routed, kept = Reach(frozenset([A]), frozenset([A])), Reach(frozenset(), frozenset([A]))
    assert fence.step(10.0, frozenset([A]), frozenset(), routed).drop == frozenset()
    fence.sent(A, 10.0)
    assert fence.step(10.1, frozenset(), frozenset([A]), routed).drop == frozenset(), "still routed"
    step = fence.step(10.2, frozenset(), frozenset([A]), kept)
    assert step.drop == frozenset(), "a second since the last OK"
    assert step.next_at == 10.0 + QUIET_SECONDS
    step = fence.step(11.0, frozenset(), frozenset([A]), kept)
    assert (step.drop, step.ask) == ({A}, frozenset()), (
        "clusters may go, and nothing is asked before they have"
    )
    step = fence.step(11.1, frozenset(), frozenset([A]), NOTHING)
    assert step.ask == {A}
    assert fence.confirm(step.ask, {A}) == 0, "a request of it lives"
    assert fence.confirm(step.ask, frozenset()) == 1
    assert fence.drained == {A}


def test_routes_settle_before_clusters_go():
    fence = Fence(0.0)
    kept = Reach(frozenset(), frozenset([A]))
    assert not fence.step(50.0, frozenset(), frozenset([A]), kept).drop
    assert not fence.step(50.0 + SETTLE_SECONDS / 2, frozenset(), frozenset([A]), kept).drop
    assert fence.step(50.0 + SETTLE_SECONDS, frozenset(), frozenset([A]), kept).drop == {A}


def test_a_fresh_pilot_claims_nothing_for_a_second():
    fence = Fence(5.0)
    step = fence.step(5.5, frozenset(), frozenset([A]), NOTHING)
    assert (step.ask, step.next_at) == (frozenset(), 5.0 + QUIET_SECONDS)
    assert drained_after(fence, 6.0, [A]) == {A}


def test_nothing_is_claimed_or_dropped_while_envoys_routes_are_unknown():
    fence = Fence(0.0)
    step = fence.step(100.0, frozenset(), frozenset([A]), Reach(None, frozenset([A])))
    assert (step.drop, step.ask) == (frozenset(), frozenset())


def test_an_answer_that_was_asked_for_before_a_return_does_not_count():
    fence = Fence(0.0)
    step = fence.step(10.0, frozenset(), frozenset([A]), NOTHING)
    fence.step(10.1, frozenset([Lease("a", 2)]), frozenset(), NOTHING)
    assert fence.confirm(step.ask, frozenset()) == 0


def test_earlier_epochs_block_a_claim_and_later_ones_do_not():
    fence, again = Fence(0.0), Lease("a", 2)
    assert not drained_after(fence, 10.0, [again], Reach(frozenset(), frozenset([A])))
    assert not drained_after(fence, 20.0, [again], NOTHING, alive={A})
    assert drained_after(fence, 30.0, [again]) == {again}


def test_a_claim_goes_with_its_placement_and_with_its_epoch():
    fence = Fence(0.0)
    assert drained_after(fence, 10.0, [A, B]) == {A, B}
    assert drained_after(fence, 11.0, [B]) == {B}
    assert drained_after(fence, 12.0, [Lease("b", 2)], alive={Lease("b", 2)}) == frozenset()


class Gateway(RuleBasedStateMachine):
    """A pilot's loop against an Envoy that acknowledges, answers and finishes requests whenever it likes.

    One placement, so that histories get deep; the pilot looks after every event, as it does.
    """

    def __init__(self):
        super().__init__()
        self.now = 100.0
        self.fence = Fence(self.now)
        self.epoch, self.state = 1, "Loaded"
        self.wanted_routes, self.envoy_routes = frozenset(), frozenset()
        self.wanted_clusters, self.envoy_clusters = set(), set()
        self.oks = []  # (lease, when): OKs that Envoy has not yet taken up
        self.requests = []  # leases of requests that Envoy carries
        self.asked, self.answers = frozenset(), []
        self.load()

    @property
    def lease(self):
        return Lease("a", self.epoch)

    @property
    def wanted(self):
        return frozenset([self.lease]) if self.state == "Loaded" else frozenset()

    @property
    def leaving(self):
        return frozenset([self.lease]) if self.state in ("Draining", "Resident") else frozenset()

    def load(self):
        self.state = "Loaded"
        if self.lease not in self.wanted_clusters:
            self.wanted_clusters.add(self.lease)
        self.look()

    def look(self):
        """Do what the pilot does after every event."""
        self.wanted_routes = self.wanted & self.envoy_clusters
        reach = Reach(
            routed=self.envoy_routes | self.wanted_routes,
            clustered=frozenset(self.envoy_clusters | self.wanted_clusters),
        )
        step = self.fence.step(self.now, self.wanted, self.leaving, reach)
        assert not step.drop & self.wanted
        self.wanted_clusters -= step.drop
        self.asked = step.ask

    @precondition(lambda self: self.state == "Loaded")
    @rule()
    def controller_drains(self):
        self.state = "Draining"
        self.look()

    @precondition(lambda self: self.state != "Loaded")
    @rule(same_epoch=st.booleans())
    def controller_turns_back(self, same_epoch):
        # The same epoch again is what an agent's restart looks like: not Ready, then Ready.
        self.epoch += not (same_epoch and self.state == "Unready")
        self.load()

    @precondition(lambda self: self.state == "Loaded")
    @rule()
    def model_is_not_ready(self):
        self.state = "Unready"
        self.look()

    @rule(seconds=st.sampled_from([SETTLE_SECONDS, 0.8 * QUIET_SECONDS, 1.2 * QUIET_SECONDS]))
    def time_passes(self, seconds):
        # Envoy takes an OK up within the quiet second.
        self.now += seconds
        late = [(lease, when) for lease, when in self.oks if self.now - when >= QUIET_SECONDS]
        for lease, _ in late:
            self.take_up(lease)
        self.oks = [ok for ok in self.oks if ok not in late]
        self.look()

    def take_up(self, lease):
        assert lease in self.envoy_clusters, "an OK met no cluster: its request failed"
        self.requests.append(lease)

    @precondition(lambda self: self.oks)
    @rule()
    def envoy_takes_an_ok(self):
        self.take_up(self.oks.pop()[0])

    @precondition(lambda self: self.wanted & self.envoy_clusters)
    @rule()
    def check(self):
        self.fence.sent(self.lease, self.now)
        self.oks.append((self.lease, self.now))

    @precondition(lambda self: self.envoy_routes)
    @rule()
    def envoy_routes_a_request(self):
        for lease in self.envoy_routes:
            assert lease in self.envoy_clusters, "a route met no cluster: its request failed"
            self.requests.append(lease)

    @precondition(lambda self: self.requests)
    @rule(all_=st.booleans())
    def requests_end(self, all_):
        del self.requests[: len(self.requests) if all_ else 1]

    @precondition(lambda self: self.envoy_routes != self.wanted_routes)
    @rule()
    def envoy_acknowledges_routes(self):
        self.envoy_routes = self.wanted_routes
        self.look()

    @precondition(lambda self: self.envoy_clusters != self.wanted_clusters)
    @rule()
    def envoy_acknowledges_clusters(self):
        self.envoy_clusters = set(self.wanted_clusters)
        self.look()

    @precondition(lambda self: self.asked)
    @rule()
    def envoy_is_asked(self):
        self.answers.append((self.asked, frozenset(self.envoy_clusters) | frozenset(self.requests)))

    @precondition(lambda self: self.answers)
    @rule()
    def the_answer_arrives(self):
        self.fence.confirm(*self.answers.pop(0))

    @invariant()
    def a_claim_is_true(self):
        for claim in self.fence.drained & self.leaving:
            reachable = self.envoy_routes | self.envoy_clusters | set(self.requests)
            reachable |= {lease for lease, when in self.oks if self.now - when < QUIET_SECONDS}
            assert not any(lease.id == claim.id and lease.epoch <= claim.epoch for lease in reachable)


TestAnyHistory = Gateway.TestCase
TestAnyHistory.settings = settings(max_examples=500, stateful_step_count=50)
