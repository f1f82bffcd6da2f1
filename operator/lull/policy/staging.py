"""What the hosts of a pool keep ready before anybody asks: the artifacts whose downloads would delay most.

All hosts of a pool get one list, as any of them may be the one that a service is woken on; those of one node
share what it names. Who is awake is in it too: it may be woken elsewhere next, and a list without it would
change at each wake. A list is changed only for somebody who is worth much more than who goes for him.
"""

import re
from collections.abc import Sequence
from math import inf

from lull.policy.changes import Draft, Stage
from lull.policy.fleet import DEFAULT_MODEL_BYTES, Artifact, Fleet, Pod, Pool, Service
from lull.policy.notes import Notes
from lull.policy.scope import Scope
from lull.policy.worth import worth

MOST_ARTIFACTS = 64
"""As many as the API takes."""
MORE_WORTH = 2.0
"""How many times as much a service is worth that takes the place of a listed one."""
_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})$")


def stages(fleet: Fleet, notes: Notes, now: float) -> list[Stage]:
    """Return the hosts that should be told of another list. Once they are, none is until worths change."""
    draft = Draft(fleet, notes, now, Scope())
    changes = []
    for pool in fleet.pools.values():
        known: dict[tuple[Artifact, ...], tuple[Artifact, ...]] = {}
        for host in draft.of_pool(pool.name):
            if host.pod is not Pod.RUNNING or host.cordoned:
                continue
            if host.stage not in known:
                known[host.stage] = _list(draft, pool, host.stage)
            if set(known[host.stage]) != set(host.stage):
                changes.append(Stage(host.name, known[host.stage]))
    return changes


def _list(draft: Draft, pool: Pool, listed: Sequence[Artifact]) -> tuple[Artifact, ...]:
    """Return what fits the pool's size: candidates of rollouts first, then who is worth most.

    Told its own answer it gives the same: each on the list moves up, so that nobody else gets in before.
    """
    if pool.staged_bytes is None:
        return ()
    left_bytes, taken = pool.staged_bytes, dict[str, Artifact]()
    ranked, known = [], set(listed)
    for service in draft.fleet.services.values():
        if service.pool != pool.name or (artifact := _artifact(service)) is None:
            continue
        if gain := _gain(draft, service):
            gain *= MORE_WORTH if artifact in known else 1.0
            ranked.append((-gain, service.key, service, artifact))
    for *_, service, artifact in sorted(ranked, key=lambda entry: entry[:2]):
        size_bytes = _size_bytes(service)
        if artifact.digest not in taken and size_bytes <= left_bytes and len(taken) < MOST_ARTIFACTS:
            taken[artifact.digest] = artifact
            left_bytes -= size_bytes
    return tuple(taken.values())


def _gain(draft: Draft, service: Service) -> float:
    """Return what it is worth to have a service's artifact: as much as to have it loaded."""
    if service.follows and not service.suspend:
        return inf  # no request wakes a candidate, but its rollout waits for it
    return worth(draft, service, draft.now)


def _artifact(service: Service) -> Artifact | None:
    """Return what a service loads; None where nobody says what it must hash to."""
    model = service.model
    digest = model.digest
    if not digest and (said := _DIGEST.search(model.uri)):
        digest = said[1]
    return Artifact(model.uri, digest, service.follows or service.key) if digest else None


def _size_bytes(service: Service) -> int:
    """Return about what an artifact takes on disk: what its model takes in memory, mostly weights."""
    return service.measured_bytes or service.memory_bytes or DEFAULT_MODEL_BYTES
