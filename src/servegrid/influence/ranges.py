"""Ranges of inputs as people write them: ("2 TB/s", "8 TB/s"), or "2..8 TB/s" as one text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from servegrid.errors import InputError, shown
from servegrid.influence.places import check_input
from servegrid.influence.point import Point
from servegrid.quantity import Quantity
from servegrid.written import read_number

BOUND = "bound"
BOUNDS = ("low", "high")
_BARE = re.compile(r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def read_ranges(ranges: Any, point: Point) -> dict[str, tuple[float, float]]:
    """Input -> its lower and upper end in its unit, checked against its bounds."""
    if not isinstance(ranges, Mapping):
        raise InputError(f"ranges: got {shown(ranges)}, expected inputs with two ends each, {{name: (low, high)}}")
    return {
        check_input(point.parameters, str(name), "ranges"): _read(pair, point.quantity(name), f"ranges.{name}")
        for name, pair in ranges.items()
    }


def _read(pair: Any, quantity: Quantity, where: str) -> tuple[float, float]:
    if isinstance(pair, str):
        pair = _split(pair)
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise InputError(f"{where}: got {shown(pair)}, expected two ends, (low, high) or 'low..high'")
    low, high = (read_number(end, quantity, f"{where}.{bound}") for end, bound in zip(pair, BOUNDS, strict=True))
    if low >= high:
        raise InputError(f"{where}: got {low:g} to {high:g}, expected a range that rises")
    return low, high


def _split(text: str) -> tuple[str, ...] | str:
    """The two ends; a unit after the second is that of a bare first, too."""
    low, dots, high = text.partition("..")
    if not dots:
        return text
    return (low + _BARE.sub("", high, count=1) if _BARE.fullmatch(low.rstrip()) else low), high
