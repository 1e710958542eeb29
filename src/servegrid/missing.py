"""What a store lacks: which outputs of which blocks, as tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np

from servegrid.blocks import Variable, owns
from servegrid.errors import InputError, shown
from servegrid.job import Task
from servegrid.store import Store


class Part(NamedTuple):
    """A share of the blocks: number 1 to `of`; every block belongs to exactly one."""

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> Part:
        """A share, written as 3/64."""
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise InputError(f"part: got {shown(text)}, expected a share such as 3/64, from 1/64 to 64/64")
        return cls(int(number), int(of))


@dataclass(frozen=True)
class Missing:
    """The chunks that a store lacked when `present` was looked up, and what to do about them.

    `present`: variable -> a flag for each of its chunks. `part`: only these blocks are done.
    """

    store: Store
    present: dict[str, np.ndarray]
    part: Part | None = None

    @classmethod
    def of(cls, store: Store, part: Part | None = None) -> Missing:
        """Look what is there."""
        return cls(store, {name: store.present(name) for name in store.variables}, part)

    @property
    def chunks(self) -> int:
        """Chunks of all variables, there or not."""
        return sum(flags.size for flags in self.present.values())

    @property
    def stored(self) -> int:
        """Chunks that are there."""
        return sum(int(flags.sum()) for flags in self.present.values())

    @property
    def absent(self) -> int:
        """Chunks that are not there, of all parts."""
        return self.chunks - self.stored

    @cached_property
    def points(self) -> int:
        """Points of the blocks that are to be done, or that are done."""
        return int(self._points[self._mine].sum())

    @cached_property
    def done_points(self) -> int:
        """Points of the blocks in which nothing is missing."""
        return int(self._points[self._mine & ~self._lacking].sum())

    def tasks(self) -> Iterator[Task]:
        """What to compute, block by block, in the order of the grid; no chunk that is there is computed."""
        for index in np.flatnonzero(self._lacking & self._mine):
            yield self._task(int(index))

    def _task(self, index: int) -> Task:
        region = self.store.blocks[index]
        position = np.unravel_index(index, self._counts)
        place = dict(zip(self.store.blocks.sizes, position, strict=True))
        outputs = tuple(
            name
            for name, variable in self.store.variables.items()
            if owns(region, variable) and not self.present[name][tuple(place[axis] for axis in variable.axes)]
        )
        return Task(index, outputs)

    @property
    def _counts(self) -> tuple[int, ...]:
        return tuple(self.store.blocks.counts.values())

    @cached_property
    def _lacking(self) -> np.ndarray:
        """A flag for each block: whether a chunk is missing that it has to compute."""
        lacking = np.zeros(self._counts, dtype=bool)
        for name, variable in self.store.variables.items():
            lacking[self._own(variable)] |= ~self.present[name]
        return lacking

    def _own(self, variable: Variable) -> tuple[slice | int, ...]:
        """The blocks that compute a part of a variable, as an index; see `blocks.owns`."""
        return tuple(slice(None) if axis in variable.axes else 0 for axis in self.store.blocks.sizes)

    @cached_property
    def _mine(self) -> np.ndarray:
        """A flag for each block: whether it belongs to the part. Neighbours go to different parts, which evens out."""
        if self.part is None:
            return np.ones(self._counts, dtype=bool)
        numbers = np.arange(prod(self._counts)).reshape(self._counts)
        return np.equal(numbers % self.part.of, self.part.number - 1)

    @cached_property
    def _points(self) -> np.ndarray:
        """The points of each block."""
        blocks = self.store.blocks
        points = np.ones((), dtype=np.int64)
        for axis, size in blocks.sizes.items():
            starts = np.arange(0, size, blocks.block[axis])
            points = np.multiply.outer(points, np.minimum(blocks.block[axis], size - starts))
        return points
