"""What a run found: how much is feasible, and the best point for each pair of labels along the first two axes.

Kept while the regions pass by, so that nothing has to be read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import numpy as np

from servegrid import expression
from servegrid.blocks import Region, region_sizes
from servegrid.evaluate import Evaluator
from servegrid.graph import Expression
from servegrid.parameters import FEASIBLE, Parameters
from servegrid.sweepfile import SCORE, SELECTED, Sweep

MOST_LABELS = 64  # of an axis for each of whose labels the best point is kept
FLAGS = (FEASIBLE, SELECTED)

Group = tuple[int, ...]  # a place along each axis of the groups


def objective(sweep: Sweep) -> str | None:
    """The first output that is better higher or lower: what a summary looks for."""
    for name in sweep.outputs:
        if name in sweep.solver.names and sweep.solver.quantity(name).better and name not in sweep.values:
            return name
    return None


def scored(parameters: Parameters) -> Sweep:
    """The sweep with one more output, the score: higher is better, -inf where a point does not count."""
    sweep, outputs = parameters.sweep, parameters.graph.outputs
    name = objective(sweep)
    if name is None:
        return sweep
    sign = "" if sweep.solver.quantity(name).better == "higher" else "-"
    flags = [flag for flag in FLAGS if flag in outputs]
    text = f"{sign}{name} if {' and '.join([*flags, f'{name} == {name}'])} else -inf"
    score = Expression(expression.parse(text, "summary"), text, "summary")
    return replace(sweep, expressions={**sweep.expressions, SCORE: score}, outputs=(*outputs, SCORE))


@dataclass(frozen=True)
class Found:
    """What a part of the grid holds: how often each flag is true, and the best point of each group.

    A point is its index in the grid of the score, negative: of equal scores the first in the grid is the greatest.
    """

    true: Mapping[str, int] = field(default_factory=dict)
    best: Mapping[Group, tuple[float, int]] = field(default_factory=dict)

    def merged(self, other: Found) -> Found:
        """What both parts hold; the order of parts does not matter."""
        true = {flag: self.true.get(flag, 0) + other.true.get(flag, 0) for flag in (*self.true, *other.true)}
        best = dict(self.best)
        for group, candidate in other.best.items():
            best[group] = max(best.get(group, candidate), candidate)
        return Found(true, best)


@dataclass(frozen=True)
class Finder:
    """Looks through the results of regions; small enough to be sent about.

    `evaluator`: one with the score. `objective`: what the score ranks by, negated where `sign` is -1.
    """

    evaluator: Evaluator
    objective: str | None
    sign: int = 1

    @classmethod
    def of(cls, sweep: Sweep, evaluator: Evaluator) -> Finder:
        """The finder of the sweep's own objective."""
        name = objective(sweep)
        lower = name is not None and sweep.solver.quantity(name).better == "lower"
        return cls(evaluator, name, -1 if lower else 1)

    @property
    def ingredients(self) -> tuple[str, ...]:
        """The outputs from which everything is found."""
        return tuple(name for name in (self.objective, *FLAGS) if name in self.evaluator.outputs)

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of the score."""
        return self.evaluator.outputs[SCORE].axes

    @property
    def groups(self) -> tuple[str, ...]:
        """The axes for each of whose labels a best point is kept: the first two, which the question is about."""
        short = [axis for axis in self.axes if self.evaluator.sizes[axis] <= MOST_LABELS]
        return tuple(short[:2])

    def look(self, region: Region, arrays: Mapping[str, np.ndarray]) -> Found:
        """What these results of a region hold; the score among them, or nothing is ranked."""
        true = {flag: int(np.count_nonzero(arrays[flag])) for flag in FLAGS if flag in arrays}
        return Found(true, self._winners(region, arrays[SCORE]) if SCORE in arrays else {})

    def score(self, region: Region, stored: Mapping[str, np.ndarray]) -> np.ndarray:
        """The score from results that are stored (as the compiled one: see `scored`)."""
        sizes = region_sizes(region)

        def spread(name: str) -> np.ndarray:
            shape = [sizes[axis] if axis in self.evaluator.outputs[name].axes else 1 for axis in self.axes]
            return stored[name].reshape(shape)

        assert self.objective is not None
        values = spread(self.objective)
        counts = values == values  # NaN is not itself
        for flag in self.ingredients[1:]:
            counts = counts & spread(flag)
        return np.where(counts, self.sign * values, -inf)

    def _winners(self, region: Region, score: np.ndarray) -> dict[Group, tuple[float, int]]:
        axes, groups = self.axes, self.groups
        rest = [axis for axis in axes if axis not in groups]
        ordered = score.transpose([axes.index(axis) for axis in (*groups, *rest)])
        lead, shape = ordered.shape[: len(groups)], ordered.shape[len(groups) :]
        flat = ordered.reshape(*lead, -1)
        winners = {}
        for place in np.ndindex(*lead):
            position = int(flat[place].argmax())
            if flat[place][position] > -inf:
                inner = np.unravel_index(position, shape) if shape else ()
                local = dict(zip((*groups, *rest), (*place, *inner), strict=True))
                index = tuple(int(local[axis]) + region[axis].start for axis in axes)
                sizes = tuple(self.evaluator.sizes[axis] for axis in axes)
                flat_index = int(np.ravel_multi_index(index, sizes)) if axes else 0
                group = tuple(place[number] + region[axis].start for number, axis in enumerate(groups))
                winners[group] = (float(flat[place][position]), -flat_index)
        return winners


@dataclass(frozen=True)
class Summary:
    """What a whole grid holds, with labels."""

    parameters: Parameters
    finder: Finder
    found: Found

    @property
    def evaluator(self) -> Evaluator:
        """The one with the score."""
        return self.finder.evaluator

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of the score."""
        return self.finder.axes

    @property
    def groups(self) -> tuple[str, ...]:
        """The axes for each of whose labels there is a best point."""
        return self.finder.groups

    def share(self, flag: str) -> float | None:
        """The share of points at which a flag is true."""
        if flag not in self.found.true:
            return None
        return self.found.true[flag] / int(
            np.prod([self.evaluator.sizes[axis] for axis in self.evaluator.outputs[flag].axes])
        )

    def winners(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Labels of each group -> its best point: coordinates along all axes of the score, and the outputs there."""
        found = {}
        for group, (_, index) in sorted(self.found.best.items()):
            labels = tuple(self._label(axis, place) for axis, place in zip(self.groups, group, strict=True))
            found[labels] = self._point(-index)
        return found

    def scores(self) -> dict[tuple[Any, ...], float]:
        """Labels of each group -> its best score; higher is better."""
        return {
            tuple(self._label(axis, place) for axis, place in zip(self.groups, group, strict=True)): score
            for group, (score, _) in sorted(self.found.best.items())
        }

    def _label(self, axis: str, place: int) -> Any:
        return self.parameters.dataset[axis].values[place].item()

    def _point(self, index: int) -> dict[str, Any]:
        sizes = tuple(self.evaluator.sizes[axis] for axis in self.axes)
        found = dict(zip(self.axes, map(int, np.unravel_index(index, sizes)), strict=True)) if sizes else {}
        place = {axis: found.get(axis, 0) for axis in self.evaluator.sizes}
        one = _at(self.evaluator, place)
        arrays = one.region(one.whole)
        coordinates = {axis: self._label(axis, found[axis]) for axis in self.axes}
        return coordinates | {name: values.item() for name, values in arrays.items() if name != SCORE}


def _at(evaluator: Evaluator, place: Mapping[str, int]) -> Evaluator:
    """The same evaluator over a single point of its grid."""
    axes = evaluator.program.axes
    inputs = {
        name: np.array(values[tuple(slice(place[axis], place[axis] + 1) for axis in axes[name])])
        for name, values in evaluator.inputs.items()
    }
    return Evaluator(evaluator.program, dict.fromkeys(place, 1), inputs)
