"""Fit a few constants of an engine to measured runs of one deployment, and judge the fit by runs it has not seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from servegrid.errors import InputError
from servegrid.measured.calibrated import Calibration, Constant
from servegrid.measured.engine_file import check_name, write_engine
from servegrid.measured.fit import Problem, random_folds
from servegrid.measured.knobs import ENGINE, check_constants, default_constants, knobs_of
from servegrid.measured.predictions import Predictor
from servegrid.measured.scores import Score, score
from servegrid.measured.table import Measurements, Table, read_measurements
from servegrid.measured.tables import percent
from servegrid.measured.validation import DEFAULT_SOLVER
from servegrid.solvers import Solver, find_solver
from servegrid.sweepfile import CASE

FOLDS = 5
NOTICED = 1e-3  # of a median error


def calibrate(
    measured: Table,
    *,
    engine: str | None = None,
    constants: Sequence[str] | None = None,
    solver: str | Solver = DEFAULT_SOLVER,
    values: Mapping[str, Any] | None = None,
    catalog: Sequence[str | Path | Mapping[str, Any]] = (),
    folds: int = FOLDS,
    out: str | Path | None = None,
) -> Calibration:
    """Fit constants to measured runs of one deployment.

    Parameters
    ----------
    measured
        As for `validate`; ten rows are enough.
    engine
        The engine to start from, where no column says it.
    constants
        The inputs to fit; without it, those of an engine that differ from deployment to deployment.
    solver, values, catalog
        As for `validate`.
    folds
        Parts of the rows for the cross-validation.
    out
        A file for the engine that is like the other one, with the constants that were fitted: `my-engine.yaml` holds
        the engine my-engine, for the key `catalog` of a sweep.

    Returns
    -------
    Calibration
        The constants and the errors.

    Raises
    ------
    InputError
        In one sentence; also for runs of several engines.
    """
    if out is not None:
        check_name(out)
    found = find_solver(solver)
    given = {**(values or {}), **({} if engine is None else {ENGINE: engine})}
    runs = read_measurements(measured, found, given=given)
    _check(runs, engine, folds)
    if ENGINE in runs.cases.columns:
        given.pop(ENGINE, None)
    predictor = Predictor.of(runs, found, given, catalog)
    like = _engine_of(predictor)
    names = default_constants(predictor) if constants is None else check_constants(predictor, constants)
    if not names:
        raise InputError(f"constants: the solver {found.name} has none that are fitted by default, expected some names")
    problem = Problem(predictor, runs.measured, knobs_of(predictor, names), np.ones(len(runs)))
    calibration = _calibration(problem, like, folds, tuple(runs.notes))
    if out is not None:
        write_engine(calibration, out, Path(measured).name if isinstance(measured, str | Path) else "a table")
    return calibration


def _check(runs: Measurements, engine: str | None, folds: int) -> None:
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise InputError(f"folds: got {folds!r}, expected a whole number, at least 2")
    if len(runs) < 2:
        raise InputError(f"{runs.cases.where}: got one row, expected two or more to fit to")
    written = runs.cases.columns.get(ENGINE, []) if engine is not None else []
    for row, value in zip(runs.cases.rows, written, strict=False):
        if str(value).lower() != str(engine).lower():
            raise InputError(f"{runs.cases.where}, {row}, {ENGINE}: got {value!r}, expected {engine!r} in all rows")


def _engine_of(predictor: Predictor) -> str:
    """The one engine of all runs; "" for a solver without engines."""
    names = np.unique(predictor.labels(ENGINE)).tolist()
    if len(names) > 1:
        raise InputError(f"{ENGINE}: got {' and '.join(names)}, expected the runs of one engine")
    return str(names[0])


def _calibration(problem: Problem, like: str, folds: int, notes: tuple[str, ...]) -> Calibration:
    predictor = problem.predictor
    parts = random_folds(len(predictor), folds)
    before, after = predictor.predict(), problem.out_of_fold(parts)
    turns = problem.fit(np.arange(len(predictor)))
    constants = []
    for knob, turn in zip(problem.knobs, turns.tolist(), strict=True):
        value = float(predictor.values_of(knob.constant)[0])
        unit = predictor.parameters.graph.quantity(knob.constant).unit
        constants.append(Constant(knob.constant, unit, value, value * knob.factor(turn), knob.width))
    scores = [
        {name: score(found[name], values) for name, values in problem.measured.items()} for found in (before, after)
    ]
    return Calibration(
        like=like,
        constants=tuple(constants),
        before=scores[0],
        after=scores[1],
        rows=predictor.parameters.sizes[CASE],
        folds=len(parts),
        notes=(*notes, *_warnings(*scores)),
    )


def _warnings(before: Mapping[str, Score], after: Mapping[str, Score]) -> Iterator[str]:
    """A sentence for each output that a fit does not help."""
    for name in before:
        if after[name].median > before[name].median + NOTICED:
            told = f"{percent(before[name].median)} before, {percent(after[name].median)} after"
            yield f"{name}: runs that the fit has not seen come no closer ({told}); measure more runs, or fit less"
