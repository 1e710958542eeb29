"""Loops written by hand, for what no expression can say; `kernel` compiles them one by one.

Each is plain Python on numpy arrays, and gives the same when it is not compiled. What fills an array writes into one
that the caller gives.
"""

from __future__ import annotations

import numpy as np


def survivors(points: np.ndarray, window: np.ndarray, held: np.ndarray, found: np.ndarray) -> int:
    """Find the points that may be maximal; return how many.

    A small window of good points is kept from call to call. Whatever one of them reaches in every objective is left
    out: it is dominated, or equal to an earlier point. What is left is a superset of the maximal points.

    Parameters
    ----------
    points
        (objectives, n) float64: higher is better; NaN or -inf in the first where a point does not count.
    window
        (room, objectives) float64, and `held` (1,) int64: how many points it holds.
    found
        (n,) int64: the places of those that are left.
    """
    objectives, count = points.shape
    size, kept = held[0], 0
    for i in range(count):
        if not points[0, i] > -np.inf:
            continue
        beaten = False
        for j in range(size):
            beaten = True
            for k in range(objectives):
                if window[j, k] < points[k, i]:
                    beaten = False
                    break
            if beaten:
                # Who beats one point will beat the next: it moves up, so that most points meet it soon.
                for k in range(objectives):
                    window[j, k], window[j // 2, k] = window[j // 2, k], window[j, k]
                break
        if beaten:
            continue
        found[kept] = i
        kept += 1
        place = 0
        for j in range(size):
            worse = True
            for k in range(objectives):
                if window[j, k] > points[k, i]:
                    worse = False
                    break
            if not worse:
                for k in range(objectives):
                    window[place, k] = window[j, k]
                place += 1
        size = place
        if size < window.shape[0]:
            for k in range(objectives):
                window[size, k] = points[k, i]
            size += 1
    held[0] = size
    return int(kept)


def maximal_of_three(y: np.ndarray, z: np.ndarray, stair_y: np.ndarray, stair_z: np.ndarray, keep: np.ndarray) -> None:
    """Flag the points that no earlier one reaches in both y and z.

    Kung, Luccio, Preparata 1975, On Finding the Maxima of a Set of Vectors, doi:10.1145/321906.321910: the points come
    in falling order of the first objective, so only earlier ones can dominate; those that matter form a staircase in
    the other two, y rising while z falls.

    Parameters
    ----------
    y, z
        (n,) float64: higher is better.
    stair_y, stair_z
        (n,) float64: memory for the staircase.
    keep
        (n,) bool: whether a point is maximal.
    """
    size = 0
    for i in range(len(y)):
        low, high = 0, size  # the first step that is at least as high in y: of those it has the greatest z
        while low < high:
            middle = (low + high) // 2
            if stair_y[middle] < y[i]:
                low = middle + 1
            else:
                high = middle
        keep[i] = low == size or stair_z[low] < z[i]
        if keep[i]:
            after = low
            if after < size and stair_y[after] == y[i]:
                after += 1
            before = low
            while before > 0 and stair_z[before - 1] <= z[i]:
                before -= 1
            moved = size - after
            if before + 1 < after:
                for j in range(moved):
                    stair_y[before + 1 + j] = stair_y[after + j]
                    stair_z[before + 1 + j] = stair_z[after + j]
            elif before + 1 > after:
                for j in range(moved - 1, -1, -1):
                    stair_y[before + 1 + j] = stair_y[after + j]
                    stair_z[before + 1 + j] = stair_z[after + j]
            stair_y[before] = y[i]
            stair_z[before] = z[i]
            size = before + 1 + moved


def maximal_of_many(points: np.ndarray, window: np.ndarray, keep: np.ndarray) -> None:
    """Flag the points that no earlier one reaches in every objective.

    Chomicki et al. 2003, Skyline with Presorting, doi:10.1109/ICDE.2003.1260846: the points come in falling order, so
    what is kept once stays.

    Parameters
    ----------
    points
        (n, objectives) float64: higher is better.
    window
        (n, objectives) float64: memory for those that are kept.
    keep
        (n,) bool: whether a point is maximal.
    """
    count, objectives = points.shape
    size = 0
    for i in range(count):
        beaten = False
        for j in range(size):
            beaten = True
            for k in range(objectives):
                if window[j, k] < points[i, k]:
                    beaten = False
                    break
            if beaten:
                for k in range(objectives):
                    window[j, k], window[j // 2, k] = window[j // 2, k], window[j, k]
                break
        keep[i] = not beaten
        if not beaten:
            for k in range(objectives):
                window[size, k] = points[i, k]
            size += 1


def count_bins(values: np.ndarray, edges: np.ndarray, counts: np.ndarray) -> None:
    """Add to each bin how many values lie in it.

    As `numpy.histogram` has it: a bin includes its left edge, the last one both. NaN lies nowhere.

    Parameters
    ----------
    values
        (groups, n) float64.
    edges
        (bins + 1,) float64, rising.
    counts
        (groups, bins) int64.
    """
    bins = len(edges) - 1
    for group in range(values.shape[0]):
        for i in range(values.shape[1]):
            value = values[group, i]
            if edges[0] <= value <= edges[bins]:
                low, high = 0, bins
                while high - low > 1:
                    middle = (low + high) // 2
                    if edges[middle] <= value:
                        low = middle
                    else:
                        high = middle
                counts[group, low] += 1


def count_digits(values: np.ndarray, prefix: np.ndarray, shift: int, width: int, counts: np.ndarray) -> None:
    """Add to each digit how many values have it, among those that begin like the prefix.

    A double's bits, with the sign turned (and all of them, below zero), are a whole number in the order of the doubles.
    NaN does not count.

    Parameters
    ----------
    values
        (groups, n) float64.
    prefix
        (groups, quantiles) uint64: the digits before this one.
    shift, width
        int64: where the digit begins, from the right, and its length [bit].
    counts
        (groups, quantiles, 2^width) int64.
    """
    one, top, first = np.uint64(1), np.uint64(63), shift + width == 64
    mask = (one << np.uint64(width)) - one
    for group in range(values.shape[0]):
        bits = values[group].view(np.uint64)
        for i in range(values.shape[1]):
            value = values[group, i]
            if value == value:
                key = ~bits[i] if bits[i] >> top else bits[i] | (one << top)
                digit = np.int64((key >> np.uint64(shift)) & mask)
                for j in range(prefix.shape[1]):
                    if first or key >> np.uint64(shift + width) == prefix[group, j]:
                        counts[group, j, digit] += 1
