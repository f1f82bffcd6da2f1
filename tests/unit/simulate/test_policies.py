"""What the command line names is what can be simulated."""

from lull.cli.simulate.runs import POLICIES as ON_THE_COMMAND_LINE
from lull.simulate.policies import POLICIES
from lull.simulate.setting import Setting
from unit.simulate.traces import trace

PEERS = [name for name in POLICIES if name != "lull"]


def test_every_peer_answers_by_its_own_name_and_counts_every_request():
    of = trace((0, "a", 1), (5, "b", 1), (2000, "a", 1), length_seconds=4000)
    for name in PEERS:
        told = POLICIES[name](of, Setting())
        assert (told.policy, told.requests) == (name, 3)


def test_the_policies_are_those_of_the_command_line():
    assert list(POLICIES) == [name for name in ON_THE_COMMAND_LINE if name != "clairvoyant"]
