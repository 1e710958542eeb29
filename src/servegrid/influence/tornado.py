"""A tornado: one output at one point, each input in turn at the two ends of its range."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

import numpy as np
import xarray as xr

from servegrid.api import SweepLike
from servegrid.errors import InputError
from servegrid.influence.changes import ends, read_step
from servegrid.influence.elasticity import INPUT
from servegrid.influence.places import chosen_inputs
from servegrid.influence.point import Point
from servegrid.influence.ranges import BOUND, BOUNDS, read_ranges

Ranges = Mapping[str, tuple[float, float]]


def tornado(
    file: SweepLike = None,
    *,
    output: str,
    ranges: Mapping[str, Any] | None = None,
    step: float | str = 0.2,
    at: Mapping[str, Any] | None = None,
    threads: int | None = None,
    **words: Any,
) -> xr.Dataset:
    """Take each input of one point in turn to the ends of its range, all others as they are.

    Parameters
    ----------
    file, words
        A sweep file, or its words as keywords, as for `sweep`: one point, that is without axes, or `at` a label of
        each.
    output
        The quantity that is looked at.
    ranges
        Input -> its ends, as numbers or texts with units: {"hbm_bandwidth": ("2 TB/s", "8 TB/s")}. Without it: all
        inputs that the output depends on and that are not 0, each by `step` less and more (within its bounds; whole
        where it counts, and then by one at least).
    step
        [1], or text such as "20 %".
    at
        Axis -> label: the point of a sweep that has axes.
    threads
        Threads [1]; one for each core without it.

    Returns
    -------
    xarray.Dataset
        The output, of shape (inputs, 2), along `input` and `bound` (low, high), in its unit; the input that moves it
        most comes first. Its attribute `baseline` is the output at the point itself; the coordinate `value`, of the
        same shape, the values of the inputs, with their units in `unit`. NaN, and 0 for counts and
        throughput, where the configuration does not fit.

    Raises
    ------
    InputError
        In one sentence, before any work; also where the output does not exist at the point.
    """
    point = Point.of(file, output, at, words)
    spans = _around(point, read_step(step)) if ranges is None else read_ranges(ranges, point)
    if not spans:
        raise InputError("ranges: got none, expected one input or more")
    values = np.array(list(spans.values()))
    baseline, found = _evaluate(point, spans, threads)
    if isnan(baseline):
        raise InputError(f"output: {output} does not exist at this point (nothing fits); choose one where it does")
    order = _by_effect(found, baseline)
    names = [list(spans)[index] for index in order]
    attributes = {**point.described(), "baseline": baseline}
    dataset = xr.Dataset({output: ((INPUT, BOUND), found[order], attributes)}, attrs=point.attributes)
    return dataset.assign_coords(range_coordinates(point, names, values[order]))


def range_coordinates(point: Point, names: list[str], values: np.ndarray) -> dict[str, Any]:
    """Inputs, bounds, and the inputs' values at them (inputs, 2) with their units."""
    return {
        INPUT: (INPUT, names, {"long_name": "input that is changed"}),
        BOUND: (BOUND, list(BOUNDS), {"long_name": "end of its range"}),
        "value": ((INPUT, BOUND), values, {"long_name": "value of the input"}),
        "unit": (INPUT, [point.quantity(name).unit for name in names], {"long_name": "its unit"}),
    }


def _around(point: Point, step: float) -> Ranges:
    names = chosen_inputs(point.parameters, None, "ranges")
    return {name: ends(point.values[name], point.quantity(name), abs(step)) for name in names}


def _evaluate(point: Point, spans: Ranges, threads: int | None) -> tuple[float, np.ndarray]:
    """The output at the point, and with each input at each of its ends (inputs, 2): all in one loop."""
    samples = {name: np.full(1 + 2 * len(spans), point.values[name]) for name in spans}
    for index, (name, pair) in enumerate(spans.items()):
        samples[name][1 + 2 * index : 3 + 2 * index] = pair
    found = point.outputs(samples, threads)
    return float(found[0]), found[1:].reshape(-1, 2)


def _by_effect(found: np.ndarray, baseline: float) -> list[int]:
    """The places of the inputs, those that move the output most first; without a number at an end, before all."""
    all_three = np.column_stack([found, np.full(len(found), baseline)])
    effect = np.ptp(all_three, axis=1)
    effect = np.round(effect / (np.nanmax(effect, initial=0) or 1), 9)  # equal but for their last digits: as they were
    return [int(place) for place in np.argsort(-np.where(np.isnan(effect), np.inf, effect), kind="stable")]
