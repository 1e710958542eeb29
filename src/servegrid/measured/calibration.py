"""Fit a few constants of an engine to measured runs of one deployment, and judge the fit by runs it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from servegrid.errors import InputError
from servegrid.measured.fit import Problem, random_folds
from servegrid.measured.knobs import ENGINE, check_constants, default_constants, knobs_of
from servegrid.measured.predictions import Predictor
from servegrid.measured.scores import Score, score
from servegrid.measured.table import Measurements, Table, read_measurements
from servegrid.measured.validation import DEFAULT_SOLVER, Row
from servegrid.solvers import Solver, find_solver
from servegrid.sweepfile import CASE

FOLDS = 5
LEAST_CHANGE = 1e-3  # of a constant, relative: below, the runs say nothing of it


@dataclass(frozen=True)
class Constant:
    """A constant that was fitted: its number in the catalogue, and for this deployment."""

    name: str
    unit: str
    before: float
    after: float
    width: float
    """Of its prior: standard deviation of the natural logarithm."""

    @property
    def factor(self) -> float:
        """By how much it changed [1]."""
        return self.after / self.before

    @property
    def changed(self) -> bool:
        """Whether the runs moved it at all."""
        return abs(self.factor - 1) >= LEAST_CHANGE


@dataclass(frozen=True)
class Calibration:
    """What a fit found.

    `like`: the engine that it starts from; `before` and `after`: errors of each output with the constants of the
    catalogue, and by cross-validation, each run predicted by a fit that has not seen it.
    """

    like: str
    constants: tuple[Constant, ...]
    before: Mapping[str, Score]
    after: Mapping[str, Score]
    rows: int
    folds: int
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> list[Constant]:
        """The constants that the runs moved."""
        return [constant for constant in self.constants if constant.changed]

    def errors(self) -> list[Row]:
        """A row for each output before and after."""
        stages = {"catalogue": self.before, "calibrated": self.after}
        return [
            {"output": output, "constants": stage, **asdict(scores[output])}
            for output in self.before
            for stage, scores in stages.items()
        ]


def calibrate(
    measured: Table,
    *,
    engine: str | None = None,
    constants: Sequence[str] | None = None,
    solver: str | Solver = DEFAULT_SOLVER,
    values: Mapping[str, Any] | None = None,
    catalog: Sequence[str | Path | Mapping[str, Any]] = (),
    folds: int = FOLDS,
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

    Returns
    -------
    Calibration
        The constants and the errors; `servegrid.measured.engine_file.write_engine` writes a catalogue file of it.

    Raises
    ------
    InputError
        In one sentence; also for runs of several engines.
    """
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
    return _calibration(problem, like, folds, tuple(runs.notes))


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
    return Calibration(
        like=like,
        constants=tuple(constants),
        before={name: score(before[name], values) for name, values in problem.measured.items()},
        after={name: score(after[name], values) for name, values in problem.measured.items()},
        rows=predictor.parameters.sizes[CASE],
        folds=len(parts),
        notes=notes,
    )
