"""Robust least squares: the knobs at which predictions come closest to measurements, and folds to judge them by.

Residuals are errors of logarithms, so that 10 % too fast and too slow count alike; beyond some 10 % they count by their
size and not by its square (soft L1), as single runs are off by far more than the rest. The priors of the knobs are
residuals, too: without data, everything stays at the defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from servegrid.measured.knobs import Knob, turned
from servegrid.measured.predictions import Predictor

# Errors of the logarithm up to which an output's residuals are squared, and the weight of its rows.
SCALE, WEIGHT = 0.1, 1.0
SCALES: Mapping[str, tuple[float, float]] = {"ttft": (0.25, 0.5)}  # queues: repeated runs differ more
MISSING = 3.0  # the error that stands for a prediction that a turn of the knobs took away: a factor of 20
STEP = 1e-3  # of q, for the slopes: large enough to cross the steps that whole pages and requests make
MOST_EVALUATIONS = 25


@dataclass(frozen=True)
class Problem:
    """Measured runs, the predictor of the same runs, and what may be turned.

    `weights`: of each row.
    """

    predictor: Predictor
    measured: Mapping[str, np.ndarray]
    knobs: Sequence[Knob]
    weights: np.ndarray

    def predict(self, q: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs with the knobs at q."""
        return self.predictor.predict(turned(self.predictor, self.knobs, q))

    def residuals(self, q: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """What is to be small: errors in some rows (positions), then how far each knob is from its default."""
        predicted = self.predict(q)
        parts = [self._of_output(name, predicted[name][rows], rows) for name in self.measured]
        return np.concatenate([*parts, q])

    def _of_output(self, name: str, predicted: np.ndarray, rows: np.ndarray) -> np.ndarray:
        measured = self.measured[name][rows]
        known = np.isfinite(measured)
        exists = known & np.isfinite(predicted) & (predicted > 0)
        errors = np.where(known, MISSING, 0.0)
        errors[exists] = np.log(predicted[exists] / measured[exists])
        scale, weight = SCALES.get(name, (SCALE, WEIGHT))
        return np.asarray(weight * self.weights[rows] * softened(errors / scale))

    def fit(self, rows: np.ndarray) -> np.ndarray:
        """The knobs that suit some of the rows best."""
        start = np.zeros(len(self.knobs))
        if not self.knobs or not rows.size:
            return start
        bounds = ([knob.lowest for knob in self.knobs], [knob.highest for knob in self.knobs])
        found = least_squares(
            self.residuals, start, bounds=bounds, args=(rows,), diff_step=STEP, max_nfev=MOST_EVALUATIONS
        )
        return np.asarray(found.x)

    def out_of_fold(self, folds: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs in each row as a fit predicts them that has not seen the rows of the same fold."""
        everything = np.arange(len(self.predictor))
        found = {name: np.full(everything.size, np.nan) for name in self.measured}
        for fold in folds:
            predicted = self.predict(self.fit(np.setdiff1d(everything, fold)))
            for name, values in found.items():
                values[fold] = predicted[name][fold]
        return found


def softened(errors: np.ndarray) -> np.ndarray:
    """Residuals whose squares are the soft L1 loss, 2 (sqrt(1 + z^2) - 1), of what is given, z."""
    return np.asarray(np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1)))


def random_folds(rows: int, folds: int) -> list[np.ndarray]:
    """Positions of rows in so many parts of equal size; the same in every run."""
    order = np.random.default_rng(0).permutation(rows)
    return [np.sort(order[start::folds]) for start in range(min(folds, rows))]
