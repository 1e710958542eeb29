"""A sweep as something to ask: its points are computed as they are needed, and not kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import xarray as xr

from servegrid import expression
from servegrid.blocks import Blocks, Region, Variable, block_sizes
from servegrid.graph import Expression, Graph, build
from servegrid.parameters import FEASIBLE, Parameters, gather
from servegrid.query.source import Axes, Numbers, Places, ordered
from servegrid.sweepfile import SELECTED, Sweep

# Points of one block: at 2 G point/s a tenth of a second, which is long against what a task costs.
BLOCK_POINTS = 2**28


@dataclass(frozen=True)
class Swept:
    """A sweep, computed as it goes."""

    sweep: Sweep

    @cached_property
    def parameters(self) -> Parameters:
        """The sweep with its numbers."""
        return gather(self.sweep)

    @cached_property
    def labels(self) -> xr.Dataset:
        """The coordinates of its results."""
        dataset = self.parameters.dataset
        return dataset.drop_vars(list(dataset.data_vars))

    @property
    def attributes(self) -> dict[str, str]:
        """The sweep itself."""
        about = {"sweep_name": self.sweep.name, "solver": self.sweep.solver.name, "sweep": self.sweep.text}
        return {key: value for key, value in about.items() if value}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Those of the sweep; its own filter holds for every answer."""
        return tuple(name for name in self.sweep.outputs if name != SELECTED)

    @property
    def where(self) -> str | None:
        """The filter of the sweep."""
        return self.sweep.expressions[SELECTED].text if SELECTED in self.sweep.expressions else None

    @property
    def where_text(self) -> str | None:
        """The same."""
        return self.where

    @property
    def floats(self) -> str:
        """The type of its results."""
        return self.sweep.dtype

    def can_be_infeasible(self, outputs: Sequence[str], expressions: Mapping[str, Expression]) -> bool:
        """Whether what is asked for, or the outputs of the sweep, depend on what fits."""
        if FEASIBLE in self.parameters.graph.outputs:
            return True
        return FEASIBLE in self._gathered((*self.sweep.outputs, *outputs), expressions).graph.outputs

    def knows(self, name: str) -> bool:
        """Whether the solver has it, or the sweep derives it."""
        return name in self.sweep.solver.names or name in self.sweep.expressions

    def numbers(self, outputs: Sequence[str], expressions: Mapping[str, Expression]) -> Numbers:
        """The solver's equations, and the question's."""
        parameters = self._known(outputs, expressions) or self._gathered(outputs, expressions)
        return _Inputs(replace(parameters.graph, outputs=tuple(outputs)), parameters.axes, parameters.inputs)

    def _known(self, outputs: Sequence[str], expressions: Mapping[str, Expression]) -> Parameters | None:
        """The sweep's own numbers, where they are all that is needed.

        One look into the catalogue (7 ms) in place of five: a fifth of the time of a question of 67 million points.
        """
        own, known = self.parameters.graph, {**self.sweep.expressions, **expressions}
        needed = list(outputs)
        for name in needed:
            if name in expressions:
                needed += [need for need in expression.names(expressions[name].tree) if need not in needed]
            elif name not in own.nodes and name not in own.inputs:
                return None
        return replace(self.parameters, graph=build(self.sweep.solver, outputs, own.inputs, known))

    def _gathered(self, outputs: Sequence[str], expressions: Mapping[str, Expression]) -> Parameters:
        _ = self.parameters  # what is wrong with the sweep itself is said with the name of its file
        known = {**self.sweep.expressions, **expressions}
        return gather(replace(self.sweep, outputs=tuple(dict.fromkeys(outputs)), expressions=known, where=""))

    def blocks(self, numbers: Numbers, shares: int) -> Blocks:
        """Blocks of many points: nothing of them is kept."""
        sizes = self.parameters.sizes
        points = Variable(tuple(sizes), 1)
        return Blocks(sizes, block_sizes(sizes, [points], max(1, min(BLOCK_POINTS, points.nbytes(sizes) // shares))))


@dataclass(frozen=True)
class _Inputs:
    """The inputs of a sweep, in memory."""

    graph: Graph
    dims: Axes
    values: Mapping[str, np.ndarray]

    def load(self, region: Region, axes: Axes) -> dict[str, np.ndarray]:
        return {name: ordered(self._part(name, region), self.dims[name], axes[name]) for name in self.graph.inputs}

    def _part(self, name: str, region: Region) -> np.ndarray:
        return self.values[name][tuple(region[axis] for axis in self.dims[name])]

    def at(self, places: Places) -> dict[str, np.ndarray]:
        count = len(next(iter(places.values()), np.zeros(1)))
        found = {name: self.values[name][tuple(places[axis] for axis in self.dims[name])] for name in self.graph.inputs}
        within = {name: values.shape[1 if self.dims[name] else 0 :] for name, values in found.items()}  # of a series
        return {name: np.broadcast_to(values, (count, *within[name])) for name, values in found.items()}
