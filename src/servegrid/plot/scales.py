"""Numbers on axes: in the size of the unit that people use, linear or in decades, with ticks that can be read."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from servegrid import show

Way = Literal["x", "y"]

LOG_DECADES = 1.5  # from here on a linear axis would crowd half of the values into a corner
FINE_DECADES = 2.5  # up to here 1, 2 and 5 of each decade have room
LEAST_GAP = {"x": 32.0, "y": 18.0}  # points between two ticks at values of the grid
MOST_TICKS = 12
MOST_CHARACTERS = 75  # of all names along the bottom of a slide; more are slanted
LABEL_WIDTH = {"x": 68, "y": 39}  # characters of a label in one line
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Scale:
    """How the numbers of a quantity are shown: divided by `step`, which makes them numbers of `unit`."""

    step: float
    unit: str
    is_log: bool = False

    def __call__(self, values: Any) -> np.ndarray:
        """The numbers as they stand on the axis."""
        return np.asarray(values, float) / self.step


def scale_of(values: Any, unit: str, *, linear: bool = False) -> Scale:
    """The scale that suits the values (in `unit`): in decades where they span more than 1.5, unless `linear`."""
    numbers = np.asarray(values, float)
    sizes = np.abs(numbers[np.isfinite(numbers) & (numbers != 0)])
    if not sizes.size:
        return Scale(1.0, unit)
    is_log = not linear and bool(np.nanmin(numbers) > 0) and sizes.max() / sizes.min() > 10**LOG_DECADES
    # On a linear axis the largest numbers are what is read, in decades the middle ones.
    typical = float(np.median(sizes) if is_log else sizes.max())
    step, name = (1.0, unit) if unit == "parameter" else show.size(typical, unit)
    return Scale(step, name, is_log)


def unit_of(variable: xr.DataArray) -> str:
    """The unit of a variable as people write it; "" where it has none."""
    unit = str(variable.attrs.get("display_units", variable.attrs.get("units", "")))
    return "" if unit == "1" else unit


def name_of(variable: xr.DataArray) -> str:
    """The long name of a variable, with a capital, or its name."""
    text = str(variable.attrs.get("long_name", str(variable.name).replace("_", " ")))
    return text[:1].upper() + text[1:]


def name_axis(ax: Axes, way: Way, variable: xr.DataArray, scale: Scale) -> None:
    """Write beside an axis what it shows: "Inter-token latency [ms]"."""
    getattr(ax, f"set_{way}label")(label_of(way, name_of(variable), scale.unit))


def label_of(way: Way, text: str, unit: str) -> str:
    """A label with its unit in brackets, in lines that fit the side of a slide."""
    return fill(f"{text} [{unit}]" if unit not in ("", "1") else text, LABEL_WIDTH[way])


def is_numeric(values: Any) -> bool:
    """Whether labels are numbers, which have an order and distances, and not names or flags."""
    return bool(np.asarray(values).dtype.kind in "iuf")


def exact(value: Any, unit: str = "") -> str:
    """One label of an axis, for people: "llama-3.1-8b", "8,192", "3.35 TB/s"."""
    return show.number(float(value), unit or "1") if is_numeric(value) else str(value)


def compact(value: float, digits: int = 3) -> str:
    """A number without unit in a few digits: 0.25, 1,024, 16.4k, 2M."""
    is_whole = value == round(value)
    rounded = value if is_whole and abs(value) < 1e4 else float(f"{value:.{digits}g}")
    if abs(rounded) < 1e4:
        return f"{rounded:,.0f}" if is_whole or abs(rounded) >= 1e3 else f"{rounded:.{digits}g}"
    step, prefix = next(pair for pair in _PREFIXES if abs(rounded) >= pair[0])
    return f"{rounded / step:.{digits}g}{prefix}"


def set_scale(ax: Axes, way: Way, scale: Scale, grid: Any = ()) -> None:
    """Make an axis linear or logarithmic; ticks at the values of the `grid` (as shown) where they have room."""
    axis = getattr(ax, f"{way}axis")
    getattr(ax, f"set_{way}scale")("log" if scale.is_log else "linear")
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    shown = np.unique(np.asarray(grid, float))
    if _have_room(ax, way, shown, scale.is_log):
        axis.set_major_locator(FixedLocator(shown.tolist()))
    elif scale.is_log:
        axis.set_major_locator(decades(*getattr(ax.dataLim, f"interval{way}")))
    else:
        axis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))


def _have_room(ax: Axes, way: Way, values: np.ndarray, is_log: bool) -> bool:
    """Whether ticks at all of the values could be read."""
    if not 1 < values.size <= MOST_TICKS:
        return False
    places = np.log(values) if is_log else values
    box = ax.get_window_extent()
    length = (box.width if way == "x" else box.height) * 72 / ax.figure.dpi
    return bool(np.diff(places).min() / (places[-1] - places[0]) * length >= LEAST_GAP[way])


def decades(low: float, high: float) -> LogLocator:
    """Ticks at powers of ten, with 2 and 5 between them where there are few."""
    is_fine = low > 0 and np.isfinite(high) and np.log10(high / low) <= FINE_DECADES
    return LogLocator(subs=(1.0, 2.0, 5.0) if is_fine else (1.0,))


def _whole(value: float) -> str:
    """A number of an axis in full: 1,048,576 or 3.35."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.4g}"


def name_grid(ax: Axes, way: Way, coordinate: xr.DataArray, most: int) -> None:
    """Ticks 0, 1, 2 ... named by the labels of an axis of the grid, thinned out to `most`; and its own name."""
    values = coordinate.values
    scale = scale_of(values, unit_of(coordinate)) if is_numeric(values) else Scale(1.0, "")
    places = range(0, len(values), -(-len(values) // most))
    name = (_whole if len(values) <= most else compact) if is_numeric(values) else str
    shown = [name(value) for value in (scale(values) if is_numeric(values) else values)[:: places.step]]
    options: dict[str, Any] = {}
    if way == "x" and sum(len(name) + 2 for name in shown) > MOST_CHARACTERS:
        options = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    getattr(ax, f"set_{way}ticks")(list(places), shown, **options)
    getattr(ax, f"{way}axis").set_minor_locator(NullLocator())
    name_axis(ax, way, coordinate, scale)
    ax.tick_params(axis=way, length=0)
