"""Parameters -> results: a region at a time into given arrays, the whole grid in memory, or lazily in dask chunks.

Whatever the regions, each number is computed by the same compiled code from the same inputs: the bits are the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from servegrid.blocks import Blocks, Region, Variable, block_sizes, owns, region_sizes, total_bytes
from servegrid.errors import InputError, MachineError
from servegrid.kernel import Kernel, compile_program
from servegrid.parameters import Parameters
from servegrid.program import Program
from servegrid.show import number

# Results and intermediates of one tile: small enough for the last-level cache, large enough that the 50 us of
# Python between two tiles do not count (67 M points, two threads, kept in cache, the better of two runs:
# 1,170 Mpoint/s with 1 MiB, 3,480 with 4, 4,380 with 16, 3,360 with 64).
TILE_BYTES = 16 * 2**20
# Where a procedure is called, a point takes milliseconds: threads take few at a time.
TILE_POINTS = 4
_CACHE_LINE = 64


@dataclass(frozen=True)
class Evaluator:
    """A sweep ready to be computed: fills arrays for any region of the grid.

    `sizes`: length of each axis, in order. `inputs`: double precision arrays along their axes.
    """

    program: Program
    sizes: Mapping[str, int]
    inputs: Mapping[str, np.ndarray]

    @property
    def kernel(self) -> Kernel:
        """The compiled program; the first use compiles it, or takes it from the cache."""
        return compile_program(self.program)

    @cached_property
    def stored(self) -> dict[str, Variable]:
        """Everything that the kernel keeps in arrays: outputs and intermediates."""
        program = self.program
        return {name: Variable(program.axes[name], program.dtype(name).itemsize) for name in program.stored}

    @cached_property
    def outputs(self) -> dict[str, Variable]:
        """The outputs alone."""
        return {name: self.stored[name] for name in self.program.graph.outputs if name in self.stored}

    @property
    def tile_bytes(self) -> int:
        """What the results of one tile may take [byte]."""
        return TILE_POINTS * self.point_bytes if self.is_slow else TILE_BYTES

    @property
    def is_slow(self) -> bool:
        """Whether a point takes milliseconds, since a procedure is called."""
        return bool(self.program.graph.calls)

    @property
    def point_bytes(self) -> int:
        """The results and intermediates of one point [byte]."""
        return sum(variable.itemsize for variable in self.stored.values())

    @cached_property
    def whole(self) -> Region:
        """The region that is the whole grid."""
        return {axis: slice(0, size) for axis, size in self.sizes.items()}

    def allocate(
        self,
        region: Region,
        memory: dict[str, np.ndarray] | None = None,
        outputs: Collection[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Arrays, not yet filled, for the outputs (all, or those named) that this region computes.

        `memory`, kept by the caller from region to region, holds the last arrays; those of the right shape are
        given out again. Pages that were written before are 3 to 40 times faster to write than fresh ones.
        """
        sizes = region_sizes(region)
        memory = {} if memory is None else memory
        owned = {
            name: variable.shape(sizes)
            for name, variable in self.outputs.items()
            if owns(region, variable) and (outputs is None or name in outputs)
        }
        for name, shape in owned.items():
            if name not in memory or memory[name].shape != shape:
                memory[name] = _aligned(shape, self.program.dtype(name))
        return {name: memory[name] for name in owned}

    def region(
        self,
        region: Region,
        memory: dict[str, np.ndarray] | None = None,
        outputs: Collection[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """The outputs that this region computes, along their own axes; `memory` and `outputs` as for `allocate`."""
        arrays = self.allocate(region, memory, outputs)
        self.fill(region, arrays)
        return arrays

    def fill(self, region: Region, arrays: Mapping[str, np.ndarray]) -> None:
        """Compute into `arrays` (output -> C-contiguous array of the region's shape along its axes).

        Outputs that have no array are left out, with all that only they need.
        """
        tiles = Tiles(self, region, arrays)
        for index in range(len(tiles)):
            tiles.fill(index)

    def grid(self, threads: int | None = None, arrays: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The outputs over the whole grid, along their own axes, tile by tile on a pool of threads.

        `arrays` of an earlier call are filled again, which saves the system from handing out fresh memory.
        """
        filled = dict(arrays) if arrays is not None else self._allocate_grid()
        self._share(lambda: Tiles(self, self.whole, filled), lambda outputs: None, threads)
        return filled

    def _allocate_grid(self) -> dict[str, np.ndarray]:
        needed = total_bytes(self.outputs.values(), self.sizes)
        if needed > physical_memory():
            raise MachineError(
                f"the results take {number(needed, 'byte')}, more than this machine's memory of "
                f"{number(physical_memory(), 'byte')}; store them (run), or compute them lazily (chunks)"
            )
        return self.allocate(self.whole)

    def points(self, places: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs at some points, given by their positions along each axis: one array of that length for each.

        One by one, which takes 0.1 ms each, and saves compiling a program along the points.
        """
        count = len(next(iter(places.values()), [0]))
        found = {name: np.empty(count, self.program.dtype(name)) for name in self.outputs}
        memory: dict[str, np.ndarray] = {}
        for index in range(count):
            at = {axis: slice(positions[index], positions[index] + 1) for axis, positions in places.items()}
            inputs = {name: array[tuple(map(at.get, self.program.axes[name]))] for name, array in self.inputs.items()}
            point = Evaluator(self.program, dict.fromkeys(self.sizes, 1), inputs)
            for name, value in Tiles(point, point.whole, memory=memory).fill(0).items():
                found[name][index] = value.item()
        return found

    def stream(self, visit: Callable[[Mapping[str, np.ndarray]], None], threads: int | None = None) -> None:
        """Compute the whole grid tile by tile in cache, and keep nothing.

        `visit` gets the outputs that a tile computes, in buffers that are used again for the next; it is called by
        several threads at once.
        """
        self._share(lambda: Tiles(self, self.whole), visit, threads)

    def _share(
        self,
        tiles: Callable[[], Tiles],
        visit: Callable[[Mapping[str, np.ndarray]], None],
        threads: int | None,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads: got {threads}, expected 1 or more")
        count = len(tiles())
        shared = iter(range(count))  # next() on it is atomic: each thread takes the next tile that is left

        def work(_: int) -> None:
            own = tiles()
            for index in shared:
                visit(own.fill(index))

        size = min(threads or available_cores(), count)
        with ThreadPoolExecutor(size) as pool:
            list(pool.map(work, range(size)))


class Tiles:
    """One thread's way through the tiles of a region, with memory that it uses again and again.

    A tile is outer axes one at a time, inner axes whole, so its part of any array of the region is contiguous.
    Outputs go into `arrays` (output -> C-contiguous array of the region's shape along its axes); without it, every
    tile's outputs (all, or those named) stay in the buffers that `fill` returns, until the next tile. `memory`, kept
    by the caller, holds the buffers of an earlier way, which are used again where they are large enough. All that does
    not change from tile to tile is prepared once: a tile may take no longer than 100 us.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        region: Region,
        arrays: Mapping[str, np.ndarray] | None = None,
        outputs: Collection[str] | None = None,
        memory: dict[str, np.ndarray] | None = None,
    ) -> None:
        self.kernel, self.program, self.stored = evaluator.kernel, evaluator.program, evaluator.stored
        sizes = region_sizes(region)
        self.tiles = Blocks(sizes, block_sizes(sizes, self.stored.values(), evaluator.tile_bytes))
        self.cut = frozenset(axis for axis, count in self.tiles.counts.items() if count > 1)
        chosen = evaluator.outputs if outputs is None else outputs
        self.outputs = frozenset(chosen if arrays is None else arrays)
        self.arrays = {
            name: array if self.stored[name].axes else array.reshape(1) for name, array in (arrays or {}).items()
        }
        self.inputs = {
            name: np.require(values[tuple(region[axis] for axis in self.program.axes[name])], requirements=("C", "W"))
            for name, values in evaluator.inputs.items()
        }
        self._memory = {} if memory is None else memory
        for name, variable in self.stored.items():
            length = prod(variable.shape(self.tiles.block))
            if name not in self._memory or len(self._memory[name]) < length:
                self._memory[name] = _aligned((length,), self.program.array_dtype(name))
        self._buffers: dict[tuple[int, ...], dict[str, np.ndarray]] = {}
        self._wanted: dict[frozenset[str], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.tiles)

    def fill(self, index: int) -> dict[str, np.ndarray]:
        """Compute one tile; return the outputs that it computes (and not an earlier one)."""
        tile = self.tiles[index]
        sizes = region_sizes(tile)
        owned = self._owned(tile)
        results = {name: self._part(name, self.arrays[name], tile) for name in owned if name in self.arrays}
        rounded = self.program.rounded
        arrays = self._scratch(sizes) | {name: array for name, array in results.items() if name not in rounded}
        inputs = {name: self._part(name, values, tile) for name, values in self.inputs.items()}
        self.kernel(sizes, inputs, arrays, self._wanted[owned])
        for name in rounded.intersection(results):
            results[name][...] = arrays[name].reshape(results[name].shape)
        return {name: arrays[name] for name in owned} | results

    def _owned(self, tile: Region) -> frozenset[str]:
        later = [axis for axis in self.cut if tile[axis].start > 0]
        owned = frozenset(name for name in self.outputs if all(axis in self.stored[name].axes for axis in later))
        if owned not in self._wanted:
            self._wanted[owned] = _wanted(self.program, owned)
        return owned

    def _part(self, name: str, array: np.ndarray, tile: Region) -> np.ndarray:
        axes = self.program.axes[name]
        return array if self.cut.isdisjoint(axes) else array[tuple([tile[axis] for axis in axes])]

    def _scratch(self, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
        """An array for everything that the kernel stores; those of owned outputs are replaced by their own."""
        key = tuple(sizes.values())
        if key not in self._buffers:
            shapes = {name: variable.shape(sizes) or (1,) for name, variable in self.stored.items()}
            self._buffers[key] = {
                name: self._memory[name][: prod(shape)].reshape(shape) for name, shape in shapes.items()
            }
        return self._buffers[key]


def _aligned(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> np.ndarray:
    """An array, not yet filled, that begins at a cache line.

    numpy's own large arrays begin 16 bytes after one, so that every other vector that is stored straddles two
    (67 M points, one thread, into warm memory: 985 against 1,660 Mpoint/s).
    """
    nbytes = prod(shape) * dtype.itemsize
    memory = np.empty(nbytes + _CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    return memory[start : start + nbytes].view(dtype).reshape(shape)


def _wanted(program: Program, outputs: Collection[str]) -> np.ndarray:
    """One flag for each nest: whether it gives one of these outputs, or something that a wanted nest needs."""
    wanted = np.zeros(len(program.nests), dtype=bool)
    needed = set(outputs)
    for index in reversed(range(len(program.nests))):
        nest = program.nests[index]
        if needed.intersection(nest.quantities):
            wanted[index] = True
            needed.update(nest.loads)
    return wanted


def prepare(parameters: Parameters) -> Evaluator:
    """The sweep's evaluator; nothing is compiled or computed yet."""
    program = Program(parameters.graph, parameters.axes, tuple(parameters.sizes), parameters.sweep.dtype)
    return Evaluator(program, parameters.sizes, parameters.inputs)


def physical_memory() -> int:
    """The memory of this machine [byte]."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else sys.maxsize


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
