"""The simulated agent: what it loads, in which order, and what it says of it."""

from dataclasses import replace

import pytest

from lull.policy import Model, Placement, Report, State
from lull.simulate.agent import UNLOAD_SECONDS, Agent
from lull.simulate.timeline import Timeline


def placement(name, **fields):
    return Placement(name, f"team/{name}", Model("1", name, ""), 8, 300.0, **fields)


@pytest.fixture
def timeline():
    return Timeline()


@pytest.fixture
def begun():
    return []


@pytest.fixture
def agent(timeline, begun):
    def load(placement):
        begun.append((placement.id, timeline.now))
        return 20.0

    return Agent(timeline, load=load, on_change=lambda: None)


def go_to(timeline, at):
    while timeline.next_at <= at:
        timeline.run_next()
    timeline.now = at


def states(agent):
    return {id_: report.state for id_, report in agent.reports().items()}


def test_it_loads_one_model_at_a_time_and_those_that_are_waited_for_first(agent, timeline, begun):
    agent.want([placement("rider", state=State.RESIDENT), placement("a"), placement("b")])
    go_to(timeline, 45.0)
    assert begun == [("a", 0.0), ("b", 20.0), ("rider", 40.0)]
    assert states(agent) == {"rider": Report.LOADING, "a": Report.READY, "b": Report.READY}


def test_what_is_not_wanted_any_more_leaves_and_its_memory_with_it(agent, timeline):
    agent.want([placement("a")])
    go_to(timeline, 20.0)
    agent.want([])
    assert states(agent) == {"a": Report.UNLOADING}
    assert agent.reports()["a"].memory_bytes == 8
    go_to(timeline, 20.0 + UNLOAD_SECONDS)
    assert states(agent) == {}


def test_a_load_cannot_be_broken_off_and_one_that_waits_can(agent, timeline):
    agent.want([placement("a"), placement("b")])
    go_to(timeline, 5.0)
    agent.want([])
    assert states(agent) == {"a": Report.LOADING}
    go_to(timeline, 20.0)
    assert states(agent) == {"a": Report.LOADING}
    go_to(timeline, 20.0 + UNLOAD_SECONDS)
    assert states(agent) == {}


def test_what_leaves_while_it_loads_is_out_before_the_next_load_begins(agent, timeline, begun):
    agent.want([placement("a")])
    go_to(timeline, 5.0)
    agent.want([placement("b")])
    go_to(timeline, 45.0)
    assert begun == [("a", 0.0), ("b", 20.0 + UNLOAD_SECONDS)]
    assert states(agent) == {"b": Report.READY}


def test_a_model_is_idle_after_its_idle_time_without_a_request_that_computes(agent, timeline):
    agent.want([placement("a")])
    go_to(timeline, 50.0)
    agent.use(agent.copies["a"], until=60.0)
    go_to(timeline, 359.9)
    assert not agent.reports()["a"].idle
    go_to(timeline, 360.0)
    assert agent.reports()["a"].idle


def test_it_notices_who_is_idle_and_who_is_asked_again_when_it_looks_next(agent, timeline):
    agent.want([placement("a")])
    go_to(timeline, 50.3)
    agent.use(agent.copies["a"], until=50.4)
    go_to(timeline, 351.0 - 0.01)
    assert not agent.reports()["a"].idle
    go_to(timeline, 351.0)
    assert agent.reports()["a"].idle
    go_to(timeline, 360.3)
    agent.use(agent.copies["a"], until=360.4)
    agent.use(agent.copies["a"], until=360.5)
    assert agent.reports()["a"].idle
    go_to(timeline, 361.0)
    assert not agent.reports()["a"].idle
    go_to(timeline, 661.0)
    assert agent.reports()["a"].idle


def test_it_looks_oftener_where_an_idle_time_is_short(agent, timeline):
    agent.want([replace(placement("a"), idle_after_seconds=2.0)])
    go_to(timeline, 30.1)
    agent.use(agent.copies["a"], until=30.1)
    go_to(timeline, 32.4)
    assert not agent.reports()["a"].idle
    go_to(timeline, 32.5)
    assert agent.reports()["a"].idle


def test_a_request_counts_once_and_not_before_it_has_ended(agent, timeline):
    agent.want([placement("a"), placement("b")])
    go_to(timeline, 50.0)
    agent.use(agent.copies["a"], until=52.0)
    agent.use(agent.copies["a"], until=60.0)
    agent.use(agent.copies["b"], until=55.0)
    go_to(timeline, 51.0)
    assert agent.take_answered() == {}
    go_to(timeline, 56.0)
    assert agent.take_answered() == {"team/a": 1, "team/b": 1}
    go_to(timeline, 70.0)
    assert agent.take_answered() == {"team/a": 1}
    assert agent.take_answered() == {}


def test_idleness_counts_from_when_it_is_routed_again(agent, timeline):
    asked = placement("a")
    agent.want([asked])
    go_to(timeline, 400.0)
    assert agent.reports()["a"].idle
    agent.want([replace(asked, epoch=2)])
    assert not agent.reports()["a"].idle
    go_to(timeline, 700.0)
    assert agent.reports()["a"].idle


def test_a_shorter_idle_time_takes_effect_at_once(agent, timeline):
    asked = placement("a")
    agent.want([asked])
    go_to(timeline, 100.0)
    agent.want([replace(asked, idle_after_seconds=10.0)])
    go_to(timeline, 100.0)
    assert agent.reports()["a"].idle


def test_the_busy_share_is_that_of_the_last_window_and_is_measured_twice_in_it(agent, timeline):
    agent.want([placement("a")])
    go_to(timeline, 30.0)
    assert not agent.measure(60.0)
    agent.use(agent.copies["a"], until=45.0)
    agent.use(agent.copies["a"], until=40.0)
    go_to(timeline, 50.0)
    agent.use(agent.copies["a"], until=75.0)
    go_to(timeline, 60.0)
    assert agent.measure(60.0)
    assert agent.reports()["a"].busy == pytest.approx(0.4)  # 15 s and 10 s of 60 s, in steps
    go_to(timeline, 90.0)
    assert agent.measure(60.0)
    assert agent.reports()["a"].busy == pytest.approx(0.65)  # and 15 s more
    go_to(timeline, 120.0)
    assert agent.measure(60.0)
    assert agent.reports()["a"].busy == pytest.approx(0.25)
    go_to(timeline, 150.0)
    assert not agent.measure(60.0)
