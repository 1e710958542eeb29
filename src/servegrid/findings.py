"""The best points of a grid as tables for the terminal: who is best, and with which configuration.

A dataset of best points is what `servegrid.best` gives: it knows its groups, its labels and its units.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from typing import Any

import numpy as np
import xarray as xr

from servegrid import show
from servegrid.query.answer import FOUND
from servegrid.sheet import Sheet

MOST_COLUMNS = 12
MOST_ROWS = 24
_UNITS_IN_HEADS = ("token/s", "USD", "token/USD")  # these have no sizes such as ms and GiB that cells would tell apart


def tables(best: xr.Dataset, filtered: bool) -> Iterator[Sheet]:
    """For two groups (as models and accelerators) a matrix of the best values; then the best configurations."""
    ranked = next(variable for variable in best.data_vars.values() if "direction" in variable.attrs)
    if best[FOUND].ndim == 2:
        where = ", where the filter holds" if filtered else ""
        yield matrix(f"Best {head(ranked)}{where}", ranked, best[FOUND])
    points = _of_first(best, ranked)
    per = f" of each {points[FOUND].dims[0]}" if points[FOUND].dims else ""
    yield configurations(f"Configurations of the best {ranked.name}{per}", points)


def _of_first(best: xr.Dataset, ranked: xr.DataArray) -> xr.Dataset:
    """The best point for each label of the first axis alone."""
    if best[FOUND].ndim < 2:
        return best
    sign = -1 if ranked.attrs["direction"] == "minimize" else 1
    scores = np.where(best[FOUND].values, sign * ranked.values.astype(np.float64), -np.inf)
    first, second = map(str, best[FOUND].dims)
    return best.isel({second: xr.DataArray(scores.argmax(axis=1), dims=first)})


def matrix(title: str, values: xr.DataArray, exists: xr.DataArray) -> Sheet:
    """Rows of one axis, columns of the other, the shorter one across; labels without any value are left out."""
    there = exists.values
    values, exists = (array[there.any(axis=1), there.any(axis=0)] for array in (values, exists))
    rows, columns = values.shape
    if columns > max(rows, MOST_COLUMNS):
        values, exists = values.T, exists.T
    down, across = (values[dim] for dim in values.dims)
    names = [cell(label, across) for label in across.values]
    cells = [
        [cell(label, down), *(show.plain(value) if is_there else "-" for value, is_there in zip(*row, strict=True))]
        for label, *row in zip(down.values, values.values.tolist(), exists.values, strict=True)
    ]
    return Sheet(title, [f"{down.name} \\ {across.name}", *names], cells, right=names)


def configurations(title: str, points: xr.Dataset) -> Sheet:
    """A row for each point that there is, a column for each label and quantity."""
    arrays = {**points.coords, **points.data_vars}
    columns = [array.broadcast_like(points[FOUND]) for name, array in arrays.items() if name != FOUND]
    places = np.flatnonzero(points[FOUND].values)
    rows = [[cell(column.values.reshape(-1)[place], column) for column in columns] for place in places[:MOST_ROWS]]
    numbers = [head(column) for column in columns if column.dtype.kind not in "UO"]
    more = f" (the first {MOST_ROWS} of {len(places)})" if len(places) > MOST_ROWS else ""
    return Sheet(title + more, [*map(head, columns)], rows, right=numbers)


def _unit(variable: xr.DataArray) -> str:
    return str(variable.attrs.get("display_units", variable.attrs.get("units", "1")))


def head(variable: xr.DataArray) -> str:
    """The name of a column, with the unit where the cells do not carry it."""
    return f"{variable.name} ({_unit(variable)})" if _unit(variable) in _UNITS_IN_HEADS else str(variable.name)


def cell(value: Any, variable: xr.DataArray) -> str:
    """One value of a variable, with its unit where that changes with the size."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str):
        return value
    if _unit(variable) in _UNITS_IN_HEADS:
        return "-" if isnan(value) else show.plain(value)
    return show.number(value, _unit(variable))
