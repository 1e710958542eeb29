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
    found[0] = mean(values)
    rest = values.copy()
    for i in range(len(percentiles)):
        found[i + 1] = percentile(rest, percentiles[i])
    return found


# numpy's own mean and percentile took a third of the time to compile the whole simulation: 30 s of a core, 20 now.
def mean(values: np.ndarray) -> float:
    """Return the mean."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def percentile(values: np.ndarray, percent: float) -> float:
    """Return the percentile, linear between the two numbers next to it; puts `values` into another order."""
    if len(values) == 1:
        return float(values[0])
    rank = 1 + (len(values) - 1) * (percent / 100)
    k = min(int(rank), len(values) - 1)
    lower = smallest(values, k - 1)
    upper = values[k]
    for i in range(k + 1, len(values)):
        upper = min(upper, values[i])
    return float(lower * (1 - (rank - k)) + upper * (rank - k))


def smallest(values: np.ndarray, k: int) -> float:
    """Return the k-th smallest number, counted from 0, and put it there: none before it is larger, none after smaller.

    Hoare 1961, doi:10.1145/366622.366647 (Find).
    """
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        low, high = (low, j) if k <= j else (i, high) if k >= i else (k, k)
    return float(values[k])
