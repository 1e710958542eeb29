"""What a question keeps of the points that pass by.

A reducer looks at arrays of shape (groups, points), a tile at a time, and adds to what it found. Findings of different
parts of a grid are merged; neither the order of the parts nor how they are put together matters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

import numpy as np

from servegrid import loops
from servegrid.kernel import compile_loop

Found = tuple[np.ndarray, ...]
"""What was found, the groups along the first axis of each array."""

Locate = Callable[[np.ndarray], np.ndarray]
"""From the place of a point in its part of the grid to that in the whole grid, both in C order."""


class Reducer(Protocol):
    """How points become findings; can be pickled."""

    def prepare(self) -> None:
        """Compile what is needed."""

    def begin(self, groups: np.ndarray) -> Any:
        """What is kept while points of these groups (their numbers in the whole grid) pass by, before the first."""

    def look(self, kept: Any, first: int, offset: int, values: Sequence[np.ndarray]) -> None:
        """Take in one array for each quantity, of shape (groups, points).

        `first`: the first of these groups, counted in those of `begin`. `offset`: the place of the first point, in C
        order.
        """

    def found(self, kept: Any, locate: Locate) -> Found:
        """What was found in the end, with places in the whole grid."""

    def nothing(self, groups: int) -> Found:
        """What is found in no points."""

    def merged(self, one: Found, other: Found) -> Found:
        """What both have found, for the same groups; it may hold more than is left in the end."""

    def finished(self, found: Found) -> Found:
        """What is left in the end."""


@dataclass(frozen=True)
class Leaders:
    """The `count` highest scores of each group, and their places; -inf and -1 where there are fewer.

    Of equal scores the one whose place comes first leads.
    """

    count: int = 1

    def prepare(self) -> None:
        """Nothing is compiled: numpy finds a maximum at the speed of the cache."""

    def begin(self, groups: np.ndarray) -> Found:
        return self.nothing(len(groups))

    def nothing(self, groups: int) -> Found:
        return np.full((groups, self.count), -inf), np.full((groups, self.count), -1, np.int64)

    def look(self, kept: Found, first: int, offset: int, values: Sequence[np.ndarray]) -> None:
        scores, places = (part[first : first + len(values[0])] for part in kept)
        better = np.flatnonzero(values[0].max(axis=1) > scores[:, -1])
        if self.count == 1 and len(better):
            rows = values[0] if len(better) == len(values[0]) else values[0][better]
            winners = rows.argmax(axis=1)
            scores[better, 0] = rows[np.arange(len(rows)), winners]
            places[better, 0] = offset + better * values[0].shape[1] + winners
        elif len(better):
            for group in better:
                start = offset + group * values[0].shape[1]
                new = _highest(values[0][group], self.count, scores[group, -1])
                both = np.append(scores[group], values[0][group, new]), np.append(places[group], start + new)
                scores[group], places[group] = (part[0] for part in self._leading(*(part[None] for part in both)))

    def found(self, kept: Found, locate: Locate) -> Found:
        scores, places = kept
        return scores, np.where(places >= 0, locate(np.maximum(places, 0)), -1)

    def merged(self, one: Found, other: Found) -> Found:
        scores, places = (np.concatenate(parts, axis=1) for parts in zip(one, other, strict=True))
        return self._leading(scores, places)

    def finished(self, found: Found) -> Found:
        return found

    def _leading(self, scores: np.ndarray, places: np.ndarray) -> Found:
        """The first `count` of each group."""
        order = np.lexsort((places, -scores), axis=1)[:, : self.count]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1)


def _highest(scores: np.ndarray, count: int, above: float) -> np.ndarray:
    """Places of the highest scores above a limit; of equal ones the first."""
    places = np.flatnonzero(scores > above)
    if len(places) <= count:
        return places
    found = scores[places]
    least = np.partition(found, -count)[-count]
    sure, equal = places[found > least], places[found == least]
    return np.concatenate([sure, equal[: count - len(sure)]])


class _Summed(ABC):
    """Counts, which add up."""

    @abstractmethod
    def nothing(self, groups: int) -> Found: ...

    def begin(self, groups: np.ndarray) -> Found:
        return self.nothing(len(groups))

    def found(self, kept: Found, locate: Locate) -> Found:
        return kept[:1]

    def merged(self, one: Found, other: Found) -> Found:
        return tuple(np.add(*parts) for parts in zip(one, other, strict=True))

    def finished(self, found: Found) -> Found:
        return found


@dataclass(frozen=True)
class Count(_Summed):
    """How often a flag is true."""

    def prepare(self) -> None:
        """Nothing is compiled."""

    def nothing(self, groups: int) -> Found:
        return (np.zeros(groups, np.int64),)

    def look(self, kept: Found, first: int, offset: int, values: Sequence[np.ndarray]) -> None:
        flags = values[0]
        # Of a whole array numpy counts 30 times as fast as along an axis.
        true = np.count_nonzero(flags, axis=1) if flags.shape[1] < 256 else [*map(np.count_nonzero, flags)]
        kept[0][first : first + len(flags)] += true


@dataclass(frozen=True)
class Bins(_Summed):
    """How many values lie between two edges (rising); a bin includes its left edge, the last one both."""

    edges: tuple[float, ...]

    def prepare(self) -> None:
        _ = self._loop

    @property
    def _loop(self) -> Callable[..., None]:
        return compile_loop(loops.count_bins, "void(float64[:, ::1], float64[::1], int64[:, ::1])")

    def nothing(self, groups: int) -> Found:
        return (np.zeros((groups, len(self.edges) - 1), np.int64),)

    def look(self, kept: Found, first: int, offset: int, values: Sequence[np.ndarray]) -> None:
        self._loop(values[0], np.array(self.edges), kept[0][first : first + len(values[0])])


@dataclass(frozen=True, eq=False)
class Digits(_Summed):
    """How many values, of those whose bits begin like `prefix` (groups, quantiles), have each digit next."""

    prefix: np.ndarray
    shift: int
    width: int

    def prepare(self) -> None:
        _ = self._loop

    @property
    def _loop(self) -> Callable[..., None]:
        return compile_loop(loops.count_digits, "void(float64[:, ::1], uint64[:, ::1], int64, int64, int64[:, :, ::1])")

    def nothing(self, groups: int) -> Found:
        return (np.zeros((groups, self.prefix.shape[1], 2**self.width), np.int64),)

    def begin(self, groups: np.ndarray) -> Found:
        return (*self.nothing(len(groups)), self.prefix[groups])

    def look(self, kept: Found, first: int, offset: int, values: Sequence[np.ndarray]) -> None:
        counts, prefix = (part[first : first + len(values[0])] for part in kept)
        self._loop(values[0], prefix, self.shift, self.width, counts)
