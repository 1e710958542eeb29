"""Ask the grid: which points are best, how many meet a filter, what is the frontier; streamed or stored.

All functions take a sweep (a file, or its words as keywords), whose points are computed in cache and not kept, or what
a run has stored: a dataset, or the place of its store. The answers are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import xarray as xr

from servegrid.api import load
from servegrid.crews import crew
from servegrid.errors import InputError
from servegrid.place import place_of
from servegrid.query.ask import Inquiry
from servegrid.query.question import Question
from servegrid.query.source import Source, Stored, Swept
from servegrid.query.work import Progress
from servegrid.store import ROOT, STATUS, open_store
from servegrid.sweepfile import Sweep

Asked = str | Path | Sweep | xr.Dataset | None
Texts = str | Sequence[str]


def source_of(grid: Asked, **words: Any) -> Source:
    """What a question is asked of; InputError in one sentence where that is nothing."""
    if isinstance(grid, str | Path) and ("://" in str(grid) or Path(grid).is_dir()):
        place = place_of(grid)
        if place.read(ROOT) is None:
            raise InputError(f"{place}: is no store, expected one, or a sweep file")
        grid = open_store(place)
    if not isinstance(grid, xr.Dataset):
        return Swept(load(grid, **words))
    given = [word for word, value in words.items() if value is not None]
    if given:
        raise TypeError(f"give a dataset or keywords, not both (got {', '.join(given)})")
    if STATUS in grid.attrs:
        raise InputError(f"the store is {grid.attrs[STATUS]}: run its sweep once more, then ask")
    return Stored(grid)


@contextmanager
def inquiry(
    grid: Asked,
    maximize: Texts | None = None,
    minimize: Texts | None = None,
    where: str | None = None,
    per: Texts = (),
    threads: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: str | Path | None = None,
    progress: Progress | None = None,
    **words: Any,
) -> Iterator[Inquiry]:
    """A question and a crew; the parameters of all functions here."""
    question = Question.of(source_of(grid, **words), maximize, minimize, where, per)
    with crew(threads, workers, scheduler, cluster) as team:
        yield Inquiry(question, team, progress)


def best(grid: Asked = None, **how: Any) -> xr.Dataset:
    with inquiry(grid, **how) as one:
        return one.leaders()


def top(grid: Asked = None, *, k: int = 10, **how: Any) -> xr.Dataset:
    with inquiry(grid, **how) as one:
        return one.leaders(k)


def pareto(grid: Asked = None, **how: Any) -> xr.Dataset:
    with inquiry(grid, **how) as one:
        return one.frontier()


def count(grid: Asked = None, **how: Any) -> xr.Dataset:
    with inquiry(grid, **how) as one:
        return one.count()


def histogram(grid: Asked = None, *, of: str, bins: int | Sequence[float] = 20, span: tuple[float, float] | None = None, spacing: str = "linear", **how: Any) -> xr.Dataset:
    with inquiry(grid, **how) as one:
        return one.histogram(of, bins, span, spacing)


def quantile(grid: Asked = None, *, of: str, q: float | Sequence[float] = (0.1, 0.5, 0.9), **how: Any) -> xr.Dataset:
    with inquiry(grid, **how) as one:
        return one.quantiles(of, [q] if isinstance(q, int | float) else q)
