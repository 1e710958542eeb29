"""Ways to compute the blocks of a sweep and to keep them: servegrid's, the halves of it alone, and its rival.

All take the same plan and the same hands: threads of this process, or the worker processes of one dask cluster.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dask
import google_crc32c
import numcodecs.blosc  # type: ignore[import-untyped]
import numpy as np
from distributed import wait
from numcodecs import Blosc

import servegrid as sg
from servegrid.blocks import Blocks, Variable
from servegrid.cluster import Cluster
from servegrid.evaluate import Evaluator
from servegrid.job import Crew
from servegrid.planning import Plan
from servegrid.runner import store_sweep
from servegrid.store import COMPRESSORS
from servegrid.sweepfile import Sweep

numcodecs.blosc.use_threads = False  # as zarr has it: one thread compresses one chunk

MEMORY = "64 GiB"  # the budget of every run: more than any block takes, so that it cuts none
RUN, EVALUATE, FILES, FOLDERS, TO_ZARR = "run", "evaluate", "files", "files, a folder for each axis", "to_zarr"

Held = Mapping[int, Mapping[str, np.ndarray]]  # block -> its outputs


@dataclass(frozen=True)
class Hands:
    """Those who work: servegrid's crew; others use its threads or processes, but not its way to share work."""

    crew: Crew

    @property
    def cluster(self) -> Cluster | None:
        return self.crew if isinstance(self.crew, Cluster) else None

    def each(self, work: Callable[..., int], count: int, *common: Any, own: Sequence[Any] | None = None) -> int:
        """The sum of `work(its share of range(count), its own, *common)`, which everybody calls once.

        A thread takes the next number that is left, a process every n-th.
        """
        size = self.crew.size
        others = [(*([own[number]] if own else []), *common) for number in range(size)]
        if self.cluster is None:
            left = iter(range(count))  # next() on it is atomic
            with ThreadPoolExecutor(size) as pool:
                return sum(pool.map(lambda other: work(left, *other), others))
        client = self.cluster.client
        futures = [
            client.submit(work, range(count)[number::size], *other, workers=[worker], pure=False)
            for number, (worker, other) in enumerate(zip(sorted(client.nthreads()), others, strict=True))
        ]
        return sum(client.gather(futures))

    def hold(self, evaluator: Evaluator, blocks: Blocks) -> list[Any]:
        """Compute all blocks and keep them in memory, each where `each` will ask for it."""
        count, size = len(blocks), self.crew.size
        if self.cluster is None:
            return [compute(range(count), evaluator, blocks)] * size
        client = self.cluster.client
        held = [
            client.submit(compute, range(count)[number::size], evaluator, blocks, workers=[worker], pure=False)
            for number, worker in enumerate(sorted(client.nthreads()))
        ]
        with client.as_current():
            wait(held)
        return held

    def dask(self) -> Any:
        """A context in which dask computes with these hands."""
        if self.cluster is None:
            return dask.config.set(scheduler="threads", num_workers=self.crew.size)
        return dask.config.set(scheduler=self.cluster.client.get)


@dataclass(frozen=True)
class Case:
    """A sweep, how it is cut, and who does it."""

    plan: Plan
    hands: Hands

    @property
    def sweep(self) -> Sweep:
        return self.plan.parameters.sweep

    @property
    def chunks(self) -> int:
        """Files that hold results."""
        counts = self.plan.blocks.counts
        return sum(int(np.prod(variable.shape(counts))) for variable in self.plan.evaluator.outputs.values())

    @cached_property
    def held(self) -> list[Any]:
        """The results, already computed."""
        return self.hands.hold(self.plan.evaluator, self.plan.blocks)


# --- servegrid ----------------------------------------------------------------------------------------------------


def run(case: Case, folder: Path) -> object:
    """`servegrid run` but for its summary: planning, metadata, lock, results, last look."""
    return store_sweep(case.sweep, folder, MEMORY, case.hands.crew)


# --- one half of it: the numbers ----------------------------------------------------------------------------------


def evaluate(case: Case, folder: Path) -> int:
    """The outputs of every block in memory that is used again and again: nothing is kept."""
    return case.hands.each(drop, len(case.plan.blocks), case.plan.evaluator, case.plan.blocks)


def drop(indices: Iterable[int], evaluator: Evaluator, blocks: Blocks) -> int:
    """Compute these blocks; how many numbers they have."""
    memory: dict[str, np.ndarray] = {}
    return sum(array.size for index in indices for array in evaluator.region(blocks[index], memory).values())


def compute(indices: Iterable[int], evaluator: Evaluator, blocks: Blocks) -> Held:
    """Compute these blocks, each into memory of its own."""
    return {index: evaluator.region(blocks[index]) for index in indices}


# --- the other half: the compressor and the disk ------------------------------------------------------------------


def files(case: Case, folder: Path) -> int:
    """Results that are computed already, compressed and with a checksum, in plain files: a folder for each output."""
    return _written(case, folder, "-")


def folders(case: Case, folder: Path) -> int:
    """The same files where Zarr has them: below each output a level of folders for each axis."""
    return _written(case, folder, "/")


def _written(case: Case, folder: Path, separator: str) -> int:
    plan = case.plan
    common = (plan.blocks, plan.evaluator.outputs, folder, separator)
    return case.hands.each(write, len(plan.blocks), *common, own=case.held)


def write(
    indices: Iterable[int],
    held: Held,
    blocks: Blocks,
    variables: Mapping[str, Variable],
    folder: Path,
    separator: str,
) -> int:
    """Write these blocks; how many files they are."""
    made: set[str] = set()  # folders; and no Path here, where each microsecond counts
    written = 0
    for index in indices:
        for name, array in held[index].items():
            path = chunk_path(folder, name, blocks, variables[name], index, separator)
            parent, _ = os.path.split(path)
            if parent not in made:
                os.makedirs(parent, exist_ok=True)  # noqa: PTH103  # no Path: see above
                made.add(parent)
            write_whole(path, encoded(array))
            written += 1
    return written


def chunk_path(folder: Path, name: str, blocks: Blocks, variable: Variable, index: int, separator: str) -> str:
    """Where a chunk is kept."""
    region = blocks[index]
    position = (str(region[axis].start // blocks.block[axis]) for axis in variable.axes)
    return f"{folder}/{name}/c/{separator.join(position)}"


def encoded(array: np.ndarray) -> tuple[bytes, bytes]:
    """What `store.COMPRESSORS` make of a chunk: its bytes, and their checksum behind them."""
    codec = Blosc(cname="lz4", clevel=5, shuffle=Blosc.SHUFFLE)  # of items as large as the array's
    compressed = codec.encode(array)
    return compressed, google_crc32c.value(compressed).to_bytes(4, "little")


def write_whole(path: str, parts: Iterable[bytes]) -> None:
    """A file that is on the disk before it has its name."""
    partial = f"{path}.partial"
    with open(partial, "wb", buffering=0) as file:  # noqa: PTH123  # no Path: see above
        for part in parts:
            file.write(part)
        os.fsync(file.fileno())
    os.replace(partial, path)  # noqa: PTH105  # no Path: see above


# --- the rival ----------------------------------------------------------------------------------------------------


def to_zarr(case: Case, folder: Path) -> object:
    """xarray's own way from lazy arrays to a store with the same chunks and compressors, nothing forced to the disk."""
    plan = case.plan
    dataset = sg.sweep(case.sweep, chunks=plan.blocks.block)
    encoding: dict[str, dict[str, object]] = {str(name): {"compressors": COMPRESSORS} for name in dataset.variables}
    for name, variable in plan.evaluator.outputs.items():
        encoding[name]["chunks"] = variable.shape(plan.blocks.block)
    with warnings.catch_warnings(), case.hands.dask():
        warnings.simplefilter("ignore")  # text and consolidated metadata are no final part of Zarr v3
        return dataset.to_zarr(folder, mode="w", encoding=encoding, write_empty_chunks=True, zarr_format=3)


CONTENDERS: dict[str, Callable[[Case, Path], object]] = {
    RUN: run,
    EVALUATE: evaluate,
    FILES: files,
    FOLDERS: folders,
    TO_ZARR: to_zarr,
}
