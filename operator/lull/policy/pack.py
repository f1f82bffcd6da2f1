"""Packing from scratch: many replicas at once onto the fewest hosts, memory and busy share alike.

Hosts are filled one at a time, largest replica first, each time with what suits the scarcer dimension of the
room that is left (the dot product of Panigrahy et al., "Heuristics for vector bin packing", 2011), and the
last two of a host are chosen as the pair that fills it best. Then hosts are taken away one by one: their
replicas go elsewhere and eject others, those first that were seldom ejected (the ejection pool of Nagata and
Bräysy, 2009), until a lower bound is reached or the work is spent. All of it is deterministic and bounded.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

TARGET_BUSY = 0.8
"""Busy share up to which a host is filled; one replica that needs more has a host without other busy ones."""
LOOKS = 4_000
"""How many places are looked at, at most, to save hosts: 4 ms, as nothing may hold up the planner's loop."""

_PARTS = 1_000_000
"""Busy shares are counted in parts of a million, so that sums are exact."""
_WINDOW = 96
"""How many replicas, spread over all sizes, are compared for one place; fewer in very large fleets."""
_COMPARISONS = 250_000
"""How many replicas are compared at most, over all places."""
_TAIL = 2.6
"""At how many mean replicas of room a host is finished with a pair: the best of 1.5 to 4.5, on all shapes."""


@dataclass(frozen=True, slots=True)
class Item:
    """A replica that needs a place."""

    id: str
    memory_bytes: int
    busy: float = 0.0
    kin: str = ""
    """Two of one kin never share a host: replicas of a service, models of one wire name. Empty: no kin."""


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on a host that is there already."""

    id: str
    memory_bytes: int
    busy: float = TARGET_BUSY
    kin: frozenset[str] = frozenset()
    """Of what is on it."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one host is given; `room` is empty for a new host."""

    room: str
    items: tuple[Item, ...]


@dataclass(eq=False, slots=True)
class _Piece:
    """An item in whole numbers; `weight` is what it needs, the scarcer dimension counting more."""

    item: Item
    memory: int
    busy: int
    weight: float = 0.0
    rank: int = 0

    @property
    def kin(self) -> str:
        return self.item.kin


@dataclass(eq=False, slots=True)
class _Bin:
    """A host that is being filled: what is free of it, and what is put there."""

    room: str
    memory: int
    busy: int
    kin: set[str]
    pieces: list[_Piece] = field(default_factory=list)

    def fits(self, piece: _Piece) -> bool:
        return piece.memory <= self.memory and piece.busy <= self.busy and piece.item.kin not in self.kin

    def add(self, piece: _Piece) -> None:
        self.memory -= piece.memory
        self.busy -= piece.busy
        self.pieces.append(piece)
        if piece.kin:
            self.kin.add(piece.kin)

    def drop(self, piece: _Piece) -> None:
        self.memory += piece.memory
        self.busy += piece.busy
        self.pieces.remove(piece)
        self.kin.discard(piece.kin)

    def copy(self) -> "_Bin":
        return _Bin(self.room, self.memory, self.busy, set(self.kin), list(self.pieces))


def pack(
    items: Iterable[Item], host_bytes: int, rooms: Iterable[Room] = (), *, looks: int = LOOKS
) -> list[Load]:
    """Give every item a place: in `rooms` as far as they go, and on as few new hosts as can be found.

    Args:
        items: what needs a place; a busy share above the target counts as the target.
        host_bytes: what models may share of a new host.
        rooms: hosts that are there; what is on them stays.
        looks: bound on the work that is spent to save hosts.

    Returns:
        The hosts that are given something, each with what.

    Raises:
        ValueError: an item does not even fit an empty host.
    """
    waiting = list(items)
    for item in waiting:
        if item.memory_bytes > host_bytes:
            raise ValueError(f"{item.id} needs {item.memory_bytes} bytes, and a host has {host_bytes}")
    if not waiting:
        return []
    packed = _Packer(waiting, host_bytes, list(rooms), looks).pack()
    return [Load(bin_.room, tuple(piece.item for piece in bin_.pieces)) for bin_ in packed if bin_.pieces]


def lower_bound(items: Iterable[Item], host_bytes: int) -> int:
    """Return how many empty hosts are needed at least: by memory, by busy share, and by kin.

    Each dimension by itself is bin packing, bounded by L2 (Martello and Toth, "Knapsack Problems", 1990,
    section 8.3); each kin needs as many hosts as it has items.
    """
    return _bound([_piece(item) for item in items], host_bytes)


class _Packer:
    """The items, and the hosts that they may be put on."""

    def __init__(self, items: Sequence[Item], host_bytes: int, rooms: Sequence[Room], looks: int) -> None:
        self._host_bytes = host_bytes
        self._full = _parts(TARGET_BUSY)
        self._rooms = rooms
        self._looks = looks
        self._pieces = [_piece(item) for item in items]
        self._bound = self._least()
        memory = sum(piece.memory for piece in self._pieces) / max(1, host_bytes)
        busy = sum(piece.busy for piece in self._pieces) / self._full
        total = memory + busy or 1.0
        self._per_byte = memory / total / max(1, host_bytes)
        self._per_part = busy / total / self._full
        for piece in self._pieces:
            piece.weight = self._weigh(piece.memory, piece.busy)
        self._pieces.sort(key=lambda piece: (-piece.weight, piece.item.id))
        for rank, piece in enumerate(self._pieces):
            piece.rank = rank
        self._window = min(_WINDOW, 1 + _COMPARISONS // len(items))
        self._mean = sum(piece.weight for piece in self._pieces) / len(self._pieces)

    def pack(self) -> list[_Bin]:
        """Return the best that was found."""
        best = self._fill()
        if _made(best) > self._bound:
            best = min(best, self._first_fit(), key=_made)
        while _made(best) > self._bound and self._looks > 0:
            fewer = self._without_one(best)
            if fewer is None:
                break
            best = fewer
        return best

    def _least(self) -> int:
        """Return a number of new hosts that no packing can do without."""
        if not self._rooms:
            return _bound(self._pieces, self._host_bytes)
        memory = sum(p.memory for p in self._pieces) - sum(max(0, r.memory_bytes) for r in self._rooms)
        busy = sum(p.busy for p in self._pieces) - sum(max(0, _parts(r.busy)) for r in self._rooms)
        return max(0, math.ceil(memory / max(1, self._host_bytes)), math.ceil(busy / self._full))

    def _weigh(self, memory: int, busy: int) -> float:
        return memory * self._per_byte + busy * self._per_part

    def _bins(self) -> Iterator[_Bin]:
        """Yield the rooms, and then new hosts without end."""
        for room in self._rooms:
            yield _Bin(room.id, room.memory_bytes, _parts(room.busy), set(room.kin))
        while True:
            yield _Bin("", self._host_bytes, self._full, set())

    def _first_fit(self) -> list[_Bin]:
        """Fill host after host with all that fits, largest first: this is first fit decreasing."""
        left = self._pieces
        bins = []
        empty = self._bins()
        while left:
            bins.append(bin_ := next(empty))
            over = []
            for piece in left:
                if bin_.fits(piece):
                    bin_.add(piece)
                else:
                    over.append(piece)
            left = over
        return bins

    def _fill(self) -> list[_Bin]:
        """Fill host after host with what suits it, and its last room with the best pair."""
        left = list(self._pieces)
        bins = []
        empty = self._bins()
        while left:
            bins.append(bin_ := next(empty))
            while candidates := self._candidates(bin_, left):
                if not bin_.pieces:
                    chosen: tuple[_Piece, ...] = (candidates[0],)
                elif self._weigh(bin_.memory, bin_.busy) > _TAIL * self._mean:
                    chosen = (max(candidates, key=lambda piece: self._suits(bin_, piece)),)
                else:
                    chosen = _fullest(bin_, candidates)
                for piece in chosen:
                    bin_.add(piece)
                    del left[bisect_left(left, piece.rank, key=_rank)]
        return bins

    def _candidates(self, bin_: _Bin, left: list[_Piece]) -> list[_Piece]:
        """Return some pieces that fit, of all sizes, the largest first."""
        most = self._weigh(bin_.memory, bin_.busy) * (1 + 1e-9)
        start = bisect_left(left, -most, key=lambda piece: -piece.weight)
        step = max(1, (len(left) - start) // self._window)
        return [piece for piece in left[start::step] if bin_.fits(piece)]

    def _suits(self, bin_: _Bin, piece: _Piece) -> float:
        by_memory = self._per_byte * piece.memory * bin_.memory / max(1, self._host_bytes)
        return by_memory + self._per_part * piece.busy * bin_.busy / self._full

    def _without_one(self, bins: list[_Bin]) -> list[_Bin] | None:
        """Return the bins with the lightest new host emptied into the others; None where that fails."""
        bins = [bin_.copy() for bin_ in bins]
        lightest = min((b for b in bins if not b.room), key=lambda b: sum(piece.weight for piece in b.pieces))
        bins.remove(lightest)
        pool = lightest.pieces
        ejected: dict[_Piece, int] = {}
        while pool:
            pool.sort(key=lambda piece: piece.weight)
            piece = pool.pop()
            if self._insert(piece, bins):
                continue
            ejected[piece] = ejected.get(piece, 1) + 1
            found = self._cheapest_ejection(piece, bins, ejected)
            if found is None or self._looks <= 0:
                return None
            bin_, out = found
            for other in out:
                bin_.drop(other)
            bin_.add(piece)
            pool += out
        return bins

    def _insert(self, piece: _Piece, bins: list[_Bin]) -> bool:
        """Put a piece where it leaves least room, if it fits anywhere."""
        self._looks -= len(bins)
        fit = [bin_ for bin_ in bins if bin_.fits(piece)]
        if fit:
            min(fit, key=lambda b: self._weigh(b.memory, b.busy)).add(piece)
        return bool(fit)

    def _cheapest_ejection(
        self, piece: _Piece, bins: list[_Bin], ejected: dict[_Piece, int]
    ) -> tuple[_Bin, tuple[_Piece, ...]] | None:
        """Return the bin, and whom of it to eject for `piece`: light ones, seldom ejected before."""
        best: tuple[_Bin, tuple[_Piece, ...]] | None = None
        least = math.inf
        for bin_ in bins:
            if self._looks <= 0:
                break
            for out in _ejections(bin_, piece):
                self._looks -= 1
                cost = sum(ejected.get(other, 1) * other.weight for other in out)
                if cost < least:
                    best, least = (bin_, out), cost
        return best


def _ejections(bin_: _Bin, piece: _Piece) -> Iterator[tuple[_Piece, ...]]:
    """Yield the single pieces, and pairs of others, without which `piece` would fit."""
    memory, busy = piece.memory - bin_.memory, piece.busy - bin_.busy
    clash = piece.kin in bin_.kin
    for index, one in enumerate(bin_.pieces):
        if one.memory >= memory and one.busy >= busy:
            if not clash or one.kin == piece.kin:
                yield (one,)
            continue
        for two in bin_.pieces[:index]:
            enough = one.memory + two.memory >= memory and one.busy + two.busy >= busy
            if enough and (not clash or piece.kin in (one.kin, two.kin)):
                yield one, two


def _fullest(bin_: _Bin, candidates: list[_Piece]) -> tuple[_Piece, ...]:
    """Return the one piece, or the two, that fill a bin best."""
    best: tuple[_Piece, ...] = (candidates[0],)
    most = candidates[0].weight
    for index, one in enumerate(candidates):
        memory, busy = bin_.memory - one.memory, bin_.busy - one.busy
        if 2 * one.weight <= most:
            break  # they come by weight: the rest is lighter still
        for two in candidates[index + 1 :]:
            weight = one.weight + two.weight
            if weight <= most:
                break
            if two.memory <= memory and two.busy <= busy and (two.kin != one.kin or not one.kin):
                best, most = (one, two), weight
                break
    return best


def _made(bins: list[_Bin]) -> int:
    """Return how many new hosts are used."""
    return sum(not bin_.room for bin_ in bins)


def _rank(piece: _Piece) -> int:
    return piece.rank


def _piece(item: Item) -> _Piece:
    return _Piece(item, item.memory_bytes, _parts(min(item.busy, TARGET_BUSY)))


def _parts(share: float) -> int:
    return math.ceil(round(share * _PARTS, 3))


def _bound(pieces: Sequence[_Piece], host_bytes: int) -> int:
    kin: dict[str, int] = {}
    for piece in pieces:
        if piece.kin:
            kin[piece.kin] = kin.get(piece.kin, 0) + 1
    return max(
        _martello_toth([piece.memory for piece in pieces], host_bytes),
        _martello_toth([piece.busy for piece in pieces], _parts(TARGET_BUSY)),
        *kin.values(),
    )


def _martello_toth(sizes: list[int], capacity: int) -> int:
    """Return L2: those above half need a bin each; what these leave is all that middling ones can have.

    For every threshold k up to half the capacity: those above `capacity - k` have no room beside them for
    what is at least k; those between that and half have; those from k up to half go into that room, or
    need more bins.
    """
    ordered = sorted(size for size in sizes if size > 0)
    sums = [0, *accumulate(ordered)]
    half = bisect_right(ordered, capacity // 2)
    best = 0
    for k in sorted({0, *ordered[:half]}):
        low, huge = bisect_left(ordered, k), bisect_right(ordered, capacity - k)
        huge = max(huge, half)
        beside = (huge - half) * capacity - (sums[huge] - sums[half])
        rest = max(0, sums[half] - sums[low] - beside)
        best = max(best, len(ordered) - half - (-rest // capacity))
    return best
