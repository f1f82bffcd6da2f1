"""How long the planner takes, at a hundred, a thousand and ten thousand services, ten to a host.

All of them are on hosts, half awake and half asleep; once, all need a host at the same time. In-process: no
API server, and what is decided counts as written at once.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from bench.figures import Figure
from lull.controller.planner import SERVICES_AT_ONCE
from lull.policy import (
    NOTHING_NOTED,
    Change,
    CreateHost,
    Gateway,
    Host,
    Model,
    Placement,
    Plan,
    Pod,
    Pool,
    Report,
    Reported,
    Service,
    SetModels,
    State,
    observe,
    plan,
    wake,
)
from lull.policy.packing import HOST_OVERHEAD_BYTES
from lull.policy.roster import Roster

SIZES = (100, 1_000, 10_000)
PER_HOST = 10
GIB = 2**30
ROUNDS = 20
WAKE_BAR_MS, CHANGE_BAR_MS, NOTHING_BAR_SECONDS, HOLD_BAR_MS = 5.0, 150.0, 3.0, 20.0


def measure() -> list[Figure]:
    """Return the figures; the bars are those of the largest fleet."""
    gc.freeze()
    figures: list[Figure] = []
    for size in SIZES:
        figures += _measure(size, barred=size == SIZES[-1])
    return figures


def _measure(size: int, *, barred: bool) -> list[Figure]:
    roster = make_fleet(size)
    of = f"{size:,} services on {size // PER_HOST:,} hosts"
    whole_seconds, decided = _seconds(_plan_all, roster)
    sliced_seconds, longest_seconds, slices = _plan_in_slices(roster)
    filled_seconds, fill_seconds, fills = _fill_in_slices(size)
    one_seconds, touch_seconds = _one_change(roster, decided)
    room, evict = _wakes(roster, decided, "room"), _wakes(roster, decided, "evict")

    def figure(name: str, value: float, unit: str, bar: float) -> Figure:
        return Figure(f"{name}, {of}", value, unit, bar=bar if barred else None)

    return [
        figure("wake into room, slowest", 1000 * room, "ms", WAKE_BAR_MS),
        figure("wake that evicts, slowest", 1000 * evict, "ms", WAKE_BAR_MS),
        figure("plan, one service woke, slowest", 1000 * one_seconds, "ms", CHANGE_BAR_MS),
        figure("plan, one host reported, slowest", 1000 * touch_seconds, "ms", CHANGE_BAR_MS),
        figure("plan from nothing at once", whole_seconds, "s", NOTHING_BAR_SECONDS),
        figure("plan from nothing in slices", sliced_seconds, "s", NOTHING_BAR_SECONDS),
        figure(f"  longest of {slices} slices", 1000 * longest_seconds, "ms", HOLD_BAR_MS),
        Figure(f"plan that puts all on new hosts, {of}", filled_seconds, "s"),
        figure(f"  longest of {fills} slices", 1000 * fill_seconds, "ms", HOLD_BAR_MS),
    ]


def make_fleet(size: int, seed: int = 0) -> Roster:
    """Return a fleet of hosts with ten models of 1 GiB, every other asleep, and room for half of one."""
    dice, roster = Random(seed), Roster()
    roster.pools["pool"] = Pool(
        "pool", int((PER_HOST + 0.5) * GIB) + HOST_OVERHEAD_BYTES, max_hosts=size // PER_HOST
    )
    roster.gateways["gateway"] = Gateway("gateway", "now")
    for n in range(size):
        key = f"team-{n % 20}/model-{n}"
        model = Model("r1", f"model-{n}", "file:///model.tar")
        roster.services[key] = Service(key, model, "pool", memory_bytes=GIB, measured_bytes=GIB, code=False)
    keys = list(roster.services)
    dice.shuffle(keys)
    for n in range(size // PER_HOST):
        roster.show(_host(roster, n, keys[n * PER_HOST : (n + 1) * PER_HOST]))
    return roster


def _host(roster: Roster, number: int, keys: list[str]) -> Host:
    placements = tuple(
        Placement(
            f"{key.rpartition('/')[2]}-p",
            key,
            roster.services[key].model,
            GIB,
            60.0,
            State.RESIDENT if n % 2 else State.LOADED,
        )
        for n, key in enumerate(keys)
    )
    reports = {p.id: Reported(p.id, p.service, p.model.name, Report.READY, GIB) for p in placements}
    return Host(f"host-{number}", "pool", placements, reports, Pod.RUNNING, f"node-{number // 8}")


def _plan_all(roster: Roster) -> Plan:
    fleet = roster.fleet("seed")
    return plan(fleet, observe(NOTHING_NOTED, fleet, 0.0), 0.0)


def _plan_in_slices(roster: Roster) -> tuple[float, float, int]:
    """Return how long all of them take, the longest of them, and their number."""
    whole = longest = 0.0
    slices, decided, notes, fleet = 0, None, NOTHING_NOTED, None
    while decided is None or decided.seen.left or notes.seen is not fleet:
        began = time.thread_time()
        fleet = roster.fleet(str(slices))
        notes = observe(notes, fleet, 0.0, SERVICES_AT_ONCE)
        decided = plan(fleet, notes, 0.0, decided, SERVICES_AT_ONCE)
        took = time.thread_time() - began
        whole, longest, slices = whole + took, max(longest, took), slices + 1
    return whole, longest, slices


def _fill_in_slices(size: int) -> tuple[float, float, int]:
    """Return the same where nobody is on a host, and everybody wants to be."""
    there, roster = make_fleet(size), Roster()
    roster.pools |= there.pools
    roster.services |= {key: replace(service, min_replicas=1) for key, service in there.services.items()}
    gc.collect()  # as it is none of the planner's what was built here
    gc.freeze()
    whole = longest = 0.0
    slices, decided, notes = 0, None, NOTHING_NOTED
    while decided is None or decided.seen.left:
        began = time.thread_time()
        fleet = roster.fleet(str(slices))
        notes = observe(notes, fleet, 0.0, SERVICES_AT_ONCE)
        decided = plan(fleet, notes, 0.0, decided, SERVICES_AT_ONCE)
        took = time.thread_time() - began
        whole, longest, slices = whole + took, max(longest, took), slices + 1
        for change in decided.changes:
            if isinstance(change, CreateHost):
                roster.show(Host(change.host, change.pool, change.placements, pod=Pod.STARTING))
            elif isinstance(change, SetModels):
                roster.show(replace(roster.hosts[change.host], placements=change.after))
    return whole, longest, slices


def _one_change(roster: Roster, decided: Plan) -> tuple[float, float]:
    """Return the longest of some plans after a held request of a sleeper, and after a report of a host."""
    woke = touched = 0.0
    for n, (host, placement) in enumerate(_sleepers(roster)[:ROUNDS]):
        roster.gateways["gateway"] = Gateway("gateway", f"beat {n}", frozenset({placement.service}))
        seconds, decided = _seconds(_go_on, roster, decided)
        woke = max(woke, seconds)
        roster.gateways["gateway"] = Gateway("gateway", f"beat {n}")
        decided = _go_on(roster, decided)
        fresh = replace(host.reports[placement.id], busy=0.05 * (n + 1))
        roster.show(replace(host, reports={**host.reports, placement.id: fresh}))
        seconds, decided = _seconds(_go_on, roster, decided)
        touched = max(touched, seconds)
    return woke, touched


def _go_on(roster: Roster, last: Plan) -> Plan:
    fleet = roster.fleet("seed")
    return plan(fleet, observe(last.seen.notes, fleet, 1.0), 1.0, last)


def _wakes(roster: Roster, decided: Plan, how: str) -> float:
    """Return the longest of some wakes of services that are nowhere: into room, or in place of sleepers."""
    longest = 0.0
    for n in range(ROUNDS):
        size = GIB // 2 if how == "room" else GIB
        newcomer = Service(f"team-{n}/new", Model("r1", f"new-{n}", "file:///new.tar"), "pool", 1, size)
        roster.services[newcomer.key] = newcomer
        roster.gateways["gateway"] = Gateway("gateway", "now", frozenset({newcomer.key}))
        seconds, changes = _seconds(_wake, roster, decided)
        assert changes, "the wake decided nothing"
        longest = max(longest, seconds)
        del roster.services[newcomer.key]
        roster.gateways["gateway"] = Gateway("gateway", "now")
    return longest


def _wake(roster: Roster, decided: Plan) -> list[Change]:
    return wake(roster.fleet("seed"), decided.seen.notes, 1.0)


def _sleepers(roster: Roster) -> list[tuple[Host, Placement]]:
    return [(h, p) for h in roster.hosts.values() for p in h.placements if p.state is State.RESIDENT][::10]


def _seconds(call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the CPU time of a call, as neighbours on the machine are none of its doing, and its result."""
    began = time.thread_time()
    result = call(*arguments)
    return time.thread_time() - began, result
