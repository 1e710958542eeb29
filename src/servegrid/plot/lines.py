"""Lines with bands: one variable along an axis, the median and the spread over other axes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from servegrid.errors import InputError
from servegrid.plot.captions import hue_title, legend_beside, note, say_what_was_selected
from servegrid.plot.scales import Scale, is_numeric, name_axis, name_grid, scale_of, set_scale, unit_of
from servegrid.plot.selection import FEASIBLE, axis_of, names_of, numbers_of, refuse_rest, where_it_fits
from servegrid.plot.style import Style, canvas, figure_of, styles

QUANTILES = (0.1, 0.5, 0.9)
MOST_NAMES = 16
MOST_MARKERS = 24  # places that each have one
MARKER_DISTANCE = 0.08  # of the diagonal


def lines(
    ds: xr.Dataset,
    variable: str,
    x: str,
    hue: str | None = None,
    over: Sequence[str] = (),
    ax: Axes | None = None,
) -> Figure:
    """Lines of a variable along `x`: the median over other axes, and a band from the 10 to the 90 % quantile.

    Where nothing fits (the flag `feasible` is false) there is no line, and such points do not count.

    Parameters
    ----------
    ds
        The result of a sweep.
    variable
        What the height shows.
    x
        The axis from left to right.
    hue
        The axis whose labels are a line each.
    over
        The axes that median and band are taken over; without it, all others.
    ax
        Where to draw; without it on a new figure.

    Raises
    ------
    InputError
        Where a name is unknown, or where `over` leaves axes out.
    """
    array = numbers_of(ds, variable, "variable")
    over = _check(array, x, hue, over)
    array = where_it_fits(ds, array)
    low, middle, high = _spread(array.transpose(*_given(hue), x, *over), len(over))
    with canvas(ax) as axes:
        scale = scale_of(np.concatenate([low, high]) if over else middle, unit_of(array))
        band = max(0.06, 0.2 / len(middle) ** 0.5) if over else 0.0
        across, places = _across(axes, array, x)
        for row, (label, style) in enumerate(_labels(array, hue, bool(over))):
            _draw(axes, places, [scale(part[row]) for part in (low, middle, high)], label, style, band, row)
        set_scale(axes, "y", scale)
        _set_across(axes, array, x, across, places)
        name_axis(axes, "y", array, scale)
        axes.grid(alpha=0.25)
        say_what_was_selected(axes, array)
        legend_beside(axes, hue_title(ds, hue))
        if over:
            note(axes, _caption(over, FEASIBLE in ds.variables))
    return figure_of(axes)


def _given(hue: str | None) -> list[str]:
    return [] if hue is None else [hue]


def _check(array: xr.DataArray, x: str, hue: str | None, over: Sequence[str]) -> list[str]:
    """The axes that are summed up."""
    axis_of(array, x, "x")
    for name in _given(hue):
        axis_of(array, name, "hue")
    for name in over:
        axis_of(array, name, "over")
    if x == hue:
        raise InputError(f"hue: got {hue!r}, which is x already, expected another axis of {array.name}")
    if twice := [name for name in over if name in (x, hue)]:
        raise InputError(f"over: got {twice[0]!r}, which is {'x' if twice[0] == x else 'hue'} already")
    if over:
        refuse_rest(array, [x, *_given(hue), *over], "lines")
    return [str(dim) for dim in array.dims if dim not in (x, hue)]


def _spread(array: xr.DataArray, summed: int) -> np.ndarray:
    """The quantiles over the last axes, of shape (quantiles, lines, length of x); NaN where nothing fits."""
    axes = tuple(range(array.ndim - summed, array.ndim))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)  # that nothing fits is no fault
        found = np.nanquantile(array.values, QUANTILES, axis=axes) if axes else np.stack([array.values] * 3)
    return found.reshape(len(QUANTILES), -1, found.shape[-1])


def _labels(array: xr.DataArray, hue: str | None, has_band: bool) -> list[tuple[str, Style]]:
    names = names_of(array, hue) if hue is not None else ["median" if has_band else ""]
    return list(zip(names, styles(len(names), f"hue: {hue}"), strict=True))


def _across(ax: Axes, array: xr.DataArray, x: str) -> tuple[Scale | None, np.ndarray]:
    """The scale of the axis from left to right (none for names), and the places of its labels."""
    values = array[x].values
    if not is_numeric(values):
        return None, np.arange(len(values), dtype=float)
    scale = scale_of(values, unit_of(array[x]))
    return scale, scale(values)


def _set_across(ax: Axes, array: xr.DataArray, x: str, scale: Scale | None, places: np.ndarray) -> None:
    if scale is None:
        name_grid(ax, "x", array[x], MOST_NAMES)
    else:
        set_scale(ax, "x", scale, places)
        name_axis(ax, "x", array[x], scale)


def _draw(
    ax: Axes, places: np.ndarray, quantiles: Sequence[np.ndarray], label: str, style: Style, band: float, order: int
) -> None:
    low, middle, high = quantiles
    ax.plot(
        places, middle, color=style.color, marker=style.marker, linestyle=style.dashes, label=label or None,
        markevery=_some(len(places), order), markeredgecolor="white", markeredgewidth=0.7,
    )  # fmt: skip
    if band:
        ax.fill_between(places, low, high, color=style.color, alpha=band, linewidth=0)


def _some(places: int, order: int) -> Any:
    """Which places have a marker: all; or, where they are many, some at even distances on the slide.

    Each line has its own: of lines that lie upon each other, both are seen.
    """
    return None if places <= MOST_MARKERS else (order % 3 * MARKER_DISTANCE / 3, MARKER_DISTANCE)


def _caption(over: Sequence[str], has_flag: bool) -> str:
    names = ", ".join(name.replace("_", " ") for name in over)
    return f"line: median, band: 10–90 % quantiles over {names}{'; only what fits the memory' if has_flag else ''}"
