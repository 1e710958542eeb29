"""Sobol indices: which share of an output's variance each input accounts for, alone and with the others.

Saltelli et al. 2010, doi:10.1016/j.cpc.2009.09.018, Table 2 (b) and (f); points and estimates by scipy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import loguniform, sobol_indices, uniform

from servegrid.api import SweepLike
from servegrid.errors import InputError, MachineError, shown
from servegrid.evaluate import physical_memory
from servegrid.influence.elasticity import INPUT
from servegrid.influence.point import Point
from servegrid.influence.ranges import BOUND, read_ranges
from servegrid.influence.tornado import Ranges, range_coordinates
from servegrid.quantity import Quantity
from servegrid.show import number

RESAMPLES = 999  # of the bootstrap
CONFIDENCE = 0.95


def sobol(
    file: SweepLike = None,
    *,
    output: str,
    ranges: Mapping[str, Any],
    samples: int = 1024,
    seed: int = 0,
    log: bool | Sequence[str] = False,
    at: Mapping[str, Any] | None = None,
    threads: int | None = None,
    **words: Any,
) -> xr.Dataset:
    """Share the variance of one output out among inputs that vary at once, each over its range.

    Parameters
    ----------
    file, words
        A sweep file, or its words as keywords, as for `sweep`: one point, that is without axes, or `at` a label of
        each.
    output
        The quantity that is looked at.
    ranges
        Input -> its ends, two inputs or more; see `tornado`. Each is uniform in between; a count takes whole numbers.
    samples
        A power of 2 [1]; samples x (inputs + 2) points are evaluated.
    seed
        Of the sampling and of the bootstrap: the same seed gives the same numbers.
    log
        Inputs that are uniform in their logarithm instead; True: all.
    at
        Axis -> label: the point of a sweep that has axes.
    threads
        Threads [1]; one for each core without it.

    Returns
    -------
    xarray.Dataset
        Along `input`: `first_order`, the share that the input accounts for alone, and `total_order`, with all its
        interactions [1]; `first_order_interval` and `total_order_interval`, along `input` and `bound`: 95 % of a
        bootstrap of 999 draws. The largest total comes first. Attributes `mean` and `standard_deviation`: of the
        output over all samples, in `output_units`.

    Raises
    ------
    InputError
        In one sentence; also where the output does not exist (NaN) at some of the points, as nothing fits. Throughput
        exists there: it is 0, and counts as such.
    """
    point = Point.of(file, output, at, words)
    spans = read_ranges(ranges, point)
    _check(spans, samples, seed)
    design = _Design(point, spans, _logarithmic(log, spans), threads)
    sobol_indices(
        func=design.evaluate,
        n=samples,
        dists=[design.distribution(name) for name in spans],
        method=design.indices,
        random_state=np.random.default_rng(seed),
    )
    return _labelled(design, seed, samples)


def _check(spans: Ranges, samples: int, seed: int) -> None:
    if len(spans) < 2:
        raise InputError(f"ranges: got {len(spans)}, expected two inputs or more: one alone accounts for everything")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2 or samples & (samples - 1):
        raise InputError(f"samples: got {shown(samples)}, expected a power of 2, such as 1024")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed: got {shown(seed)}, expected a whole number, at least 0")
    nbytes = 8 * samples * len(spans) * (2 * len(spans) + 4)  # scipy keeps the points of all inputs, and so do we
    if nbytes > physical_memory():
        raise MachineError(
            f"the samples take {number(nbytes, 'byte')}, more than this machine's memory of "
            f"{number(physical_memory(), 'byte')}; choose fewer samples or inputs"
        )


def _logarithmic(log: bool | Sequence[str], spans: Ranges) -> frozenset[str]:
    names = frozenset(spans if log is True else () if log is False else [log] if isinstance(log, str) else log)
    for name in names:
        if name not in spans:
            raise InputError(f"log: {name!r} has no range, expected one of {', '.join(spans)}")
        if spans[name][0] <= 0:
            raise InputError(f"log: {name} begins at {spans[name][0]:g}, expected a range above 0")
    return names


@dataclass
class _Design:
    """What scipy asks for: the distribution of each input, the output at points, estimates from outputs."""

    point: Point
    spans: Ranges
    logarithmic: frozenset[str]
    threads: int | None
    seen: list[np.ndarray] = field(default_factory=list)
    terms: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def distribution(self, name: str) -> Any:
        low, high = self.spans[name]
        if self.point.quantity(name).kind == "int":  # each whole number as likely as any other
            low, high = low - 0.5, high + 0.5
        return loguniform(low, high) if name in self.logarithmic else uniform(low, high - low)

    def evaluate(self, points: np.ndarray) -> np.ndarray:
        """The output at points (inputs, points), in their order."""
        samples = {name: self.proper(name, values) for name, values in zip(self.spans, points, strict=True)}
        self.seen.append(self.point.outputs(samples, self.threads))
        return self.seen[-1].copy()  # scipy subtracts the mean in place

    def proper(self, name: str, values: np.ndarray) -> np.ndarray:
        quantity: Quantity = self.point.quantity(name)
        low, high = self.spans[name]
        return np.asarray(np.clip(np.rint(values) if quantity.kind == "int" else values, low, high))

    def indices(self, f_A: np.ndarray, f_B: np.ndarray, f_AB: np.ndarray) -> tuple[np.ndarray, ...]:  # noqa: N803  # as Saltelli et al. call them
        """The estimates, from outputs less their mean (1, points), (1, points), (inputs, 1, points); see `_terms`."""
        self.check()
        self.terms = _terms(f_A[0], f_B[0], f_AB[:, 0])
        return tuple(part[np.newaxis] for part in _estimate(self.terms, np.ones(f_A.shape[1])))

    def check(self) -> None:
        """Raise InputError where the output is missing at some points, or the same at all."""
        found = np.concatenate(self.seen)
        name, missing = self.point.output, np.count_nonzero(~np.isfinite(found))
        if missing:
            raise InputError(
                f"output: {name} does not exist at {missing:,} of {len(found):,} sampled points (nothing fits there), "
                "expected ranges within which it always does"
            )
        if np.ptp(found) == 0:
            raise InputError(f"output: {name} is {found[0]:g} at all {len(found):,} points, expected one that varies")


def _terms(a: np.ndarray, b: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """What is averaged over points, of shape (2 inputs + 2, points).

    With A and B (points) and AB (inputs, points): B (AB_i - A), Table 2 (b); (A - AB_i)^2 / 2, Table 2 (f); then the
    mean and the mean square of A and B.
    """
    return np.vstack([b * (ab - a), 0.5 * (a - ab) ** 2, 0.5 * (a + b), 0.5 * (a**2 + b**2)])


def _estimate(terms: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and total order of each input, with each point counted so often."""
    averages = terms @ weights / weights.sum()
    variance = averages[-1] - averages[-2] ** 2
    first, total = np.split(averages[:-2] / variance, 2)
    return first, total


def _bootstrap(terms: np.ndarray, seed: int) -> np.ndarray:
    """Intervals, of shape (2 orders, inputs, 2 bounds), from draws with replacement.

    scipy's own bootstrap takes no seed.
    """
    generator, size = np.random.default_rng(seed), terms.shape[1]
    draws = [
        _estimate(terms, np.bincount(generator.integers(size, size=size), minlength=size)) for _ in range(RESAMPLES)
    ]
    tail = (1 - CONFIDENCE) / 2
    return np.moveaxis(np.quantile(np.array(draws), [tail, 1 - tail], axis=0), 0, -1)


def _labelled(design: _Design, seed: int, samples: int) -> xr.Dataset:
    orders = _estimate(design.terms, np.ones(samples))
    intervals = _bootstrap(design.terms, seed)
    order = np.argsort(-orders[1], kind="stable")
    names = [list(design.spans)[index] for index in order]
    variables: dict[str, Any] = {}
    for key, meaning, values, interval in zip(
        ("first_order", "total_order"), ("alone", "with all its interactions"), orders, intervals, strict=True
    ):
        share = {"long_name": f"share of the variance of {design.point.output}, {meaning}", "units": "1"}
        variables[key] = (INPUT, values[order], share)
        told = {"long_name": f"interval of {key}", "units": "1", "confidence_level": CONFIDENCE}
        variables[f"{key}_interval"] = ((INPUT, BOUND), interval[order], told)
    both = np.concatenate(design.seen[:2])  # A and B: independent points
    attributes = {
        **design.point.attributes,
        "output_units": design.point.described()["units"],
        "samples": samples,
        "seed": seed,
        "logarithmic": ", ".join(sorted(design.logarithmic)),
        "mean": float(both.mean()),
        "standard_deviation": float(both.std()),
    }
    ends = np.array([design.spans[name] for name in names])
    return xr.Dataset(variables, range_coordinates(design.point, names, ends), attributes)
