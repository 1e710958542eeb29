"""How far predictions are off: absolute relative errors, and whether the order is right."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from scipy.stats import spearmanr

LEAST_RANKED = 3  # rows that a rank correlation says anything about


@dataclass(frozen=True)
class Score:
    """Of the rows that have a measurement and a prediction: how many, errors |predicted/measured - 1| and order."""

    rows: int
    unanswered: int
    """Rows that were measured and have no prediction, such as those that do not fit."""
    median: float
    mean: float
    p90: float
    rank: float
    """Spearman's rank correlation [1]; NaN below three rows, or where one side is the same in all."""


def relative_errors(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """|predicted/measured - 1| of each row; NaN where either is missing."""
    return np.asarray(np.abs(predicted / measured - 1))


def score(predicted: np.ndarray, measured: np.ndarray) -> Score:
    """The errors of some predictions; NaN stands for what is missing."""
    answered = np.isfinite(predicted) & np.isfinite(measured)
    unanswered = int(np.count_nonzero(np.isfinite(measured) & ~answered))
    if not answered.any():
        return Score(0, unanswered, nan, nan, nan, nan)
    errors = relative_errors(predicted[answered], measured[answered])
    return Score(
        rows=errors.size,
        unanswered=unanswered,
        median=float(np.median(errors)),
        mean=float(np.mean(errors)),
        p90=float(np.quantile(errors, 0.9)),
        rank=_rank(predicted[answered], measured[answered]),
    )


def _rank(predicted: np.ndarray, measured: np.ndarray) -> float:
    if predicted.size < LEAST_RANKED or np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return nan
    return float(spearmanr(predicted, measured).statistic)
