"""The plan: everything that should change now, why, and when time alone changes the answer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lull.policy.ahead import load_ahead
from lull.policy.changes import Change, Draft
from lull.policy.consolidate import consolidate, use_again
from lull.policy.explain import Explanation, PoolExplanation, explain, explain_pool
from lull.policy.fence import close_fences
from lull.policy.fleet import Fleet, Host, Pod
from lull.policy.hosts import keep_minimum, let_go, look_back, missing_pods
from lull.policy.idling import give_up, refresh, relieve, retire
from lull.policy.notes import Notes
from lull.policy.provide import provide
from lull.policy.scope import (
    NOTHING_SEEN,
    Scope,
    Seen,
    Subject,
    Surroundings,
    everything,
    first_of,
    outside,
    scope_of,
    stirred,
)
from lull.policy.wake import wake_held


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    Attributes:
        changes: to be applied; without outside change, applying them leads to a plan without any.
        next_at: the next moment at which the passing of time alone changes the plan; None if it never does.
        services: what each service's status says, by key; it is there once the service was looked at.
        pools: what each pool's status says, by name.
        looked_at: the services that were looked at, gone ones too: of all others nothing has changed.
        seen: what the next plan goes on from.
    """

    changes: list[Change]
    next_at: float | None
    services: Mapping[str, Explanation]
    pools: Mapping[str, PoolExplanation]
    looked_at: frozenset[str]
    seen: Seen


def plan(
    fleet: Fleet,
    notes: Notes,
    now: float,
    last: Plan | None = None,
    most: int | None = None,
    *,
    explained: bool = True,
) -> Plan:
    """Decide on the fleet: wake, retire, fence, failures, hosts, in this order.

    After the plan `last`, only what has changed since then is looked at, and the answer is the same. A plan
    begins with about `most` services at most; the next one, due at once, goes on with those that are left.
    The same is decided where it is not `explained`, as nobody reads it.
    """
    draft = Draft(fleet, notes, now, Scope())
    subjects = _subjects(draft, last)
    taken = subjects if most is None else first_of(subjects, fleet, most)
    draft.was_kept_back = last.seen.kept_back if last else {}
    fleets = [fleet, last.seen.fleet] if last else [fleet]
    draft.scope = scope_of((*draft.was_kept_back, *taken), *fleets)
    begun = draft.scope.names()
    draft.still_blocked = last.seen.blocked - begun if last else frozenset()
    around = last.seen.around if last else Surroundings()
    left = outside(begun, subjects[len(taken) :], *fleets)
    draft.gathers = bool(left)
    wake_held(draft)
    provide(draft)
    use_again(draft)
    retire(draft)
    close_fences(draft)
    give_up(draft)
    relieve(draft)
    refresh(draft)
    around = let_go(draft, around)
    keep_minimum(draft)
    if len(taken) == len(subjects):  # these look at whole pools: once nobody is left that may want their room
        consolidate(draft)
        load_ahead(draft)
    around = look_back(draft, around)
    placed = (service for service in draft.services() if service.key not in draft.kept_back)
    told = {service.key: explain(draft, service) for service in placed} if explained else {}
    pools = {name: explain_pool(draft, pool) for name, pool in fleet.pools.items()} if explained else {}
    seen = replace(_seen(draft, last, begun, left), around=around)
    return Plan(
        changes=[*draft.changes(), *missing_pods(draft)],
        next_at=now if seen.left else min(seen.due.values(), default=None),
        services=_carried(last, told, fleet),
        pools=pools,
        looked_at=frozenset(draft.scope.services.names - draft.kept_back.keys()),
        seen=seen,
    )


def over_again(last: Plan) -> Plan:
    """Return a plan after which everything is looked at again, bit by bit."""
    left = everything(last.seen.fleet, last.seen.held)
    return replace(last, seen=replace(last.seen, left=tuple(left)))


def _subjects(draft: Draft, last: Plan | None) -> list[Subject]:
    if last is None:
        return everything(draft.fleet, draft.held)
    return stirred(last.seen, draft.fleet, draft.notes, draft.held, draft.now)


def _seen(draft: Draft, last: Plan | None, begun: frozenset[Subject], left: tuple[Subject, ...]) -> Seen:
    """Return what to go on from: of whom was looked at from the beginning only what was found now."""
    before = last.seen if last else NOTHING_SEEN
    due = {subject: at for subject, at in before.due.items() if subject and subject not in begun}
    due |= {subject: min(at, due.get(subject, at)) for subject, at in draft.due_at.items()}
    again = draft.restless | draft.blocked.keys() | {h.name for h in draft.each_host() if _restless(h)}
    again |= before.again - begun
    blocked = draft.blocked.keys() | draft.still_blocked
    return Seen(
        draft.fleet,
        draft.notes,
        draft.held,
        due,
        frozenset(again),
        left,
        frozenset(blocked),
        kept_back=draft.kept_back,
    )


def _restless(host: Host) -> bool:
    """Tell whether what becomes of a host hangs on others in every plan: on gateways, on who makes Pods."""
    return bool(host.draining) or host.pod is Pod.MISSING


def _carried(last: Plan | None, told: Mapping[str, Explanation], fleet: Fleet) -> Mapping[str, Explanation]:
    """Return what is said of every service that there is."""
    if last is None:
        return told
    said = {**last.services, **told}
    if last.seen.fleet.services is not fleet.services:
        for key in said.keys() - fleet.services.keys():
            del said[key]
    return said
