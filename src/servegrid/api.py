"""The public functions: a sweep file or keywords in, a dataset out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from servegrid.crews import crew
from servegrid.errors import InputError
from servegrid.evaluate import prepare
from servegrid.explanation import Explanation
from servegrid.growth import stored_sweep
from servegrid.job import Progress
from servegrid.missing import Part
from servegrid.parameters import gather
from servegrid.place import place_of
from servegrid.planning import DEFAULT_MEMORY, Plan, make_plan
from servegrid.results import labelled, lazy
from servegrid.runner import store_sweep
from servegrid.solvers import Solver
from servegrid.store import is_store, open_store, read_root
from servegrid.sweepfile import Sweep, make_sweep, read_sweep
from servegrid.threads import Threads
from servegrid.verification import SAMPLE, Verdict, check_store

import_module("servegrid.accessor")  # datasets have `.grid` from now on

SweepLike = str | Path | Sweep | None


def load(file: SweepLike = None, **keywords: Any) -> Sweep:
    """The checked sweep of a file, of a store, or of the words of a sweep file given as keywords.

    InputError, in one sentence, for anything that is wrong with it.
    """
    if isinstance(file, Sweep):
        return file
    content = {key: value for key, value in keywords.items() if value is not None}
    if file is None:
        return make_sweep(content)
    if content:
        raise TypeError(f"give a sweep file or keywords, not both (got {file!r} and {', '.join(content)})")
    return _of_store(file) if is_store(file) else read_sweep(file)


def _of_store(store: str | Path) -> Sweep:
    """The sweep that a store says it holds."""
    root = read_root(place_of(store))
    if root is None:
        raise InputError(f"{store}: is no store that a run wrote, expected one, or a sweep file")
    return replace(stored_sweep(root), where=f"{store}: ")


def sweep(
    file: SweepLike = None,
    *,
    axes: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    outputs: Sequence[str] | None = None,
    solver: str | Solver | None = None,
    derive: Mapping[str, Any] | None = None,
    where: str | None = None,
    cases: str | Path | pd.DataFrame | Mapping[str, Any] | None = None,
    catalog: Sequence[str | Path] | None = None,
    name: str | None = None,
    question: str | None = None,
    dtype: str | None = None,
    lazily: bool = False,
    chunks: Mapping[str, int] | None = None,
    threads: int | None = None,
) -> xr.Dataset:
    """Evaluate a whole design space; the result is a labelled dataset.

    Parameters
    ----------
    file
        A sweep file; or give its words as keywords: `axes`, `values`, `outputs`, `solver`, `derive`, `where`,
        `cases`, `catalog`, `name`, `question`, `dtype`.
    lazily
        Return dask arrays, computed when they are used (implied by `chunks`).
    chunks
        Length of the chunks along some axes; the other axes stay whole.
    threads
        Threads [1]; one for each core without it.

    Returns
    -------
    xarray.Dataset
        One variable for each output, of shape (size of each axis that it depends on), with `units` and
        `long_name`; see `Quantity`.

    Raises
    ------
    InputError
        In one sentence, before any work.
    """
    checked = load(
        file, axes=axes, values=values, outputs=outputs, solver=solver, derive=derive, where=where, cases=cases,
        catalog=catalog, name=name, question=question, dtype=dtype,
    )  # fmt: skip
    parameters = gather(checked)
    evaluator = prepare(parameters)
    if lazily or chunks is not None:
        return lazy(parameters, evaluator, chunks)
    return labelled(parameters, evaluator.grid(threads))


def run(
    file: SweepLike = None,
    *,
    out: str | Path,
    memory: float | str = DEFAULT_MEMORY,
    threads: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: str | Path | None = None,
    part: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **keywords: Any,
) -> xr.Dataset:
    """Evaluate a sweep into a Zarr store, and open it lazily.

    What the store has is not computed again: a run that was stopped goes on, and a sweep whose axes or outputs have
    grown extends the store.

    Parameters
    ----------
    file
        A sweep file, or its words as keywords, as for `sweep`.
    out
        The store: a folder, or any URL that fsspec knows (s3://bucket/name.zarr).
    memory
        Budget for each process [byte], or text such as "2 GiB".
    threads
        Threads of this process [1]; one for each core without it.
    workers
        Processes of this machine [1] instead, by dask.distributed.
    scheduler
        Address of a dask scheduler instead, such as "tcp://host:8786".
    cluster
        A YAML file of a cluster instead: see the README.
    part
        A share of the work, such as "3/64"; other runs do theirs.
    overwrite
        Throw a store of another sweep away.
    progress
        Is told how it gets on; see `servegrid.job.Progress`.

    Raises
    ------
    InputError
        In one sentence, before any work; also where the store holds another sweep.
    MachineError
        Where the disk is full or cannot be written, where a cluster is lost, or where another run is writing the
        store; what is finished is kept.
    """
    sweep = load(file, **keywords)
    share = None if part is None else Part.read(part)
    with crew(threads, workers, scheduler, cluster) as team:
        store_sweep(sweep, out, memory, team, overwrite, share, progress)
    return open_store(out)


def verify(
    store: str | Path,
    *,
    sample: int = SAMPLE,
    everything: bool = False,
    repair: bool = False,
    memory: float | str = DEFAULT_MEMORY,
    threads: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: str | Path | None = None,
    solver: Solver | None = None,
) -> Verdict:
    """Check every chunk of a store against its checksum, and compute a sample of the blocks again.

    Parameters
    ----------
    store
        A folder, or a URL.
    sample
        Blocks, chosen at random, that are computed again and compared bit for bit [1].
    everything
        Compute all blocks again.
    repair
        Compute what is missing, damaged or stale, and nothing else, and write it anew.
    memory, threads, workers, scheduler, cluster
        As for `run`.
    solver
        The solver, where it has equations of your own.

    Returns
    -------
    Verdict
        `faults`: each with its kind, file and region; `is_good`: whether the store can be relied upon now.

    Raises
    ------
    InputError
        Where there is no store, or where it was made with other equations or numbers and only a sample is to be
        repaired.
    MachineError
        Where the store cannot be read or written.
    """
    with crew(threads, workers, scheduler, cluster) as team:
        return check_store(store, sample, everything, repair, memory, team, solver)


def plan(
    file: SweepLike = None, *, memory: float | str = DEFAULT_MEMORY, threads: int | None = None, **keywords: Any
) -> Plan:
    """What a run would do: points, shapes, bytes [byte] and regions. Takes the same words as `run`."""
    return make_plan(load(file, **keywords), memory, Threads.of(threads))


def explain(file: SweepLike = None, **keywords: Any) -> Explanation:
    """How a sweep is computed: every quantity with its equation, axes and size. Takes the same words as `sweep`."""
    parameters = gather(load(file, **keywords))
    return Explanation(parameters, prepare(parameters))
