"""Where the time of a step goes: its terms, stacked, along one axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from servegrid.errors import InputError
from servegrid.plot.captions import legend_beside, say_what_was_selected
from servegrid.plot.scales import compact, name_grid, name_of, scale_of, set_scale, unit_of
from servegrid.plot.selection import ascending, axis_of, fits, refuse_rest, variable_of
from servegrid.plot.style import INK, canvas, figure_of, styles

PREFIX = "time_"  # of the terms of a solver
# The terms of the solver `continuous_batching`.
WEIGHTS, KV_OF_ONE, REQUESTS = "weight_read_time", "kv_read_time", "max_active_requests"
MOST_NAMES = 16
MOST_TOTALS = 12  # bars that have room for their total


def breakdown(
    ds: xr.Dataset, terms: Sequence[str] | None = None, x: str | None = None, ax: Axes | None = None
) -> Figure:
    """Stacked bars of the terms of a step's time along one axis; the totals stand above.

    Parameters
    ----------
    ds
        The result of a sweep; no term has an axis but `x`: select one label of each of the others before.
    terms
        Variables in seconds; without it those named `time_*`, or, of the solver `continuous_batching`, the reading of
        weights and of the KV cache (`weight_read_time`, `kv_read_time`, `max_active_requests`).
    x
        The axis from left to right; without it, the only one.
    ax
        Where to draw; without it on a new figure.

    Raises
    ------
    InputError
        Where a name is unknown, a term is missing or no time, or other axes are left.
    """
    table = _terms(ds, terms)
    x = _axis(table, x)
    table = xr.broadcast(table.compute())[0]
    first = next(iter(table.data_vars.values()))
    ok = ascending(fits(ds, first).compute()).values
    parts = {name: ascending(term) for name, term in table.data_vars.items()}
    with canvas(ax) as axes:
        heights = np.stack([np.where(ok, term.values, np.nan).reshape(-1) for term in parts.values()])
        scale = scale_of(np.nansum(heights, axis=0), "s", linear=True)
        _stack(axes, scale(heights), [name_of(term) for term in parts.values()])
        _write_totals(axes, scale(heights).sum(axis=0), ok.reshape(-1))
        set_scale(axes, "y", scale)
        axes.set_ylabel(f"Time of a step [{scale.unit}]")
        _label(axes, ascending(first), x)
        say_what_was_selected(axes, table)
        legend_beside(axes)
    return figure_of(axes)


def _terms(ds: xr.Dataset, terms: Sequence[str] | None) -> xr.Dataset:
    if terms is None:
        terms = [
            str(name) for name, term in ds.data_vars.items() if str(name).startswith(PREFIX) and unit_of(term) == "s"
        ]
        return ds[terms] if terms else _reads(ds)
    for name in terms:
        term = variable_of(ds, name, "terms")
        if unit_of(term) != "s":
            raise InputError(f"terms: {name} is in {unit_of(term) or 'no unit'}, expected variables in s")
    if not terms:
        raise InputError("terms: got none, expected names of variables in s")
    return ds[list(terms)]


def _reads(ds: xr.Dataset) -> xr.Dataset:
    if missing := [name for name in (WEIGHTS, KV_OF_ONE, REQUESTS) if name not in ds.variables]:
        raise InputError(
            f"breakdown: the dataset has no {' and no '.join(missing)}, and no variable named {PREFIX}*: add "
            f"{'it' if len(missing) == 1 else 'them'} to `outputs` of the sweep, or name the terms"
        )
    caches = (ds[REQUESTS] * ds[KV_OF_ONE]).assign_attrs(long_name="time to read the KV caches", units="s")
    return xr.Dataset({WEIGHTS: ds[WEIGHTS], "kv_reads": caches})


def _axis(table: xr.Dataset, x: str | None) -> str | None:
    """The axis from left to right; none where every term is one number."""
    whole = xr.DataArray(np.empty(tuple(table.sizes.values())), dims=tuple(table.sizes), name="the terms")
    whole = whole.assign_coords({name: table[name] for name in table.sizes})
    if x is not None:
        axis_of(whole, x, "x")
    elif whole.ndim:
        x = str(whole.dims[-1])
    refuse_rest(whole, [] if x is None else [x], "breakdown")
    return x


def _stack(ax: Axes, heights: np.ndarray, names: Sequence[str]) -> None:
    bottom = np.zeros(heights.shape[1])
    for height, name, style in zip(heights, names, styles(len(names), "terms"), strict=True):
        ax.bar(
            np.arange(len(height)), height, 0.75, bottom, color=style.color, hatch=style.hatch,
            edgecolor="white", linewidth=0.5, label=name,
        )  # fmt: skip
        bottom = bottom + np.nan_to_num(height)


def _write_totals(ax: Axes, totals: np.ndarray, ok: np.ndarray) -> None:
    for place, (total, fitting) in enumerate(zip(totals, ok, strict=True)):
        if not fitting:
            ax.annotate(
                "does not fit", (place, 0), (0, 6), textcoords="offset points", rotation=90, ha="center",
                va="bottom", color=INK,
            )  # fmt: skip
        elif len(totals) <= MOST_TOTALS and np.isfinite(total):
            ax.annotate(compact(total), (place, total), (0, 3), textcoords="offset points", ha="center", va="bottom")


def _label(ax: Axes, term: xr.DataArray, x: str | None) -> None:
    ax.set_xticks([])
    ax.tick_params(axis="x", length=0)
    ax.margins(y=0.08)
    ax.set_xlim(-0.6, term.size - 0.4)
    ax.grid(axis="y", alpha=0.25)
    if x is not None:
        name_grid(ax, "x", term[x], MOST_NAMES)
