"""The plan: everything that should change now, why, and when time alone changes the answer."""

from collections.abc import Mapping
from dataclasses import dataclass

from lull.policy.changes import Change, Draft
from lull.policy.demand import wanted
from lull.policy.explain import Explanation, PoolExplanation, explain, explain_pool
from lull.policy.fence import close_fences
from lull.policy.fleet import Fleet
from lull.policy.hosts import keep_minimum, let_go, missing_pods
from lull.policy.idling import give_up, good, refresh, relieve, retire
from lull.policy.notes import Notes
from lull.policy.wake import wake_held, wake_one


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    Attributes:
        changes: to be applied; without outside change, applying them leads to a plan without any.
        next_at: the next moment at which the passing of time alone changes the plan; None if it never does.
        services: what each service's status says, by key.
        pools: what each pool's status says, by name.
    """

    changes: list[Change]
    next_at: float | None
    services: Mapping[str, Explanation]
    pools: Mapping[str, PoolExplanation]


def plan(fleet: Fleet, notes: Notes, now: float) -> Plan:
    """Decide on the whole fleet: wake, retire, fence, failures, hosts, in this order."""
    draft = Draft(fleet, notes, now)
    wake_held(draft)
    provide(draft)
    retire(draft)
    close_fences(draft)
    give_up(draft)
    relieve(draft)
    refresh(draft)
    let_go(draft)
    keep_minimum(draft)
    services = {service.key: explain(draft, service) for service in draft.services()}
    pools = {name: explain_pool(draft, pool) for name, pool in fleet.pools.items()}
    return Plan([*draft.changes(), *missing_pods(draft)], draft.next_at, services, pools)


def provide(draft: Draft) -> None:
    """Give every service the replicas it wants: the new ones before any old one goes."""
    for service in draft.services():
        target = wanted(draft, service)
        have = sum(good(draft, host, p, service) for host, p in draft.of(service.key)) if target else 0
        for _ in range(target - have):
            if not wake_one(draft, service):
                break
