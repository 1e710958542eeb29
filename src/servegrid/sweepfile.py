"""The sweep file: its schema, and the checked, normalised sweep that everything else works with.

The same words are keyword arguments in Python. Everything here is checked before any work: see `Sweep`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from keyword import iskeyword
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from servegrid import expression
from servegrid.cases import Cases, as_column, read_cases
from servegrid.catalog import Catalog, written_out
from servegrid.errors import InputError, nearest, shown
from servegrid.facts import REQUEST, labels_of
from servegrid.graph import Expression
from servegrid.quantity import COMPUTED, SERIES, USER, Quantity
from servegrid.solvers import Solver, find_solver
from servegrid.units import UnitError, parse_unit
from servegrid.written import read_number, read_range, refuse_duplicates
from servegrid.yamlfile import read_mapping, validate
from servegrid.yamltext import as_yaml, nested

CASE = "case"
BARE = ""  # the unit of a user's own number, which takes that of what it meets
SELECTED = "selected"  # the flag that `where` gives
ASKED = "asked_"  # how the names begin that questions give to what they compute


class Derived(BaseModel):
    """A derived quantity, written out; a bare text is its expression alone."""

    model_config = ConfigDict(extra="forbid")

    expression: str
    unit: str | None = None
    long_name: str | None = None


class SweepFile(BaseModel):
    """The keys of a sweep file."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    question: str | None = None
    solver: Any = "continuous_batching"
    catalog: list[Any] = Field(default_factory=list)
    axes: dict[str, Any] = Field(default_factory=dict)
    cases: Any = None
    values: dict[str, Any] = Field(default_factory=dict)
    derive: dict[str, Any] = Field(default_factory=dict)
    where: str | None = None
    outputs: list[str] | None = None
    dtype: Literal["float64", "float32"] = "float64"


@dataclass(frozen=True)
class Sweep:
    """A checked sweep: every name is known and every number is within its bounds.

    `axes`: numbers (float64, int64) or labels (str) along each dimension, in order. `values`: one number, or a
    table over axes. `columns`: values that vary from case to case. `kept`: columns that ride along.
    """

    name: str
    question: str
    solver: Solver
    catalog: Catalog
    axes: Mapping[str, np.ndarray]
    values: Mapping[str, float | str | xr.DataArray]
    columns: Mapping[str, np.ndarray]
    kept: Mapping[str, np.ndarray]
    expressions: Mapping[str, Expression]
    outputs: tuple[str, ...]
    dtype: str
    """Of the results that are no counts, no flags and no labels; everything is computed in double precision."""
    text: str = field(repr=False)
    where: str = ""  # how messages begin: the file


def read_sweep(path: str | Path) -> Sweep:
    """The sweep in a YAML file; InputError with one sentence for anything that is wrong with it."""
    path = Path(path)
    content = read_mapping(path)
    return make_sweep(content, where=f"{path}: ", folder=path.parent, default_name=path.stem)


def make_sweep(
    content: Mapping[str, Any], where: str = "", folder: Path = Path(), default_name: str = "sweep"
) -> Sweep:
    """The sweep that `content` (the keys of a sweep file) describes; `where` begins each message."""
    schema = validate(SweepFile, content, where)
    try:
        return replace(_Reader(schema, folder).sweep(default_name, content), where=where)
    except InputError as error:
        raise InputError(f"{where}{error}") from None


def is_name(text: str) -> bool:
    """Whether a user's axis or quantity may be called so: a word that means nothing else in an expression."""
    taken = (*expression.FUNCTIONS, *expression.CONSTANTS)
    return text.isidentifier() and not iskeyword(text) and text not in taken and not text.startswith(ASKED)


class _Reader:
    """Turns a validated schema into a Sweep, key by key."""

    def __init__(self, schema: SweepFile, folder: Path) -> None:
        self.schema, self.folder = schema, folder
        self.solver = find_solver(schema.solver)
        self.labels = labels_of(self.solver)
        self.solver = self.solver.extended(inputs=self.own_inputs())
        self.additions = [self.read_addition(item, f"catalog[{index}]") for index, item in enumerate(schema.catalog)]
        self.catalog = Catalog.default().extended(*self.additions, folder=folder)
        self.cases = None if schema.cases is None else read_cases(schema.cases, folder)
        columns = () if self.cases is None else self.cases.columns.keys() - self.cases.keep
        self.solver = self.solver.suited({*schema.axes, *schema.values, *schema.derive, *columns})

    def sweep(self, default_name: str, content: Mapping[str, Any]) -> Sweep:
        columns, kept, axes = self.read_cases()
        axes |= {name: self.read_axis(name, values) for name, values in self.schema.axes.items()}
        values = {name: self.read_value(name, value, axes) for name, value in self.schema.values.items()}
        self.check_axes_are_used(axes, values)
        self.check_given_once(axes, columns, values)
        expressions = self.read_expressions(axes)
        return Sweep(
            name=self.schema.name or default_name,
            question=self.schema.question or "",
            solver=self.solver,
            catalog=self.catalog,
            axes=axes,
            values=values,
            columns=columns,
            kept=kept,
            expressions=expressions,
            outputs=self.read_outputs(expressions, axes),
            dtype=self.schema.dtype,
            text=as_yaml({**content, **self.files_written_out()}, SweepFile.model_fields),
        )

    def read_addition(self, item: Any, where: str) -> Path | Mapping[str, Any]:
        if isinstance(item, Mapping):
            return item
        if not isinstance(item, str | Path):
            raise InputError(f"{where}: got {shown(item)}, expected the path of a file")
        return self.folder / item

    def files_written_out(self) -> dict[str, Any]:
        """The files that the sweep names, as their contents: with them it can be made again, wherever it is."""
        content: dict[str, Any] = {}
        if self.additions:
            content["catalog"] = [written_out(addition, self.folder) for addition in self.additions]
        if self.cases is not None:
            content["cases"] = {"columns": self.cases.columns, "keep": list(self.cases.keep)}
        return content

    def own_inputs(self) -> tuple[Quantity, ...]:
        """Numbers of the user's own: axes and values that the solver does not know, but an expression uses."""
        known = {*self.solver.names, *self.labels, *self.schema.derive}
        own = [name for name in (*self.schema.axes, *self.schema.values) if name not in known]
        used = {name for tree in self.trees().values() for name in expression.names(tree)}
        return tuple(Quantity(name, BARE, name.replace("_", " "), source=USER) for name in own if name in used)

    def trees(self) -> dict[str, ast.expr]:
        """The checked syntax trees of all expressions, by the quantities that they give."""
        texts = {name: (self.derived(name).expression, f"derive.{name}") for name in self.schema.derive}
        if self.schema.where is not None:
            texts[SELECTED] = (self.schema.where, "where")
        return {name: expression.parse(text, where) for name, (text, where) in texts.items()}

    def derived(self, name: str) -> Derived:
        written, where = self.schema.derive[name], f"derive.{name}"
        if isinstance(written, str):
            return Derived(expression=written)
        if not isinstance(written, Mapping):
            raise InputError(f"{where}: got {shown(written)}, expected an expression, as text")
        return validate(Derived, written, f"{where}: ")

    # axes

    def read_axis(self, name: str, values: Any) -> np.ndarray:
        where = f"axes.{name}"
        if not is_name(name) or name in (CASE, REQUEST):
            raise InputError(f"{where}: {name!r} cannot be the name of an axis, expected a word such as page_size")
        if isinstance(values, np.ndarray | pd.Series | pd.Index | xr.DataArray):
            values = np.asarray(values).tolist()
        if isinstance(values, Mapping):
            numbers: np.ndarray | list[float | str] = self.read_range(name, values, where)
        elif isinstance(values, list | tuple | range):
            numbers = [self.read_item(name, item, f"{where}[{index}]") for index, item in enumerate(values)]
        else:
            raise InputError(f"{where}: got {shown(values)}, expected a list or a range {{from: , to: , num: }}")
        if len(numbers) == 0:
            raise InputError(f"{where}: the axis is empty, expected one value or more")
        array = np.array(numbers, dtype=self.dtype(name, numbers))
        refuse_duplicates(array, values, where)
        return array

    def dtype(self, name: str, values: np.ndarray | Sequence[float | str]) -> type | str:
        if name in self.solver.names:
            return np.int64 if self.solver.quantity(name).kind == "int" else np.float64
        return np.str_ if any(isinstance(value, str) for value in values) else np.float64

    def read_item(self, name: str, item: Any, where: str) -> float | str:
        if name in self.labels:
            return self.short_name(name, item, where)
        if name in self.solver.names:
            return self.read_input(name, item, where)
        if isinstance(item, str) or (isinstance(item, int | float) and not isinstance(item, bool)):
            return item
        raise InputError(f"{where}: got {shown(item)}, expected a label or a number")

    def short_name(self, kind: str, name: Any, where: str) -> str:
        if not isinstance(name, str):
            raise InputError(f"{where}: got {shown(name)}, expected a name in the catalogue")
        try:
            return self.catalog.short_name(self.labels[kind], name)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    def read_range(self, name: str, content: Mapping[str, Any], where: str) -> np.ndarray:
        if name not in self.solver.names:
            hint = "" if name in self.labels else self.hint(name)
            raise InputError(f"{where}: got a range, expected a list of labels{hint}")
        return read_range(content, self.given(name, where), where)

    def check_axes_are_used(self, axes: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        tabulated = {dim for value in values.values() if isinstance(value, xr.DataArray) for dim in value.dims}
        for name in axes:
            if name not in self.solver.names and name not in self.labels and name not in tabulated and name != CASE:
                raise InputError(
                    f"axes.{name}: unknown axis{self.hint(name)}, expected {', '.join(self.labels)}, "
                    f"a quantity of the solver {self.solver.name}, or a label that some table in values uses"
                )

    def hint(self, name: str) -> str:
        return nearest(name, [*self.labels, *self.solver.names])

    # cases

    def read_cases(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Columns that are inputs, columns that are kept, and the axis of the cases."""
        cases = self.cases
        if cases is None:
            return {}, {}, {}
        columns, kept = {}, {}
        labels = np.arange(len(cases.rows))
        for name, values in cases.columns.items():
            if name == CASE:
                labels = self.read_labels(cases)
            elif name in cases.keep:
                kept[name] = np.array(as_column(values))
            else:
                columns[name] = self.read_column(name, cases)
        return columns, kept, {CASE: labels}

    def read_labels(self, cases: Cases) -> np.ndarray:
        values = as_column(cases.columns[CASE])
        for row, value in zip(cases.rows, values, strict=True):
            if value == "":
                raise InputError(f"{cases.where}, {row}, {CASE}: got nothing, expected a label")
        labels = np.array(values)
        refuse_duplicates(labels, labels, f"{cases.where}, column {CASE}")
        return labels

    def read_column(self, name: str, cases: Cases) -> np.ndarray:
        if name not in self.labels and name not in self.solver.names:
            raise InputError(
                f"{cases.where}: the column {name!r} is no quantity of the solver {self.solver.name}{self.hint(name)}; "
                "list it under 'keep' to carry it along"
            )
        rows = zip(cases.rows, cases.columns[name], strict=True)
        read = [self.read_item(name, value, f"{cases.where}, {row}, {name}") for row, value in rows]
        return np.array(read, dtype=self.dtype(name, read))

    # values

    def read_value(self, name: str, value: Any, axes: Mapping[str, np.ndarray]) -> float | str | xr.DataArray:
        where = f"values.{name}"
        if isinstance(value, xr.DataArray):
            return self.read_table(name, nested(value) if value.dims else value.item(), axes, where)
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value.item()
        if isinstance(value, Mapping):
            return self.read_table(name, value, axes, where)
        return self.read_single(name, value, where)

    def read_single(self, name: str, value: Any, where: str) -> float | str:
        if name in self.labels:
            return self.short_name(name, value, where)
        if name not in self.solver.names:
            raise InputError(
                f"{where}: unknown quantity{self.hint(name)}, expected one of the solver {self.solver.name}"
            )
        return self.read_input(name, value, where)

    def read_input(self, name: str, value: Any, where: str) -> float:
        return read_number(value, self.given(name, where), where)

    def given(self, name: str, where: str) -> Quantity:
        """The quantity, where a number may be given for it."""
        quantity = self.solver.quantity(name)
        if quantity.kind in COMPUTED:
            noun = "flag" if quantity.kind == "bool" else "label"
            raise InputError(f"{where}: {name} is a {noun} that is computed, and cannot be given")
        if quantity.kind == SERIES:
            raise InputError(f"{where}: {name} is a number for each request: give a trace, which has them")
        return quantity

    def read_table(
        self, name: str, table: Any, axes: Mapping[str, np.ndarray], where: str
    ) -> float | str | xr.DataArray:
        """A value over axes: {hardware: {h100-sxm: 0.5, mi300x: 0.4}}, one level for each axis."""
        if not isinstance(table, Mapping):
            return self.read_single(name, table, where)
        if len(table) != 1 or not isinstance(next(iter(table.values())), Mapping):
            raise InputError(f"{where}: got keys {list(table)}, expected one axis with a value for each of its labels")
        axis, rows = next(iter(table.items()))
        if axis not in axes:
            raise InputError(f"{where}: {axis!r} is no axis of this sweep{nearest(str(axis), axes)}")
        read = [self.read_item(axis, label, f"{where}.{axis}") for label in rows]
        if axes[axis].dtype.kind == "U":
            read = [str(label) for label in read]
        refuse_duplicates(np.array(read), read, f"{where}.{axis}")
        rows = dict(zip(read, rows.values(), strict=True))
        missing = [label for label in axes[axis].tolist() if label not in rows]
        if missing:
            raise InputError(f"{where}.{axis}: no value for {missing[0]!r}, expected one for each of its labels")
        others = {other: labels for other, labels in axes.items() if other != axis}
        parts = [
            xr.DataArray(self.read_table(name, rows[label], others, f"{where}.{axis}.{label}"))
            for label in axes[axis].tolist()
        ]
        return xr.concat(parts, dim=pd.Index(axes[axis], name=axis))

    def check_given_once(self, *sources: Mapping[str, Any]) -> None:
        given = [name for source in sources for name in source]
        for name in given:
            if given.count(name) > 1:
                raise InputError(f"{name} is given twice, expected it once: as an axis, a column of cases or a value")

    # expressions and outputs

    def read_expressions(self, axes: Mapping[str, np.ndarray]) -> dict[str, Expression]:
        expressions = {}
        trees = self.trees()
        for name in self.schema.derive:
            where = f"derive.{name}"
            if not is_name(name):
                raise InputError(
                    f"{where}: {name!r} cannot be the name of a quantity, expected a word such as tokens_per_dollar"
                )
            if name in (*self.labels, CASE, SELECTED) or name in axes or name in self.solver.inputs:
                raise InputError(f"{where}: {name!r} has a meaning already, expected a new name")
            derived = self.derived(name)
            if derived.unit is not None:
                _check_unit(derived.unit, f"{where}.unit")
            expressions[name] = Expression(trees[name], derived.expression, where, derived.unit, derived.long_name)
        if self.schema.where is not None:
            expressions[SELECTED] = Expression(trees[SELECTED], self.schema.where, "where", flag=True)
        return expressions

    def read_outputs(self, expressions: Mapping[str, Expression], axes: Mapping[str, np.ndarray]) -> tuple[str, ...]:
        chosen = self.schema.outputs
        if chosen is None:
            chosen = [name for name in self.solver.outputs if name not in axes]
        if not chosen:
            raise InputError("outputs: the list is empty, expected one quantity or more")
        for index, name in enumerate(chosen):
            if name in chosen[:index]:
                raise InputError(f"outputs[{index}]: {name!r} stands twice, expected it once")
            if name in axes:
                raise InputError(f"outputs[{index}]: {name!r} is an axis, expected a quantity that is computed")
        return (*chosen, *(name for name in expressions if name not in chosen))


def _check_unit(unit: str, where: str) -> None:
    try:
        parse_unit(unit)
    except UnitError as error:
        raise InputError(f"{where}: {error}") from None
