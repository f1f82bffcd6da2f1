"""What can be simulated."""

from lull.simulate.policies import POLICIES
from lull.simulate.setting import Setting
from unit.simulate.traces import trace


def test_lull_and_eight_policies_of_peers_can_be_simulated():
    assert " ".join(POLICIES) == (
        "lull always-on packed-always-on knative keda knative-shared keda-shared modelmesh seldon"
    )


def test_every_peer_answers_by_its_own_name_and_counts_every_request():
    of = trace((0, "a", 1), (5, "b", 1), (2000, "a", 1), length_seconds=4000)
    for name in set(POLICIES) - {"lull"}:
        told = POLICIES[name](of, Setting())
        assert (told.policy, told.requests) == (name, 3)
