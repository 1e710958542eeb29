"""A heat map: one variable over two axes, with what does not fit and what a filter rejects marked."""

from __future__ import annotations

from textwrap import fill
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection, QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from servegrid.errors import InputError
from servegrid.plot.captions import legend_below, say_what_was_selected
from servegrid.plot.scales import (
    Scale,
    Way,
    compact,
    decades,
    is_numeric,
    label_of,
    name_grid,
    name_of,
    scale_of,
    unit_of,
)
from servegrid.plot.selection import ascending, axis_of, fits, numbers_of, refuse_rest
from servegrid.plot.style import GREY, INK, canvas, figure_of, ink_on

SELECTED = "selected"  # the flag of a dataset that says what meets its filter; its long name is the filter
COLORS = "viridis"  # even in lightness, for all kinds of colour vision and on grey printers; has no grey of its own
MOST_NAMES = {"x": 16, "y": 18}
RULE_WIDTH = 60  # characters of a filter in one line of the legend
FONT = (7.0, 12.0)  # points, least and most, of the numbers in the cells
DIGIT = 0.62  # width of a digit, of the size of the font


class Mark(NamedTuple):
    """Cells that are told apart by a hatch, and what it means."""

    cells: np.ndarray
    meaning: str
    face: str
    edge: str
    hatch: str


def heatmap(
    ds: xr.Dataset, variable: str, x: str | None = None, y: str | None = None, ax: Axes | None = None
) -> Figure:
    """A heat map of a variable over two axes, with the numbers in the cells where they have room.

    Cells where nothing fits (the flag `feasible` is false) are grey and hatched, cells without a value (NaN) are
    dotted, cells that the filter of the sweep rejects (the flag `selected` is false) keep their colour below a hatch.

    Parameters
    ----------
    ds
        The result of a sweep, or the best points of one; the variable has no axes but `x` and `y`: select one label
        of each of the others before.
    variable
        What the colours show.
    x, y
        The axes of the picture; without them those that the variable has, the last one from left to right.
    ax
        Where to draw; without it on a new figure.

    Raises
    ------
    InputError
        Where a name is unknown, or other axes are left.
    """
    array = numbers_of(ds, variable, "variable")
    x, y = _axes_of(array, x, y)
    array = ascending(array.astype(float).transpose(y, x).compute().assign_attrs(array.attrs).rename(variable))
    marks = _marks(ds, array)
    values = np.where(marks[0].cells | marks[1].cells, np.nan, array.values)
    with canvas(ax) as axes:
        scale = scale_of(values, unit_of(array))
        mesh = _paint(axes, scale(values), scale)
        for mark in marks:
            _hatch(axes, mark)
        _label(axes, "x", array, x)
        _label(axes, "y", array, y)
        say_what_was_selected(axes, array)
        legend_below(axes, [_entry(mark) for mark in marks if mark.cells.any()])
        if np.isfinite(values).any():
            _color_bar(axes, mesh, label_of("y", name_of(array), scale.unit))
            _write_numbers(axes, mesh, scale(values))
    return figure_of(axes)


def _axes_of(array: xr.DataArray, x: str | None, y: str | None) -> tuple[str, str]:
    """The axes from left to right and upwards: as given, or those that are left."""
    given = [axis_of(array, name, where) for where, name in (("x", x), ("y", y)) if name is not None]
    if x is not None and x == y:
        raise InputError(f"y: got {y!r}, which is x already, expected another axis of {array.name}")
    if array.ndim < 2:
        raise InputError(
            f"heat map of {array.name}: got {', '.join(map(str, array.dims)) or 'no axis'}, expected a variable with "
            "two axes or more; lines show one axis"
        )
    rest = [str(dim) for dim in array.dims if dim not in given]
    x = x or rest.pop()
    y = y or rest.pop()
    refuse_rest(array, (x, y), "heat map")
    return x, y


def _marks(ds: xr.Dataset, array: xr.DataArray) -> tuple[Mark, Mark, Mark]:
    fitting = fits(ds, array).pipe(ascending).values
    missing = fitting & np.isnan(array.values)
    rejected = np.zeros_like(fitting)
    rule = ""
    if SELECTED in ds.variables and set(ds[SELECTED].dims) <= set(array.dims):
        flag = xr.broadcast(ds[SELECTED].astype(bool), array)[0].transpose(*array.dims)
        rejected = fitting & ~missing & ~ascending(flag).values
        rule = str(ds[SELECTED].attrs.get("long_name", "the filter"))
    return (
        Mark(~fitting, "does not fit the memory", GREY, INK, "///"),
        Mark(missing, "no value", "white", INK, ".."),
        Mark(rejected, fill(f"fails: {rule}", RULE_WIDTH), "none", "white", "\\\\"),
    )


def _paint(ax: Axes, values: np.ndarray, scale: Scale) -> QuadMesh:
    rows, columns = values.shape
    norm = (LogNorm if scale.is_log else Normalize)(*_limits(values))
    edges = "white" if rows * columns <= 400 else "face"
    return ax.pcolormesh(
        np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, np.ma.masked_invalid(values), norm=norm,
        cmap=COLORS, edgecolors=edges, linewidth=0.6, rasterized=rows * columns > 10_000,
    )  # fmt: skip


def _limits(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _hatch(ax: Axes, mark: Mark) -> None:
    """One patch for each marked cell."""
    cells = [Rectangle((column - 0.5, row - 0.5), 1, 1) for row, column in np.argwhere(mark.cells)]
    if cells:
        ax.add_collection(
            PatchCollection(
                cells, facecolor=mark.face, edgecolor=mark.edge, hatch=mark.hatch, linewidth=0, label=mark.meaning
            ),
            autolim=False,
        )


def _entry(mark: Mark) -> Patch:
    """The entry of a mark in the legend; white hatches stand on a colour of the map."""
    face = "#31688E" if mark.face == "none" else mark.face
    return Patch(facecolor=face, edgecolor=mark.edge, hatch=mark.hatch, linewidth=0, label=mark.meaning)


def _label(ax: Axes, way: Way, array: xr.DataArray, axis: str) -> None:
    """The labels along an axis; names are read from the top, numbers rise."""
    name_grid(ax, way, array[axis], MOST_NAMES[way])
    if way == "y" and not is_numeric(array[axis].values):
        ax.invert_yaxis()


def _color_bar(ax: Axes, mesh: QuadMesh, label: str) -> None:
    bar = figure_of(ax).colorbar(mesh, ax=ax, pad=0.02, label=label)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    if isinstance(mesh.norm, LogNorm):
        bar.ax.yaxis.set_major_locator(decades(float(mesh.norm.vmin or 1), float(mesh.norm.vmax or 1)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=ax.yaxis.get_ticklabels()[0].get_fontsize())
    bar.outline.set_visible(False)


def _write_numbers(ax: Axes, mesh: QuadMesh, values: np.ndarray) -> None:
    texts = [[compact(value) if np.isfinite(value) else "" for value in row] for row in values]
    size = _font_size(ax, values.shape, max(len(text) for row in texts for text in row))
    if size < FONT[0]:
        return
    for (row, column), value in np.ndenumerate(values):
        if texts[row][column]:
            color = mesh.to_rgba(np.array(value))
            ax.text(
                column, row, texts[row][column], ha="center", va="center", fontsize=size, color=ink_on(color),
                bbox={"facecolor": color, "edgecolor": "none", "pad": 1},  # above hatches
            )  # fmt: skip


def _font_size(ax: Axes, shape: tuple[int, ...], digits: int) -> float:
    """The size [points] at which a number of so many digits fits a cell."""
    box = ax.get_window_extent()
    rows, columns = shape
    points = 72 / figure_of(ax).dpi
    width, height = 0.85 * box.width * points / columns, box.height * points / rows
    return min(FONT[1], width / (DIGIT * digits + 0.6), 0.6 * height)
