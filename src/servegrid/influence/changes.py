"""Inputs that are made larger or smaller: in proportion, but whole where they count and within their bounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from servegrid.errors import InputError, shown
from servegrid.quantity import Bounds, Quantity
from servegrid.written import read_number

SMALLEST_STEP = 1e-9  # below, what is left of double precision would be noise

_STEP = Quantity("step", "1", "relative change of an input", bounds=Bounds(above=-1))


def read_step(step: Any) -> float:
    """A relative change: 0.1, "10 %", -0.1."""
    number = read_number(step, _STEP, "step")
    if abs(number) < SMALLEST_STEP:
        raise InputError(f"step: got {shown(step)}, expected a change of {SMALLEST_STEP:g} or more, such as 10%")
    return number


def changed(values: np.ndarray, quantity: Quantity, step: float) -> np.ndarray:
    """The values times 1 + step, in the shape of `values` and the quantity's unit.

    A count takes the nearest whole number, and moves by one at least. Where the result is out of bounds, the value
    is divided by 1 + step instead. NaN where there is nothing to scale: at 0, and where neither way is open.
    """
    forward, backward = (_scaled(values, quantity, factor) for factor in (1 + step, 1 / (1 + step)))
    back = np.where(within(backward, quantity.bounds), backward, np.nan)
    moved = np.where(within(forward, quantity.bounds), forward, back)
    return np.where(values == 0, np.nan, moved)


def ends(value: float, quantity: Quantity, step: float) -> tuple[float, float]:
    """The value times 1 - step and 1 + step; whole where it counts, and never out of bounds."""
    bounds = quantity.bounds
    low, high = (
        min(max(float(_scaled(np.array(value), quantity, factor)), bounds.at_least), bounds.at_most)
        for factor in (1 - step, 1 + step)
    )
    return (low if low in bounds else value), (high if high in bounds else value)


def _scaled(values: np.ndarray, quantity: Quantity, factor: float) -> np.ndarray:
    if quantity.kind != "int":
        return np.asarray(values * factor)
    whole = np.rint(values * factor)
    return np.where(whole == values, values + (1 if factor > 1 else -1), whole)


def within(values: np.ndarray, bounds: Bounds) -> np.ndarray:
    """One flag for each value: whether it is finite and within the bounds."""
    open_ends = (values > bounds.above) & (values < bounds.below)
    return np.asarray(np.isfinite(values) & open_ends & (values >= bounds.at_least) & (values <= bounds.at_most))
