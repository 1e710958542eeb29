"""A tornado: how far each input, moved alone between its bounds, moves an output."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from servegrid import show
from servegrid.errors import InputError
from servegrid.plot.captions import legend_beside, say_what_was_selected
from servegrid.plot.scales import exact, name_axis, scale_of, set_scale, unit_of
from servegrid.plot.selection import numbers_of
from servegrid.plot.style import INK, PALETTE, canvas, figure_of

INPUT, BOUND = "input", "bound"
BOUNDS = ("low", "high")
BASELINE = "baseline"
HEIGHT = 0.7  # of a bar, of the distance between two


def tornado(table: xr.Dataset, output: str | None = None, ax: Axes | None = None) -> Figure:
    """Bars from the output at the baseline to the output with one input at its low and at its high bound.

    The input that moves the output farthest is on top; the ends of the bars say the input's values there.

    Parameters
    ----------
    table
        Variables over `input` (names) and `bound` ("low", "high"), each with the attribute `baseline`; the coordinate
        `value` over both holds the input's own values, the coordinate `unit` over `input`, where there is one, their
        units.
    output
        The variable to show; without it, the only one.
    ax
        Where to draw; without it on a new figure.

    Raises
    ------
    InputError
        Where a name is unknown, or the table is none.
    """
    found = _output(table, output)
    ends = found.transpose(INPUT, BOUND).sel({BOUND: list(BOUNDS)}).astype(float).compute()
    order = np.argsort(_widths(ends.values, found.attrs[BASELINE]), kind="stable")
    ends = ends.isel({INPUT: order})
    with canvas(ax) as axes:
        scale = scale_of(np.append(ends.values, found.attrs[BASELINE]), unit_of(found), linear=True)
        baseline = float(scale(found.attrs[BASELINE]))
        _draw(axes, scale(ends.values), baseline)
        _write_values(axes, table, ends, scale(ends.values), baseline)
        _finish(axes, ends, f"baseline: {show.number(float(found.attrs[BASELINE]), unit_of(found) or '1')}")
        set_scale(axes, "x", scale)
        name_axis(axes, "x", found, scale)
        say_what_was_selected(axes, found)
    return figure_of(axes)


def _output(table: xr.Dataset, output: str | None) -> xr.DataArray:
    known = [str(name) for name in table.data_vars]
    if output is None and len(known) != 1:
        raise InputError(f"output: the table has {', '.join(known) or 'no variables'}, expected the name of one")
    found = numbers_of(table, output or known[0], "output")
    if set(found.dims) != {INPUT, BOUND} or BASELINE not in found.attrs:
        raise InputError(
            f"{found.name}: got the axes {', '.join(map(str, found.dims)) or 'none'}, expected {INPUT} and {BOUND}, "
            f"and the attribute {BASELINE}"
        )
    return found


def _widths(ends: np.ndarray, baseline: float) -> np.ndarray:
    """How far the bars of each input reach, the baseline included; an input without a value comes last."""
    reach = np.nan_to_num(np.column_stack([ends, np.full(len(ends), baseline)]), nan=baseline)
    widths: np.ndarray = reach.max(axis=1) - reach.min(axis=1)
    return widths


def _draw(ax: Axes, ends: np.ndarray, baseline: float) -> None:
    offsets, height = _halves(ends, baseline)
    for column, bound in enumerate(BOUNDS):
        ax.barh(
            np.arange(len(ends)) + offsets[:, column], ends[:, column] - baseline, height, left=baseline,
            color=PALETTE[column], hatch=("", "//")[column], edgecolor="white", label=f"input at its {bound} value",
        )  # fmt: skip
    ax.axvline(baseline, color=INK, linewidth=1.4)


def _halves(ends: np.ndarray, baseline: float) -> tuple[np.ndarray, np.ndarray]:
    """How far the bars stand above their row, and their heights: where both bounds lie on one side, half a bar each."""
    one_sided = np.prod(ends - baseline, axis=1) > 0
    offsets = np.where(one_sided[:, None], [[HEIGHT / 4, -HEIGHT / 4]], 0.0)
    return offsets, np.where(one_sided, HEIGHT / 2, HEIGHT)


def _write_values(ax: Axes, table: xr.Dataset, ends: xr.DataArray, places: np.ndarray, baseline: float) -> None:
    """At the end of each bar the input's own value there."""
    values = table["value"].transpose(INPUT, BOUND).sel({BOUND: list(BOUNDS), INPUT: ends[INPUT]}).values
    units = table["unit"].sel({INPUT: ends[INPUT]}).values if "unit" in table.coords else [""] * len(values)
    offsets, _ = _halves(places, baseline)
    sides = _sides(places - baseline)
    for (row, column), place in np.ndenumerate(places):
        side = sides[row, column]
        ax.annotate(
            exact(_plain(values[row, column]), str(units[row])), (place, row + offsets[row, column]), (4 * side, 0),
            textcoords="offset points", va="center", ha="left" if side > 0 else "right", fontsize=11, color=INK,
        )  # fmt: skip


def _sides(moves: np.ndarray) -> np.ndarray:
    """On which side of the bar's end its value stands: outside; of a bar of no width, away from the other bar."""
    signs = np.sign(np.nan_to_num(moves)).astype(int)
    free = np.where(signs[:, ::-1] == 0, [[-1, 1]], -signs[:, ::-1])
    return np.where(signs == 0, free, signs)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _finish(ax: Axes, ends: xr.DataArray, baseline: str) -> None:
    names = [str(name).replace("_", " ") for name in ends[INPUT].values]
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.26)  # room for values such as 112.8 GiB beside the longest bars
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x", alpha=0.25)
    legend_beside(ax, baseline)
