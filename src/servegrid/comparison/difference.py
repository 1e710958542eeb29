"""How two arrays of one shape differ: where, which way, by how much. Numpy only.

Whole or in parts, it is the same: the differences of parts add up, in any order, to that of the whole, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan
from typing import Any

import numpy as np

# Sign, exponent and ten bits of the fraction of a double: a bin is 0.1 % wide, its middle at most 0.05 % off.
_SHIFT = 42
PART = 2**18  # points looked at together: what is worked out about them stays in the cache, whatever the block


@dataclass(frozen=True, eq=False)
class Spread:
    """Many numbers in a few thousand narrow bins: the least and the greatest number of each, and how many they are.

    What the median needs, in little room, without a second pass over results that may be larger than the memory.
    """

    low: np.ndarray = field(default_factory=lambda: np.empty(0))
    high: np.ndarray = field(default_factory=lambda: np.empty(0))
    count: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def of(cls, numbers: np.ndarray) -> Spread:
        """The bins of these numbers, all finite."""
        return cls._gathered(numbers, numbers, np.ones(numbers.size, np.int64))

    def merged(self, other: Spread) -> Spread:
        """The bins of both."""
        pairs = ((self.low, other.low), (self.high, other.high), (self.count, other.count))
        return self._gathered(*(np.concatenate(pair) for pair in pairs))

    @classmethod
    def _gathered(cls, low: np.ndarray, high: np.ndarray, count: np.ndarray) -> Spread:
        if not low.size:
            return cls()
        order = np.argsort(low)
        low, high, count = low[order], high[order], count[order]
        key = low.view(np.int64) >> _SHIFT
        starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        return cls(low[starts], np.maximum.reduceat(high, starts), np.add.reduceat(count, starts))

    @property
    def median(self) -> float:
        """The median to 0.05 %, exact where its bin holds one or two numbers; NaN of nothing."""
        total = int(self.count.sum())
        return (self._at((total - 1) // 2) + self._at(total // 2)) / 2 if total else nan

    def _at(self, rank: int) -> float:
        """The number of this rank: the ends of a bin are known, what is between them is taken to be the middle."""
        ends = np.cumsum(self.count)
        place = int(np.searchsorted(ends, rank, side="right"))
        low, high = float(self.low[place]), float(self.high[place])
        first, last = ends[place] - self.count[place], ends[place] - 1
        return low if rank == first else high if rank == last else low + (high - low) / 2


@dataclass(frozen=True)
class Point:
    """A point that changed: its relative change, what it was and is, and its place in the (flattened) whole."""

    change: float
    before: Any
    after: Any
    place: int

    @property
    def rank(self) -> tuple[float, int]:
        """Of two points the one with the larger change; of equal ones the first."""
        return abs(self.change), -self.place


@dataclass(frozen=True)
class Difference:
    """How many points differ, and how.

    `appeared`: NaN, 0 or false before, a number or true now; `vanished`: the other way round. `higher`, `lower`:
    numbers before and now. `spread`: relative changes of those, (after - before) / abs(before); `largest` of them;
    `first` of all points that changed.
    """

    points: int = 0
    changed: int = 0
    appeared: int = 0
    vanished: int = 0
    higher: int = 0
    lower: int = 0
    first: Point | None = None
    largest: Point | None = None
    spread: Spread = field(default_factory=Spread, compare=False)

    def merged(self, other: Difference) -> Difference:
        """The difference of both parts."""
        firsts = [part.first for part in (self, other) if part.first is not None]
        largest = [part.largest for part in (self, other) if part.largest is not None]
        return Difference(
            self.points + other.points,
            self.changed + other.changed,
            self.appeared + other.appeared,
            self.vanished + other.vanished,
            self.higher + other.higher,
            self.lower + other.lower,
            min(firsts, key=lambda point: point.place, default=None),
            max(largest, key=lambda point: point.rank, default=None),
            self.spread.merged(other.spread) if other.spread.low.size else self.spread,
        )


def differ(one: np.ndarray, other: np.ndarray, tolerance: float = 0.0) -> Difference:
    """How `other` differs from `one`.

    Equal is what is the same number (of whatever type), or NaN in both. `tolerance`: numbers so near to each other,
    relative to the larger, count as equal, too.
    """
    one, other = one.reshape(-1), other.reshape(-1)
    found = Difference()
    for start in range(0, one.size, PART):
        part = slice(start, start + PART)
        found = found.merged(_differ(one[part], other[part], tolerance, start))
    return found


def _differ(one: np.ndarray, other: np.ndarray, tolerance: float, start: int) -> Difference:
    index = np.flatnonzero(_unequal(one, other))
    if not index.size:
        return Difference(one.size)
    before, after, place = one[index], other[index], index + start
    if not (_is_number(one) and _is_number(other)):
        return Difference(one.size, index.size, first=_first(before, after, place))
    return _of_numbers(one.size, before.astype(np.float64), after.astype(np.float64), tolerance, place)


def _is_number(array: np.ndarray) -> bool:
    return array.dtype.kind in "biuf"


def _unequal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    unequal: np.ndarray = one != other
    if one.dtype.kind == "f" and other.dtype.kind == "f":
        unequal &= (one == one) | (other == other)  # NaN is not itself
    return unequal


def _of_numbers(points: int, before: np.ndarray, after: np.ndarray, tolerance: float, place: np.ndarray) -> Difference:
    """The same, of the elements that are not equal."""
    with np.errstate(all="ignore"):  # infinite ones
        if tolerance:
            far = ~(np.abs(after - before) <= tolerance * np.maximum(np.abs(before), np.abs(after)))
            before, after, place = before[far], after[far], place[far]
        was, is_now = _is_there(before), _is_there(after)
        both = was & is_now
        first, second = before[both], after[both]
        change = (second - first) / np.abs(first)
    finite = np.isfinite(change)
    return Difference(
        points,
        before.size,
        int(np.count_nonzero(~was & is_now)),
        int(np.count_nonzero(was & ~is_now)),
        int(np.count_nonzero(second > first)),
        int(np.count_nonzero(second < first)),
        _first(before, after, place),
        _largest(change[finite], first[finite], second[finite], place[both][finite]),
        Spread.of(change[finite]),
    )


def _is_there(values: np.ndarray) -> np.ndarray:
    there: np.ndarray = ~np.isnan(values) & (values != 0)
    return there


def _first(before: np.ndarray, after: np.ndarray, place: np.ndarray) -> Point | None:
    return Point(nan, before[0].item(), after[0].item(), int(place[0])) if place.size else None


def _largest(change: np.ndarray, before: np.ndarray, after: np.ndarray, place: np.ndarray) -> Point | None:
    if not change.size:
        return None
    best = int(np.abs(change).argmax())
    return Point(float(change[best]), float(before[best]), float(after[best]), int(place[best]))
