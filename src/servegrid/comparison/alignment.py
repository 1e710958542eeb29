"""Two variables on the labels that both have, block by block: labels are paired by value, never by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from servegrid.blocks import Blocks, Region, region_sizes
from servegrid.comparison.difference import Difference, Point, differ
from servegrid.errors import InputError, shown

# A block is one chunk of the first dataset, or as many as fit: large against the cost of reading (1 ms), small against
# memory.
BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Pairing:
    """The labels of an axis: those that both have, in the order of the first, with their positions; and the others."""

    labels: tuple[Any, ...]
    one: np.ndarray
    other: np.ndarray
    only_one: tuple[Any, ...]
    only_other: tuple[Any, ...]


def labels_of(data: xr.Dataset | xr.DataArray, axis: str) -> list[Any]:
    """The labels along an axis; its positions where it has none."""
    return list(data.coords[axis].values.tolist()) if axis in data.coords else list(range(data.sizes[axis]))


def pair(axis: str, one: list[Any], other: list[Any]) -> Pairing:
    """Pair equal labels."""
    here, there = _positions(axis, one), _positions(axis, other)
    both = [label for label in one if label in there]
    return Pairing(
        tuple(both),
        np.array([here[label] for label in both], np.int64),
        np.array([there[label] for label in both], np.int64),
        tuple(label for label in one if label not in there),
        tuple(label for label in other if label not in here),
    )


def _positions(axis: str, labels: list[Any]) -> dict[Any, int]:
    positions = {label: position for position, label in enumerate(labels)}
    if len(positions) < len(labels):
        twice = next(label for position, label in enumerate(labels) if positions[label] != position)
        raise InputError(f"{axis}: {shown(twice)} stands twice, expected each label once")
    return positions


class UnlikeError(ValueError):
    """Two variables that have no points in common; the message says why."""


@dataclass(frozen=True)
class Aligned:
    """Two variables with the same axes, to be read where both have labels."""

    one: xr.Variable
    other: xr.Variable
    pairings: Mapping[str, Pairing]

    @property
    def axes(self) -> tuple[str, ...]:
        """In the order of the first."""
        return tuple(str(dim) for dim in self.one.dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many labels both have along each axis."""
        return tuple(len(self.pairings[axis].labels) for axis in self.axes)

    @property
    def points(self) -> int:
        """How many points both have."""
        return prod(self.shape)

    @cached_property
    def blocks(self) -> Blocks:
        """The parts to read one at a time."""
        sizes = dict(zip(self.axes, self.shape, strict=True))
        chunk = chunk_lengths(self.one) or chunk_lengths(self.other) or dict.fromkeys(self.axes, 1)
        itemsize = max(self.one.dtype.itemsize, self.other.dtype.itemsize)
        return Blocks(sizes, grown(chunk, sizes, BLOCK_BYTES // itemsize))

    def read(self, region: Region) -> tuple[np.ndarray, np.ndarray]:
        """A block of both."""
        one = {axis: _compact(self.pairings[axis].one[part]) for axis, part in region.items()}
        other = {axis: _compact(self.pairings[axis].other[part]) for axis, part in region.items()}
        return _values(self.one.isel(one)), _values(self.other.isel(other).transpose(*self.axes))

    def difference(self, region: Region, one: np.ndarray, other: np.ndarray, tolerance: float) -> Difference:
        """How a block that was read differs; places are those in the whole."""
        found = differ(one, other, tolerance)
        return replace(found, first=self._placed(found.first, region), largest=self._placed(found.largest, region))

    def _placed(self, point: Point | None, region: Region) -> Point | None:
        if point is None or not self.axes:
            return point
        local = np.unravel_index(point.place, tuple(region_sizes(region).values()))
        index = [int(position) + region[axis].start for position, axis in zip(local, self.axes, strict=True)]
        return replace(point, place=int(np.ravel_multi_index(index, self.shape)))

    def where(self, place: int) -> dict[str, Any]:
        """The labels of such a place."""
        index = np.unravel_index(place, self.shape) if self.axes else ()
        return {
            axis: self.pairings[axis].labels[int(position)] for axis, position in zip(self.axes, index, strict=True)
        }


def align(
    one: xr.DataArray, other: xr.DataArray, names: tuple[str, str], pairings: dict[str, Pairing] | None = None
) -> Aligned:
    """The two on the labels that both have; `UnlikeError` where they have no such thing.

    `names`: what to call the two. `pairings`: of axes that both may share with others; it grows.
    """
    pairings = {} if pairings is None else pairings
    for mine, theirs, name in ((one, other, names[0]), (other, one, names[1])):
        for axis in mine.dims:
            if axis not in theirs.dims:
                raise UnlikeError(f"{axis} is an axis of it in {name} only")
    units = unit_of(one), unit_of(other)
    if units[0] != units[1]:
        raise UnlikeError(f"its unit is {units[0]} in {names[0]}, {units[1]} in {names[1]}")
    for axis in map(str, one.dims):
        if axis not in pairings:
            pairings[axis] = pair(axis, labels_of(one, axis), labels_of(other, axis))
        if not pairings[axis].labels:
            raise UnlikeError(f"no label of {axis} is in both")
    return Aligned(one.variable, other.variable, {str(axis): pairings[str(axis)] for axis in one.dims})


def unit_of(array: xr.DataArray | xr.Variable) -> str:
    """The unit as people write it; nothing for a label or a flag."""
    return str(array.attrs.get("display_units", array.attrs.get("units", "")))


def _values(variable: xr.Variable) -> np.ndarray:
    return np.asarray(variable.values)


def _compact(positions: np.ndarray) -> np.ndarray | slice:
    """Positions in a row as a slice, which needs no look at each."""
    if positions.size and (np.diff(positions) == 1).all():
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions


def chunk_lengths(variable: xr.Variable) -> dict[str, int]:
    """The lengths of a variable's chunks, of dask or on disk; empty where it has none."""
    if variable.chunks is not None:
        return {str(dim): max(lengths) for dim, lengths in zip(variable.dims, variable.chunks, strict=True)}
    stored: Mapping[Any, int] = variable.encoding.get("preferred_chunks", {})
    return {str(dim): stored[dim] for dim in variable.dims} if set(variable.dims) <= stored.keys() else {}


def grown(chunk: Mapping[str, int], sizes: Mapping[str, int], most: int) -> dict[str, int]:
    """A block of whole chunks, inner axes first, of so many points at most; one chunk at least."""
    block = {axis: max(1, min(chunk[axis], size)) for axis, size in sizes.items()}
    for axis in reversed(list(sizes)):
        times = max(1, most // prod(block.values()))
        block[axis] = max(1, min(sizes[axis], block[axis] * times))
        if block[axis] < sizes[axis]:
            break
    return block
