"""One step from what a host holds to what it should hold: pure, and decided anew after every change."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Phase(StrEnum):
    """Where a placement is on its way. `WAITING`: fetched, and not loaded yet."""

    FETCHING = "Fetching"
    WAITING = "Waiting"
    LOADING = "Loading"
    READY = "Ready"
    UNLOADING = "Unloading"
    FAILED = "Failed"


_ON_ITS_WAY = (Phase.FETCHING, Phase.WAITING, Phase.LOADING)


@dataclass(frozen=True)
class Local:
    """A placement as the agent has it.

    Attributes:
        name: the model's name on the wire.
        phase: how far it is.
        held: whether Triton may hold memory for it.
        stuck: whether Triton did not unload it in good time: there is no use in asking again.
    """

    name: str
    phase: Phase
    held: bool
    stuck: bool = False


@dataclass(frozen=True)
class Action:
    """What to do to the placement `target`; for `evict`, to the model of that name, which nobody wants."""

    verb: Literal["fetch", "adopt", "load", "unload", "forget", "evict"]
    target: str


def step(
    desired: Mapping[str, str],
    local: Mapping[str, Local],
    triton: Mapping[str, str] | None,
    loaded_for: Mapping[str, str],
    ahead: Collection[str] = (),
) -> list[Action]:
    """Return what to do now.

    Args:
        desired: wire names by placement id, from the ModelHost's spec.
        local: the placements that the agent knows, by id.
        triton: state by wire name, from Triton's index; None while Triton does not answer.
        loaded_for: the placement id, by wire name, for which this agent or the one before it loaded a model.
        ahead: the ids of those for which nobody waits: they are fetched and loaded behind all others, and
            fetched one by one, so that there is a slot for who comes meanwhile.
    """
    pressing = {key: name for key, name in desired.items() if key not in ahead}
    on_its_way = any(key not in local or local[key].phase in _ON_ITS_WAY for key in pressing)
    fetching = any(known.phase is Phase.FETCHING for known in local.values())
    behind = [key for key in desired if key in ahead and key not in local][: not fetching]
    now = pressing if on_its_way else desired
    fetched = pressing if on_its_way else {*pressing, *behind}
    return [
        *_arrivals(desired, fetched, local, triton or {}, loaded_for),
        *_load(now, local, triton),
        *_departures(desired, local),
        *_strangers(desired, local, triton or {}, loaded_for),
    ]


def _arrivals(
    desired: Mapping[str, str],
    fetched: Collection[str],
    local: Mapping[str, Local],
    triton: Mapping[str, str],
    loaded_for: Mapping[str, str],
) -> Iterator[Action]:
    for placement, name in desired.items():
        known = local.get(placement)
        if known is None or known.phase is Phase.WAITING:
            if loaded_for.get(name) == placement and triton.get(name) == "READY":
                yield Action("adopt", placement)
            elif known is None and placement in fetched:
                yield Action("fetch", placement)


def _load(
    now: Collection[str], local: Mapping[str, Local], triton: Mapping[str, str] | None
) -> Iterator[Action]:
    """The first that waits and whose name is free, when nothing else loads: one load at a time."""
    if triton is None or any(known.phase is Phase.LOADING for known in local.values()):
        return
    taken = {known.name for known in local.values() if known.held} | {
        n for n, state in triton.items() if state
    }
    for placement in now:
        known = local.get(placement)
        if known and known.phase is Phase.WAITING and known.name not in taken:
            yield Action("load", placement)
            return


def _departures(desired: Mapping[str, str], local: Mapping[str, Local]) -> Iterator[Action]:
    for placement, known in local.items():
        if placement in desired or known.stuck or known.phase in (Phase.LOADING, Phase.UNLOADING):
            continue
        yield Action("unload" if known.held else "forget", placement)


def _strangers(
    desired: Mapping[str, str],
    local: Mapping[str, Local],
    triton: Mapping[str, str],
    loaded_for: Mapping[str, str],
) -> Iterator[Action]:
    """What Triton holds for nobody: left behind by an agent that was killed between two steps."""
    owned = {known.name for known in local.values() if known.held}
    adopted = {name for placement, name in desired.items() if loaded_for.get(name) == placement}
    for name, state in triton.items():
        if state == "READY" and name not in owned | adopted:
            yield Action("evict", name)
