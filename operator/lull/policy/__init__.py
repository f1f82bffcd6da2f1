"""Pure decisions: who wakes, who sleeps, who sits where. No I/O, no clock, no Kubernetes.

`plan` looks at what has changed since the last one, or at everything, `wake` at what is held; both take a
frozen `Fleet`, notes and the time, and return changes.
"""

from lull.policy.changes import Change, CreateHost, CreatePod, DeleteHost, SetModels, Stage, Vacate
from lull.policy.explain import Explanation, PoolExplanation
from lull.policy.fleet import (
    Fleet,
    Gateway,
    Host,
    Model,
    Placement,
    Pod,
    Pool,
    Report,
    Reported,
    Service,
    State,
)
from lull.policy.notes import NOTHING_NOTED, Failure, Notes, observe
from lull.policy.plan import Plan, over_again, plan
from lull.policy.wake import wake

__all__ = [
    "NOTHING_NOTED",
    "Change",
    "CreateHost",
    "CreatePod",
    "DeleteHost",
    "Explanation",
    "Failure",
    "Fleet",
    "Gateway",
    "Host",
    "Model",
    "Notes",
    "Placement",
    "Plan",
    "Pod",
    "Pool",
    "PoolExplanation",
    "Report",
    "Reported",
    "Service",
    "SetModels",
    "Stage",
    "State",
    "Vacate",
    "observe",
    "over_again",
    "plan",
    "wake",
]
