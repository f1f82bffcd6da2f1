"""The simulated ModelGateway: nobody is told of anything sooner than by the real one."""

import pytest

from lull.gateway import drain, record
from lull.policy import Gateway
from lull.simulate import pilot
from lull.simulate.record import COALESCE_SECONDS, HOP_SECONDS, Record, Told
from lull.simulate.timeline import Timeline

HEARTBEAT_SECONDS = record.GATEWAY_HEARTBEAT_SECONDS


class Desk:
    """What is to be told, as a test sets it, and when that came to be known."""

    def __init__(self):
        self.timeline = Timeline()
        self.held, self.delayed = frozenset(), {}
        self.known, self.demands = [], 0
        self.record = Record(self.timeline, now=self._now, on_demands=self._demand, on_figures=self._tell)

    def _now(self):
        beat = str(self.timeline.now) if self.held else ""
        return Told(Gateway("gateway", beat, self.held), dict(self.delayed))

    def _demand(self):
        self.demands += 1
        self._tell()

    def _tell(self):
        told = self.record.told
        self.known.append((self.timeline.now, told.gateway.held, told.delayed))

    def go_to(self, at):
        while self.timeline.next_at <= at:
            self.timeline.run_next()
        self.timeline.now = at


@pytest.fixture
def desk():
    return Desk()


def test_what_somebody_waits_for_is_known_a_hop_later(desk):
    desk.held = frozenset({"team/a"})
    desk.record.urgent()
    desk.go_to(HOP_SECONDS - 0.001)
    assert desk.known == []
    desk.go_to(HOP_SECONDS)
    assert desk.known == [(HOP_SECONDS, {"team/a"}, {})]


def test_what_nobody_waits_for_is_gathered_and_goes_along_with_what_is_urgent(desk):
    desk.delayed = {"team/a": 1}
    desk.record.changed()
    desk.go_to(COALESCE_SECONDS / 2)
    desk.delayed = {"team/a": 2}
    desk.record.changed()
    desk.go_to(1.0)
    assert desk.known == [(COALESCE_SECONDS + HOP_SECONDS, frozenset(), {"team/a": 2})]
    desk.delayed = {"team/a": 3}
    desk.record.changed()
    desk.record.urgent()
    desk.go_to(2.0)
    assert desk.known[1:] == [(1.0 + HOP_SECONDS, frozenset(), {"team/a": 3})]


def test_it_says_that_it_lives_as_long_as_it_holds_requests(desk):
    desk.held = frozenset({"team/a"})
    desk.record.urgent()
    desk.go_to(2.5 * HEARTBEAT_SECONDS)
    assert [at for at, _, _ in desk.known] == [n * HEARTBEAT_SECONDS + HOP_SECONDS for n in range(3)]
    assert desk.demands == 1, "nobody has to decide anew on a heartbeat"
    desk.held = frozenset()
    desk.record.changed()
    desk.go_to(10 * HEARTBEAT_SECONDS)
    assert (len(desk.known), desk.demands) == (4, 2)


def test_it_takes_as_long_as_the_real_gateway():
    assert COALESCE_SECONDS == record._COALESCE_SECONDS
    assert (pilot.SETTLE_SECONDS, pilot.QUIET_SECONDS) == (drain.SETTLE_SECONDS, drain.QUIET_SECONDS)
