"""Elasticities: by how many percent an output rises for each percent of an input, at every point of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan
from typing import Any

import numpy as np
import xarray as xr

from servegrid.api import SweepLike, load
from servegrid.blocks import total_bytes
from servegrid.errors import InputError, MachineError
from servegrid.evaluate import Evaluator, physical_memory, prepare
from servegrid.graph import Graph
from servegrid.influence.changes import changed, read_step
from servegrid.influence.places import chosen_inputs, narrowed, place_of, refuse_axis, with_outputs
from servegrid.parameters import FEASIBLE, Parameters, gather
from servegrid.quantity import COMPUTED
from servegrid.results import labelled
from servegrid.show import number

INPUT = "input"
FEASIBLE_AFTER = "feasible_after"
BOTTLENECK = "bottleneck"  # the label of a solver that says which term binds


def sensitivity(
    file: SweepLike = None,
    *,
    outputs: Sequence[str] | str | None = None,
    inputs: Sequence[str] | str | None = None,
    step: float | str = 0.1,
    at: Mapping[str, Any] | None = None,
    threads: int | None = None,
    **words: Any,
) -> xr.Dataset:
    """Say what each input buys, at every point of a sweep: elasticities d log(output) / d log(input).

    Parameters
    ----------
    file, words
        A sweep file, or its words as keywords, as for `sweep`; without axes it is one point.
    outputs
        Quantities; the sweep's own without it. Flags and labels have no elasticity and are left out.
    inputs
        Inputs; without it all that the outputs depend on, but for those that are 0 or unknown everywhere.
    step
        By how much each input in turn is made larger [1], or text such as "10 %"; negative: smaller.
    at
        Axis -> label: only this part of the grid.
    threads
        Threads [1]; one for each core without it.

    Returns
    -------
    xarray.Dataset
        For each output a variable of shape (inputs, size of each of its own axes) [1]; `feasible_after`, of the same
        shape: whether the configuration still fits with the input changed; `feasible` and `bottleneck` as they are
        before, where the solver has them and their inputs have values. Coordinates `value` and `changed` along
        `input`: the input's value and the one that it was changed to, NaN where it varies over the grid.

    Raises
    ------
    InputError
        In one sentence, before any work.
    MachineError
        Where the result would not fit the memory.

    Notes
    -----
    The elasticity is that of the arc, log(y(x (1 + step)) / y(x)) / log(1 + step). Pages and requests are whole
    numbers, so derivatives are 0 almost everywhere, while 10 % more memory does buy requests; a small step gives the
    derivative. Counts (tokens, requests, layers) are changed to a whole number, by one at least, and a value that
    would leave its bounds (an efficiency above 1) is made smaller instead; the ratio really taken counts.

    An output that does not depend on an input has elasticity 0. NaN stands where there is no ratio: where the output
    is NaN or 0, before or after (most often as nothing fits: see `feasible` and `feasible_after`), and where the
    input is 0. An input is what the sweep gives: with a `model` of the catalogue, `parameters` and
    `active_parameters` are two of them, and change one at a time.
    """
    checked = load(file, **words)
    factor = read_step(step)
    everything = with_outputs(checked, [outputs] if isinstance(outputs, str) else outputs)
    refuse_axis(everything, INPUT, "value", "changed")
    wanted = [inputs] if isinstance(inputs, str) else inputs
    names = chosen_inputs(narrowed(everything, at), wanted, "inputs")
    if not names:
        raise InputError("inputs: got none, expected one input or more")
    parameters = narrowed(_with_bottleneck(everything), at)
    dataset = _Changes(parameters, prepare(parameters), names, factor).dataset(threads).squeeze(list(at or {}))
    return dataset.assign_attrs(place_of(parameters, at or {}))


def _with_bottleneck(parameters: Parameters) -> Parameters:
    """The same with the label of what binds, where the solver has it and all that it needs has a value."""
    sweep = parameters.sweep
    if BOTTLENECK not in sweep.solver.equations or sweep.solver.quantity(BOTTLENECK).kind != "label":
        return parameters
    try:
        return gather(replace(sweep, outputs=(*sweep.outputs, BOTTLENECK)))
    except InputError:
        return parameters  # its outputs do not need what is missing


@dataclass(frozen=True)
class _Changes:
    """A grid, and what becomes of it as each input in turn is changed: the same kernel is given other numbers."""

    parameters: Parameters
    evaluator: Evaluator
    names: tuple[str, ...]
    step: float

    @property
    def graph(self) -> Graph:
        return self.parameters.graph

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that have elasticities."""
        return tuple(name for name in self.graph.outputs if self.graph.quantity(name).kind not in COMPUTED)

    @cached_property
    def watched(self) -> tuple[str, ...]:
        """What is computed again with each input changed."""
        return (*self.outputs, *(name for name in self.graph.outputs if name == FEASIBLE))

    def dataset(self, threads: int | None) -> xr.Dataset:
        """The elasticities, with labels."""
        self.refuse_too_much()
        base = self.evaluator.grid(threads)
        result = {
            name: np.empty((len(self.names), *base[name].shape), bool if name == FEASIBLE else np.float64)
            for name in self.watched
        }
        memory: dict[str, np.ndarray] = {}
        for place, name in enumerate(self.names):
            after = self.after(name, memory, threads)
            for output in self.watched:
                result[output][place] = self.compared(name, output, base[output], after.get(output))
        return self.labelled(base, result)

    def refuse_too_much(self) -> None:
        """Raise MachineError unless the results and two grids fit the memory."""
        nbytes = total_bytes(self.evaluator.outputs.values(), self.evaluator.sizes) * (len(self.names) + 2)
        if nbytes > physical_memory():
            raise MachineError(
                f"the elasticities take {number(nbytes, 'byte')}, more than this machine's memory of "
                f"{number(physical_memory(), 'byte')}; choose fewer inputs or outputs, or a part of the grid (at)"
            )

    def changed(self, name: str) -> np.ndarray:
        """An input's new values; NaN where there is none."""
        return changed(self.evaluator.inputs[name], self.graph.inputs[name], self.step)

    def after(self, name: str, memory: dict[str, np.ndarray], threads: int | None) -> dict[str, np.ndarray]:
        """The outputs that depend on an input, with it changed; as they are where it has no other value."""
        other = self.changed(name)
        values = np.where(np.isnan(other), self.evaluator.inputs[name], other)
        evaluator = replace(self.evaluator, inputs={**self.evaluator.inputs, name: values})
        dependent = dependents(self.graph, name).intersection(self.watched)
        return evaluator.grid(threads, evaluator.allocate(evaluator.whole, memory, dependent))

    def compared(self, name: str, output: str, before: np.ndarray, after: np.ndarray | None) -> np.ndarray:
        """The elasticity of an output, or the flag after; `after` is None where it does not depend on the input."""
        if output == FEASIBLE:
            return before if after is None else after
        if after is None:
            return np.where(np.isfinite(before) & (before != 0), 0.0, nan)
        return elasticity(before, after, self.logarithm(name, output))

    def logarithm(self, name: str, output: str) -> np.ndarray:
        """log(x after / x before) of an input, in a shape that goes with an output's."""
        axes, sizes = self.parameters.axes, self.parameters.sizes
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log(self.changed(name) / self.evaluator.inputs[name])
        return np.asarray(values.reshape([sizes[axis] if axis in axes[name] else 1 for axis in axes[output]]))

    def labelled(self, base: Mapping[str, np.ndarray], result: Mapping[str, np.ndarray]) -> xr.Dataset:
        """The results with labels, beside the flags as they are before any change."""
        points = labelled(self.parameters, base)
        variables: dict[str, Any] = {}
        for name in self.watched:
            attributes = {"long_name": f"elasticity of {points[name].attrs['long_name']}", "units": "1"}
            told = {**attributes, "step": self.step}
            if name == FEASIBLE:
                told = {"long_name": f"{points[name].attrs['long_name']}, with the input changed"}
            new = FEASIBLE_AFTER if name == FEASIBLE else name
            variables[new] = ((INPUT, *points[name].dims), result[name], told)
        variables |= {name: points[name] for name in base if name not in self.outputs}
        attributes = {key: value for key, value in points.attrs.items() if key != "fingerprint"}
        dataset = xr.Dataset(variables, points.coords, {**attributes, "step": self.step})
        return dataset.assign_coords(self.coordinates())

    def coordinates(self) -> dict[str, Any]:
        """The inputs, with their values before and after."""
        before = [self.evaluator.inputs[name] for name in self.names]
        after = [self.changed(name) for name in self.names]
        return {
            INPUT: (INPUT, list(self.names), {"long_name": "input that is changed"}),
            "value": (INPUT, _singles(before), {"long_name": "value of the input"}),
            "changed": (INPUT, _singles(after), {"long_name": "value that the input is changed to"}),
        }


def _singles(arrays: Sequence[np.ndarray]) -> list[float]:
    """Those that are one number; NaN for the others, which vary over the grid."""
    return [array.item() if array.size == 1 else nan for array in arrays]


def dependents(graph: Graph, name: str) -> frozenset[str]:
    """All quantities that depend on an input."""
    found = {name}
    for node_name, node in graph.nodes.items():  # in an order in which each follows what it needs
        if found.intersection(node.needs):
            found.add(node_name)
    return frozenset(found - {name})


def elasticity(before: np.ndarray, after: np.ndarray, logarithm: np.ndarray) -> np.ndarray:
    """log(after / before) / `logarithm`, of the shape of `before` [1]; NaN where there is no such ratio."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.asarray(after / before)
        ratio[~(np.isfinite(ratio) & (ratio > 0))] = nan
        return np.asarray(np.log(ratio) / logarithm)
