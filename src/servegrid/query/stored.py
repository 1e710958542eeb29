"""A dataset as something to ask: results in memory, or in a store, read block by block."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
import yaml
from dask.base import compute

from servegrid import expression
from servegrid.blocks import Blocks, Region, Variable, block_sizes
from servegrid.errors import InputError, MachineError, nearest
from servegrid.graph import Expression, Graph, build
from servegrid.parameters import FEASIBLE
from servegrid.program import input_dtype
from servegrid.quantity import Kind, Quantity
from servegrid.query.source import Axes, Numbers, Places, ordered
from servegrid.solvers import SOLVERS, Solver
from servegrid.sweepfile import CASE, SELECTED
from servegrid.units import UnitError, parse_unit
from servegrid.yamltext import from_yaml

# Numbers of one block that are read from a store, before they are looked at.
BLOCK_BYTES = 64 * 2**20


_KINDS: Mapping[str, Kind] = {"b": "bool", "i": "int", "u": "int", "f": "float"}


@dataclass(frozen=True)
class Stored:
    """A dataset; what is lazy in it is read block by block."""

    dataset: xr.Dataset

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Its dimensions, in the order of the sweep that made it where it says so."""
        return _in_order(self.dataset.sizes, [CASE, *self.written.get("axes", ())])

    @cached_property
    def written(self) -> Mapping[str, Any]:
        """The sweep that made it, as far as it says so."""
        try:
            return dict(from_yaml(self.dataset.attrs["sweep"]))
        except (KeyError, TypeError, ValueError, yaml.YAMLError):
            return {}

    @cached_property
    def labels(self) -> xr.Dataset:
        """Its coordinates; positions along dimensions without labels."""
        axes = {axis: self.dataset[axis].variable for axis in self.axes}
        others = {name: c.variable for name, c in self.dataset.coords.items() if name not in axes}
        return xr.Dataset(coords={**axes, **others})

    @property
    def attributes(self) -> dict[str, str]:
        """What the dataset says of itself."""
        kept = {"title": "sweep_name", "solver": "solver", "sweep": "sweep"}
        return {key: self.dataset.attrs[name] for name, key in kept.items() if name in self.dataset.attrs}

    @property
    def outputs(self) -> tuple[str, ...]:
        """All its variables but the flags, in the order of the sweep that made it."""
        solver = SOLVERS.get(str(self.dataset.attrs.get("solver")))
        default = solver.outputs if solver is not None else ()
        order = [*self.written.get("outputs", default), *self.written.get("derive", ())]
        return tuple(name for name in _in_order(self.dataset.data_vars, order) if name not in (FEASIBLE, SELECTED))

    @property
    def where(self) -> str | None:
        """The filter that is stored as a flag."""
        return SELECTED if SELECTED in self.dataset else None

    @property
    def where_text(self) -> str | None:
        """The filter that gave the flag."""
        return str(self.dataset[SELECTED].attrs.get("long_name", SELECTED)) if self.where else None

    @property
    def floats(self) -> str:
        """Expressions are computed, and shown, in double precision."""
        return "float64"

    def can_be_infeasible(self, outputs: Sequence[str], expressions: Mapping[str, Expression]) -> bool:
        """Whether the flag is stored."""
        return FEASIBLE in self.dataset

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """Every variable of numbers or flags as a quantity."""
        numeric = {str(name): v for name, v in self.dataset.variables.items() if v.dtype.kind in _KINDS}
        return {name: _quantity(name, variable) for name, variable in numeric.items()}

    def knows(self, name: str) -> bool:
        """Whether it is stored."""
        return name in self.quantities

    def numbers(self, outputs: Sequence[str], expressions: Mapping[str, Expression]) -> Numbers:
        """The question's own expressions, from what is stored."""
        needed = {need: asked.where for asked in expressions.values() for need in expression.names(asked.tree)}
        known = list(dict.fromkeys([*self.outputs, *self.quantities]))
        for name, where in {**dict.fromkeys(outputs, "outputs"), **needed}.items():
            if name not in self.quantities and name not in expressions:
                raise InputError(
                    f"{where}: {name!r} is not stored{nearest(name, known)}, expected one of {', '.join(known)}; "
                    "ask the sweep itself for more"
                )
        store = Solver("store", "a stored dataset", {}, (), inputs=self.quantities)
        graph = build(store, outputs, (), expressions)
        return _Variables(graph, {name: self.dataset[name].variable for name in graph.inputs})

    def blocks(self, numbers: Numbers, shares: int) -> Blocks:
        """Blocks of whole chunks."""
        sizes = {axis: int(self.dataset.sizes[axis]) for axis in self.axes}
        variables = [Variable(axes, 8) for axes in numbers.dims.values()]
        chunks = _chunks([self.dataset[name].variable for name in numbers.graph.inputs])
        block = block_sizes(sizes, variables, BLOCK_BYTES)
        whole = {
            axis: min(sizes[axis], -(-length // chunks.get(axis, 1)) * chunks.get(axis, 1))
            for axis, length in block.items()
        }
        return Blocks(sizes, whole)


def _in_order(names: Iterable[Hashable], order: Sequence[str]) -> tuple[str, ...]:
    """The names in this order; those that it lacks come last."""
    return tuple(sorted(map(str, names), key=lambda name: order.index(name) if name in order else len(order)))


def _quantity(name: str, variable: xr.Variable) -> Quantity:
    """What the attributes say of a variable; a unit that makes no sense here is left out."""
    unit = str(variable.attrs.get("display_units", variable.attrs.get("units", "1")))
    try:
        parse_unit(unit)
    except UnitError:
        unit = "1"
    long_name, labels = (
        str(variable.attrs.get("long_name", name)),
        tuple(variable.attrs.get("flag_meanings", "").split()),
    )
    return Quantity(name, unit, long_name, "label" if labels else _KINDS[variable.dtype.kind], labels=labels)


def _chunks(variables: Iterable[xr.Variable]) -> dict[str, int]:
    """The longest chunk along each axis."""
    longest: dict[str, int] = {}
    for variable in variables:
        for axis, lengths in variable.chunksizes.items():
            longest[str(axis)] = max(longest.get(str(axis), 1), *lengths)
    return longest


@dataclass(frozen=True)
class _Variables:
    """Variables of a dataset, read when they are needed."""

    graph: Graph
    variables: Mapping[str, xr.Variable]

    @cached_property
    def dims(self) -> dict[str, tuple[str, ...]]:
        return {name: tuple(map(str, variable.dims)) for name, variable in self.variables.items()}

    def load(self, region: Region, axes: Axes) -> dict[str, np.ndarray]:
        parts = [v.isel({axis: region[axis] for axis in self.dims[name]}).data for name, v in self.variables.items()]
        found = {}
        for name, values in zip(self.variables, _computed(parts), strict=True):
            typed = np.asarray(values, input_dtype(self.graph.quantity(name).kind))
            found[name] = ordered(typed, self.dims[name], axes[name])
        return found

    def at(self, places: Places) -> dict[str, np.ndarray]:
        count = len(next(iter(places.values()), np.zeros(1)))
        index = {axis: xr.Variable("point", positions) for axis, positions in places.items()}
        parts = [v.isel({axis: index[axis] for axis in self.dims[name]}).data for name, v in self.variables.items()]
        return {
            name: np.broadcast_to(np.asarray(values), (count,))
            for name, values in zip(self.variables, _computed(parts), strict=True)
        }


def _computed(arrays: Sequence[Any]) -> tuple[Any, ...]:
    """The arrays, together, in this thread: what they share is computed once, and the crew has the other threads."""
    try:
        found: tuple[Any, ...] = compute(*arrays, scheduler="synchronous")
    except (OSError, InputError, MachineError):
        raise
    except Exception as error:  # whatever a decoder makes of wrong bytes; the checksum first
        raise MachineError(
            f"the dataset could not be read ({error}); for a store 'servegrid verify' tells what is damaged"
        ) from error
    return found
