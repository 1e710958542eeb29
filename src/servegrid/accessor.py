"""The questions as methods of a dataset: `ds.grid.best(maximize="throughput")`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import xarray as xr

NAME = "grid"


@xr.register_dataset_accessor(NAME)
class GridAccessor:
    """Asks a dataset; see `servegrid.questions` for what all of these take."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def best(self, **how: Any) -> xr.Dataset:
        """The best configuration; see `servegrid.best`."""
        return self._ask("best", how)

    def top(self, **how: Any) -> xr.Dataset:
        """The best configurations; see `servegrid.top`."""
        return self._ask("top", how)

    def pareto(self, **how: Any) -> xr.Dataset:
        """The Pareto frontier; see `servegrid.pareto`."""
        return self._ask("pareto", how)

    def count(self, **how: Any) -> xr.Dataset:
        """How many points meet a filter; see `servegrid.count`."""
        return self._ask("count", how)

    def histogram(self, **how: Any) -> xr.Dataset:
        """How many points lie in each bin; see `servegrid.histogram`."""
        return self._ask("histogram", how)

    def quantile(self, **how: Any) -> xr.Dataset:
        """Exact quantiles; see `servegrid.quantile`."""
        return self._ask("quantile", how)

    def _ask(self, question: str, how: dict[str, Any]) -> xr.Dataset:
        # Imported when somebody asks: a notebook that only opens a store need not wait for the compiler.
        answer: xr.Dataset = getattr(import_module("servegrid.questions"), question)(self._dataset, **how)
        return answer
