"""The Pareto frontier of each group: the points that no other one reaches in every objective.

Of points that are equal in every objective, the one whose place comes first is on the frontier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from servegrid import loops
from servegrid.kernel import compile_loop
from servegrid.query.reduce import Found, Locate

# Good points that each point is compared with at first: 99 % and more of a grid's points fall there.
WINDOW = 128
# Points that passed the window, before those that are dominated all the same are taken out.
MOST_CANDIDATES = 2**18
# Blocks whose frontiers are put side by side, before what is dominated by another block is taken out.
BLOCKS = 8


@dataclass(frozen=True)
class Front:
    """Keeps the maximal points; `objectives`: how many there are. NaN or -inf: the point does not count."""

    objectives: int

    def prepare(self) -> None:
        """Compile the loops."""
        _survivors()
        maximal(np.zeros((2, self.objectives)), np.arange(2))

    def begin(self, groups: np.ndarray) -> list[Candidates]:
        return [Candidates(self.objectives) for _ in groups]

    def nothing(self, groups: int) -> Found:
        none = np.zeros((0, self.objectives)), np.zeros(0, np.int64)
        return tuple(_ragged([part] * groups) for part in none)

    def look(self, kept: list[Candidates], first: int, offset: int, values: Sequence[np.ndarray]) -> None:
        groups, count = values[0].shape
        for group in range(groups):
            kept[first + group].look(offset + group * count, np.stack([part[group] for part in values]))

    def found(self, kept: list[Candidates], locate: Locate) -> Found:
        fronts = [candidates.front() for candidates in kept]
        return _ragged([points for points, _ in fronts]), _ragged([locate(places) for _, places in fronts])

    def merged(self, one: Found, other: Found) -> Found:
        fronts = []
        for points, places, more, others in zip(*one, *other, strict=True):
            both = np.concatenate([points, more]), np.concatenate([places, others])
            # Not for each of many blocks: a large frontier would be sorted again every time.
            due = len(points) > MOST_CANDIDATES + BLOCKS * len(more)
            fronts.append(maximal(*both) if due else both)
        return _ragged([points for points, _ in fronts]), _ragged([places for _, places in fronts])

    def finished(self, found: Found) -> Found:
        fronts = [maximal(points, places) for points, places in zip(*found, strict=True)]
        return _ragged([points for points, _ in fronts]), _ragged([places for _, places in fronts])


def _ragged(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One array for each group, of different lengths, as an array of objects."""
    array = np.empty(len(parts), object)
    for index, part in enumerate(parts):
        array[index] = part
    return array


@dataclass
class Candidates:
    """The points of one group that may be maximal, as they pass by in the order of their places."""

    objectives: int
    window: np.ndarray = field(init=False)
    held: np.ndarray = field(init=False)
    points: list[np.ndarray] = field(default_factory=list)
    places: list[np.ndarray] = field(default_factory=list)
    count: int = 0
    limit: int = MOST_CANDIDATES

    def __post_init__(self) -> None:
        self.window = np.empty((WINDOW, self.objectives))
        self.held = np.zeros(1, np.int64)

    def look(self, offset: int, values: np.ndarray) -> None:
        """Take in points, as (objectives, points)."""
        survivors = np.empty(values.shape[1], np.int64)
        kept = survivors[: _survivors()(values, self.window, self.held, survivors)]
        if len(kept):
            self.points.append(values[:, kept].T.copy())
            self.places.append(kept + offset)
            self.count += len(kept)
        if self.count > self.limit:
            points, places = self.front()
            self.points, self.places, self.count = [points], [places], len(places)
            self.limit = max(MOST_CANDIDATES, 2 * len(places))  # a large frontier is not sorted again at once

    def front(self) -> tuple[np.ndarray, np.ndarray]:
        """The maximal ones, as (points, objectives), with their places."""
        if not self.points:
            return np.zeros((0, self.objectives)), np.zeros(0, np.int64)
        return maximal(np.concatenate(self.points), np.concatenate(self.places))


def maximal(points: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The maximal ones of `points` (n, objectives) with their `places` (n,), in falling order of the objectives.

    Of equal points, the one of the lowest place.
    """
    order = np.lexsort((places, *(-points.T[::-1])))
    points, places = points[order], places[order]
    if points.shape[1] == 1:
        keep = np.arange(len(points)) == 0
    elif points.shape[1] == 2:
        highest = np.maximum.accumulate(points[:, 1])
        keep = np.append([True], points[1:, 1] > highest[:-1])[: len(points)]
    else:
        keep = _scanned(points)
    return points[keep], places[keep]


def _scanned(points: np.ndarray) -> np.ndarray:
    """A flag for each of three or more objectives' points, which are in falling order."""
    count, objectives = points.shape
    keep = np.empty(count, np.bool_)
    if objectives == 3:
        y, z = (np.ascontiguousarray(points[:, place]) for place in (1, 2))
        loop = compile_loop(
            loops.maximal_of_three, "void(float64[::1], float64[::1], float64[::1], float64[::1], boolean[::1])"
        )
        loop(y, z, np.empty(count), np.empty(count), keep)
    else:
        loop = compile_loop(loops.maximal_of_many, "void(float64[:, ::1], float64[:, ::1], boolean[::1])")
        loop(np.ascontiguousarray(points), np.empty_like(points, order="C"), keep)
    return keep


def _survivors() -> Callable[..., int]:
    return compile_loop(loops.survivors, "int64(float64[:, ::1], float64[:, ::1], int64[::1], int64[::1])")
