"""Measured against predicted: how far runs lie from the line on which both are the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from servegrid.errors import InputError
from servegrid.plot.captions import hue_title, legend_beside, note
from servegrid.plot.scales import Scale, compact, decades, exact, label_of, name_of, scale_of, unit_of
from servegrid.plot.selection import numbers_of, variable_of
from servegrid.plot.style import GREY, INK, SLIDE, Slide, Style, canvas, figure_of, styles

BAND = 0.25  # relative error, |predicted/measured - 1|, at the edges of the band
MARGIN = 1.25  # factor of room around the points
MOST_PANELS = 3


def scatter(
    points: xr.Dataset, of: str, *, measured: str | None = None, hue: str | None = None, ax: Axes | None = None
) -> Figure:
    """A marker for each run, measured upwards and predicted to the right, with the line of equality and +-25 %.

    Parameters
    ----------
    points
        One axis, such as the `points` of `servegrid.validate`.
    of
        The quantity as predicted.
    measured
        The same as measured; without it, "measured_" and its name.
    hue
        A coordinate along the axis, such as "model": a colour and a marker for each of its labels.
    ax
        Where to draw; without it on a new figure.

    Raises
    ------
    InputError
        Where a name is unknown, or where no run has both numbers.
    """
    across = numbers_of(points, of, "of")
    upward = numbers_of(points, measured or f"measured_{of}", "measured")
    x, y = (np.broadcast_to(values.values.astype(float), upward.shape) for values in (across, upward))
    shown = (x > 0) & (y > 0) & np.isfinite(x) & np.isfinite(y)
    if not shown.any():
        raise InputError(f"of: no run has both {across.name} and {upward.name}, expected one or more")
    scale = scale_of(np.concatenate([x[shown], y[shown]]), unit_of(across))
    x, y = scale(x), scale(y)
    with canvas(ax) as axes:
        low, high = _frame(axes, np.concatenate([x[shown], y[shown]]))
        for label, members, style in _groups(points, hue, upward.size):
            chosen = members & shown
            axes.plot(
                x[chosen], y[chosen], style.marker, color=style.color, label=label or None, alpha=0.75,
                markersize=6, markeredgecolor="white", markeredgewidth=0.5, zorder=3,
            )  # fmt: skip
        _dress(axes, (low, high), across, scale)
        if hue is not None:
            legend_beside(axes, hue_title(points, hue))
        note(axes, f"line: as measured; band: an error of ±{100 * BAND:.0f} %, |predicted/measured - 1|")
    return figure_of(axes)


def scatters(points: xr.Dataset, of: Sequence[str], hue: str | None = None) -> Figure:
    """`scatter` for several quantities (three at most) side by side, with one legend."""
    if len(of) == 1:
        return scatter(points, of[0], hue=hue)
    if len(of) > MOST_PANELS:
        raise InputError(f"of: got {len(of)} quantities, expected {MOST_PANELS} at most, which have room side by side")
    with rc_context(SLIDE):
        figure = Slide()
        panels = figure.subplots(1, len(of))
        for panel, name in zip(panels, of, strict=True):
            panel.spines[["top", "right"]].set_visible(False)
            panel.tick_params(axis="both", which="both", labelsize=SLIDE["xtick.labelsize"])
            scatter(points, name, hue=hue, ax=panel)
            if panel.get_legend() is not None:
                panel.get_legend().remove()
        handles, labels = panels[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False)
    return figure


def _groups(points: xr.Dataset, hue: str | None, count: int) -> list[tuple[str, np.ndarray, Style]]:
    """Label, members and style of each group, in the order of the runs; numbers in their own order."""
    if hue is None:
        return [("", np.ones(count, bool), styles(1, "points")[0])]
    labels = variable_of(points, hue, "hue")
    values = np.broadcast_to(labels.values, (count,))
    found = list(dict.fromkeys(values.tolist()))
    found = sorted(found) if values.dtype.kind in "iuf" else found
    looks = styles(len(found), f"hue: {hue}")
    return [(exact(label, unit_of(labels)), values == label, look) for label, look in zip(found, looks, strict=True)]


def _frame(ax: Axes, numbers: np.ndarray) -> tuple[float, float]:
    """Both axes logarithmic and over the same decades; returns their ends."""
    low, high = float(numbers.min()) / MARGIN, float(numbers.max()) * MARGIN
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    return low, high


def _dress(ax: Axes, ends: tuple[float, float], across: xr.DataArray, scale: Scale) -> None:
    """The line, the band, ticks that can be read, names."""
    line = np.array(ends)
    ax.fill_between(line, line / (1 + BAND), line / (1 - BAND), color=GREY, alpha=0.6, linewidth=0, zorder=1)
    ax.plot(line, line, color=INK, linewidth=1.2, zorder=2)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(decades(*ends))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.set_aspect("equal")
    ax.grid(alpha=0.25)
    name = name_of(across)
    name = name if name.isupper() else name[:1].lower() + name[1:]
    ax.set_xlabel(label_of("x", f"predicted {name}", scale.unit))
    ax.set_ylabel(label_of("y", f"measured {name}", scale.unit))
