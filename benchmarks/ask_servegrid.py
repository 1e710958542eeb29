"""The question by servegrid: of the sweep, or of what a run has stored."""

from __future__ import annotations

from atexit import register
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import numba  # noqa: F401 - so that the time to compile has no import in it, as for the other contenders
import numpy as np
import pandas as pd
import xarray as xr

import servegrid as sg
from benchmarks.ask_numpy import Ask
from benchmarks.grid import Problem
from benchmarks.question import NEEDED, OBJECTIVE, PER, WHERE, Answer, others


def streamed(problem: Problem, threads: int) -> Ask:
    """Computed as it goes, and not kept."""
    words = {**problem.words, "outputs": list(NEEDED)}

    def run() -> Answer:
        return _answer(problem, sg.best(maximize=OBJECTIVE, where=WHERE, per=PER, threads=threads, **words))

    run()  # compiles
    return run


def stored(problem: Problem, threads: int) -> Ask:
    """Of a store that is there."""
    store = keep_until_exit(problem)

    def run() -> Answer:
        with sg.open_dataset(store) as dataset:
            found = dataset.grid.best(maximize=OBJECTIVE, where=WHERE, per=PER, threads=threads)
        return _answer(problem, found)

    return run


def keep_until_exit(problem: Problem) -> Path:
    """A store that is there as long as this process is."""
    folder = mkdtemp()
    register(rmtree, folder, ignore_errors=True)
    return keep(problem, Path(folder))


def keep(problem: Problem, folder: Path) -> Path:
    """A store of what the question needs, in double precision."""
    store = folder / "sweep.zarr"
    sg.run(**{**problem.words, "outputs": list(NEEDED)}, out=store, overwrite=True).close()
    return store


def _answer(problem: Problem, found: xr.Dataset) -> Answer:
    axes, labels = others(problem), problem.axes
    found = found.transpose(*PER)
    at = [pd.Index(labels[axis]).get_indexer(found[axis].values.reshape(-1)).clip(min=0) for axis in axes]
    places = np.ravel_multi_index(at, [problem.sizes[axis] for axis in axes])
    return Answer.of(problem, np.where(found.found, found[OBJECTIVE], -np.inf), places)
