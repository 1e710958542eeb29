"""What a question is asked of: a sweep, computed as it goes, or a dataset, in memory or lazily from a store.

Both give a graph and the numbers that it starts from. For a sweep these are the inputs of its equations; for a dataset
they are its variables, and the only equations are the question's own expressions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import xarray as xr

from servegrid.blocks import Blocks, Region
from servegrid.graph import Expression, Graph

Axes = Mapping[str, tuple[str, ...]]  # of each quantity
Places = Mapping[str, np.ndarray]  # axis -> position of each of some points


class Numbers(Protocol):
    """A graph, and the numbers that it starts from; can be pickled."""

    @property
    def graph(self) -> Graph:
        """The equations and expressions that give what is asked for."""

    @property
    def dims(self) -> Axes:
        """The axes of each input."""

    def load(self, region: Region, axes: Axes) -> dict[str, np.ndarray]:
        """A region of each input along these axes, C-contiguous, in the types of a kernel."""

    def at(self, places: Places) -> dict[str, np.ndarray]:
        """Each input at some points, one array of that length for each, in its own type."""


class Source(Protocol):
    """Something that questions can be asked of."""

    @property
    def labels(self) -> xr.Dataset:
        """The axes in their order, as coordinates; facts along them as further coordinates."""

    @property
    def attributes(self) -> dict[str, str]:
        """What answers say of where they come from."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """What an answer shows of a point."""

    @property
    def where(self) -> str | None:
        """Its own filter."""

    @property
    def where_text(self) -> str | None:
        """The same as it was written."""

    @property
    def floats(self) -> str:
        """The type of its results."""

    def can_be_infeasible(self, outputs: Sequence[str], expressions: Mapping[str, Expression]) -> bool:
        """Whether it knows of points that do not fit, where these are asked for."""

    def knows(self, name: str) -> bool:
        """Whether this is the name of a quantity."""

    def numbers(self, outputs: Sequence[str], expressions: Mapping[str, Expression]) -> Numbers:
        """What computes these quantities; InputError where it cannot."""

    def blocks(self, numbers: Numbers, shares: int) -> Blocks:
        """The grid in blocks, at least so many where they are not too small."""


def ordered(values: np.ndarray, dims: Sequence[str], axes: Sequence[str]) -> np.ndarray:
    """The values with their axes in another order, C-contiguous; the numbers of a series stay last."""
    order = [*(dims.index(axis) for axis in axes), *range(len(dims), values.ndim)]
    return np.require(values.transpose(order), requirements=("C", "W"))
