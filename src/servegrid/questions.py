"""Ask the grid: which points are best, how many meet a filter, what is the frontier; streamed or stored.

All functions take a sweep (a file, or its words as keywords), whose points are computed in cache and not kept, or what
a run has stored: a dataset, or the place of its store. The answers are the same.

What all of them take
---------------------
grid
    A sweep file, a store (a folder, or a URL), a dataset, or nothing: then the words of a sweep file are given as
    keywords, as for `servegrid.sweep`.
maximize, minimize
    Quantities, or expressions of them, such as "throughput / price_per_hour".
where
    The filter: an expression such as "ttft <= 0.5 and itl <= 0.05". It takes the place of the sweep's own, which
    holds without it. A point that does not fit the memory never counts, and neither does one whose objective is NaN.
per
    Axes: there is an answer for each of their labels.
outputs
    What the answer shows of a point besides its labels; without it, all outputs of the sweep or of the store.
threads, workers, scheduler, cluster
    Who does the work, as for `servegrid.run`.
progress
    Is told how it gets on; see `servegrid.job.Progress`.

Of points that are equally good, the first in the grid is taken, in the order of the axes and of their labels. Answers
do not depend on how the work is shared. InputError, in one sentence, for words that make no sense, and where no point
counts: then it tells which condition excludes how many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from servegrid.api import load
from servegrid.crews import crew
from servegrid.errors import InputError
from servegrid.job import Progress
from servegrid.place import place_of
from servegrid.query.ask import Inquiry
from servegrid.query.question import Question
from servegrid.query.source import Source
from servegrid.query.stored import Stored
from servegrid.query.swept import Swept
from servegrid.store import ROOT, STATUS, is_store, open_store
from servegrid.sweepfile import Sweep

Grid = str | Path | Sweep | xr.Dataset | None
Texts = str | Sequence[str]


def open_dataset(store: str | Path) -> xr.Dataset:
    """The dataset of a finished store (a folder, or a URL), lazily; InputError where there is none."""
    place = place_of(store)
    if place.read(ROOT) is None:
        raise InputError(f"{place}: is no store that a run wrote, expected one, or a sweep file")
    dataset = open_store(place)
    _refuse_unfinished(dataset, f"{place}: ")
    return dataset


def _refuse_unfinished(dataset: xr.Dataset, where: str = "") -> None:
    if STATUS in dataset.attrs:
        raise InputError(f"{where}the store is {dataset.attrs[STATUS]}: run its sweep again, then ask")


def source_of(grid: Grid, outputs: Texts | None = None, where: str | None = None, **words: Any) -> Source:
    """What a question is asked of; InputError in one sentence where that is nothing."""
    given = [word for word, value in words.items() if value is not None]
    if isinstance(grid, str | Path) and is_store(grid):
        grid = open_dataset(grid)
    if not isinstance(grid, xr.Dataset):
        return Swept(load(grid, **words) if grid is not None else load(outputs=outputs, where=where, **words))
    if given:
        raise TypeError(f"give a dataset or keywords, not both (got {', '.join(given)})")
    _refuse_unfinished(grid)
    return Stored(grid)


@contextmanager
def inquiry(
    grid: Grid,
    *,
    maximize: Texts | None = None,
    minimize: Texts | None = None,
    where: str | None = None,
    per: Texts = (),
    outputs: Texts | None = None,
    threads: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: str | Path | None = None,
    slurm: str | Path | None = None,
    progress: Progress | None = None,
    **words: Any,
) -> Iterator[Inquiry]:
    """A question that was checked, and the crew that answers it."""
    question = Question.of(source_of(grid, outputs, where, **words), maximize, minimize, where, per, outputs)
    with crew(threads, workers, scheduler, cluster, slurm) as team:
        yield Inquiry(question, team, progress)


def best(
    grid: Grid = None,
    *,
    maximize: str | None = None,
    minimize: str | None = None,
    where: str | None = None,
    per: Texts = (),
    outputs: Texts | None = None,
    **how: Any,
) -> xr.Dataset:
    """The best configuration, for each label of the axes `per`.

    Parameters
    ----------
    grid, where, per, outputs, how
        See `servegrid.questions`.
    maximize, minimize
        One of them: what is to be as high, or as low, as can be.

    Returns
    -------
    xarray.Dataset
        Dimensions `per`. The labels of the winner along all other axes are coordinates, the objective and the outputs
        variables. `found` is false where no configuration counts; there numbers are NaN, counts 0 and labels empty.
    """
    words: dict[str, Any] = {"maximize": maximize, "minimize": minimize, "where": where, "per": per, "outputs": outputs}
    with inquiry(grid, **words, **how) as asked:
        return asked.leaders()


def top(
    grid: Grid = None,
    *,
    k: int = 10,
    maximize: str | None = None,
    minimize: str | None = None,
    where: str | None = None,
    per: Texts = (),
    outputs: Texts | None = None,
    **how: Any,
) -> xr.Dataset:
    """The `k` best configurations, for each label of the axes `per`; as `best`, with one more dimension, `rank`.

    Configurations that differ only along axes on which neither the objective nor the filter depends are one.
    """
    words: dict[str, Any] = {"maximize": maximize, "minimize": minimize, "where": where, "per": per, "outputs": outputs}
    with inquiry(grid, **words, **how) as asked:
        return asked.leaders(k)


def pareto(
    grid: Grid = None,
    *,
    maximize: Texts | None = None,
    minimize: Texts | None = None,
    where: str | None = None,
    per: Texts = (),
    outputs: Texts | None = None,
    **how: Any,
) -> xr.Dataset:
    """The Pareto frontier of two or more objectives, for each label of the axes `per`.

    A configuration is on it where no other one is at least as good in every objective; of configurations that are
    equal in every objective, the first in the grid.

    Parameters
    ----------
    grid, where, per, outputs, how
        See `servegrid.questions`.
    maximize, minimize
        Two objectives or more in all.

    Returns
    -------
    xarray.Dataset
        One dimension, `point`: group after group, each from the best in the first objective on. All labels are
        coordinates, the objectives and the outputs variables.
    """
    words: dict[str, Any] = {"maximize": maximize, "minimize": minimize, "where": where, "per": per, "outputs": outputs}
    with inquiry(grid, **words, **how) as asked:
        return asked.frontier()


def count(grid: Grid = None, *, where: str | None = None, per: Texts = (), **how: Any) -> xr.Dataset:
    """How many points there are (`points`), fit the memory (`feasible`), and meet the filter, too (`met`).

    Returns
    -------
    xarray.Dataset
        Three counts, or fewer where there is no filter or no flag; dimensions `per`.
    """
    with inquiry(grid, where=where, per=per, **how) as asked:
        return asked.count()


def histogram(
    grid: Grid = None,
    *,
    of: str,
    bins: int | Sequence[float] = 20,
    span: tuple[float, float] | None = None,
    spacing: str = "linear",
    where: str | None = None,
    per: Texts = (),
    **how: Any,
) -> xr.Dataset:
    """How many of the points that count lie in each bin of a quantity, for each label of the axes `per`.

    Parameters
    ----------
    grid, where, per, how
        See `servegrid.questions`.
    of
        A quantity, or an expression.
    bins
        How many bins [1], or their edges in the unit of the quantity. As `numpy.histogram` has it, a bin includes its
        left edge, the last one both.
    span
        From where to where; without it, from the least value to the greatest.
    spacing
        "linear" or "log".

    Returns
    -------
    xarray.Dataset
        `count`, of dimensions `per` and `bin`; the edges are the coordinates `left` and `right`.
    """
    with inquiry(grid, where=where, per=per, **how) as asked:
        return asked.histogram(of, bins, span, spacing)


def quantile(
    grid: Grid = None,
    *,
    of: str,
    q: float | Sequence[float] = (0.1, 0.5, 0.9),
    where: str | None = None,
    per: Texts = (),
    **how: Any,
) -> xr.Dataset:
    """Quantiles of a quantity over the points that count, for each label of the axes `per`.

    They are exact: values that a point has, by the inverse of the distribution function (`inverted_cdf` of
    `numpy.quantile`), found in six passes over the grid.

    Parameters
    ----------
    grid, where, per, how
        See `servegrid.questions`.
    of
        A quantity, or an expression.
    q
        Levels from 0 to 1.

    Returns
    -------
    xarray.Dataset
        The quantity, of dimensions `per` and `quantile`; NaN where no point counts.
    """
    with inquiry(grid, where=where, per=per, **how) as asked:
        return asked.quantiles(of, [q] if isinstance(q, int | float) else q)
