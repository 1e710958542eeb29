"""Sweep -> parameter dataset: every input of the graph as a labelled variable on its own axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr

from servegrid.errors import InputError
from servegrid.facts import OPTIONAL, REQUEST, along, givers, labels_of, sources
from servegrid.graph import Graph, build
from servegrid.quantity import COMPUTED, SERIES, Quantity
from servegrid.reading import read_equation
from servegrid.solvers import Solver
from servegrid.sweepfile import CASE, Sweep
from servegrid.units import udunits

FEASIBLE = "feasible"  # the flag of a solver that says what fits


@dataclass(frozen=True)
class Parameters:
    """A sweep with all its numbers: the graph, and a dataset of axes, inputs and facts along the axes.

    `dataset` has a variable for each input of the graph; coordinates are the axes, and (not as indexes) what the
    catalogue says about the labels along one axis.
    """

    sweep: Sweep
    graph: Graph
    dataset: xr.Dataset
    origins: Mapping[str, str]
    """Where each input has its value from, for people: an axis, the catalogue with its source, a default."""

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The length of every axis, in the order of the sweep."""
        return {name: len(values) for name, values in self.sweep.axes.items()}

    @cached_property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """The axes of every quantity of the graph."""
        along = {name: [str(dim) for dim in self.dataset[name].dims] for name in self.graph.inputs}
        return self.graph.axes(along, tuple(self.sizes))

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """The inputs as double precision arrays along their axes in the sweep's order, C-contiguous.

        A series has one more dimension, which comes last.
        """
        return {
            name: np.array(self.dataset[name].transpose(*self.axes[name], ...).values, np.float64, order="C")
            for name in self.graph.inputs
        }

    @cached_property
    def idle_axes(self) -> tuple[str, ...]:
        """Axes that none of the outputs depends on."""
        used = {axis for output in self.graph.outputs for axis in self.axes[output]}
        return tuple(axis for axis in self.sizes if axis not in used)


def gather(sweep: Sweep) -> Parameters:
    """The sweep's parameters; InputError where names, units or values of the graph do not fit."""
    try:
        return _gather(sweep)
    except InputError as error:
        raise InputError(f"{sweep.where}{error}") from None


def _gather(sweep: Sweep) -> Parameters:
    labels = _labels(sweep)
    chosen = _chosen(sweep)
    facts = along(sweep.catalog, labels, sweep.solver.names - chosen.keys())
    given = {*facts, *chosen}
    graph = build(sweep.solver, sweep.outputs, given, sweep.expressions)
    if _needs_feasible(sweep.solver, graph):
        graph = build(sweep.solver, (*sweep.outputs, FEASIBLE), given, sweep.expressions)
    _check_one_of(sweep, {**facts, **chosen})
    coordinates = _coordinates(sweep, labels, facts)
    variables, origins = {}, {}
    for name, quantity in graph.inputs.items():
        value = chosen.get(name, facts.get(name, sweep.solver.defaults.get(name)))
        if value is None and quantity.kind == SERIES:
            value = xr.DataArray(np.empty(0), dims=REQUEST)
        if value is None:
            raise _missing(name, sweep)
        origins[name] = _origin(name, sweep, chosen, facts, labels)
        if name not in coordinates:
            dims, numbers = getattr(value, "dims", ()), getattr(value, "values", value)
            variables[name] = xr.Variable(dims, numbers, describe(quantity, origins[name]))
    return Parameters(sweep, graph, xr.Dataset(variables, coords=coordinates), origins)


def describe(quantity: Quantity, source: str = "") -> dict[str, Any]:
    """The attributes of a variable: `units` as UDUNITS spells it, `display_units` as people do.

    Of a label, `flag_values` and `flag_meanings` (CF conventions, section 3.5) say which code means what; the codes
    are a list, as it comes back from a store, where attributes are JSON.
    """
    attributes: dict[str, Any] = {
        "units": udunits(quantity.unit),
        "long_name": quantity.long_name,
        "display_units": quantity.unit,
        "source": source or quantity.source,
    }
    if quantity.kind in COMPUTED:  # a flag has no unit, and must not be given one
        del attributes["units"], attributes["display_units"]
    if quantity.kind == "label":
        attributes |= {"flag_values": list(range(len(quantity.labels))), "flag_meanings": " ".join(quantity.labels)}
    return {key: value for key, value in attributes.items() if value}


def _needs_feasible(solver: Solver, graph: Graph) -> bool:
    """Whether the flag goes with these outputs: without it, nobody could tell what does not fit from what is slow."""
    if FEASIBLE in graph.outputs or FEASIBLE not in solver.equations:
        return False
    return all(need in graph.nodes for need in read_equation(solver.equations[FEASIBLE]).needs)


def _origin(
    name: str,
    sweep: Sweep,
    chosen: Mapping[str, Any],
    facts: Mapping[str, xr.DataArray],
    labels: Mapping[str, xr.DataArray],
) -> str:
    """Where an input has its value from."""
    if name in sweep.axes:
        return "axis"
    if name in chosen:
        return "cases" if name in sweep.columns else "given"
    if name not in facts:
        return "default"
    documents = {source.document for source in sources(sweep.catalog, name, labels).values()}
    return f"catalogue: {documents.pop()}" if len(documents) == 1 else "catalogue"


def _labels(sweep: Sweep) -> dict[str, xr.DataArray]:
    """The catalogue names in use, for each kind: along an axis, along the cases, or a single one."""
    found = {}
    for kind in labels_of(sweep.solver):
        if kind in sweep.axes:
            found[kind] = xr.DataArray(sweep.axes[kind], dims=kind)
        elif kind in sweep.columns:
            found[kind] = xr.DataArray(sweep.columns[kind], dims=CASE)
        elif kind in sweep.values:
            value = sweep.values[kind]
            found[kind] = (
                value.drop_vars(list(value.coords)) if isinstance(value, xr.DataArray) else xr.DataArray(value)
            )
    return found


def _chosen(sweep: Sweep) -> dict[str, Any]:
    """What the sweep itself gives: axes, columns of cases, values."""
    known = labels_of(sweep.solver)
    axes = {name: xr.DataArray(values, dims=name) for name, values in sweep.axes.items() if name in sweep.solver.names}
    columns = {name: xr.DataArray(values, dims=CASE) for name, values in sweep.columns.items() if name not in known}
    values = {name: value for name, value in sweep.values.items() if name not in known}
    return {**axes, **columns, **values}


def _check_one_of(sweep: Sweep, given: Mapping[str, Any]) -> None:
    wanted = sweep.solver.one_of
    if wanted and not any(name in given and _is_whole(given[name]) for name in wanted):
        told = [f"a {givers(n)[0]} with {sweep.solver.quantity(n).long_name}" if givers(n) else n for n in wanted]
        raise InputError(f"got none of {', '.join(told)}, expected one of them, as an axis or under values")
    numbers = [name for name in wanted if name in given and sweep.solver.quantity(name).kind != SERIES]
    for one, other in combinations(numbers, 2):
        if _meet(xr.DataArray(given[one]) != 0, xr.DataArray(given[other]) != 0):
            raise InputError(f"got {one} and {other} at the same point, expected one of them, and 0 for the other")


def _meet(one: xr.DataArray, other: xr.DataArray) -> bool:
    """Whether both flags are set at some point; without a table of all points."""
    shared = {*one.dims} & {*other.dims}
    ours, theirs = (flag.any([dim for dim in flag.dims if dim not in shared]) for flag in (one, other))
    return bool((ours & theirs).any())


def _is_whole(value: Any) -> bool:
    """Whether a value is there for all labels; a series is none for those that it has no number for."""
    if REQUEST not in getattr(value, "dims", ()):
        return True
    return value.sizes[REQUEST] > 0 and not bool(value.isel({REQUEST: 0}).isnull().any())


def _missing(name: str, sweep: Sweep) -> InputError:
    quantity = sweep.solver.quantity(name)
    labels = " and ".join(givers(name))
    how = f"give {labels}, or {name} itself" if labels else f"give {name}"
    return InputError(f"{name} ({quantity.long_name}) has no value: {how}, as an axis or under values")


def _coordinates(
    sweep: Sweep, labels: Mapping[str, xr.DataArray], facts: Mapping[str, xr.DataArray]
) -> dict[str, xr.Variable]:
    coordinates = {}
    for name, values in sweep.axes.items():
        known = name in sweep.solver.names
        attributes = describe(sweep.solver.quantity(name), "axis") if known else {"long_name": name.replace("_", " ")}
        coordinates[name] = xr.Variable(name, values, attributes)
    for name, names in labels.items():
        if name not in coordinates:
            coordinates[name] = xr.Variable(names.dims, names.values, {"long_name": name})
    for name, values in sweep.kept.items():
        coordinates[name] = xr.Variable(CASE, values, {"long_name": name.replace("_", " ")})
    for name, values in sweep.columns.items():
        if name not in coordinates:
            coordinates[name] = xr.Variable(CASE, values, describe(sweep.solver.quantity(name), "cases"))
    for name, fact in facts.items():
        quantity = sweep.solver.quantity(name)
        if name not in coordinates and len(fact.dims) == 1 and quantity.kind != SERIES:
            whole = quantity.kind == "int" and bool(np.isfinite(fact.values).all())
            values = fact.values.astype(np.int64) if whole else fact.values
            read_in = sources(sweep.catalog, name, labels)
            attributes = describe(quantity, "; ".join(f"{label}: {source}" for label, source in read_in.items()))
            coordinates[name] = xr.Variable(fact.dims, values, attributes)
    return coordinates


def unknown_facts(parameters: Parameters) -> dict[str, list[str]]:
    """Inputs that some catalogue entries lack, and the labels of those; results that need them are NaN there."""
    missing: dict[str, list[str]] = {}
    for name in OPTIONAL & set(parameters.graph.inputs):
        values = parameters.dataset[name]
        if len(values.dims) == 1 and values.dims[0] in parameters.dataset.coords:
            axis = values.dims[0]
            lacking: Iterable[Any] = parameters.dataset[axis].values[np.isnan(values.values)]
            if found := [str(label) for label in lacking]:
                missing[name] = found
    return missing
