"""What was found, with labels: the points of an answer as a small dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from servegrid.evaluate import Evaluator
from servegrid.parameters import describe
from servegrid.program import Program, input_dtype
from servegrid.query.question import Asked, Question
from servegrid.query.source import Numbers, Places, Source

POINT = "point"  # the one axis of points that are picked out of a grid
FOUND = "found"


def places_of(flat: np.ndarray, axes: Sequence[str], sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The position along every axis of points that are given by their place along some, in C order.

    Along the other axes, on which the answer does not depend, it is the first.
    """
    positions = np.unravel_index(flat, [sizes[axis] for axis in axes]) if axes else ()
    known = dict(zip(axes, positions, strict=True))
    return {axis: np.asarray(known.get(axis, np.zeros(len(flat), np.intp))) for axis in sizes}


def leading(question: Question, asked: Asked, flat: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Whether each group has a leader, and the positions of all leaders along every axis.

    `flat`: what the first look found, for each group (and rank): a place along the axes of the look, or -1.
    """
    spread = over_groups(question, asked, asked.looks[0], flat).values
    exists = spread >= 0
    groups = dict(zip(question.per, np.nonzero(np.atleast_1d(exists)), strict=False))
    return exists, places_of(spread[exists], asked.along(asked.looks[0]), asked.sizes) | groups


def values_at(question: Question, names: Sequence[str], places: Places) -> xr.Dataset:
    """Quantities at some points, along `point`: computed by the same equations as the grid."""
    numbers = question.numbers(names)
    found = _evaluated(question.source, numbers, places)
    return xr.Dataset({name: (POINT, values, attributes) for name, (values, attributes) in found.items()})


def _evaluated(source: Source, numbers: Numbers, places: Places) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    graph = numbers.graph
    inputs = numbers.at(places)
    found = {name: inputs[name] for name in graph.outputs if name in inputs}
    computed = tuple(name for name in graph.outputs if name in graph.nodes)
    if computed:
        axes = dict.fromkeys((*graph.inputs, *graph.nodes), (POINT,))
        program = Program(replace(graph, outputs=computed), axes, (POINT,), source.floats)
        typed = {
            name: np.array(values, input_dtype(graph.quantity(name).kind), order="C") for name, values in inputs.items()
        }
        count = len(next(iter(typed.values()), np.zeros(1)))
        found |= Evaluator(program, {POINT: count}, typed).grid(threads=1)
    return {name: (found[name], describe(graph.quantity(name))) for name in graph.outputs}


def points_dataset(question: Question, places: Places) -> xr.Dataset:
    """Points, given by their position along each axis: labels as coordinates, objectives and outputs as variables."""
    names = dict.fromkeys([*(objective.name for objective in question.objectives), *question.outputs])
    return with_labels(question, values_at(question, [name for name in names if name not in places], places), places)


def with_labels(question: Question, dataset: xr.Dataset, places: Places) -> xr.Dataset:
    """Values at some points along `point`, with their labels, and with what was asked."""
    labels = question.source.labels
    for objective in question.objectives:
        if objective.name in dataset:
            dataset[objective.name].attrs["direction"] = objective.direction
    axes = [*question.per, *(axis for axis in places if axis not in question.per)]
    coordinates = {axis: (POINT, labels[axis].values[places[axis]], labels[axis].attrs) for axis in axes}
    return dataset.assign_coords(coordinates).assign_attrs(attributes(question))


def by_group(question: Question, dataset: xr.Dataset, exists: np.ndarray, more: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Points of which there is one for each group, with the axes of the groups as dimensions.

    `exists`: whether there is a point, by the axes of the groups (and `more`, other dimensions with their labels).
    Where there is none, numbers are NaN, counts 0, flags false and labels empty.
    """
    labels = question.source.labels
    dims = (*question.per, *more)
    variables: dict[str, xr.Variable] = {}
    coordinates = {axis: labels[axis].variable for axis in question.per}
    coordinates |= {name: xr.Variable(name, values) for name, values in more.items()}
    for name, variable in dataset.variables.items():
        if name not in question.per:
            spread = np.full(exists.shape, _nothing(variable.dtype), variable.dtype)
            spread[exists] = variable.values
            target = coordinates if name in dataset.coords else variables
            target[str(name)] = xr.Variable(dims, spread, variable.attrs)
    variables[FOUND] = xr.Variable(dims, exists, {"long_name": "whether any configuration counts"})
    return xr.Dataset(variables, coords=coordinates, attrs=attributes(question))


def _nothing(dtype: np.dtype[Any]) -> Any:
    return np.nan if dtype.kind == "f" else np.zeros((), dtype)[()]


def attributes(question: Question, what: str = "") -> dict[str, str]:
    """What was asked, and of what."""
    per = {"per": ", ".join(question.per)} if question.per else {}
    return {"question": question.title(what), **per, **question.source.attributes}


def over_groups(question: Question, asked: Asked, look: Sequence[str], values: np.ndarray) -> xr.DataArray:
    """Values of each group (along its first axis), along all axes of `per`, with their labels.

    Along those on which what was looked at does not depend, they are the same.
    """
    axes = asked.groups(look)
    rest = [f"dim_{number}" for number in range(values.ndim - 1)]
    array = xr.DataArray(values.reshape((*asked.shape(axes), *values.shape[1:])), dims=(*axes, *rest))
    sizes = {axis: asked.sizes[axis] for axis in question.per if axis not in axes}
    return array.expand_dims(sizes).transpose(*question.per, *rest)
