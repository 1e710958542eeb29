"""Means and quantiles of simulated requests, each with half the width of its 95 % confidence interval.

Requests that follow one another are alike, so an interval for independent numbers would be too narrow. The requests
are cut into sections, in the order of their arrival; how far the estimates of the sections scatter around the one of
all says how sure that is (sectioning: Asmussen and Glynn 2007, Stochastic Simulation, section III.5; for quantiles
Nakayama 2014, doi:10.1145/2558328).
"""

from __future__ import annotations

import numpy as np

SECTIONS = 10
T_QUANTILE = 2.2621571627409915  # of Student's t with 9 degrees of freedom, 0.975: scipy.stats.t.ppf(0.975, 9)


def estimate(values: np.ndarray, percentiles: np.ndarray, results: np.ndarray) -> None:
    """Fill the mean of `values` (n,), then each of the percentiles, each followed by half its interval's width.

    All are NaN without values; the widths are with fewer than two values for each section.
    """
    count = len(values)
    if count == 0:
        return
    whole = statistics(values, percentiles)
    for i in range(len(whole)):
        results[2 * i] = whole[i]
    if count < 2 * SECTIONS:
        return
    squares = np.zeros(len(whole))
    for k in range(SECTIONS):
        part = statistics(values[k * count // SECTIONS : (k + 1) * count // SECTIONS], percentiles)
        for i in range(len(whole)):
            squares[i] += (part[i] - whole[i]) ** 2
    for i in range(len(whole)):
        results[2 * i + 1] = T_QUANTILE * np.sqrt(squares[i] / (SECTIONS - 1) / SECTIONS)


def statistics(values: np.ndarray, percentiles: np.ndarray) -> np.ndarray:
    """Return the mean and the percentiles."""
    found = np.empty(len(percentiles) + 1)
    found[0] = np.mean(values)
    ranked = np.percentile(values, percentiles)
    for i in range(len(percentiles)):  # a slice would take numba a second more to compile
        found[i + 1] = ranked[i]
    return found
