"""The comparison with peers says so where Lull has nothing to compare."""

from dataclasses import replace

from bench.few_hosts import _against
from lull.simulate.outcome import Delays, Outcome

PEER = Outcome("peer", 100, 4, Delays(), 0, 50.0, 50.0, 1.0, 1.0, 1.0, 1.0, 0, 9)


def compared(*runs):
    return {figure.name: figure for figure in _against("here", PEER, runs, 0.25, 0.2)}


def test_a_bar_is_missed_where_no_run_is_as_good_as_the_peer_in_either():
    told = compared(replace(PEER, policy="lull at 5 %", delayed=5, host_hours=51.0))
    for name in ("here: hosts at the delays of peer", "here: delays at the hosts of peer"):
        assert told[name].holds is False
        assert told[name].entry()["value"] is None
        assert "no run of Lull qualifies" in told[name].reference


def test_a_figure_names_the_objective_that_it_is_of():
    told = compared(
        replace(PEER, policy="lull at 3 %", delayed=3, host_hours=12.0),
        replace(PEER, policy="lull at 1 %", delayed=0, host_hours=50.0),
    )
    hosts, delays = told["here: hosts at the delays of peer"], told["here: delays at the hosts of peer"]
    assert (hosts.value, hosts.holds) == (12.0, True)
    assert "lull at 3 %" in hosts.reference
    assert (delays.value, delays.holds) == (0.0, True)
    assert "lull at 1 %" in delays.reference
