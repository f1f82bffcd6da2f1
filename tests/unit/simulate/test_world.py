"""The simulated API and gateway: what reaches whom, and when."""

from dataclasses import replace
from itertools import count

import pytest

from lull.api.names import DELAYED_SECONDS
from lull.policy import (
    CreateHost,
    DeleteHost,
    Placement,
    Pod,
    Report,
    SetModels,
    State,
    Vacate,
)
from lull.simulate.meter import Meter
from lull.simulate.pilot import SETTLE_SECONDS
from lull.simulate.record import COALESCE_SECONDS, HOP_SECONDS
from lull.simulate.setting import HOLD_SECONDS, Setting
from lull.simulate.timeline import Timeline
from lull.simulate.world import FIGURES_SECONDS, World
from lull_runtime.agent import status
from lull_runtime.measure import window
from unit.simulate.traces import trace

OF = trace((0, "a", 1), (0, "b", 1), length_seconds=1000)
A, B = 0, 1


class Stage:
    """A world without a policy: the test decides."""

    def __init__(self):
        self.timeline = Timeline()
        self.meter = Meter(OF, Setting())
        self.changes = self.figures = 0
        self.world = World(
            OF, Setting(), self.timeline, self.meter, on_change=self._change, on_figures=self._figures
        )
        self._ids = count()

    def _change(self):
        self.changes += 1

    def _figures(self):
        self.figures += 1

    def go_to(self, at):
        while self.timeline.next_at <= at:
            self.timeline.run_next()
        self.timeline.now = at

    def placement(self, key, **fields):
        service = self.world.fleet().services[key]
        return Placement(f"p{next(self._ids)}", key, service.model, service.memory_bytes, 300.0, **fields)

    def set_models(self, *after):
        self.world.write([SetModels("h", self.world.hosts["h"].placements, after)])

    def held(self):
        return self.world.fleet().gateways["gateway"].held

    def drained(self):
        return self.world.fleet().gateways["gateway"].drained

    def count(self, key):
        told = self.world.fleet().counts.get(key)
        return told and (told.requests, told.delayed)

    def report(self, placement):
        report = self.world.hosts["h"].report(placement)
        return report and report.state


@pytest.fixture
def stage():
    return Stage()


@pytest.fixture
def serving(stage):
    """Model a is loaded on host h since second 50."""
    stage.a = stage.placement("team/a")
    stage.world.write([CreateHost("h", "gpu", (stage.a,))])
    stage.go_to(60.5)
    assert stage.report(stage.a) is Report.READY
    return stage


def test_a_host_starts_then_loads_and_is_kept_from_the_wish_for_it(stage):
    asked = stage.placement("team/a")
    stage.go_to(10.0)
    stage.world.write([CreateHost("h", "gpu", (asked,))])
    host = stage.world.fleet().hosts["h"]
    assert (host.pod, host.node) == (Pod.STARTING, "node-1")
    stage.go_to(40.0)
    assert stage.world.hosts["h"].pod is Pod.RUNNING
    assert stage.report(asked) is None
    stage.go_to(40.0 + HOP_SECONDS)
    assert stage.report(asked) is Report.LOADING
    stage.go_to(60.0)
    assert stage.report(asked) is Report.LOADING
    stage.go_to(60.0 + HOP_SECONDS)
    assert stage.report(asked) is Report.READY
    assert stage.meter.outcome("x", 60.0).host_hours == pytest.approx(50 / 3600)


def test_requests_that_are_held_are_seen_a_hop_later_and_served_once_ready(stage):
    stage.world.pilot.arrive(A, 1.0)
    assert (stage.changes, stage.held()) == (0, set())
    stage.go_to(HOP_SECONDS)
    assert (stage.changes, stage.held(), stage.world.demanded) == (1, {"team/a"}, True)
    stage.world.write([CreateHost("h", "gpu", (stage.placement("team/a"),))])
    stage.go_to(5.0)
    stage.world.pilot.arrive(A, 1.0)
    stage.go_to(51.0)
    assert not stage.world.pilot.holding
    assert not stage.world.demanded
    assert stage.meter.outcome("x", 100.0).delay_seconds.p50 == pytest.approx(45.0, abs=3 * HOP_SECONDS)


def test_who_waited_is_told_soon_after_it_and_who_was_answered_with_what_agents_tell_anyway(serving):
    serving.set_models(replace(serving.a, state=State.RESIDENT))
    serving.go_to(61.0)
    serving.world.pilot.arrive(A, 1.0)
    serving.go_to(61.0 + DELAYED_SECONDS)
    serving.set_models(replace(serving.a, epoch=2))
    routed = serving.timeline.now + HOP_SECONDS
    serving.go_to(routed)
    assert not serving.world.pilot.holding
    assert serving.count("team/a") is None
    serving.go_to(routed + HOP_SECONDS + COALESCE_SECONDS)
    assert serving.count("team/a") == (0, 1)
    serving.go_to(routed + FIGURES_SECONDS)
    assert (serving.count("team/a"), serving.figures) == ((0, 1), 0)
    serving.go_to(routed + FIGURES_SECONDS + 2 * HOP_SECONDS)
    assert (serving.count("team/a"), serving.figures) == ((1, 1), 1)


def test_who_is_routed_again_at_once_was_not_delayed(serving):
    serving.set_models(replace(serving.a, state=State.RESIDENT))
    serving.go_to(61.0)
    serving.world.pilot.arrive(A, 1.0)
    serving.set_models(replace(serving.a, epoch=2))
    serving.go_to(61.0 + 2 * FIGURES_SECONDS)
    assert serving.count("team/a") == (1, 0)


def test_what_nobody_answered_counts_as_delayed_and_not_as_a_request(stage):
    stage.world.pilot.arrive(A, 1.0)
    stage.go_to(HOLD_SECONDS + 1.0)
    assert stage.count("team/a") == (0, 1)


def test_a_host_that_goes_tells_its_last_figures(serving):
    serving.world.pilot.arrive(A, 1.0)
    serving.go_to(62.0)
    serving.world.write([DeleteHost("h", serving.world.hosts["h"].placements, "")])
    assert serving.count("team/a") is None
    serving.go_to(62.0 + HOP_SECONDS)
    assert serving.count("team/a") == (1, 0)


def test_each_request_is_held_for_its_own_time(stage):
    stage.world.pilot.arrive(A, 1.0)
    stage.go_to(20.0)
    stage.world.pilot.arrive(A, 1.0)
    stage.go_to(HOLD_SECONDS)
    assert (stage.meter.outcome("x", 100.0).dropped, stage.world.pilot.holding) == (1, True)
    stage.go_to(20.0 + HOLD_SECONDS)
    assert (stage.meter.outcome("x", 100.0).dropped, stage.world.pilot.holding) == (2, False)


def test_a_drain_is_claimed_once_its_last_request_has_ended_and_new_requests_are_held(serving):
    serving.world.pilot.arrive(A, 7.0)
    draining = replace(serving.a, state=State.DRAINING)
    serving.set_models(draining)
    serving.go_to(67.5)
    assert serving.drained() == set()
    serving.world.pilot.arrive(A, 1.0)
    assert serving.world.pilot.holding
    serving.go_to(67.5 + 2 * HOP_SECONDS)
    assert serving.drained() == {draining.claim}
    serving.set_models(replace(serving.a, epoch=2))
    serving.go_to(69.0)
    assert not serving.world.pilot.holding
    assert serving.drained() == set()


def test_a_drain_of_what_nobody_asks_is_claimed_once_the_gateway_is_sure(serving):
    draining = replace(serving.a, state=State.DRAINING)
    serving.set_models(draining)
    begun = serving.timeline.now + HOP_SECONDS
    serving.go_to(begun + SETTLE_SECONDS)
    assert serving.drained() == set()
    serving.go_to(begun + SETTLE_SECONDS + HOP_SECONDS)
    assert serving.drained() == {draining.claim}


def test_a_claim_is_not_made_for_a_drain_that_was_called_off(serving):
    serving.world.pilot.arrive(A, 7.0)
    serving.set_models(replace(serving.a, state=State.DRAINING))
    serving.go_to(62.0)
    serving.set_models(replace(serving.a, epoch=2))
    serving.go_to(100.0)
    assert serving.drained() == set()


def test_a_free_rider_serves_nobody_until_it_is_routed_again(serving):
    serving.set_models(replace(serving.a, state=State.RESIDENT))
    serving.go_to(61.0)
    serving.world.pilot.arrive(A, 1.0)
    assert serving.world.pilot.holding
    serving.set_models(replace(serving.a, epoch=2))
    serving.go_to(61.0 + HOP_SECONDS)
    assert not serving.world.pilot.holding
    assert serving.meter.outcome("x", 100.0).delayed == 0


def test_a_host_that_is_being_written_takes_no_other_write(serving):
    b = serving.placement("team/b")
    serving.set_models(serving.a, b)
    serving.set_models(serving.a)
    assert serving.world.hosts["h"].placements == (serving.a, b)
    seen = serving.changes
    serving.go_to(60.5 + HOP_SECONDS)
    assert serving.changes > seen
    serving.set_models(serving.a)
    assert serving.world.hosts["h"].placements == (serving.a,)


def test_a_vacated_host_is_cordoned_until_that_is_taken_back(serving):
    serving.world.write([Vacate("h", "its models fit elsewhere")])
    host = serving.world.fleet().hosts["h"]
    assert (host.cordoned, host.vacated) == (True, True)
    serving.go_to(120.0)
    serving.world.write([Vacate("h", "")])
    host = serving.world.fleet().hosts["h"]
    assert (host.cordoned, host.vacated) == (False, False)


def test_a_host_that_goes_takes_its_routes_along_and_what_was_under_way_there_is_no_news(serving):
    serving.set_models(serving.a, serving.placement("team/b"))
    serving.go_to(61.0)
    serving.world.write([DeleteHost("h", serving.world.hosts["h"].placements, "")])
    assert serving.world.fleet().hosts == {}
    serving.go_to(62.0)
    seen = serving.changes
    serving.go_to(100.0)
    assert serving.changes == seen
    serving.world.pilot.arrive(A, 1.0)
    assert serving.world.pilot.holding


def test_a_host_that_goes_before_it_has_started_never_starts(stage):
    stage.world.write([CreateHost("h", "gpu", ())])
    stage.go_to(1.0)
    stage.world.write([DeleteHost("h", (), "")])
    stage.go_to(40.0)
    assert stage.world.hosts == {}


def test_a_load_of_what_is_ready_elsewhere_is_a_move(serving):
    serving.world.write([CreateHost("other", "gpu", (serving.placement("team/a"),))])
    serving.go_to(120.0)
    outcome = serving.meter.outcome("x", 120.0)
    assert (outcome.loads, outcome.moves) == (2, 1)


def test_figures_follow_within_their_time_until_nothing_computes(serving):
    serving.go_to(100.0)
    serving.world.pilot.arrive(A, 15.0)
    serving.go_to(100.0 + FIGURES_SECONDS + HOP_SECONDS)
    assert serving.world.hosts["h"].reports[serving.a.id].busy == pytest.approx(15 / (2 * FIGURES_SECONDS))
    serving.go_to(100.0 + 3 * FIGURES_SECONDS + HOP_SECONDS)
    assert serving.world.hosts["h"].reports[serving.a.id].busy == 0
    seen = serving.changes
    serving.go_to(340.0)
    assert serving.changes == seen


def test_no_fleet_that_was_seen_changes_afterwards(serving):
    before = serving.world.fleet()
    hosts, counts = dict(before.hosts), dict(before.counts)
    serving.world.pilot.arrive(A, 1.0)
    serving.set_models()
    serving.go_to(70.0)
    assert (before.hosts, before.counts) == (hosts, counts)
    assert before.seed != serving.world.fleet().seed


def test_figures_are_told_as_often_as_the_real_agent_tells_them():
    assert (FIGURES_SECONDS, 2 * FIGURES_SECONDS) == (status._ACTIVE_SECONDS, window.WINDOW_SECONDS)
