"""Predictions beside measurements: an error table, by any column, and the points of a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from servegrid.errors import InputError, nearest
from servegrid.measured.calibrated import Row
from servegrid.measured.predictions import Predictor
from servegrid.measured.scores import score
from servegrid.measured.table import MEASURED, Measurements, Table, read_measurements
from servegrid.solvers import Solver, find_solver
from servegrid.sweepfile import CASE

OURS = "servegrid"
DEFAULT_SOLVER = "serving"
ALL = "all"


@dataclass(frozen=True)
class Validation:
    """Measured runs and their predictions.

    `points`: along `case`, each output as predicted, as measured (`measured_tpot`), and as rivals predict it
    (`aiconfigurator_tpot`); inputs and other columns are coordinates. `notes`: sentences about the table.
    """

    points: xr.Dataset
    outputs: tuple[str, ...]
    rivals: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def errors(self) -> list[Row]:
        """A row for each output, group and predictor: rows, median, mean and 90th percentile [1], rank correlation.

        With rivals, each of them and we are compared on the rows of which all have a prediction.
        """
        return [
            row
            for output in self.outputs
            for members, labels in self._groups()
            for row in self._rows(output, members, labels)
        ]

    def _groups(self) -> Iterator[tuple[np.ndarray, Row]]:
        """All rows, then those of each group in the order in which it comes first."""
        count = self.points.sizes[CASE]
        yield np.ones(count, bool), dict.fromkeys(self.by, ALL)
        if not self.by:
            return
        labels = list(zip(*(column_of(self.points, name).tolist() for name in self.by), strict=True))
        for group in dict.fromkeys(labels):
            yield np.array([label == group for label in labels]), dict(zip(self.by, group, strict=True))

    def _rows(self, output: str, members: np.ndarray, labels: Row) -> Iterator[Row]:
        measured = np.where(members, self.points[MEASURED + output].values, np.nan)
        rivals = [rival for rival in self.rivals if f"{rival}_{output}" in self.points]
        predicted = {OURS: self.points[output].values}
        predicted |= {rival: self.points[f"{rival}_{output}"].values for rival in rivals}
        common = np.all([np.isfinite(values) for values in predicted.values()], axis=0)
        for name, values in predicted.items():
            found = score(np.where(common, values, np.nan), measured)
            if found.rows or found.unanswered:
                yield {"output": output, **labels, **({"predictor": name} if self.rivals else {}), **asdict(found)}


def validate(
    measured: Table,
    *,
    solver: str | Solver = DEFAULT_SOLVER,
    values: Mapping[str, Any] | None = None,
    by: str | Sequence[str] = (),
    rivals: str | Sequence[str] = (),
    catalog: Sequence[str | Path | Mapping[str, Any]] = (),
    threads: int | None = None,
) -> Validation:
    """Compare predictions with measured runs.

    Parameters
    ----------
    measured
        A CSV file, a DataFrame or columns: a row for each run. Columns named after inputs and labels of the solver
        are inputs, numbers or texts with a unit, as in `cases`; `measured_tpot` (or plainly `tpot`) holds what was
        measured of the output `tpot`; others ride along.
    solver
        A solver, or its name.
    values
        Inputs that are the same in all rows.
    by
        Columns: errors for each of their labels, too.
    rivals
        Names of others who predict the same: the columns `<rival>_<output>`.
    catalog
        Files of your own, as in a sweep.
    threads
        Threads [1]; one for each core without it.

    Returns
    -------
    Validation
        `errors()`: the table; `points`: a dataset of runs, for `servegrid.plot.scatter`.

    Raises
    ------
    InputError
        In one sentence, with the row and the column.
    """
    found = find_solver(solver)
    rivals, by = _texts(rivals), _texts(by)
    runs = read_measurements(measured, found, rivals, values or {})
    points = with_measurements(Predictor.of(runs, found, values, catalog).dataset(threads), runs)
    for name in by:
        column_of(points, name)
    return Validation(points, tuple(runs.measured), rivals, by, tuple(runs.notes))


def with_measurements(points: xr.Dataset, runs: Measurements) -> xr.Dataset:
    """Predictions, and beside them what was measured, and what rivals predict."""
    columns = {MEASURED + output: ("measured", output, values) for output, values in runs.measured.items()}
    for rival, outputs in runs.rivals.items():
        columns |= {f"{rival}_{output}": (f"by {rival}", output, values) for output, values in outputs.items()}
    for name, (whose, output, values) in columns.items():
        attributes = dict(points[output].attrs)
        attributes["long_name"] = f"{attributes['long_name']}, {whose}"
        points[name] = (CASE, values, attributes)
    return points


def column_of(points: xr.Dataset, name: str) -> np.ndarray:
    """A column of the runs, for each row; InputError with the nearest name where there is none."""
    known = [str(known) for known, values in points.coords.items() if values.dims == (CASE,) or not values.dims]
    if name not in known:
        raise InputError(f"by: no column is called {name!r}{nearest(name, known)}, expected one of {', '.join(known)}")
    return np.broadcast_to(points[name].values, (points.sizes[CASE],))


def _texts(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
