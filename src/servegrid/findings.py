"""The best points of a grid as tables for the terminal: who is best, and with which configuration.

A dataset of best points is what `servegrid.best` gives: it knows its groups, its labels and its units.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from servegrid import show
from servegrid.sheet import Sheet
from servegrid.tables import FOUND, Rows

MOST_COLUMNS = 12
MOST_ROWS = 24


def tables(best: xr.Dataset, filtered: bool) -> Iterator[Sheet]:
    """For two groups (as models and accelerators) a matrix of the best values; then the best configurations."""
    name = next(str(name) for name, variable in best.data_vars.items() if "direction" in variable.attrs)
    if best[FOUND].ndim == 2:
        where = ", where the filter holds" if filtered else ""
        yield matrix(f"Best {Rows(best).head(name)}{where}", best, name)
    points = Rows(_of_first(best, best[name]))
    per = f" of each {points.dims[0]}" if points.dims else ""
    count = len(points.values)
    more = f" (the first {MOST_ROWS} of {count})" if count > MOST_ROWS else ""
    yield points.sheet(f"Configurations of the best {name}{per}{more}", MOST_ROWS)


def _of_first(best: xr.Dataset, ranked: xr.DataArray) -> xr.Dataset:
    """The best point for each label of the first axis alone."""
    if best[FOUND].ndim < 2:
        return best
    sign = -1 if ranked.attrs["direction"] == "minimize" else 1
    scores = np.where(best[FOUND].values, sign * ranked.values.astype(np.float64), -np.inf)
    first, second = map(str, best[FOUND].dims)
    return best.isel({second: xr.DataArray(scores.argmax(axis=1), dims=first)})


def matrix(title: str, best: xr.Dataset, name: str) -> Sheet:
    """Rows of one axis, columns of the other, the shorter one across; labels without any point are left out."""
    down, across = map(str, best[FOUND].dims)
    there = best[FOUND].values
    places = {down: np.flatnonzero(there.any(axis=1)), across: np.flatnonzero(there.any(axis=0))}
    chosen = best[[name, FOUND]].isel(places)
    if chosen.sizes[across] > max(chosen.sizes[down], MOST_COLUMNS):
        down, across = across, down
    rows = Rows(chosen)
    names = [rows.cell(across, label) for label in chosen[across].values.tolist()]
    values, exists = (chosen[each].transpose(down, across).values.tolist() for each in (name, FOUND))
    cells = [
        [rows.cell(down, label), *(show.plain(v) if found else "-" for v, found in zip(*row, strict=True))]
        for label, *row in zip(chosen[down].values.tolist(), values, exists, strict=True)
    ]
    return Sheet(title, [f"{down} \\ {across}", *names], cells, right=names)
