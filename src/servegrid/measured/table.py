"""A table of measured runs: which columns are inputs, which were measured, and what others predicted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from servegrid.cases import Cases, read_cases
from servegrid.errors import InputError, nearest
from servegrid.facts import labels_of
from servegrid.quantity import COMPUTED, POSITIVE, Bounds, Quantity
from servegrid.solvers import Solver
from servegrid.sweepfile import CASE
from servegrid.written import read_number

MEASURED = "measured_"  # how the names of columns begin that hold what was measured
NEAR = 0.85  # likeness of two names of which one is taken for the other with a slip of the pen

Table = str | Path | pd.DataFrame | Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Measurements:
    """Runs, one in each row.

    `cases`: the columns that are inputs, and those that ride along. `measured`: output -> what was measured, in the
    unit of the output, NaN where a row has none. `rivals`: name -> the same of what it predicts.
    """

    cases: Cases
    measured: Mapping[str, np.ndarray]
    rivals: Mapping[str, Mapping[str, np.ndarray]]
    notes: Sequence[str] = ()
    """Columns whose names are nearly those of inputs."""

    def __len__(self) -> int:
        return len(self.cases.rows)

    def only(self, rows: Sequence[int] | np.ndarray) -> Measurements:
        """Some of the rows, in this order."""
        columns = {name: [values[row] for row in rows] for name, values in self.cases.columns.items()}
        cases = Cases(columns, [self.cases.rows[row] for row in rows], self.cases.where, self.cases.keep)
        rivals = {rival: _rows(outputs, rows) for rival, outputs in self.rivals.items()}
        return Measurements(cases, _rows(self.measured, rows), rivals, self.notes)


def _rows(columns: Mapping[str, np.ndarray], rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[np.asarray(rows, int)] for name, values in columns.items()}


def read_measurements(
    written: Table, solver: Solver, rivals: Collection[str] = (), given: Collection[str] = ()
) -> Measurements:
    """The runs of a CSV file or a table in memory; InputError, with row and column, for what is wrong with it.

    `measured_tpot` (or plainly `tpot`) is what was measured of the output `tpot`, `aiconfigurator_tpot` what the rival
    aiconfigurator predicts. Quantities and labels of the solver are inputs, whatever else there is rides along.
    `given`: inputs that have a value from elsewhere.
    """
    raw = read_cases(written if isinstance(written, str | Path | pd.DataFrame) else {"columns": written}, Path())
    roles = {name: _output_of(name, solver) for name in raw.columns}
    _refuse_twice(roles)
    measured = {
        output: _numbers(raw, name, _as_measured(solver.quantity(output))) for name, output in roles.items() if output
    }
    if not measured:
        raise InputError(
            f"{raw.where}: no column holds what was measured, expected one such as "
            f"{' or '.join(MEASURED + name for name in ('tpot', 'throughput') if name in solver.names)}"
        )
    predicted = {rival: _predicted(raw, rival, measured, solver) for rival in rivals}
    told = {f"{rival}_{output}" for rival, outputs in predicted.items() for output in outputs}
    rest = {name: values for name, values in raw.columns.items() if not roles[name] and name not in told}
    keep = [name for name in rest if not _is_input(name, solver)]
    notes = _near_misses(keep, solver, {*rest, *given})
    return Measurements(Cases(rest, raw.rows, raw.where, keep), measured, predicted, notes)


def _refuse_twice(roles: Mapping[str, str]) -> None:
    outputs = [output for output in roles.values() if output]
    for output in outputs:
        if outputs.count(output) > 1:
            raise InputError(
                f"{output} was measured twice, expected one of the columns {MEASURED}{output} and {output}"
            )


def _output_of(name: str, solver: Solver) -> str:
    """The output that a column holds measurements of; "" for a column that does not."""
    output = name.removeprefix(MEASURED)
    if name.startswith(MEASURED) and output not in solver.names:
        known = [MEASURED + known for known in solver.equations]
        raise InputError(
            f"measured: the column {name!r} is of no output of the solver {solver.name}{nearest(name, known)}"
        )
    is_output = output in solver.equations and (output != name or output in solver.outputs)
    if not is_output or solver.quantity(output).kind in COMPUTED:
        return ""
    return output


def _is_input(name: str, solver: Solver) -> bool:
    if name in labels_of(solver) or name == CASE:
        return True
    return name in solver.names and solver.quantity(name).kind not in COMPUTED


def _as_measured(output: Quantity) -> Quantity:
    """What a measured value must be: above 0, and not whole, as it may be a mean."""
    bounds: Bounds = POSITIVE
    return Quantity(output.name, output.unit, output.long_name, bounds=bounds)


def _numbers(cases: Cases, name: str, quantity: Quantity) -> np.ndarray:
    """A column in the unit of its quantity; NaN in its gaps."""
    rows = zip(cases.rows, cases.columns[name], strict=True)
    return np.array([_number(value, quantity, f"{cases.where}, {row}, {name}") for row, value in rows], float)


def _number(value: Any, quantity: Quantity, where: str) -> float:
    is_gap = value is None or value == "" or (isinstance(value, float) and np.isnan(value))
    return nan if is_gap else read_number(value, quantity, where)


def _predicted(cases: Cases, rival: str, measured: Collection[str], solver: Solver) -> dict[str, np.ndarray]:
    columns = {output: f"{rival}_{output}" for output in measured if f"{rival}_{output}" in cases.columns}
    if not columns:
        expected = " or ".join(f"{rival}_{output}" for output in measured)
        raise InputError(
            f"{cases.where}: the rival {rival!r} has no column, expected {expected}{nearest(rival, cases.columns)}"
        )
    return {output: _numbers(cases, name, _as_measured(solver.quantity(output))) for output, name in columns.items()}


def _near_misses(kept: Sequence[str], solver: Solver, given: Collection[str]) -> list[str]:
    """A note for each column that rides along, though its name is nearly that of an input."""
    inputs = [name for name in (*labels_of(solver), *sorted(solver.names)) if name not in given]
    close = {name: get_close_matches(name.lower(), inputs, 1, NEAR) for name in kept}
    return [f"the column {name!r} is no input (did you mean {found[0]}?)" for name, found in close.items() if found]
