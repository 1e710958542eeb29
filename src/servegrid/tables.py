"""Small datasets as tables: rows for programs, a sheet for people. A row is a point, its labels come first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import Any

import xarray as xr

from servegrid import show
from servegrid.sheet import Sheet

FOUND = "found"
_IN_CELLS = ("s", "byte", "byte/s", "FLOP/s")  # units with sizes such as ms and GiB, which each cell tells
_IN_HEADS = ("1", "", "token", "request", "page", "parameter")  # what is counted; the name says it


@dataclass(frozen=True)
class Rows:
    """The points of an answer one below the other; groups that have none are left out."""

    dataset: xr.Dataset

    @cached_property
    def dims(self) -> tuple[str, ...]:
        """The dimensions, in the order in which rows follow each other."""
        widest = max((v.dims for v in self.dataset.data_vars.values()), key=len, default=())
        return tuple(map(str, widest))

    @cached_property
    def names(self) -> list[str]:
        """The columns: labels along dimensions, further labels, then results."""
        labelled = [dim for dim in self.dims if dim in self.dataset.coords]
        others = [str(name) for name in self.dataset.coords if name not in labelled]
        return [*labelled, *others, *(str(name) for name in self.dataset.data_vars if name != FOUND)]

    @cached_property
    def values(self) -> list[list[Any]]:
        """A list of plain Python values for each row."""
        sizes = {dim: self.dataset.sizes[dim] for dim in self.dims}
        names = [*self.names, *([FOUND] if FOUND in self.dataset else [])]
        columns = [self._column(name, sizes) for name in names]
        rows = map(list, zip(*columns, strict=True))
        return [row[: len(self.names)] for row in rows if FOUND not in self.dataset or row[-1]]

    def _column(self, name: str, sizes: dict[str, int]) -> list[Any]:
        variable = self.dataset[name].variable
        column: list[Any] = variable.set_dims({**sizes}).transpose(*sizes).values.reshape(-1).tolist()
        return column

    @property
    def groups(self) -> int:
        """How many rows there would be, if every group had its points."""
        return int(self.dataset[FOUND].size) if FOUND in self.dataset else len(self.values)

    def unit(self, name: str) -> str:
        """The unit of a column, as people write it."""
        attributes = self.dataset[name].attrs
        return str(attributes.get("display_units", attributes.get("units", "")))

    def records(self) -> Iterator[dict[str, Any]]:
        """A mapping for each row, with None for what is not there."""
        for row in self.values:
            cells = zip(self.names, row, strict=True)
            yield {name: None if isinstance(cell, float) and isnan(cell) else cell for name, cell in cells}

    def sheet(self, title: str = "", most: int | None = None) -> Sheet:
        """The rows (the first `most`) for people."""
        rows = self.values[:most]
        heads = [self.head(name) for name in self.names]
        numeric = [head for head, name in zip(heads, self.names, strict=True) if self.dataset[name].dtype.kind in "iuf"]
        cells = [[self.cell(name, value) for name, value in zip(self.names, row, strict=True)] for row in rows]
        return Sheet(title, heads, cells, right=numeric)

    def head(self, name: str) -> str:
        """The name of a column, with the unit where the cells do not tell it."""
        unit = self.unit(name)
        return name if unit in (*_IN_CELLS, *_IN_HEADS) else f"{name} ({unit})"

    def cell(self, name: str, value: Any) -> str:
        """A value as people read it."""
        if isinstance(value, str):
            return value
        if "flag_meanings" in self.dataset[name].attrs:
            return str(self.dataset[name].attrs["flag_meanings"].split()[value])
        unit = self.unit(name)
        if isinstance(value, float) and isnan(value):
            return "-"
        return show.number(value, unit if unit in _IN_CELLS else "1")
