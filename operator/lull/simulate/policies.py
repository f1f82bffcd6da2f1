"""Every policy that can be simulated, by the name that `lull simulate --policy` knows it by."""

from collections.abc import Callable, Mapping

from lull.simulate.lull import simulate_lull
from lull.simulate.outcome import Outcome
from lull.simulate.peers.always_on import always_on, packed_always_on
from lull.simulate.peers.caches import modelmesh, seldon
from lull.simulate.peers.pods import keda, keda_shared, knative, knative_shared
from lull.simulate.setting import Setting
from lull.simulate.trace import Trace

Simulate = Callable[[Trace, Setting], Outcome]

POLICIES: Mapping[str, Simulate] = {
    "lull": simulate_lull,
    "always-on": always_on,
    "packed-always-on": packed_always_on,
    "knative": knative,
    "keda": keda,
    "knative-shared": knative_shared,
    "keda-shared": keda_shared,
    "modelmesh": modelmesh,
    "seldon": seldon,
}
"""Without `clairvoyant`, which is no run but a bound (lull.simulate.bound)."""
FIXED = ("modelmesh", "seldon")
"""Policies that keep a number of hosts that somebody chose."""
