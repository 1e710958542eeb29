"""The roofline: what an accelerator attains at each arithmetic intensity, and where the points of a sweep stand.

Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from servegrid.errors import InputError, nearest
from servegrid.plot.captions import hue_title, legend_beside, note, say_what_was_selected
from servegrid.plot.scales import Scale, exact, is_numeric, label_of, scale_of, set_scale, unit_of
from servegrid.plot.style import INK, Style, canvas, figure_of, styles

NEEDS = (
    "active_parameters", "max_active_requests", "weight_bytes", "kv_bytes_per_request", "itl", "peak_flops",
    "hbm_bandwidth",
)  # fmt: skip
MOST_POINTS = 200_000  # more are one blot, and take minutes and gigabytes
MOST_SHAPES = 2_000  # of a drawing; more are stored as an image inside it
HUE = "hue of the points"  # no name of a quantity has blanks
ROUNDING = 1e-9  # a point on its roof is not above it
SHARED = Style(INK, "", "-", "")  # of roofs that are the same for every label
MARGIN = 2.0  # how far the roofs go on beyond what stands below them


class Points(NamedTuple):
    """Operating points of one label, its roofs (pairs of bandwidth [byte/s] and peak [FLOP/s]), and how many points
    stand above their own roof: a solver that takes decoding as bound by the memory alone puts them there.
    """

    label: str
    intensity: np.ndarray
    achieved: np.ndarray
    roofs: np.ndarray
    above: int


def roofline(ds: xr.Dataset, hue: str | None = "hardware", ax: Axes | None = None) -> Figure:
    """The roofs of accelerators, and the decode steps of a sweep below them.

    A step of n requests does 2 P n FLOPs (P: parameters that are active for a token) and reads the weights and n
    caches; it takes the inter-token latency. Its intensity is FLOPs over bytes, what it achieves FLOPs over time.

    Parameters
    ----------
    ds
        The result of a sweep, with active_parameters, max_active_requests, weight_bytes, kv_bytes_per_request, itl,
        peak_flops and hbm_bandwidth as outputs or coordinates.
    hue
        The axis or coordinate with a colour for each label; None: all in one.
    ax
        Where to draw; without it on a new figure.

    Raises
    ------
    InputError
        Where a quantity is missing, which names what to add to the outputs; where `hue` is unknown; where there are
        more than 200,000 points.
    """
    groups = _groups(_needed(ds, hue), None if hue is None else ds[hue])
    peaks = np.concatenate([np.append(points.achieved, points.roofs[:, 1]) for points in groups])
    span = _span(groups)
    with canvas(ax) as axes:
        scale = scale_of(peaks, "FLOP/s")
        looks = styles(len(groups), f"hue: {hue}")
        shared = len({points.roofs.tobytes() for points in groups}) == 1 < len(groups)
        for points, style in zip(groups, looks, strict=True):
            _draw_roofs(axes, points.roofs, span, scale.step, SHARED if shared else style)
            _draw_points(axes, points, scale.step, style)
        set_scale(axes, "x", Scale(1.0, "FLOP/byte", is_log=True))
        set_scale(axes, "y", Scale(scale.step, scale.unit, is_log=True))
        axes.set_ylabel(label_of("y", "Attained", scale.unit))
        _finish(axes, ds, hue, groups)
    return figure_of(axes)


def attained(intensity: Any, bandwidth: Any, peak: Any) -> np.ndarray:
    """Attainable FLOP/s at an intensity [FLOP/byte]: what the bandwidth [byte/s] feeds, up to the peak [FLOP/s]."""
    rate: np.ndarray = np.minimum(np.asarray(intensity, float) * bandwidth, peak)
    return rate


def _needed(ds: xr.Dataset, hue: str | None) -> xr.Dataset:
    """The quantities of the picture along all of their axes, in memory."""
    if missing := [name for name in NEEDS if name not in ds.variables]:
        raise InputError(
            f"roofline: the dataset has no {' and no '.join(missing)}: add {'it' if len(missing) == 1 else 'them'} to "
            "`outputs` of the sweep"
        )
    if hue is not None and hue not in ds.coords:
        known = [str(name) for name in ds.coords]
        raise InputError(
            f"hue: the dataset has no {hue!r}{nearest(hue, known)}, expected an axis or a coordinate, such as "
            f"{', '.join(str(dim) for dim in ds.dims) or 'model'}"
        )
    found = xr.Dataset({name: ds[name].variable for name in NEEDS})
    names = found if hue is None else found.assign({HUE: ds[hue].variable})
    points = int(np.prod(list(names.sizes.values())))
    if points > MOST_POINTS:
        raise InputError(
            f"roofline: got {points:,} points, expected {MOST_POINTS:,} at most: select labels of "
            f"{', '.join(map(str, names.sizes))}"
        )
    whole: xr.Dataset = xr.broadcast(names.compute())[0]
    return whole


def _groups(whole: xr.Dataset, label: xr.DataArray | None) -> list[Points]:
    """The points of each label that fit the memory."""
    flat = {name: whole[name].values.reshape(-1).astype(float) for name in NEEDS}
    n, itl = flat["max_active_requests"], flat["itl"]
    flops = 2 * flat["active_parameters"] * n
    intensity = flops / (flat["weight_bytes"] + n * flat["kv_bytes_per_request"])
    roofs = np.column_stack([flat["hbm_bandwidth"], flat["peak_flops"]])
    labels = np.zeros(n.shape) if label is None else whole[HUE].values.reshape(-1)
    groups = []
    for value in _distinct(labels):
        members = labels == value
        fitting = members & (n > 0) & np.isfinite(itl)
        name = "" if label is None else exact(value, unit_of(label))
        achieved = flops[fitting] / itl[fitting]
        above = achieved > attained(intensity, *roofs.T)[fitting] * (1 + ROUNDING)
        groups.append(Points(name, intensity[fitting], achieved, np.unique(roofs[members], axis=0), int(above.sum())))
    return groups


def _distinct(values: np.ndarray) -> list[Any]:
    """Labels once each: numbers in order, names as they come."""
    found = list(dict.fromkeys(values.tolist()))
    return sorted(found) if is_numeric(values) else found


def _span(groups: Sequence[Points]) -> tuple[float, float]:
    """The intensities that the picture shows: all points and all ridges, and some more."""
    ridges = [points.roofs[:, 1] / points.roofs[:, 0] for points in groups]
    everything = np.concatenate([*ridges, *(points.intensity for points in groups)])
    everything = everything[np.isfinite(everything) & (everything > 0)]
    return float(everything.min()) / MARGIN, float(everything.max()) * MARGIN


def _draw_roofs(ax: Axes, roofs: np.ndarray, span: tuple[float, float], step: float, style: Style) -> None:
    """A line for each roof: the slope of the bandwidth, the ridge, the peak."""
    for bandwidth, peak in roofs:
        corners = np.array(sorted({span[0], peak / bandwidth, span[1]}))
        ax.plot(
            corners, attained(corners, bandwidth, peak) / step, color=style.color, linestyle=style.dashes,
            linewidth=1.6, alpha=0.8,
        )  # fmt: skip


def _draw_points(ax: Axes, points: Points, step: float, style: Style) -> None:
    ax.plot(
        points.intensity, points.achieved / step, color=style.color, marker=style.marker, linestyle="none",
        markersize=6, markeredgecolor="white", markeredgewidth=0.5, rasterized=len(points.intensity) > MOST_SHAPES,
    )  # fmt: skip
    if points.label:
        ax.plot([], [], color=style.color, marker=style.marker, linestyle=style.dashes, label=points.label)


def _finish(ax: Axes, ds: xr.Dataset, hue: str | None, groups: Sequence[Points]) -> None:
    ax.set_xlabel(label_of("x", "Arithmetic intensity", "FLOP/byte"))
    ax.grid(alpha=0.25)
    say_what_was_selected(ax, ds)
    legend_beside(ax, hue_title(ds, hue))
    more = ", one for each peak or bandwidth" if max(len(points.roofs) for points in groups) > 1 else ""
    above = sum(points.above for points in groups)
    warning = f", {above:,} of them above the roof: their time counts memory only" if above else ""
    note(ax, f"lines: what is attainable{more}; markers: decode steps{warning}")
