"""Points with two objectives or more, of kinds that are easy and hard for a search of the Pareto frontier.

Each function gives an array of shape (points, objectives), the same in every run; higher is better.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def uniform(points: int, objectives: int) -> np.ndarray:
    """Independent of each other: the frontier grows with a power of the logarithm."""
    return _random().random((points, objectives))


def correlated(points: int, objectives: int) -> np.ndarray:
    """Who is good in one is good in all: a few points beat nearly everything."""
    common = _random().random((points, 1))
    return common + 0.05 * np.random.default_rng(2).standard_normal((points, objectives))


def against(points: int, objectives: int) -> np.ndarray:
    """Who is good in one is bad in the others: points near a plane, as Börzsönyi et al. 2001 have them.

    The Skyline Operator, doi:10.1109/ICDE.2001.914855.
    """
    found = uniform(points, objectives)
    found -= found.mean(axis=1, keepdims=True)
    found += 0.5 + 0.05 * np.random.default_rng(2).standard_normal((points, 1))
    return found


def ball(points: int, objectives: int) -> np.ndarray:
    """All over a ball, where nothing is negative: the frontier grows with n^(1 - 1/objectives)."""
    found = np.abs(_random().standard_normal((points, objectives)))
    length = np.sqrt((found * found).sum(axis=1, keepdims=True))
    found *= np.random.default_rng(2).random((points, 1)) ** (1 / objectives) / length
    return found


def ties(points: int, objectives: int) -> np.ndarray:
    """On the whole numbers of a plane and below it: hundreds of points and more are equal in everything."""
    found = _random().integers(0, 100, (points, objectives)).astype(np.float64)
    found[found.sum(axis=1) > 50 * objectives] -= 50
    return found


CLOUDS: dict[str, Callable[[int, int], np.ndarray]] = {
    "uniform": uniform,
    "correlated": correlated,
    "against each other": against,
    "ball": ball,
    "ties": ties,
}


def _random() -> np.random.Generator:
    return np.random.default_rng(20230917)
