"""What counts as a delay, and what a gateway says of it."""

import pytest

from lull.api.names import DELAYED_SECONDS
from lull.gateway.pilot import Pilot


class Journal:
    def changed(self):
        pass


@pytest.fixture
def pilot():
    it = Pilot("node", "lull.localhost", admin=None)
    it.journal = Journal()
    return it


def test_who_waited_for_a_load_was_delayed_and_who_was_only_routed_again_was_not(pilot):
    pilot.rested("demo/rider", DELAYED_SECONDS / 2)
    pilot.rested("demo/loaded", DELAYED_SECONDS * 2)
    pilot.rested("demo/loaded", DELAYED_SECONDS * 2)
    assert pilot.delays.totals() == {"demo/loaded": 2}
    assert pilot.metrics.delayed._value.get() == 2
