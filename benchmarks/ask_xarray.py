"""The question by xarray and dask, of a store: the way without a question of servegrid's."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import xarray as xr
from dask.base import compute

from benchmarks.ask_numpy import Ask
from benchmarks.ask_servegrid import keep, keep_until_exit
from benchmarks.grid import Problem
from benchmarks.question import MOST_ITL, MOST_TTFT, PER, Answer, others


def stored(problem: Problem) -> Ask:
    """Of a store that is there."""
    store = keep_until_exit(problem)
    return lambda: best(problem, store)


def store_first(problem: Problem) -> Ask:
    """`servegrid.run` into a store, and then the question."""

    def run() -> Answer:
        with TemporaryDirectory() as folder:
            return best(problem, keep(problem, Path(folder)))

    return run


def best(problem: Problem, store: Path) -> Answer:
    """Filter and maximum, lazily, on all cores."""
    with xr.open_zarr(store) as dataset:
        counts = (dataset.ttft <= MOST_TTFT) & (dataset.itl <= MOST_ITL)  # where nothing fits, ITL is NaN
        scores = dataset.throughput.where(counts, -np.inf).transpose(*PER, *others(problem))
        each = scores.stack(configuration=others(problem), create_index=False)
        return Answer.of(problem, *compute(each.max("configuration").data, each.argmax("configuration").data))
