"""Answers found the slow way: the whole grid in memory, plain numpy, every point compared with every other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

Point = dict[str, int]  # axis -> position


def dense(dataset: xr.Dataset, name: str, axes: Sequence[str]) -> np.ndarray:
    """A variable of a dataset, along all axes."""
    array = dataset[name].reset_coords(drop=True)
    missing = {axis: dataset.sizes[axis] for axis in axes if axis not in array.dims}
    return np.asarray(array.expand_dims(missing).transpose(*axes).values)


class Brute:
    """All points of a dataset: `values` along all axes for a text that Python itself evaluates."""

    def __init__(self, dataset: xr.Dataset, axes: Sequence[str], where: str | None) -> None:
        self.dataset, self.axes, self.where = dataset, list(axes), where
        self.shape = tuple(dataset.sizes[axis] for axis in axes)
        flags = [self.values("feasible")] if "feasible" in dataset else []
        flags += [self.values(where)] if where is not None else []
        self.counts = np.logical_and.reduce([np.ones(self.shape, bool), *flags])

    def values(self, text: str) -> np.ndarray:
        """What an expression gives at every point, by numpy."""
        names = {str(n): dense(self.dataset, str(n), self.axes) for n in self.dataset.variables if str(n) in text}
        names = {name: v.astype(float) if v.dtype.kind in "iu" else v for name, v in names.items()}
        with np.errstate(all="ignore"):
            parts = [np.asarray(eval(part, {}, names)) for part in text.split(" and ")]
        return np.broadcast_to(parts[0] if len(parts) == 1 else np.logical_and.reduce(parts), self.shape)

    def groups(self, per: Sequence[str]) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """The labels' positions of each group, and the flat places of its points, in the order of the grid."""
        flat = np.arange(np.prod(self.shape, dtype=int)).reshape(self.shape)
        for group in product(*(range(self.dataset.sizes[axis]) for axis in per)):
            chosen = dict(zip(per, group, strict=True))
            yield group, flat[tuple(chosen.get(axis, slice(None)) for axis in self.axes)].reshape(-1)

    def ranked(self, text: str, sign: int, per: Sequence[str]) -> dict[tuple[int, ...], list[int]]:
        """The points of each group that count, the best first; of equal ones the first in the grid.

        Along an axis on which nothing that is asked for depends, the first label stands for all.
        """
        asked = f"{text} {self.where or ''} feasible"
        used = {str(axis) for name in self.dataset.variables if str(name) in asked for axis in self.dataset[name].dims}
        idle = [self.axes.index(axis) for axis in self.axes if axis not in (*used, *per)]
        score = sign * self.values(text).reshape(-1)
        counts = self.counts.reshape(-1)
        found = {}
        for group, places in self.groups(per):
            good = [int(place) for place in places if counts[place] and score[place] > -np.inf]
            good = [place for place in good if not any(np.unravel_index(place, self.shape)[axis] for axis in idle)]
            found[group] = sorted(good, key=lambda place: (-score[place], place))
        return found

    def front(self, objectives: Sequence[tuple[str, int]], per: Sequence[str]) -> dict[tuple[int, ...], list[int]]:
        """The points of each group that no other one reaches in all objectives."""
        scores = np.stack([sign * self.values(text).reshape(-1) for text, sign in objectives], axis=1)
        counts = self.counts.reshape(-1) & (scores > -np.inf).all(axis=1)
        found = {}
        for group, places in self.groups(per):
            good = [int(place) for place in places if counts[place]]
            found[group] = [one for one in good if not any(_beats(scores, other, one) for other in good)]
        return found

    def labels(self, place: int) -> dict[str, Any]:
        """The labels of a point."""
        positions = np.unravel_index(place, self.shape) if self.shape else ()
        return {axis: self.dataset[axis].values[at] for axis, at in zip(self.axes, positions, strict=True)}

    def at(self, place: int, names: Sequence[str]) -> dict[str, Any]:
        """Variables at a point."""
        return {name: dense(self.dataset, name, self.axes).reshape(-1)[place] for name in names}


def _beats(scores: np.ndarray, one: int, other: int) -> bool:
    """Whether one is at least as good in all, and better in one or earlier in the grid."""
    if one == other or not (scores[one] >= scores[other]).all():
        return False
    return bool((scores[one] > scores[other]).any()) or one < other


def same(found: Any, expected: Any) -> bool:
    """Equal numbers of the same type, NaN included, or equal texts."""
    one, other = np.asarray(found), np.asarray(expected)
    alike = one.dtype.kind == other.dtype.kind and (one.dtype.kind == "U" or one.dtype == other.dtype)
    return alike and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
