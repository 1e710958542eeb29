"""A Pareto frontier: what can be had of one objective at each value of another."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from servegrid.errors import InputError
from servegrid.plot.captions import hue_title, legend_beside, note, say_what_was_selected
from servegrid.plot.scales import exact, name_axis, scale_of, set_scale, unit_of
from servegrid.plot.selection import numbers_of, variable_of
from servegrid.plot.style import Style, canvas, figure_of, styles

POINT = "point"
DIRECTIONS = ("maximize", "minimize")


def frontier(points: xr.Dataset, x: str, y: str, hue: str | None = None, ax: Axes | None = None) -> Figure:
    """Pareto points, and the staircase that bounds what can be had: everything on its worse side is reached.

    Parameters
    ----------
    points
        One axis, `point`; the attribute `direction` of an objective says whether to "maximize" (without it) or to
        "minimize" it.
    x, y
        The objectives from left to right and upwards. Where `points` has more objectives, all points are shown, and
        the staircase goes along those that no other one beats in both of these.
    hue
        A coordinate along `point`, such as "hardware": a staircase for each of its labels.
    ax
        Where to draw; without it on a new figure.

    Raises
    ------
    InputError
        Where a name is unknown, or where `points` has other axes.
    """
    across, upward = (_objective(points, name, where) for where, name in (("x", x), ("y", y)))
    groups = _groups(points, hue)
    signs = (_sign(across), _sign(upward))
    with canvas(ax) as axes:
        scales = scale_of(across, unit_of(across)), scale_of(upward, unit_of(upward))
        places = scales[0](across), scales[1](upward)
        for label, members, style in groups:
            _draw(axes, places[0][members], places[1][members], signs, label, style)
        set_scale(axes, "x", scales[0])
        set_scale(axes, "y", scales[1])
        name_axis(axes, "x", across, scales[0])
        name_axis(axes, "y", upward, scales[1])
        axes.grid(alpha=0.25)
        axes.margins(0.06)
        say_what_was_selected(axes, points)
        legend_beside(axes, hue_title(points, hue))
        note(axes, f"better: {'right' if signs[0] > 0 else 'left'} and {'up' if signs[1] > 0 else 'down'}")
    return figure_of(axes)


def staircase(x: Any, y: Any, signs: tuple[int, int] = (1, 1)) -> np.ndarray:
    """The corners of the boundary of what points reach, in ascending order of x; of shape (corners, 2).

    `signs`: 1 where higher is better, -1 where lower is. Points that another one beats are left out.
    """
    best: list[tuple[float, float]] = []
    # From the best x on: a point counts if its y is better than that of all with a better x.
    for one, other in sorted(zip(signs[0] * np.asarray(x), signs[1] * np.asarray(y), strict=True), reverse=True):
        if not best or other > best[-1][1]:
            best.append((one, other))
    corners = best[:1]
    for before, after in pairwise(best):
        corners += [(after[0], before[1]), after]  # both are had at the worse of either
    stairs = np.array(corners, float).reshape(-1, 2) * signs
    return stairs if signs[0] < 0 else stairs[::-1]


def _objective(points: xr.Dataset, name: str, where: str) -> xr.DataArray:
    found = numbers_of(points, name, where)
    if found.dims != (POINT,):
        raise InputError(
            f"{where}: {name} has the axes {', '.join(map(str, found.dims)) or 'none'}, expected {POINT}, as the "
            "answer to a question about Pareto points has it"
        )
    return found.astype(float).compute().assign_attrs(found.attrs)


def _sign(objective: xr.DataArray) -> int:
    direction = objective.attrs.get("direction", DIRECTIONS[0])
    if direction not in DIRECTIONS:
        raise InputError(f"{objective.name}: got the direction {direction!r}, expected maximize or minimize")
    return 1 if direction == DIRECTIONS[0] else -1


def _groups(points: xr.Dataset, hue: str | None) -> list[tuple[str, np.ndarray, Style]]:
    """Label, members and style of each group, in the order of the points."""
    if hue is None:
        return [("", np.arange(points.sizes[POINT]), styles(1, "points")[0])]
    labels = variable_of(points, hue, "hue")
    values = labels.values
    found = sorted(set(values.tolist()), key=None if values.dtype.kind in "iuf" else values.tolist().index)
    looks = styles(len(found), f"hue: {hue}")
    return [
        (exact(label, unit_of(labels)), np.flatnonzero(values == label), look)
        for label, look in zip(found, looks, strict=True)
    ]


def _draw(ax: Axes, x: np.ndarray, y: np.ndarray, signs: tuple[int, int], label: str, style: Style) -> None:
    stairs = staircase(x, y, signs)
    look: Any = {"color": style.color, "markeredgecolor": "white", "markeredgewidth": 0.7}
    ax.plot(*stairs.T, color=style.color, linestyle=style.dashes, zorder=2)
    ax.plot(x, y, marker=style.marker, linestyle="none", zorder=3, **look)
    if label:
        ax.plot([], [], marker=style.marker, linestyle=style.dashes, label=label, **look)
