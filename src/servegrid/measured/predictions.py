"""Predictions for measured runs: one compiled program along the rows, whose inputs can be given other numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from servegrid.api import load
from servegrid.errors import InputError
from servegrid.evaluate import Evaluator, prepare
from servegrid.measured.table import Measurements
from servegrid.parameters import FEASIBLE, Parameters, gather
from servegrid.results import labelled
from servegrid.solvers import Solver
from servegrid.sweepfile import CASE


@dataclass(frozen=True)
class Predictor:
    """The sweep over measured runs, ready to be computed again and again."""

    parameters: Parameters
    evaluator: Evaluator
    outputs: tuple[str, ...]
    """Those that were measured."""

    @classmethod
    def of(
        cls,
        runs: Measurements,
        solver: Solver,
        values: Mapping[str, Any] | None = None,
        catalog: Sequence[str | Path | Mapping[str, Any]] = (),
    ) -> Predictor:
        """The predictor of these runs; InputError where an input is missing or a value makes no sense."""
        outputs = tuple(runs.measured)
        sweep = load(
            name="measured runs", solver=solver, cases=runs.cases, values=dict(values or {}), outputs=list(outputs),
            catalog=list(catalog),
        )  # fmt: skip
        try:
            parameters = gather(sweep)
        except InputError as error:  # a misspelt column is the likeliest reason for a missing input
            raise InputError("; ".join([f"{error}", *runs.notes])) from None
        for output in outputs:
            if output in parameters.graph.inputs:
                raise InputError(f"{output} was measured and is given, expected one of the two")
        return cls(parameters, prepare(parameters), outputs)

    def __len__(self) -> int:
        return self.parameters.sizes[CASE]

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        """Every input along its axes: `case`, or none."""
        return self.evaluator.inputs

    def values_of(self, name: str) -> np.ndarray:
        """An input in each row."""
        return np.broadcast_to(self.inputs[name], (len(self),))

    def labels(self, name: str) -> np.ndarray:
        """A label of each row, such as its engine; "" where the runs have none."""
        coordinates = self.parameters.dataset.coords
        labels = coordinates[name].values if name in coordinates else np.array("")
        return np.broadcast_to(labels.astype(str), (len(self),))

    def predict(
        self, changed: Mapping[str, np.ndarray] | None = None, threads: int | None = 1
    ) -> dict[str, np.ndarray]:
        """Each output in each row, NaN where nothing fits; `changed`: input -> other numbers, of the same shape."""
        arrays = self._arrays(changed or {}, threads)
        fits = np.broadcast_to(arrays.get(FEASIBLE, np.True_), (len(self),)).astype(bool)
        return {name: np.where(fits, np.broadcast_to(arrays[name], (len(self),)), np.nan) for name in self.outputs}

    def _arrays(self, changed: Mapping[str, np.ndarray], threads: int | None) -> dict[str, np.ndarray]:
        evaluator = replace(self.evaluator, inputs={**self.inputs, **changed}) if changed else self.evaluator
        return evaluator.grid(threads)

    def dataset(self, threads: int | None = None) -> xr.Dataset:
        """The runs with all their labels; each output along `case`, NaN where nothing fits."""
        found = labelled(self.parameters, self._arrays({}, threads))
        predicted = self.predict(threads=threads)
        attributes = {name: found[name].attrs for name in self.outputs}
        return found.assign({name: (CASE, predicted[name], attributes[name]) for name in self.outputs})
