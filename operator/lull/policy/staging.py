"""What the hosts of a pool keep ready before anybody asks: the artifacts whose downloads would delay most.

All hosts of a pool get one list, as any of them may be the one that a service is woken on; those of one node
share what it names. Who is awake is in it too: it may be woken elsewhere next, and a list without it would
change at each wake. A list is changed only for somebody who is worth much more than who goes for him.
"""

import re
from collections.abc import Iterator, Sequence
from heapq import merge
from math import inf
from typing import NamedTuple

from lull.policy.changes import Draft, Stage
from lull.policy.fleet import DEFAULT_MODEL_BYTES, Artifact, Fleet, Host, Pod, Pool, Service
from lull.policy.notes import Notes
from lull.policy.scope import Scope
from lull.policy.worth import worth

MOST_ARTIFACTS = 64
"""As many as the API takes."""
MORE_WORTH = 2.0
"""How many times as much a service is worth that takes the place of a listed one."""
SERVICES_AT_ONCE = 500
HOSTS_AT_ONCE = 25
"""After so many there is a pause: some milliseconds, in which nobody is woken."""
_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})$")


class _Ranked(NamedTuple):
    """A service's artifact. They sort by what they are worth, the most first."""

    rank: float
    key: str
    size_bytes: int
    artifact: Artifact


def stages(fleet: Fleet, notes: Notes, now: float) -> Iterator[Stage | None]:
    """Yield the hosts that should be told of another list, and None wherever there is a pause.

    Once they are told, none is until worths change.
    """
    draft = Draft(fleet, notes, now, Scope())
    ranked: dict[str, list[_Ranked]] = {
        p.name: [] for p in fleet.pools.values() if p.staged_bytes is not None
    }
    for number, service in enumerate(fleet.services.values() if ranked else (), 1):
        if service.pool in ranked and (entry := _ranked(draft, service)):
            ranked[service.pool].append(entry)
        if number % SERVICES_AT_ONCE == 0:
            yield None
    for pool in fleet.pools.values():
        hosts = [host for host in draft.of_pool(pool.name) if _listens(host, pool)]
        if hosts:
            shelf = _Shelf(fleet, pool, ranked.get(pool.name, []))
            yield None
            yield from shelf.told(hosts)


def _listens(host: Host, pool: Pool) -> bool:
    """Tell whether a host has or needs a list, and stays."""
    lists = pool.staged_bytes is not None or host.stage
    return bool(lists) and host.pod is Pod.RUNNING and not host.cordoned


class _Shelf:
    """What fits a pool's size: candidates of rollouts first, then who is worth most."""

    def __init__(self, fleet: Fleet, pool: Pool, entries: list[_Ranked]) -> None:
        self._fleet = fleet
        self._size_bytes = pool.staged_bytes or 0
        self._ranked = sorted(entries)
        self._by_key = {entry.key: entry for entry in entries}
        self._least_bytes = min((entry.size_bytes for entry in entries), default=0)

    def told(self, hosts: Sequence[Host]) -> Iterator[Stage | None]:
        """Yield those of the hosts that should be told of another list, and pauses."""
        for number, host in enumerate(hosts, 1):
            artifacts = self._list(host.stage)
            if set(artifacts) != set(host.stage):
                yield Stage(host.name, artifacts)
            if number % HOSTS_AT_ONCE == 0:
                yield None

    def _list(self, listed: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Return what is listed next.

        Told its own answer it gives the same: each on the list moves up, so that nobody else gets in before.
        """
        known = {entry.key: entry for artifact in listed for entry in self._of(artifact)}
        moved_up = sorted(entry._replace(rank=MORE_WORTH * entry.rank) for entry in known.values())
        left_bytes, taken = self._size_bytes, dict[str, Artifact]()
        for entry in merge(moved_up, self._ranked):
            if left_bytes < self._least_bytes or len(taken) == MOST_ARTIFACTS:
                break
            if entry.artifact.digest not in taken and entry.size_bytes <= left_bytes:
                taken[entry.artifact.digest] = entry.artifact
                left_bytes -= entry.size_bytes
        return tuple(taken.values())

    def _of(self, artifact: Artifact) -> Iterator[_Ranked]:
        """Yield whose artifact it is: its service's, its candidate's, or that of both."""
        for key in self._fleet.pair(artifact.service):
            entry = self._by_key.get(key)
            if entry and entry.artifact == artifact:
                yield entry


def _ranked(draft: Draft, service: Service) -> _Ranked | None:
    """Return a service's place among the others; None where nothing of it is staged."""
    artifact, gain = _artifact(service), _gain(draft, service)
    return _Ranked(-gain, service.key, _size_bytes(service), artifact) if artifact and gain else None


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
