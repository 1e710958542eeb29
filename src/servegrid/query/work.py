"""The work of a question: blocks of the grid that anybody can look through, and what they found, put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from servegrid.blocks import Blocks, Region, Variable, owns, region_sizes
from servegrid.evaluate import Evaluator, Tiles
from servegrid.job import Crew, Memory, Progress, Task
from servegrid.kernel import compile_program
from servegrid.query.question import Asked
from servegrid.query.reduce import Found, Reducer

SHARES = 8  # blocks for each thread, where they are not too small: whoever is faster does more


@dataclass(frozen=True)
class Piece:
    """What one block held: for each look the groups that it reaches, as numbers, and what was found in them."""

    points: int
    looks: tuple[tuple[np.ndarray, Found] | None, ...]
    """None: the look is along fewer axes, and another block does it."""


@dataclass(frozen=True)
class Errand:
    """Everything that a worker needs; `reducers`: one for each look."""

    asked: Asked
    reducers: tuple[Reducer, ...]
    blocks: Blocks

    def prepare(self) -> None:
        """Compile the kernel and the loops, or take them from the cache."""
        compile_program(self.asked.program)
        for reducer in self.reducers:
            reducer.prepare()

    def do(self, task: Task, worker: str, memory: Memory) -> Piece:
        """Look through one block."""
        region = self.blocks[task.block]
        pairs = zip(self.asked.looks, self.reducers, strict=True)
        passes = [_Pass.of(self.asked, look, reducer, region) for look, reducer in pairs]
        due = [one for one in passes if one is not None]
        if due:
            tiles = self._tiles(region, [name for one in due for name in one.look], memory)
            for index in range(len(tiles)):
                results = tiles.fill(index)
                for one in due:
                    one.take(tiles.tiles[index], results)
        points = prod(region_sizes(region).values())
        return Piece(points, tuple(None if one is None else one.result() for one in passes))

    def _tiles(self, region: Region, wanted: Sequence[str], memory: Memory) -> Tiles:
        program = self.asked.program
        sizes = region_sizes({axis: region[axis] for axis in program.order})
        evaluator = Evaluator(program, sizes, self.asked.numbers.load(region, program.axes))
        return Tiles(evaluator, evaluator.whole, outputs=wanted, memory=memory)


@dataclass
class _Pass:
    """One look through one block."""

    look: tuple[str, ...]
    reducer: Reducer
    axes: tuple[str, ...]
    grouped: int  # how many of the axes are those of the groups; they come first
    region: Region
    sizes: Mapping[str, int]  # of the whole grid
    groups: np.ndarray = field(init=False)

    @classmethod
    def of(cls, asked: Asked, look: tuple[str, ...], reducer: Reducer, region: Region) -> _Pass | None:
        axes = asked.along(look)
        if not owns(region, Variable(axes, 1)):
            return None
        return cls(look, reducer, axes, len(asked.groups(look)), region, asked.sizes)

    def __post_init__(self) -> None:
        lead = self.axes[: self.grouped]
        self.groups = _located(np.arange(prod(self._lengths[: self.grouped])), lead, self.region, self.sizes)
        self.kept = self.reducer.begin(self.groups)

    @property
    def _lengths(self) -> tuple[int, ...]:
        return tuple(self.region[axis].stop - self.region[axis].start for axis in self.axes)

    def take(self, tile: Region, results: Mapping[str, np.ndarray]) -> None:
        """Look at a tile: outer axes one at a time, inner axes whole, so it is contiguous in C order."""
        if not all(name in results for name in self.look):
            return
        offset = 0
        for axis, length in zip(self.axes, self._lengths, strict=True):
            offset = offset * length + tile[axis].start
        each = prod(self._lengths[self.grouped :])  # points of a group
        values = [results[name].reshape(-1) for name in self.look]
        rows = max(1, len(values[0]) // each)
        self.reducer.look(self.kept, offset // each, offset, [part.reshape(rows, -1) for part in values])

    def result(self) -> tuple[np.ndarray, Found]:
        return self.groups, self.reducer.found(
            self.kept, lambda places: _located(places, self.axes, self.region, self.sizes)
        )


def _located(places: np.ndarray, axes: Sequence[str], region: Region, sizes: Mapping[str, int]) -> np.ndarray:
    """From places in a region to places in the whole grid, both in C order along these axes."""
    if not axes:
        return places
    inside = np.unravel_index(places, [region[axis].stop - region[axis].start for axis in axes])
    shifted = tuple(part + region[axis].start for part, axis in zip(inside, axes, strict=True))
    return np.asarray(np.ravel_multi_index(shifted, [sizes[axis] for axis in axes]))


def look_through(
    asked: Asked, reducers: Sequence[Reducer], blocks: Blocks, crew: Crew, progress: Progress | None = None
) -> list[Found]:
    """What all points hold: for each look what was found, group by group."""
    errand = Errand(asked, tuple(reducers), blocks)
    crew.get_ready(errand)
    found = [
        reducer.nothing(prod(asked.shape(asked.groups(look))))
        for look, reducer in zip(asked.looks, reducers, strict=True)
    ]
    if progress is not None:
        progress.start(prod(asked.sizes.values()), 0)
    for piece in crew.do(errand, _tasks(blocks)):
        for place, (reducer, part) in enumerate(zip(reducers, piece.looks, strict=True)):
            if part is not None:
                groups, new = part
                merged = reducer.merged(tuple(array[groups] for array in found[place]), new)
                for array, values in zip(found[place], merged, strict=True):
                    array[groups] = values
        if progress is not None:
            progress(piece.points)
    return [reducer.finished(part) for reducer, part in zip(reducers, found, strict=True)]


def _tasks(blocks: Blocks) -> Iterator[Task]:
    return (Task(index, ()) for index in range(len(blocks)))
