"""Packing from scratch beside first fit, best fit, the proven optimum and a lower bound, over random fleets.

It is the planner that packs: all replicas are on hosts that are being emptied, so it knows how busy
they are, and its plan makes the hosts that they move to. It looks at as many services at once as in the
controller; how many hosts it needs where it looks at all at once is told beside that.

Also what stickiness costs: a fleet that drifted for long, the hosts that a new packing would save, and how
many replicas would have to move for them. Nothing is started; it takes some minutes of one core.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

from ortools.sat.python import cp_model

from bench.figures import Figure
from lull.controller.planner import SERVICES_AT_ONCE
from lull.policy import (
    NOTHING_NOTED,
    CreateHost,
    Fleet,
    Host,
    Model,
    Placement,
    Pod,
    Pool,
    Report,
    Reported,
    Service,
    SetModels,
    plan,
)
from lull.policy.pack import TARGET_BUSY, Item, Load, Room, lower_bound, pack
from lull.policy.packing import HOST_OVERHEAD_BYTES

GIB = 2**30
HOST_BYTES = 80 * GIB - HOST_OVERHEAD_BYTES
FLEETS = 1000
SMALL = (15, 30)
LARGE = (200, 200, 200, 400, 400, 800)
PROOF_SECONDS = 5.0
"""How long CP-SAT may try to prove one optimum; where it does not, the fleet counts for the bound only."""

Hosts = list[list[Item]]
Dice = random.Random


def uniform(dice: Dice) -> tuple[float, float]:
    """Memory in GiB and busy share, independent."""
    return dice.uniform(1, 32), dice.uniform(0, 0.25)


def bimodal(dice: Dice) -> tuple[float, float]:
    """A few large language models among many small ones."""
    if dice.random() < 0.2:
        return dice.uniform(30, 60), dice.uniform(0.1, 0.5)
    return dice.uniform(1, 10), dice.uniform(0, 0.08)


def correlated(dice: Dice) -> tuple[float, float]:
    """The larger, the busier."""
    share = dice.uniform(0.02, 0.5)
    return 80 * share * dice.uniform(0.8, 1.1), TARGET_BUSY * share * dice.uniform(0.8, 1.1)


def opposed(dice: Dice) -> tuple[float, float]:
    """The larger, the less busy."""
    share = dice.uniform(0.02, 0.25)
    return 80 * share, TARGET_BUSY * (0.27 - share) * dice.uniform(0.7, 1.3)


def opposed_few(dice: Dice) -> tuple[float, float]:
    """The same, four or five to a host: hardly any fit well, and no bound by one dimension sees that."""
    share = dice.uniform(0.02, 0.4)
    return 80 * share, TARGET_BUSY * (0.42 - share) * dice.uniform(0.8, 1.1)


def small(dice: Dice) -> tuple[float, float]:
    """Many to a host."""
    return dice.uniform(0.5, 8), dice.uniform(0, 0.06)


def halves_and_thirds(dice: Dice) -> tuple[float, float]:
    """About a half, a third, a quarter, a sixth of a host: some just too large for that."""
    share = dice.choice([1 / 2, 1 / 3, 1 / 4, 1 / 6])
    return 79.5 * share * dice.uniform(0.9, 1.05), dice.uniform(0, 0.1)


SHAPES: dict[str, Callable[[Dice], tuple[float, float]]] = {
    "uniform": uniform,
    "bimodal": bimodal,
    "correlated": correlated,
    "opposed": opposed,
    "opposed, few a host": opposed_few,
    "many small": small,
    "halves and thirds": halves_and_thirds,
    "tenants": uniform,
}
TENANTS = 5


def fleet(shape: str, replicas: int, dice: Dice) -> list[Item]:
    """Return a random fleet: some services have two or three replicas, which stay apart."""
    items: list[Item] = []
    while len(items) < replicas:
        gib, busy = SHAPES[shape](dice)
        key, tenant = f"s{len(items)}", str(dice.randrange(TENANTS)) if shape == "tenants" else ""
        copies = min(dice.choice([1] * 8 + [2, 3]), replicas - len(items))
        memory = min(int(gib * GIB), HOST_BYTES)
        items += [Item(f"{key}-{copy}", memory, busy, f"{tenant}/{key}") for copy in range(copies)]
    return items


def tenant_of(item: Item) -> str:
    """Return whose an item is: only items of one tenant share a host."""
    return item.kin.partition("/")[0]


def by_tenant(items: Sequence[Item]) -> list[list[Item]]:
    """Return the items of each tenant."""
    return [list(some) for _, some in groupby(sorted(items, key=tenant_of), key=tenant_of)]


def moving(items: Sequence[Item]) -> Fleet:
    """Return a fleet in which each item is a replica on a host of its own that should be emptied."""
    services, hosts = {}, {}
    for item in items:
        tenant, _, name = item.kin.partition("/")
        key = f"{tenant or 'all'}/{name}"
        replicas = sum(other.kin == item.kin for other in items)
        model = Model("r1", name, "file:///model")
        services[key] = Service(
            key,
            model,
            "pool",
            memory_bytes=item.memory_bytes,
            code=False,
            min_replicas=replicas,
            max_replicas=replicas,
        )
        placement = Placement(item.id, key, model, item.memory_bytes, 60.0)
        report = Reported(item.id, key, name, Report.READY, item.memory_bytes, busy=item.busy)
        hosts[item.id] = Host(item.id, "pool", (placement,), {item.id: report}, Pod.RUNNING, cordoned=True)
    pool = Pool("pool", 80 * GIB, 2 * len(items), namespaced=any(map(tenant_of, items)))
    return Fleet(services, {"pool": pool}, hosts, {}, "0")


def made(fleet: Fleet, most: int | None = None) -> int:
    """Return how many hosts the planner makes for a fleet, looking at `most` services at once."""
    hosts, decided = dict(fleet.hosts), None
    while decided is None or decided.seen.left:
        now = replace(fleet, hosts=dict(hosts), seed=str(len(hosts)))
        decided = plan(now, NOTHING_NOTED, 0.0, decided, most, explained=False)
        for change in decided.changes:
            if isinstance(change, CreateHost):
                hosts[change.host] = Host(change.host, change.pool, change.placements, pod=Pod.STARTING)
            elif isinstance(change, SetModels):
                hosts[change.host] = replace(hosts[change.host], placements=change.after)
    return len(hosts) - len(fleet.hosts)


def fits(host: Sequence[Item], item: Item) -> bool:
    """Tell whether an item may be added to a host."""
    busy = sum(min(other.busy, TARGET_BUSY) for other in host) + min(item.busy, TARGET_BUSY)
    return (
        sum(other.memory_bytes for other in host) + item.memory_bytes <= HOST_BYTES
        and busy <= TARGET_BUSY + 1e-5
        and all(
            tenant_of(other) == tenant_of(item) and (other.kin != item.kin or not item.kin) for other in host
        )
    )


def size(item: Item) -> float:
    """Return the sum of an item's shares of a host."""
    return item.memory_bytes / HOST_BYTES + min(item.busy, TARGET_BUSY) / TARGET_BUSY


def first_fit(items: Sequence[Item]) -> Hosts:
    """Pack by first fit decreasing."""
    return _greedy(items, lambda hosts: hosts[0])


def best_fit(items: Sequence[Item]) -> Hosts:
    """Pack by best fit decreasing: onto the host that is left with least room."""
    return _greedy(items, lambda hosts: max(hosts, key=lambda host: sum(map(size, host))))


def _greedy(items: Sequence[Item], choose: Callable[[Hosts], list[Item]]) -> Hosts:
    hosts: Hosts = []
    for item in sorted(items, key=lambda item: (-size(item), item.id)):
        room = [host for host in hosts if fits(host, item)]
        if room:
            choose(room).append(item)
        else:
            hosts.append([item])
    return hosts


def optimum(items: Sequence[Item], most: int, *, seconds: float = PROOF_SECONDS) -> int | None:
    """Return the fewest hosts by CP-SAT, given a number that is enough; None where it proves nothing in time.

    Tenants are solved one by one.
    """
    total = 0
    for group in by_tenant(items):
        found = _fewest(group, most, seconds)
        if found is None:
            return None
        total += found
    return total


def _fewest(items: list[Item], most: int, seconds: float) -> int | None:
    model = cp_model.CpModel()
    most = min(most, len(items))
    used = [model.new_bool_var("") for _ in range(most)]
    on = [[model.new_bool_var("") for _ in range(most)] for _ in items]
    parts = [int(min(item.busy, TARGET_BUSY) * 1e6) for item in items]
    for places in on:
        model.add_exactly_one(places)
    for host in range(most):
        here = [places[host] for places in on]
        memory = sum(item.memory_bytes * x for item, x in zip(items, here, strict=True))
        model.add(memory <= HOST_BYTES * used[host])
        model.add(sum(p * x for p, x in zip(parts, here, strict=True)) <= int(TARGET_BUSY * 1e6) * used[host])
        for kin in {item.kin for item in items}:
            model.add_at_most_one(x for item, x in zip(items, here, strict=True) if item.kin == kin)
        if host:
            model.add(used[host] <= used[host - 1])
    model.add(sum(used) >= lower_bound(items, HOST_BYTES))
    model.minimize(sum(used))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 1
    return round(solver.objective_value) if solver.solve(model) == cp_model.OPTIMAL else None


def measure() -> list[Figure]:
    """Pack the fleets: half of them small, against the optimum, half of them large, against the bound."""
    shapes = list(SHAPES)
    small_fleets: dict[str, list[list[Item]]] = {shape: [] for shape in shapes}
    large_fleets: dict[str, list[list[Item]]] = {shape: [] for shape in shapes}
    for seed in range(FLEETS):
        dice = random.Random(seed)
        shape = shapes[seed // 2 % len(shapes)]
        if seed % 2:
            small_fleets[shape].append(fleet(shape, dice.randint(*SMALL), dice))
        else:
            large_fleets[shape].append(fleet(shape, dice.choice(LARGE), dice))
    return [
        *_beside("CP-SAT's optimum", "15 to 30 replicas", small_fleets, _proven, 1.02),
        *_beside("lower bound", "200 and more", large_fleets, _bounded, 1.04),
        _speed(),
        *_stickiness(),
    ]


def _proven(items: list[Item], most: int) -> int | None:
    return optimum(items, most)


def _bounded(items: list[Item], _most: int) -> int | None:
    return sum(lower_bound(some, HOST_BYTES) for some in by_tenant(items))


def _beside(
    reference: str,
    what: str,
    fleets: dict[str, list[list[Item]]],
    refer: Callable[[list[Item], int], int | None],
    bar: float,
) -> list[Figure]:
    """Return the hosts of ours, first fit and best fit: for all shapes together, and ours for each."""
    figures, totals, left_out = [], [0] * 5, 0
    for shape, some in fleets.items():
        sums = [0] * 5
        for items in some:
            there = moving(items)
            hosts = [made(there, SERVICES_AT_ONCE), made(there), len(first_fit(items)), len(best_fit(items))]
            least = refer(items, min(hosts))
            if least is None:
                left_out += 1
                continue
            sums = [a + b for a, b in zip(sums, [*hosts, least], strict=True)]
        totals = [a + b for a, b in zip(totals, sums, strict=True)]
        figures.append(Figure(f"packing, {what}, {shape}", sums[0], "hosts", reference, sums[4]))
    note = f", {left_out} not proven" if left_out else ""
    names = ("packing", "packing all at once", "first fit decreasing", "best fit decreasing")
    together = [
        Figure(
            f"{name}, {what}, all{note}",
            totals[k],
            "hosts",
            reference,
            totals[4],
            bar if k == 0 else None,
            True,
        )
        for k, name in enumerate(names)
    ]
    return [*together, *figures]


def _speed() -> Figure:
    items = fleet("many small", 10_000, random.Random(0))
    began = time.perf_counter()
    hosts = len(pack(items, HOST_BYTES))
    return Figure(f"packing 10,000 replicas on {hosts} hosts", time.perf_counter() - began, "s", bar=1.5)


def _stickiness() -> list[Figure]:
    """Return what of a drifted fleet's hosts can be saved, and for how many moves each."""
    drifted = drift(random.Random(0))
    replicas = sum(map(len, drifted))
    fewest = pack([item for host in drifted for item in host], HOST_BYTES)
    figures = [
        Figure("a drifted fleet, kept as it is", len(drifted), "hosts", "packed anew", len(fewest)),
        Figure(f"moves to pack it anew, of {replicas} replicas", _moved(drifted, fewest), "moves"),
    ]
    saved, moves = 0, 0
    steps = {1: "1 host", len(drifted) // 20: "5 %", len(drifted) // 10: "10 %"}
    while (moved := _empty_lightest(drifted)) is not None:
        saved, moves = saved + 1, moves + moved
        if saved in steps:
            figures.append(Figure(f"moves to save the first {steps[saved]} of them", moves, "moves"))
    what = f"moves to save {saved} of them, one emptied after the other"
    return [*figures, Figure(what, moves, "moves")]


def drift(dice: Dice) -> Hosts:
    """Return the hosts of a fleet that was packed well; since, most of it left, and fewer others came."""
    items = fleet("uniform", 500, dice)
    hosts = [list(load.items) for load in pack(items, HOST_BYTES)]
    for number in range(1000):
        if number % 5 < 3:
            host = dice.choice([host for host in hosts if host])
            host.remove(dice.choice(host))
            continue
        (item,) = fleet("uniform", 1, dice)
        item = Item(f"new-{number}", item.memory_bytes, item.busy, f"new-{number}")
        room = [host for host in hosts if fits(host, item)]
        if room:
            max(room, key=lambda host: sum(map(size, host))).append(item)
        else:
            hosts.append([item])
    return [host for host in hosts if host]


def _empty_lightest(hosts: Hosts) -> int | None:
    """Empty the lightest host that others have room for; return the moves, None if there is none."""
    hosts.sort(key=lambda host: sum(map(size, host)))
    for index, host in enumerate(hosts):
        others = hosts[:index] + hosts[index + 1 :]
        rooms = [_room(str(k), other) for k, other in enumerate(others)]
        loads = pack(host, HOST_BYTES, rooms)
        if all(load.room for load in loads):
            for load in loads:
                others[int(load.room)].extend(load.items)
            hosts[:] = others
            return len(host)
    return None


def _room(name: str, host: list[Item]) -> Room:
    memory = HOST_BYTES - sum(item.memory_bytes for item in host)
    busy = TARGET_BUSY - sum(min(item.busy, TARGET_BUSY) for item in host)
    return Room(name, memory, max(0.0, busy - 1e-5), frozenset(item.kin for item in host))


def _moved(old: Hosts, new: list[Load]) -> int:
    """Return how many replicas change hosts, where each new host is the old one that it is most like."""
    ids = [{item.id for item in host} for host in old]
    pairs = [
        (len(mine & {item.id for item in load.items}), k, n)
        for k, mine in enumerate(ids)
        for n, load in enumerate(new)
    ]
    stay, taken_old, taken_new = 0, set(), set()
    for common, k, n in sorted(pairs, reverse=True):
        if k not in taken_old and n not in taken_new:
            taken_old.add(k)
            taken_new.add(n)
            stay += common
    return sum(map(len, old)) - stay
